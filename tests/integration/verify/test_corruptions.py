"""Whatever is done to one message at the destination is found, and named by what it is and by its UIDs.

A real server keeps the destination as maildir files; after one copy single corruptions are made on its disk, one in each of many
folders, and undone before the next. Seed in FAULT_SEED, printed when a test fails.
"""
from __future__ import annotations

import datetime as dt
import os
import random
import shutil
import subprocess
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from engine.ledger_file import SqliteLedger
from engine.report.copy import CopyOutcome
from engine.report.verify import FindingKind, FolderVerdict, VerifyReport
from engine.transfer.copier import copy_mailbox
from engine.verify import VerifyMode, verify_mailboxes
from tests.support.dovecot import LOOPBACK, PASSWORD, Dovecot, Sample, account, running_dovecot, seed

SEED = int(os.environ.get("FAULT_SEED", "20240506"))
LOGIN = "proof@example.com"
FOLDERS, EACH, CORRUPTED, ROUNDS = 72, 6, 63, 5  # 315 corruptions; the other folders have to stay without a finding
AT = dt.datetime(2024, 5, 6, 7, 8, 9, tzinfo=dt.timezone(dt.timedelta(hours=8)))
Expected = list[tuple[FindingKind, int | None, int | None]]  # kind, source UID, destination UID


def mail(folder: int, n: int) -> bytes:
    """Two neighbours are equally long, so that their bodies can change places."""
    words = f"{folder:03}/{n:03} " * (3 + n // 2 * 7)
    return f"From: a@example.com\r\nSubject: {folder:03}-{n:03}\r\nMessage-ID: <{folder:03}.{n:03}@example.com>\r\n\r\n{words}\r\n".encode()


@dataclass
class Scene:
    """A mailbox and its copy. `source_uid` of a destination UID: they differ, because the source's begin at another number."""

    source: Dovecot
    destination: Dovecot
    ledger: Path
    pristine: Path
    source_uids: dict[str, dict[int, int]] = field(default_factory=dict)

    def verified(self, mode: VerifyMode = VerifyMode.FULL, *, with_ledger: bool = True) -> VerifyReport:
        ledger = SqliteLedger(self.ledger, LOGIN) if with_ledger else None
        try:
            report = verify_mailboxes(account(self.source, LOGIN), account(self.destination, LOGIN), source_route=LOOPBACK,
                                      destination_route=LOOPBACK, connections=2, mode=mode, ledger=ledger)
        finally:
            if ledger is not None:
                ledger.close()
        assert report.cause is None, report
        return report

    def mend(self) -> None:
        """The destination as it was after the copy, its server's own files included."""
        place = self.destination.maildir(LOGIN)
        shutil.rmtree(place)
        subprocess.run(["cp", "-a", str(self.pristine), str(place)], check=True)


class Maildir:
    """One folder of the destination on disk."""

    def __init__(self, scene: Scene, name: str) -> None:
        self.path = scene.destination.maildir(LOGIN) / f".{name}"
        self.source_uids = scene.source_uids[name]
        self.files = self._files()

    def _files(self) -> dict[int, Path]:
        files = {}
        there = {path.name.partition(":")[0]: path for part in ("cur", "new") for path in (self.path / part).iterdir()}
        for line in (self.path / "dovecot-uidlist").read_text().splitlines()[1:]:
            uid, _, name = line.partition(" :")
            files[int(uid.split()[0])] = there[name.partition(":")[0]]
        return files

    def pick(self, rng: random.Random) -> tuple[int, Path]:
        uid = rng.choice(sorted(self.files))
        return uid, self.files[uid]

    def forget_what_the_server_knows(self) -> None:
        for path in self.path.glob("dovecot.index*"):
            path.unlink()


def flip(box: Maildir, rng: random.Random) -> Expected:
    """One octet becomes another: the size stays, line ends stay line ends."""
    uid, path = box.pick(rng)
    content = bytearray(path.read_bytes())
    at = rng.choice([n for n, octet in enumerate(content) if octet not in b"\r\n"])
    content[at] = rng.choice([o for o in range(32, 256) if o != content[at]])
    _rewrite(path, bytes(content))
    return [(FindingKind.ALTERED_OCTETS, box.source_uids[uid], uid)]


def swap(box: Maildir, rng: random.Random) -> Expected:
    """Two messages of one size change places."""
    one = rng.choice([uid for n, uid in enumerate(sorted(box.files)) if n % 2 == 0])
    other = one + 1
    contents = box.files[one].read_bytes(), box.files[other].read_bytes()
    assert len(contents[0]) == len(contents[1])
    _rewrite(box.files[one], contents[1])
    _rewrite(box.files[other], contents[0])
    return [(FindingKind.ALTERED_OCTETS, box.source_uids[uid], uid) for uid in (one, other)]


def cut(box: Maildir, rng: random.Random) -> Expected:
    """The end of a message is lost."""
    uid, path = box.pick(rng)
    content = path.read_bytes()
    base, colon, flags = path.name.partition(":")
    new = path.with_name(base.partition(",")[0] + colon + flags)  # the server's sizes stand in the name
    path.rename(new)
    uidlist = box.path / "dovecot-uidlist"
    _rewrite(uidlist, uidlist.read_bytes().replace(base.encode(), base.partition(",")[0].encode()))
    _rewrite(new, content[: -rng.randint(2, 12)] + b"\n")
    return [(FindingKind.ALTERED_OCTETS, box.source_uids[uid], uid)]


def remove(box: Maildir, rng: random.Random) -> Expected:
    uid, path = box.pick(rng)
    path.unlink()
    return [(FindingKind.MISSING, box.source_uids[uid], uid)]


def add(box: Maildir, rng: random.Random) -> Expected:
    """Another message, that the source has not."""
    _, path = box.pick(rng)
    return _add(box, path, path.read_bytes().replace(b"Subject: ", b"Subject: another "))


def add_a_twin(box: Maildir, rng: random.Random) -> Expected:
    """The same message once more."""
    _, path = box.pick(rng)
    return _add(box, path, path.read_bytes())


def _add(box: Maildir, like: Path, content: bytes) -> Expected:
    new = like.with_name(like.name.replace(like.name.partition(",")[0], "1714950000.M1P1.added"))
    if len(content) != like.stat().st_size:
        new = like.with_name("1714950000.M1P1.added:2,")
    new.write_bytes(content)
    _as(like, new)
    return [(FindingKind.EXTRA, None, max(box.files) + 1)]


def change_a_flag(box: Maildir, rng: random.Random) -> Expected:
    uid, path = box.pick(rng)
    base, _, flags = path.name.partition(":2,")
    path.rename(box.path / "cur" / f"{base}:2,{''.join(sorted(set(flags) ^ {rng.choice('FRS')}))}")
    return [(FindingKind.ALTERED_FLAGS, box.source_uids[uid], uid)]


def change_a_date(box: Maildir, rng: random.Random) -> Expected:
    uid, path = box.pick(rng)
    at = path.stat().st_mtime + rng.choice([-1, 1, 3600, -86400 * 400])
    os.utime(path, (at, at))
    return [(FindingKind.ALTERED_DATE, box.source_uids[uid], uid)]


def _rewrite(path: Path, content: bytes) -> None:
    at = path.stat().st_mtime
    path.write_bytes(content)
    os.utime(path, (at, at))


def _as(like: Path, new: Path) -> None:
    """The same owner and date."""
    stat = like.stat()
    os.chown(new, stat.st_uid, stat.st_gid)
    os.utime(new, (stat.st_mtime, stat.st_mtime))


Corruption = Callable[[Maildir, random.Random], Expected]
KINDS: tuple[Corruption, ...] = (flip, flip, remove, add, add_a_twin, change_a_flag, change_a_date, swap, cut)
ONLY_IN_OCTETS = (flip, swap)  # what no list of a server shows


@pytest.fixture(scope="module")
def scene(need_dovecot: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    top = tmp_path_factory.mktemp("proof")
    names = [f"F{n:02}" for n in range(FOLDERS)]
    with running_dovecot({LOGIN: PASSWORD}, fsync="never", mail_format="sdbox") as source, \
         running_dovecot({LOGIN: PASSWORD}, fsync="never", mail_format="maildir") as destination:
        flags = [(), ("\\Seen",), ("\\Seen", "\\Answered"), ("\\Flagged", "$Forwarded")]
        samples = [Sample(mail(f, n), name, flags[(f + n) % 4], AT + dt.timedelta(minutes=7 * n))
                   for f, name in enumerate(names) for n in range(-1, EACH)]
        seed(source, LOGIN, samples)
        with source.client(LOGIN) as client:  # UIDs begin at 2; in every third folder a gap is in the middle
            for f, name in enumerate(names):
                client.command(b'SELECT "%s"' % name.encode())
                for uid in (1, 5) if f % 3 == 0 else (1,):
                    client.command(b"UID STORE %d +FLAGS.SILENT (\\Deleted)" % uid)
                client.command(b"EXPUNGE")
        ledger = SqliteLedger(top / "ledger", LOGIN)
        report = copy_mailbox(account(source, LOGIN), account(destination, LOGIN), ledger=ledger, source_route=LOOPBACK,
                              destination_route=LOOPBACK, connections=2)
        ledger.close()
        assert report.outcome is CopyOutcome.COMPLETE
        uids: dict[str, dict[int, int]] = {}
        for f, name in enumerate(names):
            here = [uid for uid in range(2, EACH + 2) if not (f % 3 == 0 and uid == 5)]
            uids[name] = dict(enumerate(here, 1))
        scene = Scene(source, destination, top / "ledger", top / "pristine", uids)
        clean = scene.verified()
        assert clean.equal and sum(f.source_messages for f in clean.folders) == sum(map(len, uids.values()))
        subprocess.run(["cp", "-a", str(destination.maildir(LOGIN)), str(scene.pristine)], check=True)
        yield scene


def corrupt(scene: Scene, rng: random.Random) -> dict[str, tuple[Corruption, Expected]]:
    """One corruption in each of most folders, every kind among them."""
    names = rng.sample(sorted(scene.source_uids), CORRUPTED)
    done = {}
    for n, name in enumerate(names):
        kind = KINDS[n % len(KINDS)]
        if kind is swap and scene.source_uids[name].get(4) == 6:  # with a gap the neighbours are not alike
            kind = flip
        box = Maildir(scene, name)
        done[name] = kind, kind(box, rng)
        box.forget_what_the_server_knows()
    return done


def named(verdict: FolderVerdict) -> Expected:
    return sorted((f.kind, f.source_uid, f.target_uid) for f in verdict.findings)


@pytest.mark.parametrize("round_", range(ROUNDS))
def test_every_corruption_is_found_and_named(scene: Scene, round_: int) -> None:
    rng = random.Random(SEED * 1000 + round_)
    print(f"FAULT_SEED={SEED}, round {round_}")
    done = corrupt(scene, rng)
    try:
        full, quick = scene.verified(), scene.verified(VerifyMode.QUICK)
    finally:
        scene.mend()
    assert not full.equal and not quick.equal
    assert {kind.__name__ for kind, _ in done.values()} == {kind.__name__ for kind in KINDS}
    for verdict in full.folders:
        kind, expected = done.get(verdict.folder, (None, []))
        assert named(verdict) == sorted(expected), (kind, verdict)
    counted = Counter(kind for _, expected in done.values() for kind, _, _ in expected)
    assert (full.missing, full.extra, full.altered, full.altered_flags, full.altered_date) == tuple(
        counted[kind] for kind in (FindingKind.MISSING, FindingKind.EXTRA, FindingKind.ALTERED_OCTETS, FindingKind.ALTERED_FLAGS,
                                   FindingKind.ALTERED_DATE))
    # The quick look sees the same but for what no list shows, and says so; a message of the destination's own is told, and no error.
    assert not quick.octets_compared
    for verdict in quick.folders:
        kind, expected = done.get(verdict.folder, (None, []))
        if kind in ONLY_IN_OCTETS:
            assert named(verdict) == [], (kind, verdict)
        elif kind in (add, add_a_twin):
            assert (named(verdict), verdict.unclaimed) == ([], 1), (kind, verdict)
        else:
            assert named(verdict) == sorted(expected), (kind, verdict)


def test_without_a_ledger_content_is_compared(scene: Scene) -> None:
    rng = random.Random(SEED)
    done = corrupt(scene, rng)
    try:
        full = scene.verified(with_ledger=False)
    finally:
        scene.mend()
    as_content = {flip: (1, 1, 0, 0), cut: (1, 1, 0, 0), remove: (1, 0, 0, 0), add: (0, 1, 0, 0), add_a_twin: (0, 1, 0, 0),
                  change_a_flag: (0, 0, 1, 0), change_a_date: (0, 0, 0, 1)}
    for verdict in full.folders:
        kind, _ = done.get(verdict.folder, (None, []))
        if kind is swap:  # its two have each other's date and flags
            assert (verdict.missing, verdict.extra) == (0, 0) and verdict.altered_date == 2, verdict
        else:
            assert (verdict.missing, verdict.extra, verdict.altered_flags, verdict.altered_date) == (
                as_content[kind] if kind else (0, 0, 0, 0)), (kind, verdict)


def test_mended_it_is_equal_again(scene: Scene) -> None:
    corrupt(scene, random.Random(SEED))
    scene.mend()
    assert scene.verified().equal and scene.verified(VerifyMode.QUICK).equal
