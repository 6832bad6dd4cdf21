"""Folders and their counts as servers word them: listed, asked one by one or together, and opened."""
from __future__ import annotations

import pytest

from engine.causes import Cause, Side
from engine.errors import ConnectionBroken, ProtocolError, Refused
from engine.imap.session import FolderStatus, Session
from tests.support.provider_simulator import PROFILES, ProviderSimulator
from tests.unit.imap.scripted import LOOPBACK, QUICK, Peer, Scripted
from tests.unit.imap.talks import after_login

# -- listing ---------------------------------------------------------------------------------------------------------------------


def test_names_in_every_form_that_servers_use() -> None:
    def talk(peer: Peer) -> None:
        tag = peer.expect(b'LIST "" "*"')
        peer.send(b'* LIST (\\HasNoChildren) "/" inbox\r\n'
                  b'* list (\\Sent \\Marked) "/" "&XfJT0ZAB-"\r\n'
                  b'* LIST () NIL {5}\r\na "b"\r\n'
                  b'* LIST (\\NoSelect) "/" "x\\\\y\\"z"\r\n'
                  b'* LIST () "/" 2024\r\n'
                  b'* LIST () "/" "' + "归档".encode("gb18030") + b'"\r\n'
                  b'* LIST () "/" "&XfJT0ZAB-"\r\n'
                  b'* LIST (\\Noinferiors) "/" NIL ("CHILDINFO" ("SUBSCRIBED"))\r\n'
                  b'* LIST () "/" ""\r\n' + tag + b" OK done\r\n")

    with Scripted(after_login(talk)) as server, server.session() as session:
        found = session.list_folders()
    assert [(f.name, f.display, f.separator) for f in found] == [
        ("INBOX", "INBOX", "/"), ("&XfJT0ZAB-", "已发送", "/"), ('a "b"', 'a "b"', None), ('x\\y"z', 'x\\y"z', "/"), ("2024", "2024", "/"),
        ("归档".encode("gb18030").decode("latin-1"), "归档", "/"), ("NIL", "NIL", "/")]
    assert found[1].attributes == {"\\sent", "\\marked"}, "the second mention of a folder adds nothing and takes nothing"
    assert [f.selectable for f in found] == [True, True, True, False, True, True, True]


def test_tencent_shows_roles_only_in_xlist_and_no_folder_twice() -> None:
    with ProviderSimulator("qq") as server:
        session = Session.open(server.login_for(), LOOPBACK, side=Side.SOURCE, timeouts=QUICK)
        found = {f.name: f for f in session.list_folders()}
        session.close()
    assert "\\sent" in found["Sent Messages"].attributes
    assert "\\inbox" in found["INBOX"].attributes
    assert not found["&UXZO1mWHTvZZOQ-"].selectable
    assert len(found) == len(PROFILES["qq"].folders)


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_every_providers_folders_and_counts(profile: str) -> None:
    with ProviderSimulator(profile) as server:
        session = Session.open(server.login_for(), LOOPBACK, side=Side.SOURCE, timeouts=QUICK)
        names = [f.name for f in session.list_folders() if f.selectable]
        counts = session.statuses(names)
        assert counts == {name: session.status(name) for name in names}
        assert set(counts) == set(names)
        assert session.namespace_prefix()[1] == "/"
        for name in names:
            selected = session.examine(name)
            assert selected.uidvalidity == counts[name].uidvalidity
            session.unselect()
        session.noop()
        session.logout()
        assert server.count("SEARCH") + server.count("UID SEARCH") + server.count("ENABLE") + server.count("SELECT") == 0
        assert not server.source_changes()


def test_an_endless_listing_ends() -> None:
    def talk(peer: Peer) -> None:
        peer.expect(b"LIST")
        line = b'* LIST () "/" "' + b"x" * 60_000 + b'"\r\n'
        while True:
            peer.send(line)

    with Scripted(after_login(talk)) as server, server.session() as session, pytest.raises(ProtocolError):
        session.list_folders()


@pytest.mark.parametrize("answer", [
    b'* LIST () "/" {1500000000}\r\n', b"* LIST " + b"(" * 200 + b"\r\n", b'* LIST () "/" "' + b"x" * 2_000_000 + b'"\r\n',
    b'* LIST () "/" "unclosed\r\n', b"garbage\r\n", b"\r\n" * 50, b"Z9 OK another tag\r\n", b"* STATUS x {1048577}\r\n",
    b"* 1 FETCH (X {600000}\r\n" + b"x" * 600_000 + b" Y {600000}\r\n",
])
def test_what_a_hostile_server_sends_is_a_protocol_error_and_ends_the_connection(answer: bytes) -> None:
    def talk(peer: Peer) -> None:
        tag = peer.expect(b"LIST")
        peer.send(answer, tag, b" OK done\r\n")

    with Scripted(after_login(talk)) as server, server.session() as session:
        with pytest.raises(ProtocolError) as caught:
            session.list_folders()
        assert caught.value.cause is Cause.X_STATE
        if b"((((" not in answer and b"unclosed" not in answer:
            with pytest.raises(ConnectionBroken):
                session.noop()


# -- counts ----------------------------------------------------------------------------------------------------------------------


def test_counts_in_lower_case_without_uidnext_and_spelt_another_way() -> None:
    def talk(peer: Peer) -> None:
        peer.answer(b"STATUS", b"status Inbox (messages 3 uidvalidity 1)")
        peer.answer(b"STATUS", b"3 EXISTS", b'STATUS {3}\r\na b (UIDNEXT 0 MESSAGES 4 UIDVALIDITY 2)')

    with Scripted(after_login(talk)) as server, server.session() as session:
        assert session.status("INBOX") == FolderStatus(3, 0, 1)
        assert session.status("a b") == FolderStatus(4, 0, 2)


def test_an_ok_without_counts_is_the_folders_fault_and_not_the_connections() -> None:
    def talk(peer: Peer) -> None:
        peer.answer(b"STATUS")
        peer.answer(b"STATUS", b"STATUS a (UIDNEXT 5)")
        peer.answer(b"STATUS", b"STATUS a (MESSAGES 5)")

    with Scripted(after_login(talk)) as server, server.session() as session:
        for _ in range(2):
            with pytest.raises(Refused) as caught:
                session.status("a")
            assert caught.value.cause is Cause.X_FOLDER
        assert session.status("a").messages == 5


def test_pipelined_counts_leave_out_what_is_refused() -> None:
    def talk(peer: Peer) -> None:
        tags = [peer.expect(b"STATUS") for _ in range(3)]  # all are there before the first is answered
        peer.send(b'* STATUS "a" (MESSAGES 1 UIDNEXT 2 UIDVALIDITY 3)\r\n' + tags[0] + b" OK\r\n" + tags[1] + b" NO [NONEXISTENT] none\r\n"
                  b'* STATUS c (MESSAGES 5 UIDNEXT 6 UIDVALIDITY 7)\r\n' + tags[2] + b" OK\r\n")

    with Scripted(after_login(talk)) as server, server.session() as session:
        assert session.statuses(["a", "b", "c"]) == {"a": FolderStatus(1, 2, 3), "c": FolderStatus(5, 6, 7)}


def test_counts_in_one_command_and_the_rest_one_by_one() -> None:
    def talk(peer: Peer) -> None:
        peer.answer(b'LIST "" "*" RETURN (STATUS (MESSAGES UIDNEXT UIDVALIDITY SIZE))', b"LIST () NIL a",
                    b"STATUS a (MESSAGES 1 UIDVALIDITY 3 SIZE 99)", b"LIST () NIL Inbox", b"STATUS Inbox (MESSAGES 2 UIDVALIDITY 3)")
        peer.answer(b'STATUS "late"', b"STATUS late (MESSAGES 7 UIDVALIDITY 3)")

    with Scripted(after_login(talk), capabilities=b"IMAP4rev1 LIST-STATUS STATUS=SIZE") as server, server.session() as session:
        counts = session.statuses(["a", "INBOX", "late"])
    assert counts == {"a": FolderStatus(1, 0, 3, 99), "INBOX": FolderStatus(2, 0, 3), "late": FolderStatus(7, 0, 3)}


# -- opening ----------------------------------------------------------------------------------------------------------------------


def test_examine_reads_what_is_told_and_asks_for_a_missing_uidvalidity() -> None:
    def talk(peer: Peer) -> None:
        peer.answer(b'EXAMINE "a"', b"FLAGS (\\Seen x])", b"17 exists", b"0 RECENT", b"ok [uidvalidity 12] x", b"OK [UIDNEXT 99] x",
                    b"OK [PERMANENTFLAGS (\\Seen $Label1 a] \\*)] x", status=b"OK [READ-ONLY] done")
        peer.answer(b"UNSELECT")
        peer.answer(b'EXAMINE "b"', b"2 EXISTS", b"OK [PERMANENTFLAGS ()] x")
        peer.answer(b'STATUS "b"', b"STATUS b (MESSAGES 2 UIDVALIDITY 5)")

    with Scripted(after_login(talk), capabilities=b"IMAP4rev1 UNSELECT") as server, server.session() as session:
        selected = session.examine("a")
        assert (selected.messages, selected.uidnext, selected.uidvalidity) == (17, 99, 12)
        assert selected.permanent_flags == ("\\Seen", "$Label1", "a]", "\\*")
        session.unselect()
        selected = session.examine("b")
        assert (selected.messages, selected.uidnext, selected.uidvalidity, selected.permanent_flags) == (2, None, 5, None)


def test_an_examine_with_a_number_that_is_none_is_a_protocol_error() -> None:
    unreadable = b"OK [UIDVALIDITY abc] x"
    with Scripted(after_login(lambda peer: peer.answer(b"EXAMINE", b"1 EXISTS", b"OK [UIDVALIDITY 1] x", unreadable) and None)) as server, \
         server.session() as session, pytest.raises(ProtocolError):
        session.examine("a")


@pytest.mark.parametrize("line", [b"x EXISTS", b"OK [UIDNEXT] x"])
def test_what_says_nothing_in_an_examine_changes_nothing(line: bytes) -> None:
    with Scripted(after_login(lambda peer: peer.answer(b"EXAMINE", b"1 EXISTS", b"OK [UIDVALIDITY 1] x", line) and None)) as server, \
         server.session() as session:
        selected = session.examine("a")
    assert (selected.uidvalidity, selected.messages, selected.uidnext) == (1, 1, None)


def test_what_an_examine_tells_of_changes() -> None:
    def talk(peer: Peer) -> None:
        peer.answer(b"EXAMINE", b"OK [UIDVALIDITY 1] x", b"OK [HIGHESTMODSEQ 715194045007] x")
        peer.answer(b"EXAMINE", b"OK [UIDVALIDITY 1] x", b"OK [NOMODSEQ] x")
        peer.answer(b"EXAMINE", b"OK [UIDVALIDITY 1] x", b"OK [HIGHESTMODSEQ many] x")

    with Scripted(after_login(talk)) as server, server.session() as session:
        assert [session.examine("a").highestmodseq for _ in range(3)] == [715194045007, 0, 0]


def test_an_examine_asks_for_the_count_of_changes_where_it_is_offered() -> None:
    def talk(peer: Peer) -> None:
        peer.answer(b'EXAMINE "a" (CONDSTORE)', b"OK [UIDVALIDITY 1] x", b"OK [HIGHESTMODSEQ 5] x")
        peer.answer(b'EXAMINE "b" (CONDSTORE)', status=b"NO no such folder")
        peer.answer(b'EXAMINE "c" (CONDSTORE)', status=b"BAD parse error")
        assert peer.answer(b'EXAMINE "c"', b"OK [UIDVALIDITY 1] x")
        assert peer.line().endswith(b'EXAMINE "d"')

    with Scripted(after_login(talk), capabilities=b"IMAP4rev1 CONDSTORE") as server, server.session() as session:
        assert session.examine("a").highestmodseq == 5
        with pytest.raises(Refused):
            session.examine("b")
        assert session.examine("c").highestmodseq == 0
        with pytest.raises(ConnectionBroken):
            session.examine("d")
