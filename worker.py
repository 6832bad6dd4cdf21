"""The workers: where the engine meets the portal's database. `python worker.py move|check|cron`.

Owns: the two RQ jobs, the Worker class, the reconciler's loop. A job loads rows, hands them to the engine and stores what came
back; it decides nothing that portal/services/leases.py or the engine decides.

Always: a queue entry is an id and a name on JOBS, nothing else is run; one queue per process (RQ pops without a safety copy when it
has several: facts, reliability 0.5); the work horse dies with its parent; the private key of the vault is read in the horse only;
SIGTERM ends a slice at its next safe point; no secret leaves this process.
"""
from __future__ import annotations

import argparse
import ctypes
import logging
import os
import resource
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from redis import Redis
from redis.exceptions import RedisError
from rq import Queue, Worker
from rq.job import Job
from rq.serializers import JSONSerializer
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import Session

from config import BadSettings, Settings, load_settings
from engine.causes import Cause, Side
from engine.check import check_account
from engine.endpoint import Account, Endpoint, RelayRoute, Route, Secret
from engine.errors import EngineError, LeaseLost
from engine.pacing.key import PaceKey
from engine.progress import Progress, Stop
from engine.providers.catalogue import provider
from engine.report.check import CheckResult
from engine.report.copy import CopyOutcome, CopyReport
from engine.report.steps import Step, StepState
from engine.transfer.copier import copy_mailbox
from portal.models import Check, Move, MoveState, Owner, Person, Project, Relay
from portal.queueing import QUEUE_CHECK, QUEUE_MOVE, WorkQueue
from portal.security.vault import Vault, VaultError
from portal.services import leases
from portal.services.common import ServiceError
from portal.services.credentials import CHECK_SECRET, DESTINATION_SECRET, RELAY_TOKEN, SOURCE_SECRET, find_credential, purge_expired
from portal.services.endpoints import (
    destination_endpoint,
    destination_login,
    project_source,
    provider_key,
    source_endpoint,
    source_login,
)
from portal.store.db import Database
from portal.store.ledger import SqlLedger
from portal.store.pacing import RedisPaceStore

log = logging.getLogger("worker")

WORKER_TTL_SECONDS = 60          # RQ's second net: it wakes up as often (facts, portal 2.2)
PR_SET_PDEATHSIG, PR_SET_DUMPABLE = 1, 4


class Workplace:
    """What a job needs: settings, database, queue. Made once per process; the horse calls `after_fork`."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.queue = WorkQueue(settings.redis_url)
        self.database = Database(settings.database_url, queue=self.queue)
        self.name = f"{socket.gethostname()}-{os.getpid()}"

    def vault(self) -> Vault:
        return Vault.from_file(self.settings.vault_private_key_file)


_workplace: Workplace | None = None
_stop: Stop = Stop()


def workplace() -> Workplace:
    global _workplace
    if _workplace is None:
        _workplace = Workplace(load_settings())
    return _workplace


# -- the jobs ------------------------------------------------------------------------------------------------------------------

def run_slice(move_id: int) -> None:
    """One slice of one mailbox. Does nothing when another worker holds it or it may not run now."""
    place = workplace()
    with place.database.session() as session:
        lease = leases.claim(session, place.name, move_id, place.settings.lease_seconds)
    if lease is None:
        log.info("slice of move %d: not now", move_id)
        return
    try:
        report = _copy(place, lease)
        with place.database.session() as session:
            state = leases.finish_slice(session, place.name, lease, report)
        log.info("slice of move %d: %s, %s, %s", move_id, report.outcome.value, state.value, report.cause or "no cause")
        if state is MoveState.DONE:  # the secrets were destroyed with it
            place.database.forget_deleted()
    except LeaseLost as lost:
        log.warning("slice given up: %s", lost)


def _copy(place: Workplace, lease: leases.Lease) -> CopyReport:
    stop = _stop  # the horse's own: a SIGTERM that came a moment ago counts
    stop.until = time.monotonic() + place.settings.slice_seconds
    try:
        with place.database.reading() as session:
            move = session.get_one(Move, lease.move_id)
            person = move.person
            source, destination = _source(place, session, person), _destination(place, session, person)
            route, direct = _routes(place, session, person.project)
            known = (provider_key(person), PaceKey.of(destination, direct).provider)
            limit = min(provider(key).limits.connections for key in known)
            again = lease.first_slice and len(move.attempts) > 1
        ledger = SqlLedger(place.database, lease.move_id, lease.fence, place.settings.lease_seconds)
        pacing = RedisPaceStore(place.settings.redis_url, f"move-{lease.move_id}")
        with _Heartbeat(place, lease, stop) as heart, closing(pacing):
            return copy_mailbox(source, destination, ledger=ledger, source_route=route, destination_route=direct, progress=heart,
                                connections=min(limit, place.settings.connections), stop=stop, retry_set_aside=again, pacing=pacing)
    except EngineError as error:
        return CopyReport(CopyOutcome.FAILED, error.cause, error.side, detail=error.detail)
    except LeaseLost:
        raise
    except Exception:  # the edge of the process: the person sees "internal", the operator the log
        log.exception("slice of move %d", lease.move_id)
        return CopyReport(CopyOutcome.FAILED, Cause.INTERNAL)


class _Heartbeat:
    """Renews the lease while the engine works, passes its progress on, and asks it to stop when a person or the fence says so."""

    def __init__(self, place: Workplace, lease: leases.Lease, stop: Stop) -> None:
        self._place, self._lease, self._stop = place, lease, stop
        self._over = threading.Event()
        self._lost: LeaseLost | None = None
        self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)

    def __enter__(self) -> _Heartbeat:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _beat(self) -> None:
        while not self._over.wait(self._place.settings.lease_seconds / 4):
            try:
                with self._place.database.session() as session:
                    if leases.renew(session, self._lease, self._place.settings.lease_seconds):
                        self._stop.ask()
            except LeaseLost as lost:
                self._lost = lost
                self._stop.ask()
                return
            except Exception as error:  # the database is away: the lease may run out, and the fence will tell
                log.warning("heartbeat of move %d: %s", self._lease.move_id, type(error).__name__)

    def progress(self, at: Progress) -> None:
        if self._lost is not None:
            raise self._lost
        try:
            with self._place.database.session() as session:
                if leases.record_progress(session, self._lease, at, self._place.settings.lease_seconds):
                    self._stop.ask()
        except DatabaseError as error:  # only a picture is late; the ledger stops the work if it cannot write
            log.warning("progress of move %d: %s", self._lease.move_id, type(error.orig).__name__)

    def server_line(self, side: Side, cause: Cause, text: str) -> None:
        try:
            with self._place.database.session() as session:
                leases.record_line(session, self._lease, side, cause, text)
        except DatabaseError as error:
            log.warning("line of move %d: %s", self._lease.move_id, type(error.orig).__name__)


def run_check(check_id: int) -> None:
    """One live check: of the old mailbox, of the new one, or both in turn."""
    place = workplace()
    with place.database.session() as session:
        if leases.begin_check(session, check_id) is None:
            return
    steps: list[dict[str, Any]] = []
    results: dict[str, CheckResult] = {}
    try:
        with place.database.reading() as session:
            check = session.get_one(Check, check_id)
            todo = _accounts_to_check(place, session, check)
        with closing(RedisPaceStore(place.settings.redis_url, f"check-{check_id}")) as pacing:
            for side, account, route in todo:
                results[side.value] = check_account(account, route, side=side, on_step=_told(place, check_id, steps, side),
                                                    compare=results.get(Side.SOURCE.value), pacing=pacing)
                if results[side.value].outcome != "ok":
                    break
        cause, text = _verdict(results)
    except EngineError as error:
        cause, text = error.cause, ""
    except Exception:  # the edge of the process
        log.exception("check %d", check_id)
        cause, text = Cause.INTERNAL, ""
    with place.database.session() as session:
        leases.finish_check(session, place.name, check_id, steps, {k: r.to_json() for k, r in results.items()}, cause, text)
    if cause is not None:
        place.database.forget_deleted()  # a refused secret was destroyed
    log.info("check %d: %s", check_id, cause or "ok")


def _told(place: Workplace, check_id: int, steps: list[dict[str, Any]], side: Side) -> Callable[[Step, StepState], None]:
    """Stores each step as it happens, so that the page can show it: [{"side", "step", "state"}] in order."""
    def told(step: Step, state: StepState) -> None:
        row = next((s for s in steps if s["side"] == side.value and s["step"] == step.value), None)
        if row is None:
            row = {"side": side.value, "step": step.value}
            steps.append(row)
        row["state"] = state.value
        with place.database.session() as session:
            leases.record_steps(session, check_id, [dict(s) for s in steps])
    return told


def _verdict(results: dict[str, CheckResult]) -> tuple[Cause | None, str]:
    failed = next((r for r in results.values() if r.outcome != "ok"), None)
    return (failed.cause or Cause.UNKNOWN, failed.server_text or failed.detail) if failed else (None, "")


def _accounts_to_check(place: Workplace, session: Session, check: Check) -> list[tuple[Side, Account, Route]]:
    if check.project_id is not None:
        project = session.get_one(Project, check.project_id)
        side = Side(check.side)
        route, direct = _routes(place, session, project)
        endpoint = destination_endpoint(project) if side is Side.DESTINATION else project_source(project, check.login or "")
        secret = _open(place, session, Owner.CHECK, check.id, CHECK_SECRET)
        if secret is None and side is Side.DESTINATION:  # never for the old server: that secret was given for the new one
            secret = _open(place, session, Owner.PROJECT, project.id, DESTINATION_SECRET)
        return [(side, _account(endpoint, check.login or "", secret, side), direct if side is Side.DESTINATION else route)]
    person = session.get_one(Person, check.person_id)
    route, direct = _routes(place, session, person.project)
    todo = []
    if check.side in (Side.SOURCE.value, "both"):
        todo.append((Side.SOURCE, _source(place, session, person), route))
    if check.side in (Side.DESTINATION.value, "both"):
        todo.append((Side.DESTINATION, _destination(place, session, person), direct))
    return todo


# -- accounts ------------------------------------------------------------------------------------------------------------------

def _source(place: Workplace, session: Session, person: Person) -> Account:
    return _account(_known(lambda: source_endpoint(person), Side.SOURCE), source_login(person),
                    _open(place, session, Owner.PERSON, person.id, SOURCE_SECRET), Side.SOURCE)


def _destination(place: Workplace, session: Session, person: Person) -> Account:
    own = _open(place, session, Owner.PERSON, person.id, DESTINATION_SECRET)
    secret = own or _open(place, session, Owner.PROJECT, person.project_id, DESTINATION_SECRET)
    return _account(_known(lambda: destination_endpoint(person.project), Side.DESTINATION),
                    destination_login(person, with_project_secret=own is None), secret, Side.DESTINATION)


def _known(endpoint: Callable[[], Endpoint], side: Side) -> Endpoint:
    try:
        return endpoint()
    except ServiceError as error:
        cause = Cause.DNS_CONNECT if side is Side.SOURCE else Cause.DESTINATION_CONNECT
        raise EngineError(cause, side=side, detail=error.en) from None


def _account(endpoint: Endpoint, login: str, secret: Secret | None, side: Side) -> Account:
    if secret is None:
        raise EngineError(Cause.SECRET_MISSING, side=side)
    return Account(endpoint, login, secret)


def _routes(place: Workplace, session: Session, project: Project) -> tuple[Route, Route]:
    """Source and destination. Only the source is reached through a relay."""
    direct = Route(allowed_networks=place.settings.allowed_networks)
    if project.relay_id is None:
        return direct, direct
    relay = session.get_one(Relay, project.relay_id)
    token = _open(place, session, Owner.RELAY, relay.id, RELAY_TOKEN)
    if token is None:
        raise EngineError(Cause.RELAY_REFUSED, detail=f"relay {relay.name}: no token is stored")
    return Route(RelayRoute(relay.host, relay.port, token, relay.ca_pem), place.settings.allowed_networks), direct


def _open(place: Workplace, session: Session, owner: Owner, owner_id: int, field: str) -> Secret | None:
    row = find_credential(session, owner, owner_id, field)
    if row is None:
        return None
    try:
        return place.vault().open(row.sealed, owner.value, owner_id, field)
    except VaultError as error:  # ours to mend: typing the secret again would not help
        log.error("credential %d: %s", row.id, error)
        raise EngineError(Cause.INTERNAL, detail="a stored secret could not be opened") from None


# -- the worker process --------------------------------------------------------------------------------------------------------

JOBS: dict[str, Callable[[int], None]] = {"worker.run_slice": run_slice, "worker.run_check": run_check}


class NotOnTheList(Exception):
    """A queue entry names something that is not one of our jobs."""


class ListedJob(Job):
    """A job that runs only what is on JOBS, with one integer. A queue entry can otherwise name any importable function, as the job
    or as one of its callbacks, and any address as its webhook (facts, reliability 0.6)."""

    @property
    def func(self) -> Callable[[int], None]:
        arguments = self.args
        if self.func_name not in JOBS or self.instance or self.kwargs or len(arguments) != 1 or type(arguments[0]) is not int:
            raise NotOnTheList(f"job {self.id[:80]!r} is not one of ours")
        return JOBS[self.func_name]

    def restore(self, raw_data: Any) -> None:
        super().restore(raw_data)
        self._success_callback_name = self._failure_callback_name = self._stopped_callback_name = None
        self.webhooks = []
        self._dependency_ids = []
        self.timeout = -1


class MoveWorker(Worker):
    """RQ's worker with a soft stop: SIGTERM is passed to the horse, which ends its slice at the next safe point and is gone in
    under a second; and with a horse that never outlives its parent."""

    job_class = ListedJob

    def main_work_horse(self, job: Job, queue: Queue) -> None:
        _die_with(os.getppid())
        workplace().database.after_fork()
        super().main_work_horse(job, queue)

    def setup_work_horse_signals(self) -> None:
        signal.signal(signal.SIGINT, signal.SIG_IGN)  # a terminal's Ctrl-C reaches the parent, which decides
        signal.signal(signal.SIGTERM, lambda *_: _stop.ask())

    def handle_warm_shutdown_request(self) -> None:
        super().handle_warm_shutdown_request()  # type: ignore[no-untyped-call]  # RQ has no types here
        if self.horse_pid:
            os.kill(self.horse_pid, signal.SIGTERM)


def _die_with(parent: int) -> None:
    """A SIGKILLed worker's child must not go on copying (facts, reliability 0.4). Linux: the kernel kills it."""
    if sys.platform == "linux":
        libc = ctypes.CDLL(None, use_errno=True)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
        libc.prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)
    if os.getppid() != parent:  # it died before we asked
        os._exit(1)
    threading.Thread(target=_watch_parent, args=(parent,), name="parent", daemon=True).start()


def _watch_parent(parent: int) -> None:
    """The same where there is no prctl."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def work(queue: str, place: Workplace) -> None:
    # A worker waits for work as long as it takes: no read timeout of a few seconds as for a web page.
    connection = Redis.from_url(place.settings.redis_url, health_check_interval=30)
    worker = MoveWorker([Queue(queue, connection=connection, serializer=JSONSerializer)], connection=connection,
                        serializer=JSONSerializer, worker_ttl=WORKER_TTL_SECONDS, log_job_description=True)
    worker.work(logging_level=place.settings.log_level.upper())


def reconcile(place: Workplace) -> int:
    """Puts on the queues what should be there and is not. Returns how many entries were put."""
    with place.database.session() as session:
        lost = leases.recover_lost(session, place.name)
        gone = purge_expired(session)
    if gone:
        place.database.forget_deleted()
    waiting = place.queue.waiting()
    moves = [m for m in lost.moves if m not in waiting.moves]
    checks = [c for c in lost.checks if c not in waiting.checks]
    place.queue.enqueue_slices(moves)
    place.queue.enqueue_checks(checks)
    return len(moves) + len(checks)


def reconcile_for_ever(place: Workplace) -> None:
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: stop.set())
    while not stop.is_set():
        try:
            put = reconcile(place)
            if put:
                log.info("put %d entries back on the queues", put)
        except RedisError as error:
            log.warning("Redis does not answer (%s); rows wait", type(error).__name__)
        except Exception:  # the edge of the process: the next round may succeed
            log.exception("reconciling")
        stop.wait(place.settings.reconcile_seconds)


def main() -> int:
    parser = argparse.ArgumentParser(description="A worker of Banjia.")
    parser.add_argument("what", choices=[QUEUE_MOVE, QUEUE_CHECK, "cron"],
                        help="move: mailboxes; check: live checks; cron: puts back what was lost")
    what = parser.parse_args().what
    try:
        place = workplace()
        place.vault()
    except (BadSettings, VaultError) as error:
        print(error, file=sys.stderr)
        return 2
    logging.basicConfig(level=place.settings.log_level.upper(), format="%(asctime)s %(levelname)s %(name)s %(message)s")
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if what == "cron":
        reconcile_for_ever(place)
    else:
        work(what, place)
    return 0


if __name__ == "__main__":
    sys.modules["worker"] = sys.modules["__main__"]  # jobs are named worker.run_slice: one module, not two
    sys.exit(main())
