"""Getting in: what is said to whom and in which order, how often, and what is never said."""
from __future__ import annotations

import base64
import contextlib
from dataclasses import replace

import pytest

from engine.causes import Cause, Side
from engine.endpoint import Security
from engine.errors import ConnectionBroken, EngineError, ProtocolError, Refused, Throttled
from engine.imap.session import Session
from engine.report.steps import Step, StepState
from tests.support.certificates import authority
from tests.support.provider_simulator import Action, Fault, ProviderSimulator
from tests.unit.imap.scripted import LOOPBACK, QUICK, SECRET, Peer, Scripted
from tests.unit.net.servers import server_context


def test_steps_are_told_as_they_begin_and_end() -> None:
    told: list[tuple[Step, StepState]] = []
    with Scripted(Peer.greet) as server:
        Session.open(server.account(), LOOPBACK, side=Side.SOURCE, on_step=lambda *s: told.append(s), timeouts=QUICK).close()
    running, ok = StepState.RUNNING, StepState.OK
    assert told == [(Step.NAME, running), (Step.NAME, ok), (Step.CONNECT, running), (Step.CONNECT, ok), (Step.TLS, running),
                    (Step.TLS, StepState.SKIPPED), (Step.LOGIN, running), (Step.LOGIN, ok)]


def test_the_failing_step_is_told() -> None:
    told: list[tuple[Step, StepState]] = []
    with ProviderSimulator("netease", tls=True) as server:
        with pytest.raises(Refused) as caught:
            Session.open(server.login_for(secret="wrong"), LOOPBACK, side=Side.SOURCE, on_step=lambda *s: told.append(s), timeouts=QUICK)
        assert told[-1] == (Step.LOGIN, StepState.FAILED)
        assert (Step.TLS, StepState.OK) in told
        assert server.count("LOGIN") == 1
    assert Cause.BAD_SECRET in caught.value.causes
    assert caught.value.side is Side.SOURCE


@pytest.mark.parametrize("profile", ["plain", "qq", "netease", "coremail", "aliqiye", "gmail", "exchange", "dovecot"])
def test_a_wrong_secret_is_one_login_on_the_wire(profile: str) -> None:
    with ProviderSimulator(profile) as server:
        with pytest.raises(EngineError):
            Session.open(server.login_for(secret="wrong"), LOOPBACK, side=Side.SOURCE, timeouts=QUICK)
        assert server.count("LOGIN") == 1
        assert server.count("AUTHENTICATE") == 0
        assert server.connections == 1


def test_at_the_destination_a_refused_login_has_the_destinations_name() -> None:
    with ProviderSimulator("dovecot") as server, pytest.raises(Refused) as caught:
        Session.open(server.login_for(secret="wrong"), LOOPBACK, side=Side.DESTINATION, timeouts=QUICK)
    assert (caught.value.cause, caught.value.side) == (Cause.DESTINATION_LOGIN, Side.DESTINATION)


@pytest.mark.parametrize(("greeting", "kind"), [
    (b"* PREAUTH welcome back\r\n", Refused),
    (b"* BYE Too many connections from your address\r\n", (Throttled, ConnectionBroken)),
    (b"* bye\r\n", ConnectionBroken),
    (b"+OK POP3 ready\r\n", Refused),
    (b"HTTP/1.1 400 Bad Request\r\n", Refused),
    (b"* NO not today\r\n", Refused),
    (b"", ConnectionBroken),
    (b"* OK " + b"x" * 100_000 + b"\r\n", ProtocolError),
])
def test_nothing_is_sent_to_a_server_that_does_not_greet(greeting: bytes, kind: type[EngineError]) -> None:
    def talk(peer: Peer) -> None:
        peer.send(greeting)
        if not greeting:
            peer.conn.close()

    with Scripted(talk) as server, pytest.raises(kind):
        server.open()
    assert server.heard == b""


def test_hanging_up_before_the_greeting_names_what_that_may_mean() -> None:
    with Scripted(lambda peer: peer.conn.close()) as server, pytest.raises(ConnectionBroken) as caught:
        server.open()
    assert Cause.IP_BLOCKED in caught.value.causes


def test_silence_instead_of_a_greeting_ends() -> None:
    with Scripted(lambda peer: peer.line()) as server, pytest.raises(ConnectionBroken) as caught:  # type: ignore[arg-type,return-value]
        server.open(timeouts=QUICK._replace(greeting=0.1))
    assert Cause.SERVER_BUSY in caught.value.causes


@pytest.mark.parametrize(("login", "secret"), [
    ("li@corp.example", "a\r\nB9 DELETE INBOX"), ("li@corp.example", "a\0b"), ("li@corp.example", "a\nb"), ("li\r\nx", "secret"),
    ("li\0", "secret"), ("li", "x" * 5000), ("li", ""), ("li", "half \ud83d")])
def test_credentials_that_would_end_the_line_are_not_even_dialled(login: str, secret: str) -> None:
    with Scripted(Peer.greet) as server:
        with pytest.raises(Refused) as caught:
            server.open(login=login, secret=secret)
        assert not server.peers
    assert len(secret) < 2 or secret not in str(caught.value)


def test_both_login_arguments_are_quoted_also_at_tencent() -> None:
    with ProviderSimulator("qq") as server:
        session = Session.open(server.login_for(), LOOPBACK, side=Side.SOURCE, timeouts=QUICK)
        assert session.family == "tencent"
        session.close()
        assert server.lines("LOGIN")[0].endswith(b'LOGIN "user@example.com" "secret"')


@pytest.mark.parametrize("capabilities", [b"IMAP4rev1", b"IMAP4rev1 LITERAL+"])
def test_a_secret_beyond_ascii_is_a_literal_in_utf8(capabilities: bytes) -> None:
    with Scripted(Peer.greet, capabilities=capabilities) as server, server.session():
        pass
    octets = SECRET.encode()
    announcement = b" {%d}\r\n" % len(octets) if capabilities == b"IMAP4rev1" else b" {%d+}\r\n" % len(octets)
    assert b'LOGIN "li@corp.example"' + announcement + octets + b"\r\n" in server.heard


def test_a_secret_whose_literal_is_refused_is_not_sent() -> None:
    def talk(peer: Peer) -> None:
        peer.send(b"* OK ready\r\n")
        peer.answer(b"CAPABILITY", b"CAPABILITY IMAP4rev1")
        peer.answer(b"LOGIN", status=b"NO [AUTHENTICATIONFAILED] no literals here")

    with Scripted(talk) as server, pytest.raises(Refused):
        server.open()
    assert SECRET.encode() not in server.heard


def test_where_login_is_disabled_the_initial_response_is_used_once() -> None:
    def talk(peer: Peer) -> None:
        peer.send(b"* OK [CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=PLAIN SASL-IR] ready\r\n")
        peer.answer(b"AUTHENTICATE PLAIN " + base64.b64encode(f"\0li@corp.example\0{SECRET}".encode()))
        peer.answer(b"CAPABILITY", b"CAPABILITY IMAP4rev1 UIDPLUS")

    with Scripted(talk) as server, server.session() as session:
        assert session.capabilities == {"IMAP4REV1", "UIDPLUS"}


def test_coremail_advertises_the_initial_response_and_does_not_get_it() -> None:
    token = base64.b64encode(f"\0li@corp.example\0{SECRET}".encode())

    def talk(peer: Peer) -> None:
        peer.send(b"* OK [CAPABILITY IMAP4rev1 LOGINDISABLED AUTH=PLAIN SASL-IR ENABLE] Coremail System IMap Server Ready(x)\r\n")
        tag = peer.expect(b"AUTHENTICATE PLAIN")
        peer.send(b"+ \r\n")
        assert peer.line() == token
        peer.send(tag + b" OK in\r\n")
        named = peer.expect(b"ID (")  # goes out with what follows
        asked = peer.expect(b"CAPABILITY")
        peer.send(b"* ID NIL\r\n" + named + b" OK\r\n* CAPABILITY IMAP4rev1 ENABLE\r\n" + asked + b" OK\r\n")

    with Scripted(talk) as server, server.session() as session:
        assert session.family == "coremail"
    assert b"ENABLE" not in server.heard
    assert b"PLAIN " + token not in server.heard


@pytest.mark.parametrize(("offered", "cause"), [
    (b"LOGINDISABLED AUTH=XOAUTH2", Cause.OAUTH_ONLY), (b"LOGINDISABLED AUTH=CRAM-MD5", Cause.TLS)])
def test_no_way_in_with_a_password(offered: bytes, cause: Cause) -> None:
    with Scripted(lambda peer: peer.send(b"* OK [CAPABILITY IMAP4rev1 " + offered + b"] ready\r\n")) as server, \
         pytest.raises(Refused) as caught:
        server.open()
    assert (caught.value.cause, server.heard) == (cause, b"")


@pytest.mark.parametrize("profile", ["netease", "coremail", "qiye163"])
def test_the_coremail_family_gets_id_before_anything_is_opened_and_never_enable(profile: str) -> None:
    with ProviderSimulator(profile) as server:
        session = Session.open(server.login_for(), LOOPBACK, side=Side.SOURCE, timeouts=QUICK)
        session.examine("INBOX")
        session.close()
        assert server.count("ENABLE") == 0
        assert server.count("ID") == 1


def test_a_refused_id_is_no_reason_to_give_up() -> None:
    def talk(peer: Peer) -> None:
        peer.send(b"* OK [CAPABILITY IMAP4rev1 ID] ready\r\n")
        tag = peer.expect(b"LOGIN")
        peer.send(tag + b" OK [CAPABILITY IMAP4rev1 ID] in\r\n")
        peer.answer(b"ID", status=b"BAD what")

    with Scripted(talk) as server:
        session = server.open(secret="ascii only")
        assert "ID" in session.capabilities
        session.close()


def test_what_the_server_volunteers_is_not_asked_and_id_costs_no_round_trip() -> None:
    """Given a greeting and a LOGIN that tell the capabilities, then LOGIN is the only answer that is waited for."""
    def talk(peer: Peer) -> None:
        peer.send(b"* OK [CAPABILITY IMAP4rev1 ID] ready\r\n")
        tag = peer.expect(b"LOGIN")
        peer.send(tag + b" OK [CAPABILITY IMAP4rev1 ID UIDPLUS] in\r\n")
        tags = [peer.expect(start) for start in (b"ID (", b'LIST "" ""', b'LIST "" "*"')]  # all there before the first is answered
        peer.send(b"* ID NIL\r\n" + b"".join(tag + b" OK\r\n" for tag in tags))

    with Scripted(talk) as server:
        session = server.open(secret="ascii only")
        assert session.capabilities == {"IMAP4REV1", "ID", "UIDPLUS"}
        assert session.survey().folders == []
        assert session.channel.id_sent
        session.close()
    assert b"CAPABILITY" not in server.heard


def test_a_server_that_volunteers_nothing_is_asked_before_and_after_the_login() -> None:
    with ProviderSimulator("aliqiye") as server:
        session = Session.open(server.login_for(), LOOPBACK, side=Side.SOURCE, timeouts=QUICK)
        session.noop()
        session.close()
        assert [command.verb for command in server.commands] == ["CAPABILITY", "LOGIN", "ID", "CAPABILITY", "NOOP"]
        assert session.channel.id_sent


@pytest.mark.parametrize("status", [b"NO not for you", b"BAD what"])
def test_a_server_that_still_asks_for_id_is_understood_by_whether_it_took_ours(status: bytes) -> None:
    """A refused ID leaves `id_sent` false, so that NetEase's "Unsafe Login" keeps its first meaning (facts: N01)."""
    def talk(peer: Peer) -> None:
        peer.send(b"* OK [CAPABILITY IMAP4rev1 ID] ready\r\n")
        peer.send(peer.expect(b"LOGIN") + b" OK [CAPABILITY IMAP4rev1 ID] in\r\n")
        peer.answer(b"ID", status=status)
        peer.answer(b"NOOP")

    with Scripted(talk) as server:
        session = server.open(secret="ascii only")
        session.noop()
        assert not session.channel.id_sent
        session.close()


def test_an_echoed_secret_does_not_leave_in_an_exception() -> None:
    def talk(peer: Peer) -> None:
        peer.send(b"* OK [CAPABILITY IMAP4rev1] ready\r\n")
        tag = peer.expect(b"LOGIN")
        peer.send(tag + b" BAD cannot parse: LOGIN li@corp.example " + b"hunter2hunter2\r\n")

    with Scripted(talk) as server, pytest.raises(EngineError) as caught:
        server.open(secret="hunter2hunter2")
    error: BaseException | None = caught.value
    while error is not None:
        assert "hunter2" not in f"{error} {error!r} {getattr(error, 'server_text', '')} {getattr(error, 'detail', '')}"
        error = error.__cause__


def test_bye_in_the_middle_of_the_login_has_its_cause() -> None:
    with ProviderSimulator("gmail") as server:
        server.faults.append(Fault("LOGIN", Action.REPLY, b"BYE [UNAVAILABLE] Temporary System Error"))
        with pytest.raises(ConnectionBroken) as caught:
            Session.open(server.login_for(), LOOPBACK, side=Side.SOURCE, timeouts=QUICK)
        assert server.count("LOGIN") == 1
    assert caught.value.cause in (Cause.SERVER_BUSY, Cause.THROTTLED, Cause.TOO_MANY_CONNECTIONS)
    assert "UNAVAILABLE" in caught.value.server_text


def test_a_login_that_is_never_answered_ends_and_is_not_repeated() -> None:
    with ProviderSimulator("qq") as server:
        server.faults.append(Fault("LOGIN", Action.HANG))
        with pytest.raises(ConnectionBroken):
            Session.open(server.login_for(), LOOPBACK, side=Side.SOURCE, timeouts=QUICK._replace(login=0.2))
        assert server.count("LOGIN") == 1


# -- STARTTLS --------------------------------------------------------------------------------------------------------------------


def starttls(peer: Peer, *, leftovers: bytes = b"") -> None:
    peer.send(b"* OK [CAPABILITY IMAP4rev1 STARTTLS LOGINDISABLED] ready\r\n")
    tag = peer.expect(b"STARTTLS")
    peer.send(tag + b" OK begin\r\n" + leftovers)
    peer.conn = server_context(authority().issue()).wrap_socket(peer.conn, server_side=True)


def starttls_account(server: Scripted):  # type: ignore[no-untyped-def]
    account = server.account(security=Security.STARTTLS)
    return replace(account, endpoint=replace(account.endpoint, host="localhost", ca_pem=authority().pem))


def test_after_starttls_everything_is_asked_anew() -> None:
    def talk(peer: Peer) -> None:
        starttls(peer)
        peer.answer(b"CAPABILITY", b"CAPABILITY IMAP4rev1")
        peer.log_in()

    with Scripted(talk) as server:
        session = Session.open(starttls_account(server), LOOPBACK, side=Side.SOURCE, timeouts=QUICK)
        assert "STARTTLS" not in session.capabilities
        session.close()


def test_clear_text_after_starttls_is_an_attack() -> None:
    def talk(peer: Peer) -> None:
        with contextlib.suppress(OSError):  # the client hangs up
            starttls(peer, leftovers=b"* OK [CAPABILITY IMAP4rev1] injected\r\n")

    with Scripted(talk) as server, pytest.raises(EngineError) as caught:
        Session.open(starttls_account(server), LOOPBACK, side=Side.SOURCE, timeouts=QUICK)
    assert caught.value.cause is Cause.TLS
    assert b"LOGIN" not in server.heard


@pytest.mark.parametrize(("capabilities", "answer"), [(b"IMAP4rev1", b""), (b"IMAP4rev1 STARTTLS", b" NO not now\r\n"),
                                                      (b"IMAP4rev1 STARTTLS", b" BAD what\r\n")])
def test_no_credentials_where_tls_was_demanded_and_is_not_given(capabilities: bytes, answer: bytes) -> None:
    def talk(peer: Peer) -> None:
        peer.send(b"* OK [CAPABILITY " + capabilities + b"] ready\r\n")
        if answer:
            peer.send(peer.expect(b"STARTTLS") + answer)

    with Scripted(talk) as server, pytest.raises(Refused) as caught:
        Session.open(starttls_account(server), LOOPBACK, side=Side.SOURCE, timeouts=QUICK)
    assert caught.value.cause is Cause.TLS
    assert b"LOGIN" not in server.heard


def test_preauth_before_starttls_is_an_attack() -> None:
    with Scripted(lambda peer: peer.send(b"* PREAUTH [CAPABILITY IMAP4rev1 STARTTLS] hi\r\n")) as server, \
         pytest.raises(Refused) as caught:
        Session.open(starttls_account(server), LOOPBACK, side=Side.SOURCE, timeouts=QUICK)
    assert (caught.value.cause, server.heard) == (Cause.TLS, b"")
