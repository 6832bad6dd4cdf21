"""What a rerun asks of a real Dovecot: the survey, the look, flags there and back."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.causes import Cause, Side
from engine.imap.flags import FlagChange, fetch_flags, store_flags
from engine.imap.look import Ask, Look, look
from engine.imap.session import Session
from engine.wire import utf7
from tests.support.dovecot import LOOPBACK, Dovecot, Sample, account, read_back, running_dovecot, seed, seed_maildir

Told = dict[tuple[str, int], tuple[str, ...]]


@contextmanager
def session(server: Dovecot, login: str, side: Side = Side.SOURCE) -> Iterator[Session]:
    opened = Session.open(account(server, login), LOOPBACK, side=side)
    try:
        yield opened
    finally:
        opened.logout()


def looked(opened: Session, *asks: Ask) -> tuple[dict[str, Look], Told]:
    told: Told = {}
    return {one.name: one for one in look(opened, asks, lambda name, uid, flags: told.__setitem__((name, uid), flags))}, told


def test_a_survey_is_what_the_single_questions_tell(source_server: Dovecot, fresh_user: str) -> None:
    seed(source_server, fresh_user, [Sample(b"a: %d\r\n\r\n" % n, "归档", ("\\Seen",)) for n in range(3)])
    with session(source_server, fresh_user) as opened:
        survey = opened.survey()
        assert (survey.prefix, survey.separator) == opened.namespace_prefix() == ("", ".")
        assert {f.name: f for f in survey.folders} == {f.name: f for f in opened.list_folders()}, "in the order of a directory"
        assert survey.statuses == opened.statuses([f.name for f in survey.folders if f.selectable])
        archive = survey.statuses[utf7.encode("归档")]
        assert (archive.messages, archive.uidnext) == (3, 4)
        assert archive.highestmodseq > 0


def test_looking_at_150_folders_changes_nothing_and_tells_their_flags(source_server: Dovecot, fresh_user: str) -> None:
    names = [utf7.encode(f"项目 {n}") for n in range(150)]
    seed(source_server, fresh_user, [Sample(b"a: %d\r\n\r\n" % n, f"项目 {n}", ("\\Seen", f"k{n % 3}")) for n in range(150)])
    with session(source_server, fresh_user) as opened:
        looks, told = looked(opened, *(Ask(name, flags_below=2) for name in names), Ask("nowhere", flags_below=5))
        assert list(looks) == [*names, "nowhere"]
        assert told == {(name, 1): ("\\Seen", f"k{n % 3}") for n, name in enumerate(names)}
        assert all(looks[name].vanished_known and looks[name].refused is None for name in names)
        refused = looks["nowhere"].refused
        assert refused is not None
        assert refused.cause is Cause.X_FOLDER
        assert opened.examine(names[7]) == looks[names[7]].selected
        _, told = looked(opened, *(Ask(name, one.selected.highestmodseq, 2) for name, one in looks.items() if one.selected))
        assert told == {}, "nothing changed since"


@pytest.mark.parametrize("dirty", ["yes", "no"])
def test_mail_and_flags_that_came_in_behind_the_servers_back(need_dovecot: None, dirty: str) -> None:
    """Given a maildir that somebody else writes to while an index says otherwise, then the look tells what is there."""
    with running_dovecot({"li": "secret"}, fsync="never", extra=f"maildir_very_dirty_syncs = {dirty}") as server:
        seed_maildir(server, "li", [b"a: %d\n\nx\n" % n for n in range(20)])
        with session(server, "li") as opened:
            before = looked(opened, Ask("INBOX", flags_below=21))[0]["INBOX"]
            assert before.selected is not None
            assert (before.selected.messages, before.flags_seen) == (20, 20)
        inbox = server.maildir("li") / "cur"
        _set_flags(inbox, 3, "FS")
        with session(server, "li") as opened:
            looks, told = looked(opened, Ask("INBOX", before.selected.highestmodseq, 21))
            assert list(told.values()) == [("\\Flagged", "\\Seen")]
            assert not looks["INBOX"].vanished_known
        seed_maildir(server, "li", [b"a: late\n\nx\n"])
        with session(server, "li") as opened:
            after = looked(opened, Ask("INBOX", before.selected.highestmodseq, 21))[0]["INBOX"].selected
            assert after is not None
            assert (after.messages, after.uidnext) == (21, 22)


def _set_flags(folder: Path, number: int, letters: str) -> None:
    path = sorted(folder.iterdir())[number]
    path.rename(path.with_name(path.name.partition(":")[0] + ":2," + letters))


def test_changes_that_another_session_made_are_told_by_their_count(source_server: Dovecot, fresh_user: str) -> None:
    seed(source_server, fresh_user, [Sample(b"a: %d\r\n\r\n" % n) for n in range(50)])
    with session(source_server, fresh_user) as opened:
        since = opened.examine("INBOX").highestmodseq
        with session(source_server, fresh_user, Side.DESTINATION) as other:
            assert store_flags(other, "INBOX", [FlagChange((7, 9), ("\\Seen", "$Label1")), FlagChange((50,), ("\\Deleted",))]) == []
        _, told = looked(opened, Ask("INBOX", since, 50))
        assert {uid: sorted(flags) for (_, uid), flags in told.items()} == {7: ["$Label1", "\\Seen"], 9: ["$Label1", "\\Seen"]}
        assert {uid for uid, _ in fetch_flags(opened, 1, None, since)} == {7, 9, 50}


@pytest.mark.parametrize("capability", ["", "IMAP4rev1 UIDPLUS"])
def test_flags_of_5000_messages_there_and_back(need_dovecot: None, capability: str) -> None:
    with running_dovecot({"li": "secret"}, fsync="never", capability=capability) as server:
        seed_maildir(server, "li", (b"a: %d\n\nx\n" % n for n in range(5000)))
        with session(server, "li", Side.DESTINATION) as opened:
            changes = [FlagChange(tuple(range(1, 5001, 2)), ("\\Flagged", "odd"), ("\\Seen",)), FlagChange((2, 4, 6000), ("even",))]
            assert store_flags(opened, "INBOX", changes) == []
            opened.examine("INBOX")
            told = dict(fetch_flags(opened, 1, None))
            assert [uid for uid, flags in told.items() if set(flags) == {"\\Flagged", "odd"}] == list(range(1, 5001, 2))
            assert {uid for uid, flags in told.items() if "even" in flags} == {2, 4}
            assert all("\\Seen" in flags for uid, flags in told.items() if uid % 2 == 0)
        assert len(read_back(server, "li")["INBOX"]) == 5000
