"""The session, the streams and the appender between two real Dovecots."""
from __future__ import annotations

import datetime as dt
import tracemalloc
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from engine.causes import Cause, Side
from engine.endpoint import Security
from engine.errors import EngineError, MessageRefused, Refused
from engine.imap.append import Appended, Appender, AppendMethod, Outgoing
from engine.imap.fetch import fetch_bodies, fetch_digests, fetch_headers, fetch_metadata, fetch_uids
from engine.imap.session import Session
from engine.wire import utf7
from tests.support.dovecot import LOOPBACK, Dovecot, Sample, Stored, account, differences, read_back, running_dovecot, seed

DATE = "17-Jul-2026 02:44:25 -0700"
NASTY = [
    b"Subject: plain\r\n\r\nbody\r\n",
    b"Subject: no final line end\r\n\r\nbody",
    b"Subject: header only\r\n\r\n",
    b"no header at all",
    b"Subject: \xd6\xd0\xce\xc4 raw GBK\r\n\r\n\xff\xfe\x80 8-bit\r\n",
    b"Subject: looks like protocol\r\n\r\n* 1 FETCH (UID 1 BODY[] {5}\r\n)\r\nB1 OK done\r\n+ \r\n",
    b"Subject: long line\r\n\r\n" + b"x" * 200_000 + b"\r\n",
    b"Subject: big\r\n\r\n" + b"0123456789abcdef\r\n" * 20_000,
    b"\r\nempty header\r\n",
]
FLAGS = [(), ("\\Seen",), ("\\Seen", "\\Answered", "\\Flagged"), ("\\Draft",), ("\\Deleted",), ("$Label1", "NonJunk"), ("$Forwarded",),
         ("a+b",), ("\\Seen", "$MDNSent")]


@contextmanager
def session(server: Dovecot, login: str, side: Side = Side.SOURCE, security: Security = Security.TLS) -> Iterator[Session]:
    opened = Session.open(account(server, login, security), LOOPBACK, side=side)
    try:
        yield opened
    finally:
        opened.logout()


def copy_folder(source: Session, target: Session, name: str, *, whole: bool) -> list[Appended]:
    """Everything of a folder, in order, `whole` messages in memory or chunk by chunk."""
    source.examine(name)
    listed = {m.uid: m for m in fetch_metadata(source, 1, None)}
    appender, results = Appender(target), []
    for body in fetch_bodies(source, [list(listed)]):
        meta = listed[body.uid]
        content = body.read() if whole else body.chunks(10_000)
        results += appender.wait(appender.send(name, [Outgoing(body.uid, meta.flags, meta.internal_date, body.length, content)]))
    source.unselect()
    return results


@pytest.mark.parametrize("security", list(Security))
def test_every_way_in_with_a_secret_beyond_ascii(source_server: Dovecot, fresh_user: str, security: Security) -> None:
    with session(source_server, fresh_user, security=security) as opened:
        assert opened.namespace_prefix() == ("", ".")
        assert opened.rtt < 5
        roles = {f.name: f.attributes for f in opened.list_folders()}
        assert "\\sent" in roles["Sent"]


def test_a_wrong_secret(source_server: Dovecot, fresh_user: str) -> None:
    with pytest.raises(Refused) as caught:
        Session.open(account(source_server, fresh_user, secret="wrong"), LOOPBACK, side=Side.SOURCE)
    assert caught.value.cause is Cause.BAD_SECRET
    assert "wrong" not in repr(caught.value.__dict__)


@pytest.mark.parametrize("whole", [True, False])
def test_octets_flags_and_dates_arrive_as_they_were(source_server: Dovecot, destination_server: Dovecot, fresh_user: str,
                                                    whole: bool) -> None:
    dates = [dt.datetime(2001 + n, 2, 3, 4, 5, 6, tzinfo=dt.timezone(dt.timedelta(hours=n - 4))) for n in range(len(NASTY))]
    folder = utf7.encode("归档 & \"x\"")
    seed(source_server, fresh_user, [Sample(c, "归档 & \"x\"", f, d) for c, f, d in zip(NASTY, FLAGS, dates, strict=True)])
    with session(source_server, fresh_user) as source, session(destination_server, fresh_user, Side.DESTINATION) as target:
        target.create(folder)
        target.subscribe(folder)
        results = copy_folder(source, target, folder, whole=whole)
        assert [r.target_uid for r in results] == list(range(1, len(NASTY) + 1))
        assert {r.target_uidvalidity for r in results} == {target.status(folder).uidvalidity}
        target.examine(folder)
        source.examine(folder)
        uids = list(fetch_uids(target, 1, None))
        assert dict(fetch_digests(target, uids)) == dict(fetch_digests(source, uids))
        headers = dict(fetch_headers(target, uids))
        assert all(content.startswith(headers[uid].rstrip(b"\r\n")) for uid, content in zip(uids, NASTY, strict=True))
    there = read_back(destination_server, fresh_user)
    assert differences(read_back(source_server, fresh_user), there, extra_is_fine=True) == []
    assert [m.content for m in by_uid(there["归档 & \"x\""])] == NASTY, "in order"


def by_uid(messages: list[Stored]) -> list[Stored]:
    return sorted(messages, key=lambda m: m.uid)


def test_reading_changes_nothing(source_server: Dovecot, fresh_user: str) -> None:
    seed(source_server, fresh_user, [Sample(content) for content in NASTY])
    before = source_server.maildir(fresh_user)
    with session(source_server, fresh_user) as source:
        source.examine("INBOX")
        uids = [m.uid for m in fetch_metadata(source, 1, None)]
        for body in fetch_bodies(source, [uids]):
            body.read()
    with session(source_server, fresh_user) as source:
        source.examine("INBOX")
        assert all(m.flags == () for m in fetch_metadata(source, 1, None))
    assert len(list((before / "new").iterdir()) + list((before / "cur").iterdir())) == len(NASTY)


@pytest.mark.parametrize(("capability", "method"), [
    ("IMAP4rev1 UIDPLUS LITERAL+ MULTIAPPEND", AppendMethod.MULTIAPPEND), ("IMAP4rev1 UIDPLUS MULTIAPPEND", AppendMethod.MULTIAPPEND),
    ("IMAP4rev1 UIDPLUS LITERAL+", AppendMethod.LITERAL_PLUS), ("IMAP4rev1 UIDPLUS LITERAL-", AppendMethod.LITERAL_MINUS),
    ("IMAP4rev1 UIDPLUS", AppendMethod.PLAIN)])
def test_every_method_stores_the_same(need_dovecot: None, capability: str, method: AppendMethod) -> None:
    with running_dovecot({"li": "secret"}, capability=capability, fsync="never") as server, \
         session(server, "li", Side.DESTINATION) as target:
        appender = Appender(target)
        assert appender.method is method
        batches = [appender.send("INBOX", [Outgoing(at + n, (), DATE, len(c), c) for n, c in enumerate(NASTY)]) for at in (0, 100, 200)]
        assert appender.outstanding() <= 3 * sum(map(len, NASTY))
        results = [result for pending in batches for result in appender.wait(pending)]
        assert [r.error for r in results] == [None] * len(results)
        assert [r.target_uid for r in results] == list(range(1, len(results) + 1))
        assert appender.outstanding() == 0
        target.logout()
        assert [m.content for m in by_uid(read_back(server, "li")["INBOX"])] == NASTY * 3


@pytest.mark.parametrize("capability", ["", "IMAP4rev1 UIDPLUS LITERAL+", "IMAP4rev1 UIDPLUS"])
def test_what_dovecot_refuses_costs_one_message_and_not_the_connection(need_dovecot: None, capability: str) -> None:
    refused = [
        Outgoing(1, (), DATE, 0, b""), Outgoing(2, ("k" * 300,), DATE, 3, b"a\r\n"), Outgoing(3, ("\\Unheard",), DATE, 3, b"a\r\n"),
        Outgoing(4, (), "32-Foo-2026 00:00:00 +0000", 3, b"a\r\n"), Outgoing(5, ("(x",), DATE, 3, b"a\r\n"),
    ]
    with running_dovecot({"li": "secret"}, capability=capability, fsync="never") as server, \
         session(server, "li", Side.DESTINATION) as target:
        appender = Appender(target)
        for one in refused:
            [result] = appender.wait(appender.send("INBOX", [one]))
            assert isinstance(result.error, MessageRefused), result
            assert result.error.cause is Cause.DESTINATION_REFUSED
            good = Outgoing(one.uid, ("[Gmail]",) if one.uid == 5 else (), DATE, 7, b"a: b\r\n\n")
            [result] = appender.wait(appender.send("INBOX", [good]))
            assert (result.error is None) == (one.uid != 5), result  # Dovecot takes no brackets in keywords
        [result] = appender.wait(appender.send("nowhere", [good]))
        assert result.error is not None
        assert result.error.cause is Cause.X_FOLDER
        target.noop()


@pytest.mark.parametrize("capability", ["", "IMAP4rev1 UIDPLUS"])
def test_over_quota(need_dovecot: None, capability: str) -> None:
    with running_dovecot({"li": "secret"}, quota="100k", fsync="never", capability=capability) as server, \
         session(server, "li", Side.DESTINATION) as target:
        if not capability:
            quota = target.quota()
            assert quota is not None
            assert quota.limit == 100 * 1024
        appender = Appender(target)
        for _ in range(2):
            [result] = appender.wait(appender.send("INBOX", [Outgoing(1, (), DATE, 200_000, b"x" * 200_000)]))
            assert isinstance(result.error, Refused)
            assert result.error.cause is Cause.DESTINATION_QUOTA
        [result] = appender.wait(appender.send("INBOX", [Outgoing(2, (), DATE, 7, b"a: b\r\n\n")]))
        assert result.error is None


def test_no_line_of_a_message_is_taken_for_a_command(need_dovecot: None) -> None:
    """Given a message whose lines are commands and a flag that Dovecot calls malformed, then no folder is deleted by it."""
    with running_dovecot({"li": "secret"}, fsync="never") as server, session(server, "li", Side.DESTINATION) as target:
        assert Appender(target).method is AppendMethod.MULTIAPPEND
        target.create("Precious")
        content = b"x1 DELETE Precious\r\nx2 DELETE Precious\r\n"
        for flag, date in (("\\Unheard", DATE), ("\\Seen", "31-Feb-2026 00:00:00 +0000"), ("a]", DATE)):
            appender = Appender(target)
            appender.wait(appender.send("INBOX", [Outgoing(1, (flag,), date, len(content), content)]))
            target.noop()
        assert "Precious" in {f.name for f in target.list_folders()}


def test_a_large_message_passes_through_in_bounded_memory(source_server: Dovecot, destination_server: Dovecot, fresh_user: str) -> None:
    size = 40_000_000
    seed(source_server, fresh_user, [Sample(b"Subject: large\r\n\r\n" + b"0123456789abcde\r\n" * (size // 17))])
    with session(source_server, fresh_user) as source, session(destination_server, fresh_user, Side.DESTINATION) as target:
        tracemalloc.start()
        [result] = copy_folder(source, target, "INBOX", whole=False)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert result.error is None
        assert peak < 8 << 20, f"{peak} octets at the peak"
        source.examine("INBOX")
        target.examine("INBOX")
        assert [d for _, d in fetch_digests(source, [1])] == [d for _, d in fetch_digests(target, [1])]


def test_many_folders_in_few_round_trips(source_server: Dovecot, fresh_user: str) -> None:
    names = [utf7.encode(f"项目 {n}") for n in range(150)]
    with session(source_server, fresh_user) as source:
        for name in names:
            source.create(name)
        counts = source.statuses(names)
        assert set(counts) == set(names)
        assert all(c.messages == 0 and c.uidvalidity and c.uidnext == 1 and c.size == 0 for c in counts.values())
        assert {f.name for f in source.list_folders()} >= set(names)
        assert "没有" not in source.statuses(["没有".encode().hex()])


def test_removing_our_own_surplus_spares_what_others_marked(destination_server: Dovecot, fresh_user: str) -> None:
    seed(destination_server, fresh_user, [Sample(b"a: %d\r\n\r\n" % n, flags=("\\Deleted",) if n == 4 else ()) for n in range(1, 6)])
    with session(destination_server, fresh_user, Side.DESTINATION) as target:
        target.uid_expunge("INBOX", [2, 3])
        target.examine("INBOX")
        assert [m.uid for m in fetch_metadata(target, 1, None)] == [1, 4, 5]


def test_messages_that_vanish_between_listing_and_reading(source_server: Dovecot, fresh_user: str) -> None:
    seed(source_server, fresh_user, [Sample(b"a: %d\r\n\r\n" % n) for n in range(1, 6)])
    with session(source_server, fresh_user) as source, session(source_server, fresh_user, Side.DESTINATION) as other:
        source.examine("INBOX")
        uids = list(fetch_uids(source, 1, None))
        other.uid_expunge("INBOX", [2, 4])
        got: dict[int, bytes] = {}
        try:
            for body in fetch_bodies(source, [uids]):
                got[body.uid] = body.read()
        except EngineError as error:
            assert set(error.uids) <= {2, 4}
        assert {1, 3, 5} <= set(got)
        source.noop()
