"""What a session does besides listing and opening: folders made, quota, removal at a destination, farewell; what never reaches the wire;
and what refusals, throttles and goodbyes become."""
from __future__ import annotations

import pytest

from engine.causes import Cause, Side
from engine.errors import ConnectionBroken, EngineError, Refused, Throttled
from engine.imap.session import Session
from engine.pacing.pacer import OpenGate
from tests.support.provider_simulator import ProviderSimulator
from tests.unit.imap.scripted import LOOPBACK, QUICK, Peer, Scripted
from tests.unit.imap.talks import BACKOFF, after_login

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
         server.session(timeouts=QUICK._replace(idle=0.1)) as session, pytest.raises(ConnectionBroken):
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
