"""Given a queue and workers, when things go as they should or are interrupted, then each mailbox is moved once, by one worker."""
from __future__ import annotations

import os
import random
import signal
import time

import pytest
import redis
from rq import Queue
from rq.serializers import JSONSerializer

from engine.errors import LeaseLost
from engine.ledger import Entry, FolderRow
from portal.models import Credential, Move, MoveState
from portal.services import leases, moves
from portal.services.common import SYSTEM
from portal.store.ledger import SqlLedger
from tests.integration.transfer.conftest import samples
from tests.integration.worker.conftest import Crew, alive, horse_of
from tests.support.dovecot import Dovecot, differences, read_back, seed


def launch(crew: Crew, move_id: int) -> None:
    with crew.portal.database.session() as session:
        moves.start(session, SYSTEM, session.get_one(Move, move_id))


def is_exact(login: str, source: Dovecot, destination: Dovecot) -> bool:
    told = differences(read_back(source, login), read_back(destination, login))
    assert told == []
    return True


def test_checked_then_moved_and_the_secrets_are_gone(crew: Crew, fresh_user: str, source_server: Dovecot,
                                                     destination_server: Dovecot) -> None:
    seed(source_server, fresh_user, samples())
    move_id = crew.add(fresh_user)
    crew.start("check")
    crew.wait(lambda: crew.move(move_id).state is MoveState.READY)
    check = crew.check(move_id)
    assert check.cause is None
    assert [s["state"] for s in check.steps] == ["ok"] * 10
    assert check.result["source"]["messages"] == sum(len(m) for m in read_back(source_server, fresh_user).values())
    launch(crew, move_id)
    crew.start("move")
    move = crew.wait_closed(move_id)
    assert (move.state, move.outcome) == (MoveState.DONE, "complete")
    assert move.moved == move.messages_total
    assert is_exact(fresh_user, source_server, destination_server)
    with crew.portal.database.reading() as session:
        assert session.query(Credential).filter_by(owner_id=move.person_id).count() == 0


def test_a_wrong_secret_is_tried_once_and_named(crew: Crew, fresh_user: str) -> None:
    move_id = crew.add(fresh_user, secret="not this one")
    crew.start("check")
    crew.wait(lambda: crew.check(move_id).finished_at is not None)
    assert crew.check(move_id).cause == "bad_secret"
    assert crew.move(move_id).state is MoveState.INVITED


def test_many_entries_of_one_mailbox_are_one_move(crew: Crew, fresh_user: str, source_server: Dovecot,
                                                  destination_server: Dovecot) -> None:
    seed(source_server, fresh_user, samples(200))
    move_id = crew.add(fresh_user)
    launch(crew, move_id)
    crew.portal.queue.enqueue_slices([move_id] * 30)
    for _ in range(3):
        crew.start("move")
    assert crew.wait_closed(move_id).outcome == "complete"
    assert is_exact(fresh_user, source_server, destination_server)


def test_sigterm_ends_a_slice_at_once_and_the_next_worker_goes_on(crew: Crew, fresh_user: str, source_server: Dovecot,
                                                                  destination_server: Dovecot) -> None:
    seed(source_server, fresh_user, samples(1500))
    move_id = crew.add(fresh_user)
    launch(crew, move_id)
    worker = crew.start("move")
    crew.wait(lambda: crew.move(move_id).moved > 0)
    worker.send_signal(signal.SIGTERM)
    assert worker.wait(10) == 0
    assert crew.move(move_id).state in (MoveState.QUEUED, MoveState.DONE)
    crew.start("move")
    assert crew.wait_closed(move_id).outcome == "complete"
    assert is_exact(fresh_user, source_server, destination_server)


def test_a_killed_workers_child_dies_with_it(crew: Crew, fresh_user: str, source_server: Dovecot) -> None:
    seed(source_server, fresh_user, samples(1500))
    move_id = crew.add(fresh_user)
    launch(crew, move_id)
    worker = crew.start("move")
    crew.wait(lambda: crew.move(move_id).state is MoveState.MOVING)
    horse = horse_of(worker)
    assert horse is not None
    worker.kill()
    worker.wait()
    crew.wait(lambda: not alive(horse), 5)


@pytest.mark.timeout(600)
def test_workers_killed_at_random_lose_and_double_nothing(crew: Crew, fresh_user: str, source_server: Dovecot,
                                                          destination_server: Dovecot) -> None:
    rounds = int(os.environ.get("KILL_ROUNDS", "6"))
    seed_number = int(os.environ.get("KILL_SEED", str(random.SystemRandom().randrange(10**6))))
    print(f"KILL_SEED={seed_number}")
    rng = random.Random(seed_number)
    seed(source_server, fresh_user, samples(4000))
    move_id = crew.add(fresh_user)
    launch(crew, move_id)
    crew.start("cron")
    for _ in range(rounds):
        worker = crew.start("move")
        crew.wait(lambda: crew.move(move_id).state in (MoveState.MOVING, MoveState.DONE, MoveState.STUCK))
        time.sleep(rng.uniform(0.0, 1.5))  # the instant is the test's subject
        victims = [pid for pid in (horse_of(worker), worker.pid) if pid]
        if rng.random() < 0.3 and len(victims) == 2:
            victims = victims[:1]  # the child alone: its parent lives on
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        if crew.move(move_id).state is MoveState.DONE:
            break
    crew.start("move")
    move = crew.wait_closed(move_id)
    assert move.outcome == "complete", (move.cause, crew.tail())
    assert is_exact(fresh_user, source_server, destination_server)


def test_redis_wiped_in_the_middle_loses_nothing(crew: Crew, fresh_user: str, source_server: Dovecot, destination_server: Dovecot) -> None:
    seed(source_server, fresh_user, samples())
    move_id = crew.add(fresh_user)
    launch(crew, move_id)
    redis.Redis.from_url(crew.portal.settings.redis_url.replace("?db=0", "")).flushall()
    crew.start("cron")
    crew.start("move")
    assert crew.wait_closed(move_id).outcome == "complete"
    assert is_exact(fresh_user, source_server, destination_server)


def test_a_pause_is_noticed_and_resumed(crew: Crew, fresh_user: str, source_server: Dovecot, destination_server: Dovecot) -> None:
    seed(source_server, fresh_user, samples(1500))
    move_id = crew.add(fresh_user)
    launch(crew, move_id)
    crew.start("move")
    crew.wait(lambda: crew.move(move_id).moved > 0)
    with crew.portal.database.session() as session:
        moves.pause(session, SYSTEM, session.get_one(Move, move_id))
    assert crew.wait_closed(move_id).state in (MoveState.PAUSED, MoveState.DONE)
    if crew.move(move_id).state is MoveState.PAUSED:
        with crew.portal.database.session() as session:
            moves.resume(session, SYSTEM, session.get_one(Move, move_id))
    assert crew.wait_closed(move_id).outcome == "complete"
    assert is_exact(fresh_user, source_server, destination_server)


def test_an_entry_that_is_not_on_the_list_is_not_run(crew: Crew, tmp_path: object) -> None:
    mark = crew.logs / "mark"
    connection = redis.Redis.from_url(crew.portal.settings.redis_url)
    queue = Queue("move", connection=connection, serializer=JSONSerializer)
    harmful = queue.enqueue("os.system", f"touch {mark}")
    queue.enqueue("worker.run_slice", 999_999, on_success=None)
    crew.start("move")
    crew.wait(lambda: harmful.get_status(refresh=True) == "failed")
    assert not mark.exists()


def test_a_worker_without_the_newest_fence_writes_nothing(crew: Crew, fresh_user: str) -> None:
    move_id = crew.add(fresh_user)
    launch(crew, move_id)
    database = crew.portal.database
    with database.session() as session:
        first = leases.claim(session, "one", move_id, 60)
        assert first is not None
        assert leases.claim(session, "two", move_id, 60) is None
        session.get_one(Move, move_id).lease_until = None
    with database.session() as session:
        second = leases.claim(session, "two", move_id, 60)
    assert second is not None
    old, new = SqlLedger(database, move_id, first.fence, 60), SqlLedger(database, move_id, second.fence, 60)
    row = new.put_folder(FolderRow("INBOX", "INBOX"))
    for write in (lambda: old.put_folder(row), lambda: old.write(Entry(row)), lambda: old.forget_folder(row)):
        with pytest.raises(LeaseLost):
            write()
    assert new.write(Entry(row)).runs == []
