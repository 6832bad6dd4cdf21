"""The look of a rerun: what it tells of folders and flags, in how few flights, and what it does not believe."""
from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.causes import Cause, Side
from engine.errors import ConnectionBroken, ProtocolError, Refused, Throttled
from engine.imap.look import FOLDERS_AHEAD, Ask, Look, look
from engine.imap.session import Session
from tests.support.provider_simulator import PROFILES, Action, Fault, ProviderSimulator, message, with_capabilities
from tests.unit.imap.scripted import LOOPBACK, QUICK, Peer, Scripted

CONDSTORE = with_capabilities(PROFILES["dovecot"], "CONDSTORE")
Told = dict[tuple[str, int], tuple[str, ...]]


def looked(session: Session, *asks: Ask) -> tuple[dict[str, Look], Told]:
    told: Told = {}
    return {one.name: one for one in look(session, asks, lambda name, uid, flags: told.__setitem__((name, uid), flags))}, told


def simulated(server: ProviderSimulator, side: Side = Side.SOURCE) -> Session:
    return Session.open(server.login_for(), LOOPBACK, side=side, timeouts=QUICK)


def after_login(talk: Callable[[Peer], None]) -> Callable[[Peer], None]:
    def whole(peer: Peer) -> None:
        peer.greet()
        talk(peer)
    return whole


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_every_provider_tells_folders_and_flags_and_nothing_is_changed(profile: str) -> None:
    with ProviderSimulator(profile) as server:
        box = server.account()
        names = [f.name for f in box.folders.values() if f.selectable]
        for name in names:
            box[name].put(message("a"), message("b"), flags=("\\Seen", "\\Flagged"))
            box[name].put(message("c"))
        session = simulated(server)
        looks, told = looked(session, *(Ask(name, flags_below=box[name].uidnext) for name in names))
        for name in names:
            seen = looks[name]
            assert seen.refused is None
            assert seen.selected == session.examine(name)
            assert (seen.flags_seen, seen.vanished_known) == (3, True)
        assert told == {(name, m.uid): m.flags for name in names for m in box[name].messages}
        session.logout()
        assert not server.source_changes()
        assert server.count("ENABLE") + server.count("STATUS") == 0


def test_without_flags_wanted_it_is_one_examine_a_folder() -> None:
    with ProviderSimulator("dovecot") as server:
        names = list(server.account().folders)
        session = simulated(server)
        looks, told = looked(session, *(Ask(name) for name in names))
        assert [one.vanished_known for one in looks.values()] == [False] * len(names)
        assert (list(looks), told) == (names, {})
        assert (server.count("EXAMINE"), server.count("UID FETCH")) == (len(names), 0)
        session.unselect()
        session.logout()
        assert server.count("UNSELECT") == 1, "the session knows which folder is open"


def test_all_folders_are_asked_before_the_first_answers() -> None:
    names = [f"f{n}" for n in range(8)]

    def talk(peer: Peer) -> None:
        tags = [(peer.expect(b"EXAMINE"), peer.expect(b"UID FETCH 1:4 (UID FLAGS)")) for _ in names]
        for opened, listed in tags:
            peer.send(b"* 1 EXISTS\r\n* OK [UIDVALIDITY 5] x\r\n", opened, b" OK\r\n")
            peer.send(b"* 1 FETCH (UID 3 FLAGS (\\Seen))\r\n", listed, b" OK\r\n")

    with Scripted(after_login(talk)) as server, server.session() as session:
        looks, told = looked(session, *(Ask(name, flags_below=5) for name in names))
    assert [one.selected is not None and one.selected.uidvalidity for one in looks.values()] == [5] * 8
    assert told == {(name, 3): ("\\Seen",) for name in names}


def test_a_thousand_folders_stream_through_a_bounded_window() -> None:
    """Given 1,000 folders, then the server never has more than FOLDERS_AHEAD EXAMINEs that it has not answered."""
    def talk(peer: Peer) -> None:
        waiting: list[bytes] = []
        for n in range(1000):
            waiting.append(peer.expect(b'EXAMINE "f%d"' % n))
            if len(waiting) == FOLDERS_AHEAD or n == 999:  # it would wait here for ever if the client sent fewer
                for tag in waiting:
                    peer.send(b"* 0 EXISTS\r\n* OK [UIDVALIDITY 7] x\r\n" + tag + b" OK\r\n")
                waiting.clear()

    with Scripted(after_login(talk)) as server, server.session() as session:
        names = []
        for one in look(session, [Ask(f"f{n}") for n in range(1000)], lambda *_: None):
            names.append(one.name)
            assert server.heard.count(b"EXAMINE") <= len(names) + FOLDERS_AHEAD
    assert names == [f"f{n}" for n in range(1000)]


def test_only_changes_are_told_where_the_server_counts_them() -> None:
    with ProviderSimulator(CONDSTORE) as server:
        box = server.account()
        for name in ("INBOX", "Sent"):
            box[name].put(*(message(str(n)) for n in range(50)))
        session = simulated(server)
        before = {name: session.examine(name).highestmodseq for name in ("INBOX", "Sent")}
        box["INBOX"].messages[6].flags = ("\\Seen", "$Label1")
        del box["INBOX"].messages[9]
        asks = [Ask(name, modseq, 51) for name, modseq in before.items()]
        looks, told = looked(session, *asks)
        assert told == {("INBOX", 7): ("\\Seen", "$Label1")}
        assert [(one.flags_seen, one.vanished_known) for one in looks.values()] == [(1, False), (0, False)]
        inbox = looks["INBOX"].selected
        assert inbox is not None
        assert inbox.highestmodseq > before["INBOX"]
        assert server.lines("UID FETCH")[0].endswith(b"UID FETCH 1:50 (UID FLAGS) (CHANGEDSINCE %d)" % before["INBOX"])
        session.close()


@pytest.mark.parametrize("how", ["BAD", "NO", "nomodseq", "restored", "not offered"])
def test_where_changes_cannot_be_told_all_flags_are(how: str) -> None:
    """Given a server that refuses CHANGEDSINCE, keeps no counts for the folder, or was restored from a copy with lower counts."""
    profile = PROFILES["dovecot"] if how == "not offered" else CONDSTORE
    with ProviderSimulator(profile) as server:
        box = server.account()
        for name in ("INBOX", "Sent"):
            box[name].put(*(message(str(n)) for n in range(5)), flags=("\\Seen",))
        if how == "nomodseq":
            box["INBOX"].highestmodseq = 0
        if how in ("BAD", "NO"):
            server.faults.append(Fault("UID FETCH", Action.REPLY, how.encode() + b" cannot", contains=b"CHANGEDSINCE", times=None))
        session = simulated(server)
        looks, told = looked(session, Ask("INBOX", 1000, 6), Ask("Sent", 1000, 6))
        assert told == {(name, uid): ("\\Seen",) for name in ("INBOX", "Sent") for uid in range(1, 6)}
        assert all(one.refused is None and one.vanished_known and one.flags_seen == 5 for one in looks.values())
        session.close()


def test_a_server_that_offers_condstore_and_does_not_know_the_word_is_asked_without() -> None:
    """Given that the first EXAMINEs are BAD for it, then every folder is looked at all the same, and later ones are asked plainly."""
    with ProviderSimulator(with_capabilities(PROFILES["dovecot"], "CONDSTORE")) as server:
        box = server.account()
        box["INBOX"].put(message("a"), flags=("\\Seen",))
        server.faults.append(Fault("EXAMINE", Action.REPLY, b"BAD what is CONDSTORE", contains=b"CONDSTORE", times=None))
        session = simulated(server)
        looks, told = looked(session, Ask("INBOX", flags_below=2), *(Ask(name) for name in box.folders if name != "INBOX"))
        assert set(looks) == set(box.folders)
        assert all(one.refused is None and one.selected is not None for one in looks.values())
        assert told == {("INBOX", 1): ("\\Seen",)}
        asked = server.count("EXAMINE")
        session.examine("INBOX")
        assert server.count("EXAMINE") == asked + 1
        session.close()


def test_a_folder_that_cannot_be_opened_stops_no_other_and_lends_nobody_its_flags() -> None:
    """Given a server that leaves the folder before open when an EXAMINE is refused, then its flags are not taken for the other's."""
    def talk(peer: Peer) -> None:
        tags = [peer.expect(start) for _ in range(3) for start in (b"EXAMINE", b"UID FETCH")]
        peer.send(b"* OK [UIDVALIDITY 1] x\r\n" + tags[0] + b" OK\r\n" + tags[1] + b" OK\r\n")
        peer.send(tags[2] + b" NO the moon is in the wrong house\r\n* 1 FETCH (UID 1 FLAGS (\\Seen))\r\n" + tags[3] + b" OK\r\n")
        peer.send(b"* OK [UIDVALIDITY 1] x\r\n" + tags[4] + b" OK\r\n" + tags[5] + b" BAD no mailbox selected\r\n")

    with Scripted(after_login(talk)) as server, server.session() as session:
        looks, told = looked(session, *(Ask(name, flags_below=9) for name in "abc"))
    assert told == {}
    refused = looks["b"].refused
    assert isinstance(refused, Refused)
    assert (refused.cause, refused.server_text) == (Cause.X_FOLDER, "the moon is in the wrong house")
    assert looks["b"].selected is None
    assert looks["a"].refused is None
    assert looks["c"].selected is not None
    assert looks["c"].refused is not None


def test_a_folder_name_that_cannot_be_sent_is_refused_in_its_place() -> None:
    with ProviderSimulator("dovecot") as server:
        session = simulated(server)
        looks, _ = looked(session, Ask("INBOX"), Ask("a\r\nB9 DELETE INBOX"), Ask("归档"), Ask("Sent"))
        assert [(one.name, one.refused is None) for one in looks.values()] == [
            ("INBOX", True), ("a\r\nB9 DELETE INBOX", False), ("归档", False), ("Sent", True)]
        assert server.count("EXAMINE") == 2
        session.close()


def test_a_wish_to_wait_is_the_folders_refusal() -> None:
    with ProviderSimulator("exchange") as server:
        server.faults.append(Fault("EXAMINE", Action.REPLY, b"BAD Request is throttled. Suggested Backoff Time: 92415 milliseconds"))
        session = simulated(server)
        looks, _ = looked(session, Ask("INBOX", flags_below=9))
        refused = looks["INBOX"].refused
        assert isinstance(refused, Throttled)
        assert refused.retry_after == pytest.approx(92.415)
        session.close()


def test_what_nobody_asked_for_is_tolerated() -> None:
    def talk(peer: Peer) -> None:
        opened, listed = peer.expect(b"EXAMINE"), peer.expect(b"UID FETCH")
        peer.send(b"* 4 FETCH (UID 4 FLAGS (\\Deleted))\r\n* 3 EXISTS\r\n* OK [UIDVALIDITY 1] x\r\n" + opened + b" OK\r\n"
                  b"* 1 FETCH (FLAGS (\\Seen))\r\n* 2 EXPUNGE\r\n* 1 fetch (flags (\\Seen $x) uid 2)\r\n\r\n"
                  b"* 2 FETCH (UID 3 MODSEQ (77) FLAGS (\\Recent \\Flagged))\n* 3 FETCH ((UID 4 FLAGS ({4}\r\nlate)))\r\n"
                  b"* 5 FETCH (UID 500 FLAGS ())\r\n* OK still there\r\n" + listed + b" OK\r\n")

    with Scripted(after_login(talk)) as server, server.session() as session:
        looks, told = looked(session, Ask("a", flags_below=9))
    assert told == {("a", 2): ("\\Seen", "$x"), ("a", 3): ("\\Flagged",), ("a", 4): ("late",)}
    assert looks["a"].flags_seen == 3


@pytest.mark.parametrize("octets", [b"* 1 FETCH (UID 1 FLAGS (\r\n", b"garbage\r\n", b"* 1 FETCH (UID 1 FLAGS ({99999999}\r\n"])
def test_what_a_hostile_server_sends_ends_the_connection(octets: bytes) -> None:
    def talk(peer: Peer) -> None:
        opened, _ = peer.expect(b"EXAMINE"), peer.expect(b"UID FETCH")
        peer.send(b"* OK [UIDVALIDITY 1] x\r\n" + opened + b" OK\r\n" + octets)

    with Scripted(after_login(talk)) as server, server.session() as session:
        with pytest.raises(ProtocolError):
            looked(session, Ask("a", flags_below=9))
        with pytest.raises(ConnectionBroken):
            session.noop()


def test_left_early_it_ends_the_connection() -> None:
    with ProviderSimulator("dovecot") as server:
        session = simulated(server)
        looks = look(session, [Ask(name) for name in server.account().folders], lambda *_: None)
        next(looks)
        looks.close()  # type: ignore[attr-defined]
        with pytest.raises(ConnectionBroken):
            session.noop()


def test_messages_that_bear_the_same_flags_share_them() -> None:
    with ProviderSimulator("dovecot") as server:
        server.account()["INBOX"].put(*(message(str(n)) for n in range(3)), flags=("\\Seen", "$Label1"))
        session = simulated(server)
        _, told = looked(session, Ask("INBOX", flags_below=4))
        assert len({id(flags) for flags in told.values()}) == 1
        session.close()
