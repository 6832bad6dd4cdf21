"""Given a near server that stores whole batches, when several connections fill one folder, then each batch's end waits for the answers to
those before it: the order is that of sending, and what has no end yet is stored nowhere."""
from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from engine.causes import Cause, Side
from engine.errors import ConnectionBroken
from engine.imap import held_ends
from engine.imap.append import Appended, Appender, Outgoing
from engine.imap.append_command import Command as AppendCommand
from engine.imap.held_ends import FolderIsLocked
from engine.imap.session import Session
from tests.support.provider_simulator import LOOPBACK, PROFILES, Action, AppendRefusal, Fault, ProviderSimulator, message, with_capabilities
from tests.unit.imap.scripted import Peer, Scripted

DATE = "17-Jul-1996 02:44:25 -0700"


@pytest.fixture
def server() -> Iterator[ProviderSimulator]:
    plain = PROFILES["plain"]
    offered = with_capabilities(plain, "IMAP4rev1", "UIDPLUS", "LITERAL+", "MULTIAPPEND", without=tuple(plain.after.split()))
    with ProviderSimulator(offered) as one:
        yield one


@pytest.fixture
def lanes(server: ProviderSimulator) -> Iterator[list[Session]]:
    with ExitStack() as stack:
        sessions = [Session.open(server.login_for(), LOOPBACK, side=Side.DESTINATION) for _ in range(3)]
        for session in sessions:
            session.channel.rtt = 0.0  # whatever this machine is busy with
            stack.callback(session.logout)
        yield sessions


def outgoing(number: int, size: int = 0) -> Outgoing:
    content = message(str(number), "x" * (size or number * 997 % 9000))
    return Outgoing(number, (), DATE, len(content), content)


def batches(count: int, messages: int = 5) -> list[list[Outgoing]]:
    return [[outgoing(n * messages + k) for k in range(1, messages + 1)] for n in range(count)]


def there(server: ProviderSimulator) -> list[bytes]:
    return [m.content for m in server.account()["INBOX"].messages]


def flat(several: list[list[Outgoing]]) -> list[bytes]:
    return [o.content for batch in several for o in batch if isinstance(o.content, bytes)]


def stored_nothing_more(server: ProviderSimulator, count: int, seconds: float = 0.3) -> bool:
    """What would be wrong would be there by then."""
    time.sleep(seconds)
    return len(there(server)) == count


def test_batches_lie_in_the_order_in_which_they_were_sent(server: ProviderSimulator, lanes: list[Session]) -> None:
    server.faults += [Fault("APPEND", Action.LATE, seconds=0.2, skip=skip) for skip in (0, 0, 2)]  # some take longer to be stored
    appender, several = Appender(lanes[0], lanes[1:]), batches(7)
    results: list[Appended] = []
    pending = []
    for batch in several:
        pending.append(appender.send("INBOX", batch))
        if len(pending) == 3:
            results += appender.wait(pending.pop(0))
    for one in pending:
        results += appender.wait(one)
    assert [r.uid for r in results] == list(range(1, 36)) and all(r.error is None for r in results)
    assert [r.target_uid for r in results] == list(range(1, 36))
    assert there(server) == flat(several)
    assert len({command.connection for command in server.commands if command.verb == "APPEND"}) == 3
    assert appender.in_order and not appender.holding


def test_what_has_no_end_yet_is_stored_nowhere_and_gets_its_end_when_no_more_comes(server: ProviderSimulator, lanes: list[Session]) -> None:
    appender, (first, second) = Appender(lanes[0], lanes[1:2]), batches(2)
    sent = [appender.send("INBOX", first), appender.send("INBOX", second)]
    assert appender.holding
    server.wait_until(lambda _: len(there(server)) == 5)
    assert stored_nothing_more(server, 5)
    appender.let_end()
    assert not appender.holding
    server.wait_until(lambda _: len(there(server)) == 10)
    assert [r.error for one in sent for r in appender.wait(one)] == [None] * 10
    assert there(server) == flat([first, second])


def test_hearing_the_answer_before_sends_the_end(server: ProviderSimulator, lanes: list[Session]) -> None:
    appender, (first, second) = Appender(lanes[0], lanes[1:2]), batches(2)
    sent = [appender.send("INBOX", first), appender.send("INBOX", second)]
    assert lanes[0].channel.stream.readable_within(5)
    assert appender.holding
    appender.hear()
    assert not appender.holding
    assert [r.target_uid for one in sent for r in appender.wait(one)] == list(range(1, 11))


def test_a_connection_given_up_before_the_end_leaves_nothing_of_its_batch(server: ProviderSimulator, lanes: list[Session]) -> None:
    appender, (first, second) = Appender(lanes[0], lanes[1:2]), batches(2)
    appender.send("INBOX", first)
    appender.send("INBOX", second)
    lanes[1].logout()  # must not be taken for more of the command
    assert lanes[1].channel.stream.closed
    server.wait_until(lambda _: len(there(server)) == 5)
    assert stored_nothing_more(server, 5)
    assert "LOGOUT" not in server.counts()


def test_the_loss_of_the_connection_before_is_told_and_ends_nothing_after_it(server: ProviderSimulator, lanes: list[Session]) -> None:
    server.faults.append(Fault("APPEND", Action.CLOSE))
    appender, (first, second) = Appender(lanes[0], lanes[1:2]), batches(2)
    sent = [appender.send("INBOX", first), appender.send("INBOX", second)]
    with pytest.raises(ConnectionBroken):
        appender.wait(sent[0])
    for lane in lanes:
        lane.logout()
    assert stored_nothing_more(server, 0)


def test_a_refused_batch_holds_up_none_after_it(server: ProviderSimulator, lanes: list[Session]) -> None:
    server.append_refusals.append(AppendRefusal(b"NO [CANNOT] not this one", contains=b"Subject: 7\r\n"))
    appender, several = Appender(lanes[0], lanes[1:]), batches(3)
    sent = [appender.send("INBOX", batch) for batch in several]
    answers = [appender.wait(one) for one in sent]
    assert [[r.error is None for r in results] for results in answers] == [[True] * 5, [False] * 5, [True] * 5]
    assert there(server) == flat([several[0], several[2]])


def test_what_is_poured_in_finds_everything_before_it_ended(server: ProviderSimulator, lanes: list[Session]) -> None:
    appender, (first, second) = Appender(lanes[0], lanes[1:2]), batches(2)
    appender.send("INBOX", first)
    appender.send("INBOX", second)
    content = message("large", "y" * 5000)

    def slowly() -> Iterator[bytes]:
        yield content[:1000]
        server.wait_until(lambda _: len(there(server)) == 10)
        yield content[1000:]

    [result] = appender.wait(appender.send("INBOX", [Outgoing(99, (), DATE, len(content), slowly())]))
    assert (result.error, result.target_uid) == (None, 11)


def test_what_must_be_asked_for_and_is_refused_needs_no_end(server: ProviderSimulator, lanes: list[Session]) -> None:
    server.account().quota = 2_000
    appender = Appender(lanes[0], lanes[1:2])
    sent = [appender.send("INBOX", [outgoing(1, 100)]), appender.send("INBOX", [outgoing(2, 5_000)], ask_first=True),
            appender.send("INBOX", [outgoing(3, 100)])]
    assert [appender.wait(one)[0].error is None for one in sent] == [True, False, True]
    assert there(server) == [outgoing(n, 100).content for n in (1, 3)]


@pytest.mark.parametrize("waits", ["for an answer", "for the end", "to send more"])
def test_a_server_that_locks_the_folder_for_a_command_is_not_waited_for(server: ProviderSimulator, lanes: list[Session],
                                                                        monkeypatch: pytest.MonkeyPatch, waits: str) -> None:
    monkeypatch.setattr(held_ends, "PATIENCE_SECONDS", 0.3)
    monkeypatch.setattr(AppendCommand, "patience", lambda command: 0.0)
    server.faults.append(Fault("APPEND", Action.HANG))
    appender, (first, second) = Appender(lanes[0], lanes[1:2]), batches(2)
    sent = [appender.send("INBOX", first), appender.send("INBOX", second)]
    begun = time.monotonic()
    with pytest.raises(FolderIsLocked) as caught:
        if waits == "to send more":
            appender.send("INBOX", [outgoing(9, 32 << 20)])  # more than lies on the way
        elif waits == "for the end":
            appender.let_end()
        else:
            appender.wait(sent[0])
    assert time.monotonic() - begun < 3
    assert (caught.value.cause, caught.value.side, caught.value.detail) == (
        Cause.X_STATE, Side.DESTINATION, "the server does not work at two messages of one folder at once")
    assert all(lane.channel.stream.closed for lane in lanes[:2])
    assert stored_nothing_more(server, 0), "the second had no end"


def test_an_end_that_cannot_be_sent_is_told_to_whoever_waits_for_that_command(server: ProviderSimulator, lanes: list[Session]) -> None:
    appender, (first, second) = Appender(lanes[0], lanes[1:2]), batches(2)
    sent = [appender.send("INBOX", first), appender.send("INBOX", second)]
    lanes[1].close()
    assert [r.error for r in appender.wait(sent[0])] == [None] * 5, "it was answered"
    with pytest.raises(ConnectionBroken):
        appender.wait(sent[1])
    assert lanes[0].channel.stream.closed, "whoever goes on is to open both anew"
    assert stored_nothing_more(server, 5)


@pytest.mark.parametrize(("rtt", "ask_first"), [(0.0101, False), (float("inf"), False), (0.0, True)])
def test_farther_away_or_where_it_is_asked_first_there_is_one_connection(server: ProviderSimulator, lanes: list[Session], rtt: float,
                                                                         ask_first: bool) -> None:
    lanes[0].channel.rtt = rtt
    appender, several = Appender(lanes[0], lanes[1:], ask_first=ask_first), batches(3)
    sent = [appender.send("INBOX", batch) for batch in several]
    assert not appender.holding
    assert [r.error for one in sent for r in appender.wait(one)] == [None] * 15
    assert len({command.connection for command in server.commands if command.verb == "APPEND"}) == 1
    assert there(server) == flat(several)


def test_an_answer_that_was_read_on_the_way_to_a_question_is_not_waited_for(server: ProviderSimulator, lanes: list[Session],
                                                                            monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(held_ends, "PATIENCE_SECONDS", 3.0)
    appender, (first, second, third) = Appender(lanes[0], lanes[1:2]), batches(3)
    sent = [appender.send("INBOX", first)]
    assert lanes[0].channel.answers_within(5, sent[0].commands[0].tag)
    begun = time.monotonic()
    sent += [appender.send("INBOX", second), appender.send("INBOX", third)]
    assert [r.error for one in sent for r in appender.wait(one)] == [None] * 15
    assert time.monotonic() - begun < 2
    assert appender.in_order and there(server) == flat([first, second, third])


def test_a_word_that_is_no_answer_does_not_count_as_one() -> None:
    go_on = threading.Event()

    def talk(peer: Peer) -> None:
        peer.greet()
        tag = peer.expect(b"NOOP")
        peer.send(b"* OK still here\r\n")
        assert go_on.wait(5)
        peer.send(tag + b" OK done\r\n")

    with Scripted(talk) as scripted, scripted.session(Side.DESTINATION) as session:
        tag = session.channel.send(b"NOOP")
        assert not session.channel.answers_within(0.2, tag)
        go_on.set()
        assert session.channel.answers_within(5, tag)
        assert session.channel.finish(tag).tagged.status == b"OK", "the answer is kept"
