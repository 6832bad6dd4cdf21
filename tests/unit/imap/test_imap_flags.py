"""Flags read and written: what is told, what is sent, what a refusal costs."""
from __future__ import annotations

import tracemalloc
from collections.abc import Callable
from contextlib import contextmanager

import pytest

from engine.causes import Cause, Side
from engine.errors import ConnectionBroken, MessageRefused, Refused, Throttled
from engine.imap.flags import FlagChange, fetch_flags, store_flags
from engine.imap.session import Session
from tests.support.provider_simulator import PROFILES, Action, Fault, ProviderSimulator, message, with_capabilities
from tests.unit.imap.scripted import LOOPBACK, QUICK, Peer, Scripted


@contextmanager
def simulated(server: ProviderSimulator, side: Side = Side.SOURCE):  # type: ignore[no-untyped-def]
    session = Session.open(server.login_for(), LOOPBACK, side=side, timeouts=QUICK)
    try:
        yield session
    finally:
        session.close()


def after_login(talk: Callable[[Peer], None]) -> Callable[[Peer], None]:
    def whole(peer: Peer) -> None:
        peer.greet()
        talk(peer)
    return whole


# -- reading ---------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_flags_of_a_range_at_every_provider(profile: str) -> None:
    with ProviderSimulator(profile) as server:
        box = server.account()["INBOX"]
        box.put(*(message(str(n)) for n in range(5)))
        box.messages[2].flags = ("\\Seen", "work")
        box.messages[3].recent = True
        uids = [m.uid for m in box.messages]
        with simulated(server) as session:
            session.examine("INBOX")
            assert dict(fetch_flags(session, uids[1], uids[3])) == {uids[1]: (), uids[2]: ("\\Seen", "work"), uids[3]: ()}
            assert dict(fetch_flags(session, uids[2], None, 3)).keys() >= {uids[2]}
            assert list(fetch_flags(session, uids[-1] + 1, None)) == [], "the range n:* names the last message, which was not meant"


@pytest.mark.parametrize("refused", [False, True])
def test_changes_alone_where_they_are_counted(refused: bool) -> None:
    with ProviderSimulator(with_capabilities(PROFILES["dovecot"], "CONDSTORE")) as server:
        box = server.account()["INBOX"]
        box.put(*(message(str(n)) for n in range(5)))
        with simulated(server) as session:
            since = session.examine("INBOX").highestmodseq
            box.messages[2].flags = ("\\Seen",)
            if refused:
                server.faults.append(Fault("UID FETCH", Action.REPLY, b"BAD no such modifier", contains=b"CHANGEDSINCE"))
            told = dict(fetch_flags(session, 1, None, since))
        assert told == ({1: (), 2: (), 3: ("\\Seen",), 4: (), 5: ()} if refused else {3: ("\\Seen",)})


def test_a_list_left_early_is_read_out() -> None:
    with ProviderSimulator("dovecot") as server:
        server.account()["INBOX"].put(*(message(str(n)) for n in range(50)))
        with simulated(server) as session:
            session.examine("INBOX")
            for _ in fetch_flags(session, 1, None):
                break
            session.noop()
            assert not session.channel.stream.closed and len(dict(fetch_flags(session, 1, None))) == 50


def test_a_refused_list_says_so() -> None:
    with ProviderSimulator("dovecot") as server:
        server.faults.append(Fault("UID FETCH", Action.REPLY, b"NO [SERVERBUG] no"))
        with simulated(server) as session:
            session.examine("INBOX")
            with pytest.raises(MessageRefused):
                list(fetch_flags(session, 1, None))
            session.noop()


def test_a_long_list_passes_through_in_bounded_memory() -> None:
    """Given a folder of 300,000 messages, then nothing is held of what was told."""
    def talk(peer: Peer) -> None:
        peer.answer(b"EXAMINE", b"OK [UIDVALIDITY 1] x")
        tag = peer.expect(b"UID FETCH")
        for start in range(1, 300_000, 1000):
            peer.send(*(b"* %d FETCH (UID %d FLAGS (\\Seen $Label%d))\r\n" % (n, n, n % 3) for n in range(start, start + 1000)))
        peer.send(tag + b" OK\r\n")

    with Scripted(after_login(talk)) as server, server.session() as session:
        session.examine("a")
        tracemalloc.start()
        count = sum(1 for _ in fetch_flags(session, 1, None))
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    assert count == 300_000
    assert peak < 4 << 20, f"{peak} octets at the peak"


# -- writing ---------------------------------------------------------------------------------------------------------------------


def test_flags_are_added_and_removed_and_the_others_stay() -> None:
    with ProviderSimulator("dovecot") as server:
        box = server.account()["INBOX"]
        box.put(*(message(str(n)) for n in range(6)), flags=("mine", "\\Flagged"))
        with simulated(server, Side.DESTINATION) as session:
            refused = store_flags(session, "INBOX", [
                FlagChange((3, 1, 2), add=("\\Seen", "$Label1"), remove=("\\Flagged",)), FlagChange((5,), remove=("mine",)),
                FlagChange((6, 99), add=("\\Answered",)), FlagChange((4,))])
            session.noop()
        assert refused == []
        assert [m.flags for m in box.messages] == [
            *[("mine", "\\Seen", "$Label1")] * 3, ("mine", "\\Flagged"), ("\\Flagged",), ("mine", "\\Flagged", "\\Answered")]
        assert [line.partition(b" ")[2] for line in server.lines("UID STORE")] == [
            b"UID STORE 1:3 +FLAGS.SILENT (\\Seen $Label1)", b"UID STORE 1:3 -FLAGS.SILENT (\\Flagged)",
            b"UID STORE 5 -FLAGS.SILENT (mine)", b"UID STORE 6,99 +FLAGS.SILENT (\\Answered)"]
        assert (server.count("SELECT"), server.count("UNSELECT"), server.count("CLOSE"), server.count("EXPUNGE")) == (1, 1, 0, 0)


def test_many_changes_are_in_flight_at_once_and_long_sets_are_cut() -> None:
    def talk(peer: Peer) -> None:
        peer.answer(b'SELECT "a"')
        tags = []
        while len(tags) < 10:  # all are there before the first is answered
            line = peer.line()
            assert len(line) < 8000
            tags.append(line.split(b" ")[0])
        peer.send(b"* 1 FETCH (UID 1 MODSEQ (5))\r\n" + b"".join(tag + b" OK\r\n" for tag in tags))
        while (line := peer.line()).split(b" ")[1] != b"UNSELECT":
            peer.send(line.split(b" ")[0] + b" OK\r\n")
        peer.send(line.split(b" ")[0] + b" OK\r\n")

    with Scripted(after_login(talk), capabilities=b"IMAP4rev1 UNSELECT") as server, server.session(Side.DESTINATION) as session:
        scattered = tuple(range(1_000_000, 1_030_000, 2))
        assert store_flags(session, "a", [FlagChange(scattered, add=("\\Seen",))]) == []
    stored = [uid for line in server.heard.split(b"\r\n") if b"UID STORE" in line for uid in line.split(b" ")[3].split(b",")]
    assert stored == [b"%d" % uid for uid in scattered]


def test_what_is_refused_is_told_by_uid_and_the_rest_is_done() -> None:
    with ProviderSimulator("dovecot") as server:
        box = server.account()["INBOX"]
        box.put(*(message(str(n)) for n in range(4)))
        server.faults.append(Fault("UID STORE", Action.REPLY, b"NO [LIMIT] too many keywords", contains=b"odd"))
        with simulated(server, Side.DESTINATION) as session:
            refused = store_flags(session, "INBOX", [
                FlagChange((1, 2), add=("odd",)), FlagChange((3,), add=("no\r\nB9 DELETE INBOX",)), FlagChange((4,), add=("\\Seen",))])
        assert [(uid, type(error), error.cause) for uid, error in refused] == [
            (uid, MessageRefused, Cause.DESTINATION_REFUSED) for uid in (1, 2, 3)]
        assert [m.flags for m in box.messages] == [(), (), (), ("\\Seen",)]
        assert server.count("UID STORE") == 2


def test_a_wish_to_wait_is_raised_and_the_folder_is_left() -> None:
    with ProviderSimulator("exchange") as server:
        server.account()["INBOX"].put(*(message(str(n)) for n in range(4)))
        server.faults.append(Fault("UID STORE", Action.REPLY, b"BAD Request is throttled. Suggested Backoff Time: 92415 milliseconds"))
        with simulated(server, Side.DESTINATION) as session:
            with pytest.raises(Throttled):
                store_flags(session, "INBOX", [FlagChange((uid,), add=("\\Seen",)) for uid in (1, 2, 3)])
            session.noop()
        assert server.count("CLOSE") == 1, "no UNSELECT there: opened read-only before it is closed"
        assert server.count("EXAMINE") == 1


def test_a_lost_connection_and_a_lost_folder_are_raised() -> None:
    with ProviderSimulator("dovecot") as server:
        server.account()["INBOX"].put(message("a"))
        with simulated(server, Side.DESTINATION) as session:
            with pytest.raises(Refused) as caught:
                store_flags(session, "nowhere", [FlagChange((1,), add=("\\Seen",))])
            assert caught.value.cause is Cause.DESTINATION_REFUSED
            server.faults.append(Fault("UID STORE", Action.CLOSE))
            with pytest.raises(ConnectionBroken):
                store_flags(session, "INBOX", [FlagChange((1,), add=("\\Seen",))])


def test_a_source_is_never_written_to() -> None:
    with Scripted(Peer.greet) as server, server.session(Side.SOURCE) as session:
        before = server.heard
        with pytest.raises(AssertionError):
            store_flags(session, "INBOX", [FlagChange((1,), add=("\\Seen",))])
        assert server.heard == before
