"""Folders, counts and quota as servers word them, and what never reaches the wire."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest

from engine.causes import Cause, Side
from engine.errors import ConnectionBroken, EngineError, ProtocolError, Refused, Throttled
from engine.imap.session import FolderStatus, Session
from engine.pacing.pacer import OpenGate
from tests.support.provider_simulator import PROFILES, ProviderSimulator
from tests.unit.imap.scripted import LOOPBACK, QUICK, Peer, Scripted

Talk = Callable[[Peer], None]


def after_login(talk: Talk) -> Talk:
    def whole(peer: Peer) -> None:
        peer.greet()
        talk(peer)
    return whole


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


@pytest.mark.parametrize("line", [b"x EXISTS", b"OK [UIDVALIDITY abc] x", b"OK [UIDNEXT] x"])
def test_an_unreadable_examine_is_a_protocol_error(line: bytes) -> None:
    with Scripted(after_login(lambda peer: peer.answer(b"EXAMINE", b"1 EXISTS", b"OK [UIDVALIDITY 1] x", line) and None)) as server, \
         server.session() as session:
        try:
            selected = session.examine("a")
        except ProtocolError:
            return
        assert (selected.uidvalidity, selected.messages, selected.uidnext) == (1, 1, None)


# -- the survey ------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_a_survey_tells_what_the_single_questions_tell(profile: str) -> None:
    with ProviderSimulator(profile) as server:
        server.account()["INBOX"].put(b"a: b\r\n\r\nc\r\n")
        session = Session.open(server.login_for(), LOOPBACK, side=Side.SOURCE, timeouts=QUICK)
        survey = session.survey()
        found = session.list_folders()
        assert (survey.prefix, survey.separator) == session.namespace_prefix()
        assert survey.folders == found
        assert survey.statuses == session.statuses([f.name for f in found if f.selectable])
        assert survey.statuses["INBOX"].messages == 1
        assert (survey.statuses["INBOX"].highestmodseq > 1) == (profile == "gmail"), "only Gmail of these counts changes"
        assert (survey.statuses["INBOX"].uidnext == 0) == (not server.profile.status_uidnext)
        session.logout()


def test_a_survey_is_one_flight_where_list_brings_the_counts() -> None:
    def talk(peer: Peer) -> None:
        place, listing = peer.expect(b"NAMESPACE"), peer.expect(
            b'LIST "" "*" RETURN (SPECIAL-USE STATUS (MESSAGES UIDNEXT UIDVALIDITY SIZE HIGHESTMODSEQ))')
        peer.send(b'* NAMESPACE (("INBOX." ".")) NIL NIL\r\n' + place + b' OK\r\n* LIST (\\Sent) "." INBOX.Sent\r\n'
                  b"* STATUS INBOX.Sent (MESSAGES 3 UIDNEXT 9 UIDVALIDITY 5 SIZE 77 HIGHESTMODSEQ 12345678901234)\r\n"
                  b'* LIST () "." inbox\r\n* STATUS Inbox (MESSAGES 0 UIDNEXT 1 UIDVALIDITY 4 HIGHESTMODSEQ 0)\r\n'
                  b'* LIST (\\Noselect) "." x\r\n' + listing + b" OK\r\n")

    offered = b"IMAP4rev1 NAMESPACE SPECIAL-USE LIST-EXTENDED LIST-STATUS STATUS=SIZE CONDSTORE"
    with Scripted(after_login(talk), capabilities=offered) as server, server.session() as session:
        survey = session.survey()
    assert (survey.prefix, survey.separator, [f.name for f in survey.folders]) == ("INBOX.", ".", ["INBOX.Sent", "INBOX", "x"])
    assert survey.statuses == {"INBOX.Sent": FolderStatus(3, 9, 5, 77, 12345678901234), "INBOX": FolderStatus(0, 1, 4)}
    assert b"ENABLE" not in server.heard


def test_a_survey_is_two_flights_elsewhere_and_leaves_out_what_is_refused() -> None:
    def talk(peer: Peer) -> None:
        tags = [peer.expect(start) for start in (b'LIST "" ""', b'LIST "" "*"', b'XLIST "" "*"')]
        peer.send(b'* LIST (\\Noselect) "/" ""\r\n' + tags[0] + b' OK\r\n* LIST () "/" INBOX\r\n* LIST () "/" a\r\n' + tags[1] +
                  b' OK\r\n* XLIST (\\Sent) "/" a\r\n' + tags[2] + b" OK\r\n")
        tags = [peer.expect(b"STATUS") for _ in range(2)]
        peer.send(b"* STATUS INBOX (MESSAGES 1 UIDVALIDITY 3)\r\n" + tags[0] + b" OK\r\n" + tags[1] + b" NO [NONEXISTENT] gone\r\n")

    with Scripted(after_login(talk), capabilities=b"IMAP4rev1 XLIST") as server, server.session() as session:
        survey = session.survey()
    assert (survey.prefix, survey.separator) == ("", "/")
    assert [sorted(f.attributes) for f in survey.folders] == [[], ["\\sent"]]
    assert survey.statuses == {"INBOX": FolderStatus(1, 0, 3)}


def test_a_survey_that_is_offered_and_refused_is_taken_the_plain_way() -> None:
    def talk(peer: Peer) -> None:
        place, listing = peer.expect(b"NAMESPACE"), peer.expect(b'LIST "" "*" RETURN')
        peer.send(place + b" NO no namespaces today\r\n" + listing + b" BAD what is RETURN\r\n")
        peer.answer(b'LIST "" "*"', b'LIST () "/" a')
        peer.answer(b"NAMESPACE", b'NAMESPACE NIL NIL NIL')
        peer.answer(b'LIST "" ""', b'LIST (\\Noselect) "/" ""')
        peer.answer(b'STATUS "a" (MESSAGES UIDNEXT UIDVALIDITY)', b"STATUS a (MESSAGES 7 UIDNEXT 8 UIDVALIDITY 9)")

    with Scripted(after_login(talk), capabilities=b"IMAP4rev1 NAMESPACE LIST-EXTENDED LIST-STATUS CONDSTORE") as server, \
         server.session() as session:
        survey = session.survey()
    assert (survey.prefix, survey.separator, survey.statuses) == ("", "/", {"a": FolderStatus(7, 8, 9)})


@pytest.mark.parametrize("verb", [b"LIST", b"STATUS"])
def test_a_survey_that_is_throttled_says_so(verb: bytes) -> None:
    def talk(peer: Peer) -> None:
        tags = [peer.expect(b"LIST"), peer.expect(b"LIST")]
        refused = b" NO " + BACKOFF if verb == b"LIST" else b" OK"
        peer.send(tags[0] + b' OK\r\n* LIST () "/" a\r\n' + tags[1] + refused + b"\r\n")
        if verb == b"STATUS":
            peer.answer(b"STATUS", status=b"NO " + BACKOFF)

    with Scripted(after_login(talk)) as server, server.session() as session, pytest.raises(Throttled) as caught:
        session.survey()
    assert caught.value.retry_after == 300


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


# -- creating, quota, ending -----------------------------------------------------------------------------------------------------


def test_a_folder_that_is_there_already_counts_as_created() -> None:
    def talk(peer: Peer) -> None:
        peer.answer(b'CREATE "a"')
        peer.answer(b'CREATE "b"', status=b"NO [ALREADYEXISTS] there")
        peer.answer(b'CREATE "c"', status=b"NO " + "文件夹已存在".encode("gb18030"))
        peer.answer(b'LIST "" "c"', b'LIST () "/" c')
        peer.answer(b'CREATE "d"', status=b"NO bad name")
        peer.answer(b'LIST "" "d"')

    with Scripted(after_login(talk)) as server, server.session(Side.DESTINATION) as session:
        for name in "abc":
            session.create(name)
        with pytest.raises(Refused) as caught:
            session.create("d")
    assert "bad name" in caught.value.server_text


def test_the_tightest_storage_quota_counts() -> None:
    def talk(peer: Peer) -> None:
        peer.answer(b"GETQUOTAROOT", b'QUOTAROOT INBOX "" u', b'QUOTA "" (MESSAGE 5 10 STORAGE 100 1000)', b'quota u (storage 900 1000)')
        peer.answer(b"GETQUOTAROOT", b'QUOTAROOT INBOX')
        peer.answer(b"GETQUOTAROOT", status=b"NO not for you")

    with Scripted(after_login(talk), capabilities=b"IMAP4rev1 QUOTA") as server, server.session() as session:
        quota = session.quota()
        assert quota is not None
        assert (quota.used, quota.limit, quota.free) == (900 * 1024, 1000 * 1024, 100 * 1024)
        assert session.quota() is None
        assert session.quota() is None


def test_what_is_not_offered_is_not_asked() -> None:
    with Scripted(Peer.greet) as server, server.session() as session:
        before = len(server.heard)
        assert session.quota() is None
        session.unselect()
        assert len(server.heard) == before
        assert session.append_limit is None


@pytest.mark.parametrize(("word", "limit"), [(b"APPENDLIMIT=35651584", 35651584), (b"APPENDLIMIT", None), (b"APPENDLIMIT=x", None)])
def test_the_append_limit(word: bytes, limit: int | None) -> None:
    with Scripted(Peer.greet, capabilities=b"IMAP4rev1 " + word) as server, server.session() as session:
        assert session.append_limit == limit


def test_logout_says_so_and_never_raises() -> None:
    with Scripted(after_login(lambda peer: peer.answer(b"LOGOUT", b"BYE farewell") and None)) as server, server.session() as session:
        session.logout()
        session.logout()
        assert session.channel.stream.closed
    with Scripted(after_login(lambda peer: peer.conn.close())) as server, server.session() as session:
        session.logout()
        assert session.channel.stream.closed


def test_two_sessions_part_in_one_round_trip() -> None:
    """Given that both have said goodbye, then waiting for the answers adds nothing that is sent."""
    def talk(peer: Peer) -> None:
        peer.answer(b"LOGOUT", b"BYE farewell")

    with Scripted(after_login(talk)) as one, Scripted(after_login(talk)) as other, one.session() as first, other.session() as second:
        for session in (first, second, first):
            session.say_goodbye()
        for session in (first, second):
            session.logout()
        assert first.channel.stream.closed
        assert (one.heard.count(b"LOGOUT"), other.heard.count(b"LOGOUT")) == (1, 1)


def test_our_own_surplus_is_removed_and_nothing_else() -> None:
    with ProviderSimulator("dovecot") as server:
        box = server.account()
        for name in "abcd":
            box["INBOX"].put(name.encode() * 10)
        box["INBOX"].messages[3].flags = ("\\Deleted",)
        session = Session.open(server.login_for(), LOOPBACK, side=Side.DESTINATION, timeouts=QUICK)
        uids = [m.uid for m in box["INBOX"].messages]
        session.uid_expunge("INBOX", uids[1:3])
        session.logout()
        assert [m.uid for m in box["INBOX"].messages] == [uids[0], uids[3]]
        assert server.count("EXPUNGE") + server.count("CLOSE") == 0, "either would have taken the one that somebody else marked"


def test_nothing_is_ever_removed_at_a_source() -> None:
    with Scripted(Peer.greet, capabilities=b"IMAP4rev1 UIDPLUS") as server, server.session(Side.SOURCE) as session:
        before = server.heard
        with pytest.raises(AssertionError):
            session.uid_expunge("INBOX", [1])
        assert server.heard == before


# -- injection -------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["a\r\nB9 DELETE INBOX", "a\nb", "a\0b", "归档"])
@pytest.mark.parametrize("verb", ["status", "statuses", "examine", "create", "subscribe"])
def test_a_folder_name_never_ends_the_line(verb: str, name: str) -> None:
    with Scripted(Peer.greet) as server, server.session(Side.DESTINATION) as session:
        before = server.heard
        with pytest.raises(Refused) as caught:
            getattr(session, verb)([name] if verb == "statuses" else name)
        assert caught.value.cause is Cause.DESTINATION_REFUSED
        assert server.heard == before


# -- throttles and BYE -----------------------------------------------------------------------------------------------------------

BACKOFF = b"Request is throttled. Suggested Backoff Time: 300000 milliseconds"


@pytest.mark.parametrize("status", [b"NO " + BACKOFF, b"BAD " + BACKOFF, b"NO [THROTTLED] slow down"])
def test_a_refusal_that_asks_to_wait(status: bytes) -> None:
    with Scripted(after_login(lambda peer: peer.answer(b"NOOP", status=status) and None)) as server, \
         server.session() as session, pytest.raises(Throttled) as caught:
        session.noop()
    assert caught.value.cause is Cause.THROTTLED
    assert caught.value.retry_after == (300 if BACKOFF in status else caught.value.retry_after)


@pytest.mark.parametrize("lines", [(b"OK " + BACKOFF,), (b"OK [THROTTLED] hm", b"3 EXISTS"), ()])
def test_a_wish_to_wait_inside_a_success_is_noticed_once(lines: tuple[bytes, ...]) -> None:
    status = b"OK done" if lines else b"OK done. " + BACKOFF
    with Scripted(after_login(lambda peer: peer.answer(b"NOOP", *lines, status=status) and None)) as server, server.session() as session:
        session.noop()
        notice = session.take_throttle()
        assert notice is not None
        assert notice.retry_after == (None if lines and b"[THROTTLED]" in lines[0] else 300)
        assert session.take_throttle() is None


@pytest.mark.parametrize(("text", "cause"), [
    (b"Connection is closed. 13", None), (b"Session expired, please login again", None), (b"", Cause.SERVER_BUSY),
    (BACKOFF, Cause.THROTTLED)])
def test_bye_in_the_middle_of_a_command(text: bytes, cause: Cause | None) -> None:
    with Scripted(after_login(lambda peer: peer.send(b"* BYE " + text + b"\r\n", peer.expect(b"NOOP")[:0]))) as server:
        session = server.open()
        with pytest.raises(ConnectionBroken) as caught:
            session.noop()
    assert cause is None or caught.value.cause is cause
    assert caught.value.cause is not Cause.UNKNOWN


def test_a_server_that_stops_answering() -> None:
    with Scripted(after_login(lambda peer: peer.expect(b"NOOP") and None)) as server, \
         server.session(timeouts=replace(QUICK, idle=0.1)) as session, pytest.raises(ConnectionBroken):
        session.noop()


def test_a_folder_that_stays_closed_for_want_of_a_safe_login_is_nobodys_message() -> None:
    unsafe = b"NO EXAMINE Unsafe Login. Please contact kefu@188.com for help"
    with Scripted(after_login(lambda peer: peer.answer(b"EXAMINE", status=unsafe) and None),
                  greeting=b"OK Coremail System IMap Server Ready") as server, \
         server.session() as session, pytest.raises(Refused) as caught:
        session.examine("INBOX")
    assert caught.value.cause is not Cause.UNKNOWN
    assert "kefu@188.com" in caught.value.server_text


@pytest.mark.parametrize("verb", ["examine", "status"])
def test_words_that_no_rule_knows_are_about_the_folder(verb: str) -> None:
    with Scripted(after_login(lambda peer: peer.answer(b"", status=b"NO the moon is in the wrong house") and None)) as server, \
         server.session() as session, pytest.raises(Refused) as caught:
        getattr(session, verb)("a")
    assert caught.value.cause is Cause.X_FOLDER
    assert caught.value.server_text == "the moon is in the wrong house"


def test_the_quickest_round_trip_is_known() -> None:
    def talk(peer: Peer) -> None:
        for _ in range(3):
            peer.answer(b"NOOP")

    with Scripted(after_login(talk)) as server, server.session() as session:
        for _ in range(3):
            session.noop()
        assert 0 < session.rtt < 1


def test_every_refusal_is_one_of_ours() -> None:
    for status in (b"NO", b"NO ", b"BAD x", b"NO [LIMIT] x", b"no lower case", b"NO \xff\xfe\x00"):
        with Scripted(after_login(lambda peer, s=status: peer.answer(b"STATUS", status=s) and None)) as server, \
             server.session() as session, pytest.raises(EngineError):
            session.status("a")


def test_leaving_a_folder_costs_no_round_trip_and_nothing_is_measured_by_its_answer() -> None:
    def talk(peer: Peer) -> None:
        peer.answer(b"EXAMINE", b"OK [UIDVALIDITY 1] x")
        left, asked = peer.expect(b"UNSELECT"), peer.expect(b"NOOP")  # both are there before the first is answered
        peer.send(left + b" OK\r\n" + asked + b" OK\r\n")

    with Scripted(after_login(talk), capabilities=b"IMAP4rev1 UNSELECT") as server, server.session() as session:
        session.examine("a")
        session.unselect()
        session.channel.rtt = float("inf")
        session.noop()
        assert session.rtt == float("inf"), "the first answer was UNSELECT's, to what was sent before"


def test_commands_that_go_out_together_are_all_sent_or_none() -> None:
    """Given a pace that says wait at the third command, then the server hears of none, and the connection goes on."""
    class Reluctant(OpenGate):
        left = 2

        def allow(self, *, leaving: bool = False) -> None:
            self.left -= 1
            if self.left == -1:
                raise Throttled(Cause.THROTTLED, retry_after=60)

    with Scripted(after_login(lambda peer: peer.answer(b"NOOP") and None)) as server, server.session() as session:
        before = server.heard
        session.channel.gate = Reluctant()
        with pytest.raises(Throttled):
            session.statuses(["a", "b", "c"])
        assert server.heard == before
        session.noop()
