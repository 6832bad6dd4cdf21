"""The simulated servers do what the facts say that the real ones do; the tests of the mover rest on that."""
from __future__ import annotations

import imaplib
import time
from dataclasses import replace

import pytest

from tests.support.provider_simulator import (
    PROFILES,
    Action,
    AppendRefusal,
    BodyFault,
    Fault,
    ProviderSimulator,
    message,
    with_capabilities,
)
from tests.unit.simulator.raw_client import RawClient


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_an_ordinary_client_reads_every_mailbox_byte_for_byte(profile: str) -> None:
    contents = [message("一"), b"Subject: two\r\n\r\nbody with \0 and \xff\r\n", b"\r\n"]
    with ProviderSimulator(replace(PROFILES[profile], uid_bodies=True, header_only=False, id_before_select=False)) as server:
        server.account()["INBOX"].put(*contents, flags=("\\Seen",))
        client = imaplib.IMAP4(server.host, server.port)
        assert client.login("user@example.com", "secret")[0] == "OK"
        assert client.select("INBOX", readonly=True) == ("OK", [b"3"])
        _, answer = client.fetch("1:3", "(UID FLAGS INTERNALDATE RFC822.SIZE BODY.PEEK[])")
        assert [part[1] for part in answer if isinstance(part, tuple)] == contents
        assert client.list()[0] == "OK"
        client.logout()
        assert server.count("LOGIN") == 1 and server.bodies_opened == 3 and not server.source_changes()


def test_netease_wants_id_before_examine() -> None:
    with ProviderSimulator("netease") as server, RawClient(server) as client:
        assert b"Coremail" in client.greeting
        client.login()
        assert client.command(b"EXAMINE INBOX")[1] == b"NO EXAMINE Unsafe Login. Please contact kefu@188.com for help"
        assert client.command(b'UID FETCH 1:* (FLAGS)')[1] == b"NO SEARCH State error"
        untagged, done = client.command(b'ID ("name" "x")')
        assert b"Mailtech" in untagged[0] and done.startswith(b"OK")
        assert client.command(b"EXAMINE INBOX")[1].startswith(b"OK [READ-ONLY]")


def test_coremail_refuses_an_initial_response_and_never_answers_enable() -> None:
    with ProviderSimulator("netease") as server, RawClient(server) as client:
        assert client.command(b"AUTHENTICATE PLAIN AHVzZXJAZXhhbXBsZS5jb20Ac2VjcmV0")[1].startswith(b"BAD Request not ending with")
        client.login()
        client.socket.settimeout(0.2)
        with pytest.raises(TimeoutError):
            client.command(b"ENABLE UTF8=ACCEPT")


def test_tencent_refuses_descending_sets_and_shows_roles_only_in_xlist() -> None:
    with ProviderSimulator("exmail") as server, RawClient(server) as client:
        client.login()
        assert b"&UXZO1mWHTvZZOQ-" in b"".join(client.command(b'LIST "" "*"')[0])
        assert not [line for line in client.command(b'LIST "" "*"')[0] if b"\\Sent" in line]
        assert [line for line in client.command(b'XLIST "" "*"')[0] if b'\\Sent) "/" "Sent Messages"' in line]
        client.command(b"EXAMINE INBOX")
        for numbers in (b"9,3", b"5:1", b"1:*"):
            assert client.command(b"UID FETCH %s (FLAGS)" % numbers)[1] == b"BAD UID parameters!"
        assert client.append(b"INBOX", b"x\r\n\r\n") == b"BAD Non-synchronizing literal not offered"


def test_263_serves_bodies_by_number_only() -> None:
    with ProviderSimulator("m263") as server, RawClient(server) as client:
        server.account()["INBOX"].put(message("one"))
        client.login()
        client.command(b"EXAMINE INBOX")
        assert client.command(b"UID FETCH 1 (BODY.PEEK[])") == ([], b"OK UID FETCH completed")
        assert message("one") in client.command(b"FETCH 1 (UID BODY.PEEK[])")[0][0]


def test_exchange_guesses_sizes_and_knows_one_case() -> None:
    with ProviderSimulator("exchange") as server, RawClient(server) as client:
        server.account()["INBOX"].put(message("one"))
        client.login()
        assert client.command(b'EXAMINE "inbox"')[1].startswith(b"OK")
        assert b"RFC822.SIZE %d" % len(message("one")) not in client.command(b"UID FETCH 1 (RFC822.SIZE)")[0][0]
        assert client.command(b'CREATE "ARCHIVE"')[1].startswith(b"NO [ALREADYEXISTS]")
        assert client.command(b"NOOP " + b"x" * 11_000)[1] == b"BAD Command Argument Error. 11"


def test_multiappend_gives_a_range_of_uids_and_refuses_as_a_whole() -> None:
    with ProviderSimulator("dovecot") as server, RawClient(server) as client:
        client.login()
        server.append_refusals.append(AppendRefusal(b"NO Message contains NUL characters", contains=b"\0"))
        inbox = server.account()["INBOX"]

        def append(*contents: bytes) -> bytes:
            parts = b"".join(b" (\\Seen) {%d+}\r\n%s" % (len(c), c) for c in contents)
            return client.command(b"APPEND INBOX" + parts)[1]

        assert append(b"a\r\n", b"b\r\n", b"c\r\n") == b"OK [APPENDUID %d 1:3] APPEND completed" % inbox.uidvalidity
        assert append(b"d\r\n", b"\0\r\n") == b"NO Message contains NUL characters"
        assert [m.content for m in inbox.messages] == [b"a\r\n", b"b\r\n", b"c\r\n"]


def test_over_quota_is_said_when_the_literal_is_announced() -> None:
    with ProviderSimulator("dovecot") as server, RawClient(server) as client:
        server.account().quota = 10
        client.login()
        assert client.command(b"APPEND INBOX {11}")[1].startswith(b"NO [OVERQUOTA]")
        assert client.append(b"INBOX", b"x" * 11).startswith(b"NO [OVERQUOTA]")
        assert client.append(b"Nowhere", b"x").startswith(b"NO [TRYCREATE]")
        assert client.append(b"INBOX", b"x" * 9).startswith(b"OK")


def test_a_half_sent_literal_stores_nothing() -> None:
    with ProviderSimulator("dovecot") as server:
        with RawClient(server) as client:
            client.login()
            client.send(b"z APPEND INBOX {100+}\r\nhalf")
        server.wait_until(lambda s: s.open_now == 0)
        assert server.account()["INBOX"].messages == []


def test_a_dead_clients_pipelined_appends_are_stored_later() -> None:
    with ProviderSimulator("dovecot") as server:
        server.faults.append(Fault("APPEND", Action.LATE, seconds=0.2, times=None))
        with RawClient(server) as client:
            client.login()
            client.send(b"".join(b"t%d APPEND INBOX {1+}\r\nx\r\n" % n for n in range(3)))
            server.wait_until(lambda s: s.count("APPEND") == 1)
        assert server.account()["INBOX"].messages == []
        server.wait_until(lambda s: len(s.account()["INBOX"].messages) == 3)


def test_an_answer_may_be_late_or_swallowed_after_the_deed() -> None:
    with ProviderSimulator("dovecot") as server:
        server.faults += [Fault("APPEND", Action.DELAY, seconds=0.3), Fault("APPEND", Action.EXECUTE_THEN_CLOSE)]
        with RawClient(server) as client:
            client.login()
            begun = time.monotonic()
            assert client.append(b"INBOX", b"x").startswith(b"OK")
            assert time.monotonic() - begun >= 0.3
            with pytest.raises((EOFError, ConnectionError)):
                client.append(b"INBOX", b"y")
        assert len(server.account()["INBOX"].messages) == 2


def test_commands_during_a_back_off_are_counted_as_impatient() -> None:
    with ProviderSimulator("exchange") as server, RawClient(server) as client:
        server.faults.append(Fault("STATUS", Action.REPLY, b"BAD Request is throttled. Suggested Backoff Time: 92415 milliseconds",
                                   seconds=92))
        client.login()
        assert b"92415" in client.command(b"STATUS INBOX (MESSAGES)")[1]
        assert not server.impatient
        client.command(b"NOOP")
        assert [command.verb for command in server.impatient] == ["NOOP"]


@pytest.mark.parametrize(("fault", "answer"), [
    (BodyFault.NIL, b"BODY[] NIL)"), (BodyFault.EMPTY, b'BODY[] "")'), (BodyFault.HEADER_ONLY, b"\r\n\r\n)")])
def test_bodies_that_are_not_served_properly(fault: BodyFault, answer: bytes) -> None:
    with ProviderSimulator("dovecot") as server, RawClient(server) as client:
        server.account()["INBOX"].put(message("one"), fault=fault)
        client.login()
        client.command(b"EXAMINE INBOX")
        assert client.command(b"UID FETCH 1 (BODY.PEEK[])")[0][0].endswith(answer)


def test_missing_refused_and_cut_bodies() -> None:
    with ProviderSimulator("qq") as server, RawClient(server) as client:
        inbox = server.account()["INBOX"]
        inbox.put(message("gone"), fault=BodyFault.MISSING)
        inbox.put(message("refused"), fault=BodyFault.REFUSED, fault_times=1)
        inbox.put(message("cut"), fault=BodyFault.CUT)
        client.login()
        client.command(b"EXAMINE INBOX")
        assert client.command(b"UID FETCH 1 (BODY.PEEK[])") == ([], b"OK Mails not exist!")
        assert client.command(b"UID FETCH 2 (BODY.PEEK[])")[1].startswith(b"NO Some messages")
        assert client.command(b"UID FETCH 2 (BODY.PEEK[])")[1].startswith(b"OK")
        with pytest.raises((EOFError, ConnectionError)):
            client.command(b"UID FETCH 3 (BODY.PEEK[])")


def test_greetings_that_turn_a_client_away() -> None:
    with ProviderSimulator("plain") as server:
        server.faults.append(Fault("GREETING", Action.REPLY, b"* BYE Too busy"))
        server.faults.append(Fault("GREETING", Action.REPLY, b"+OK POP3 ready"))
        assert RawClient(server).greeting == b"* BYE Too busy"
        assert RawClient(server).greeting == b"+OK POP3 ready"
        server.profile = replace(server.profile, max_connections=1)
        with RawClient(server), RawClient(server) as second:
            assert second.greeting == b"* BYE Too many connections"


def test_starttls_with_leftovers_sends_them_before_the_handshake() -> None:
    profile = replace(PROFILES["dovecot"], key="d")
    with ProviderSimulator(profile) as server, RawClient(server) as client:
        server.faults.append(Fault("STARTTLS", Action.TRAILING, b"* CAPABILITY INJECTED\r\n"))
        assert client.command(b"STARTTLS")[1].startswith(b"OK")
        assert client.line() == b"* CAPABILITY INJECTED"
        client.start_tls()
        assert client.login().startswith(b"OK")


def test_a_source_changing_command_is_named() -> None:
    with ProviderSimulator("dovecot") as server, RawClient(server) as client:
        server.account()["INBOX"].put(message("one"))
        client.login()
        client.command(b"SELECT INBOX")
        client.command(b"UID FETCH 1 (BODY[])")
        client.command(b"UID STORE 1 +FLAGS.SILENT (\\Deleted)")
        client.command(b"UID EXPUNGE 1")
        assert [command.verb for command in server.source_changes()] == ["SELECT", "UID FETCH", "UID STORE", "UID EXPUNGE"]
        assert server.account()["INBOX"].messages == []


def test_a_secret_is_in_the_recorded_line_but_not_in_its_repr() -> None:
    with ProviderSimulator("plain") as server, RawClient(server) as client:
        assert client.login(secret=b"wrong-canary").startswith(b"NO [AUTHENTICATIONFAILED]")
        assert b"wrong-canary" in server.lines("LOGIN")[0]
        assert "canary" not in repr(server.commands)


def test_a_profile_can_be_given_any_set_of_capabilities() -> None:
    profile = with_capabilities(PROFILES["dovecot"], "X-NEW", without=("UIDPLUS", "LITERAL+"))
    with ProviderSimulator(profile, tls=True) as server, RawClient(server) as client:
        client.login()
        offered = client.command(b"CAPABILITY")[0][0].split()
        assert b"X-NEW" in offered and b"UIDPLUS" not in offered
        assert client.command(b'LIST "" "*" RETURN (SPECIAL-USE STATUS (MESSAGES SIZE))')[0][1:3] == [
            b'* STATUS "INBOX" (MESSAGES 0 SIZE 0)', b'* LIST (\\Sent) "/" "Sent"']
