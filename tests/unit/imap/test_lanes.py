"""Given a server that must be asked for each literal, when several connections take turns, then the order stays the source's."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack

import pytest

from engine.causes import Side
from engine.imap.append import Appended, Appender, Outgoing
from engine.imap.session import Session
from tests.support.provider_simulator import LOOPBACK, PROFILES, Action, AppendRefusal, Fault, ProviderSimulator, message, with_capabilities

DATE = "17-Jul-1996 02:44:25 -0700"


@pytest.fixture(params=["UIDPLUS", "UIDPLUS LITERAL-"])
def server(request: pytest.FixtureRequest) -> Iterator[ProviderSimulator]:
    plain = PROFILES["plain"]
    with ProviderSimulator(with_capabilities(plain, "IMAP4rev1", *request.param.split(), without=tuple(plain.after.split()))) as one:
        yield one


@pytest.fixture
def lanes(server: ProviderSimulator) -> Iterator[list[Session]]:
    with ExitStack() as stack:
        yield [_opened(stack, server) for _ in range(3)]


def _opened(stack: ExitStack, server: ProviderSimulator) -> Session:
    session = Session.open(server.login_for(), LOOPBACK, side=Side.DESTINATION)
    stack.callback(session.logout)
    return session


def outgoing(number: int) -> Outgoing:
    content = message(str(number), "x" * (number * 997 % 9000))
    return Outgoing(number, (), DATE, len(content), content)


def append(appender: Appender, batch: list[Outgoing]) -> list[Appended]:
    return appender.wait(appender.send("INBOX", batch))


def test_the_order_is_kept_over_all_lanes_and_batches(server: ProviderSimulator, lanes: list[Session]) -> None:
    appender = Appender(lanes[0], lanes[1:])
    batches = [[outgoing(n) for n in range(first, first + 7)] for first in (1, 8, 15)]
    results = [result for batch in batches for result in append(appender, batch)]
    assert [r.uid for r in results] == list(range(1, 22)) and all(r.error is None for r in results)
    assert [m.content for m in server.account()["INBOX"].messages] == [o.content for batch in batches for o in batch]
    assert appender.in_order is False  # all lanes go on
    assert len({command.connection for command in server.commands if command.verb == "APPEND"}) == 3


def test_a_refused_literal_costs_its_message_only(server: ProviderSimulator, lanes: list[Session]) -> None:
    server.append_refusals.append(AppendRefusal(b"NO [TOOBIG] no", contains=b"Subject: 4"))
    results = append(Appender(lanes[0], lanes[1:]), [outgoing(n) for n in range(1, 9)])
    assert [r.uid for r in results if r.error is not None] == [4]
    assert [m.content for m in server.account()["INBOX"].messages] == [outgoing(n).content for n in range(1, 9) if n != 4]


def test_a_message_stored_out_of_turn_is_noticed_and_ends_the_turns(server: ProviderSimulator, lanes: list[Session]) -> None:
    server.faults.append(Fault("APPEND", Action.LATE, seconds=0.5, skip=3))
    appender = Appender(lanes[0], lanes[1:])
    results = append(appender, [outgoing(n) for n in range(1, 9)])
    assert all(r.error is None for r in results)
    assert appender.in_order
    before = len([c for c in server.commands if c.verb == "APPEND"])
    append(appender, [outgoing(n) for n in range(9, 13)])
    later = [c.connection for c in server.commands if c.verb == "APPEND"][before:]
    assert len(set(later)) == 1
    assert [m.content for m in server.account()["INBOX"].messages][-4:] == [outgoing(n).content for n in range(9, 13)]


def test_a_server_that_offers_more_than_it_stands_by_is_asked_first(lanes: list[Session]) -> None:
    appender = Appender(lanes[0], ask_first=True)
    assert all(r.error is None for r in append(appender, [outgoing(n) for n in range(1, 5)]))
