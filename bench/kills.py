"""Nothing lost, nothing doubled, however often the mover is killed: random SIGKILLs on real servers.

    python -m bench.kills --server dovecot --kills 250 --uidplus off --late 1.0 --seed 7 --state kills.json --json

A mailbox is filled, `python -m engine copy` is started again and again and killed at a random instant, the next one follows after 0 to 2
seconds, until one of them ends by itself; then source and destination are compared as multisets of (every octet, flags, date). Some
mailboxes get new mail and go on with the same ledger. The destination is `server`, the source the other one of Dovecot and Cyrus. `late`:
the destination stands behind a proxy that holds APPENDs up, or the answers to them, for so many seconds (0: no proxy).

Owns the servers it starts and one temporary directory. Always: the same seed makes the same mailboxes (what a
kill strikes is chance); the state file is written after every mailbox, and a run with the same settings goes on from there. Uses the
tests' servers and proxies, none of the engine's code.
"""
from __future__ import annotations

import argparse
import contextlib
import datetime as dt
import json
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from tests.support.capability_proxy import CapabilityProxy
from tests.support.cyrus import Cyrus, running_cyrus
from tests.support.dovecot import PASSWORD, Dovecot, Sample, Stored, read_back, running_dovecot, seed
from tests.support.slow_append_proxy import SlowAppendProxy

ROOT = Path(__file__).resolve().parent.parent
USERS = {f"u{number:03d}@example.com": PASSWORD for number in range(1, 400)}
FOLDERS = ("INBOX", "INBOX", "Sent", "项目/华东区 客户", "a b")
FLAGS: tuple[tuple[str, ...], ...] = ((), ("\\Seen",), ("\\Seen", "\\Answered", "$Forwarded"), ("\\Flagged", "NonJunk"), ("\\Draft",))
SHORTEST_COPY = 3.0      # seconds
LONGEST_COPY = 180.0     # seconds after which a copy that nobody kills counts as hanging
FAILURES_IN_A_ROW = 5    # copies that end by themselves without being done
MOST_FILLS = 3

Server = Dovecot | Cyrus


@dataclass(frozen=True)
class Setting:
    """`messages` of one filling, each of at most `largest` octets; `late` in seconds."""

    server: str = "dovecot"
    uidplus: bool = True
    late: float = 0.0
    kills: int = 250
    seed: int = 1
    messages: int = 600
    largest: int = 12_000


@dataclass
class Outcome:
    """`kills` struck a running mover, `with_open_work` of them while the ledger held batches that were on their way or still watched.
    `lost` and `doubled` are messages; `told` says which, with the mailbox's number and the seed."""

    kills: int = 0
    with_open_work: int = 0
    copies: int = 0
    mailboxes: int = 0
    messages: int = 0
    lost: int = 0
    doubled: int = 0
    failures: int = 0  # copies that ended by themselves, not done
    seconds: float = 0.0
    told: list[str] = field(default_factory=list)

    def line(self) -> str:
        return (f"{self.kills} kills ({self.with_open_work} with work on its way), {self.mailboxes} mailboxes, {self.messages} messages: "
                f"{self.lost} lost, {self.doubled} doubled; {self.copies} copies, {self.failures} failures, {self.seconds:.0f} s")


class Soak:
    """One setting's servers and what became of it so far."""

    def __init__(self, setting: Setting, outcome: Outcome, source: Server, destination: Server, port: int,
                 proxy: SlowAppendProxy | None, directory: Path) -> None:
        self._setting, self._outcome = setting, outcome
        self._source, self._destination = source, destination
        self._port, self._proxy, self._directory = port, proxy, directory
        self._typical = SHORTEST_COPY  # seconds that a copy takes which nobody kills
        self._ca = directory / "ca.pem"
        self._ca.write_text(source.ca_pem)

    def mailbox(self, number: int, until: Callable[[], bool]) -> None:
        """Fills mailbox `number`, moves it through kills, judges it. `until` says that no more kills are wanted; the copy then ends in
        peace."""
        rng = random.Random(f"{self._setting.seed}/{number}")
        login = list(USERS)[number % len(USERS)]
        ledger = self._directory / f"ledger-{number}"
        if self._proxy is not None:
            late = self._setting.late
            self._proxy.answer_late, self._proxy.deliver_late = rng.choice([(late, 0.0), (0.0, late), (late / 2, late / 2)])
        for server in (self._source, self._destination):
            server.wipe(login)
        for filling in range(rng.randint(1, MOST_FILLS)):
            seed(self._source, login, letters(rng, f"{number}.{filling}", self._setting))
            self._move(rng, login, ledger, until)
            if self._proxy is not None:
                self._proxy.wait_until_quiet()
            self._judge(number, filling, login)
            if until():
                break
        self._outcome.mailboxes += 1
        for server in (self._source, self._destination):
            server.wipe(login)
        ledger.unlink(missing_ok=True)

    def _move(self, rng: random.Random, login: str, ledger: Path, until: Callable[[], bool]) -> None:
        failures = deaths = 0
        while True:
            peace = until()
            # Anywhere in what a copy takes here and now; longer and longer, because each death costs its successor a look-up first.
            life = LONGEST_COPY if peace else rng.uniform(0.1, self._typical * (1 + deaths / 4))
            gap = rng.choice([0.0, 0.0, rng.uniform(0.0, 2.0)])
            with (self._directory / "said").open("w+b") as said:
                process, begun = self._start(login, ledger, said), time.monotonic()
                self._outcome.copies += 1
                try:
                    code: int | None = process.wait(life)
                except subprocess.TimeoutExpired:
                    code = None
                finally:
                    with contextlib.suppress(ProcessLookupError):
                        os.killpg(process.pid, signal.SIGKILL)
                    process.wait()
                if code is None and peace:
                    raise RuntimeError(f"a copy of {login} did not end in {LONGEST_COPY:.0f} s (seed {self._setting.seed})")
                if code is None:
                    self._outcome.kills += 1
                    deaths += 1
                    self._outcome.with_open_work += _open_work(ledger)
                elif code == 0:
                    self._typical = max(SHORTEST_COPY, 0.7 * self._typical + 0.3 * (time.monotonic() - begun))
                    return
                else:
                    self._outcome.failures += 1
                    failures += 1
                    said.seek(0)
                    words = said.read().decode("utf-8", "replace")[-600:]
                    self._outcome.told.append(f"{login}: a copy ended with {code}: {words}")
                    if failures == FAILURES_IN_A_ROW:
                        raise RuntimeError(f"{failures} copies of {login} ended with {code} (seed {self._setting.seed}): {words}")
            time.sleep(gap)

    def _start(self, login: str, ledger: Path, said: Any) -> subprocess.Popen[bytes]:
        assert self._source.ports is not None
        quoted = login.replace("@", "%40")
        return subprocess.Popen(
            [sys.executable, "-m", "engine", "copy", f"imaps://{quoted}@localhost:{self._source.ports.imaps}",
             f"imap+plain://{quoted}@127.0.0.1:{self._port}", "--ledger", str(ledger), "--ca-file", str(self._ca), "--json"],
            cwd=ROOT, start_new_session=True, stdin=subprocess.DEVNULL, stdout=said, stderr=said,
            env={**os.environ, "BANJIA_SOURCE_PASSWORD": PASSWORD, "BANJIA_DESTINATION_PASSWORD": PASSWORD})

    def _judge(self, number: int, filling: int, login: str) -> None:
        wanted, there = _multiset(read_back(self._source, login)), _multiset(read_back(self._destination, login))
        lost, doubled = wanted - there, there - wanted
        self._outcome.messages += wanted.total()
        self._outcome.lost += lost.total()
        self._outcome.doubled += doubled.total()
        self._outcome.told += [f"mailbox {number} (filling {filling}, seed {self._setting.seed}): {n} x {what} in {folder}: "
                               f"{content[:80]!r} {sorted(flags)}"
                               for what, found in (("lost", lost), ("doubled", doubled))
                               for (folder, (content, flags, _)), n in list(found.items())[:5]]


def soak(setting: Setting, *, state: Path | None = None, seconds: float = float("inf"),
         progress: Callable[[str], None] = print) -> Outcome:
    """Runs until `setting.kills` kills have struck or `seconds` have passed (the mailbox under way is then moved to its end). With `state`
    it goes on from there. Raises RuntimeError when a copy hangs or fails again and again."""
    outcome = _read(state, setting) if state is not None else Outcome()
    begun, before = time.monotonic(), outcome.seconds
    progress(f"{setting}")

    def enough() -> bool:
        return outcome.kills >= setting.kills or time.monotonic() - begun > seconds
    with _running(setting, outcome) as running:
        while not enough():
            running.mailbox(outcome.mailboxes, enough)
            outcome.seconds = before + time.monotonic() - begun
            if state is not None:
                _write(state, setting, outcome)
            progress(outcome.line())
    return outcome


@contextmanager
def _running(setting: Setting, outcome: Outcome) -> Iterator[Soak]:
    with contextlib.ExitStack() as stack:
        directory = Path(tempfile.mkdtemp(prefix="kills-"))
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        dovecot = stack.enter_context(running_dovecot(USERS, separator=".", fsync="always"))
        cyrus = stack.enter_context(running_cyrus(USERS))
        source, destination = (cyrus, dovecot) if setting.server == "dovecot" else (dovecot, cyrus)
        assert destination.ports is not None
        port, late = destination.ports.imap, None
        if not setting.uidplus or setting.late:
            # The late proxy has to see APPENDs, so there is no COMPRESS before it.
            off = {"COMPRESS"} | (set() if setting.uidplus else {"UIDPLUS"})
            port = stack.enter_context(CapabilityProxy("127.0.0.1", port, off=off)).port
        if setting.late:
            late = stack.enter_context(SlowAppendProxy("127.0.0.1", port))
            port = late.port
        yield Soak(setting, outcome, source, destination, port, late, directory)


def letters(rng: random.Random, name: str, setting: Setting) -> list[Sample]:
    """One filling: several folders, twins, mail without a Message-ID, flags, keywords, dates, 8-bit bodies, one large message."""
    at = dt.datetime(2024, 1, 2, 3, 4, 5, tzinfo=dt.timezone(dt.timedelta(hours=8)))
    made: list[Sample] = []
    for n in range(setting.messages):
        head = f"From: a@example.com\r\nSubject: {name}.{n}\r\n" + (f"Message-ID: <m{name}.{n}@example.com>\r\n" if n % 7 else "")
        body = rng.randbytes(rng.randint(0, setting.largest) // 2).hex().encode() + "\r\n正文\r\n".encode()
        made.append(Sample(head.encode() + b"\r\n" + body, rng.choice(FOLDERS), rng.choice(FLAGS),
                           at + dt.timedelta(minutes=rng.randint(0, 500_000))))
        if n % 11 == 0:
            made += [made[-1]] * rng.randint(1, 2)
    made.append(Sample(f"Subject: large {name}\r\n\r\n".encode() + b"y" * 70 * setting.largest + b"\r\n", "INBOX", (), at))
    return made


def _multiset(folders: Mapping[str, list[Stored]]) -> Counter[tuple[str, tuple[bytes, frozenset[str], float]]]:
    return Counter((folder, message.identity) for folder, messages in folders.items() for message in messages)


def _open_work(ledger: Path) -> bool:
    """Whether batches were on their way when the mover died."""
    with contextlib.suppress(sqlite3.Error), contextlib.closing(sqlite3.connect(ledger, timeout=1.0)) as db:
        return bool(db.execute("SELECT count(*) FROM intents").fetchone()[0])
    return False


def _read(state: Path, setting: Setting) -> Outcome:
    if not state.exists():
        return Outcome()
    held = json.loads(state.read_text())
    if held["setting"] != asdict(setting):
        raise SystemExit(f"{state} is of another setting: {held['setting']}")
    return Outcome(**held["outcome"])


def _write(state: Path, setting: Setting, outcome: Outcome) -> None:
    state.parent.mkdir(parents=True, exist_ok=True)
    new = state.with_suffix(".new")
    new.write_text(json.dumps({"setting": asdict(setting), "outcome": asdict(outcome)}, ensure_ascii=False, indent=1))
    new.replace(state)


def main(argv: Sequence[str] | None = None) -> int:
    """Exit 0: the kills are done, nothing lost, nothing doubled; 1 otherwise."""
    parser = argparse.ArgumentParser(prog="python -m bench.kills", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--server", choices=("dovecot", "cyrus"), default="dovecot", help="the destination; the other one is the source")
    parser.add_argument("--kills", type=int, default=250)
    parser.add_argument("--uidplus", choices=("on", "off"), default="on")
    parser.add_argument("--late", type=float, default=0.0, metavar="SECONDS", help="APPENDs, or their answers, come so much later")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(10**6))
    parser.add_argument("--messages", type=int, default=Setting.messages, help="of one filling (default %(default)s)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="no new kills after so long")
    parser.add_argument("--state", type=Path, metavar="FILE", help="written after every mailbox; found there, the run goes on")
    parser.add_argument("--json", action="store_true", help="one JSON object on stdout at the end; progress goes to stderr")
    args = parser.parse_args(argv)
    setting = Setting(args.server, args.uidplus == "on", args.late, args.kills, args.seed, args.messages)
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # so that the servers are stopped
    outcome = soak(setting, state=args.state, seconds=args.minutes * 60,
                   progress=lambda line: print(line, file=sys.stderr if args.json else sys.stdout, flush=True))
    if args.json:
        print(json.dumps({"setting": asdict(setting), "outcome": asdict(outcome)}, ensure_ascii=False))
    else:
        print("\n".join(outcome.told))
    return int(bool(outcome.lost or outcome.doubled or outcome.kills < setting.kills))


if __name__ == "__main__":
    sys.exit(main())
