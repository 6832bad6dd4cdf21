"""Whose turn it is: bodies are handed on in the order in which they were asked for, whatever order they come in.

Dovecot goes on with the newest of several FETCHes whenever its output was blocked (measured), so on slow roads whole batches overtake
others. What comes early is kept until those before it have come, or were not given.
Bounds: none here; the reader asks for no more than its window while octets are kept.
"""
from __future__ import annotations

from collections import deque
from collections.abc import Container, Iterable, Iterator

from engine.imap.fetch import Body
from engine.transfer.records import Listed


class Turns:
    """`waiting`: the UIDs that were asked for and neither came nor were refused; their owner keeps it."""

    def __init__(self, waiting: Container[int]) -> None:
        self._waiting = waiting
        self._order: deque[int] = deque()  # UIDs as they were asked for; those before the first that is waited for left off
        self._early: dict[int, tuple[Listed, Body]] = {}  # came before one that was asked for earlier
        self.octets = 0  # … and what they hold

    def __len__(self) -> int:
        """Messages that came and are kept."""
        return len(self._early)

    def asked(self, uids: Iterable[int]) -> None:
        self._order.extend(uids)

    def take(self, uid: int) -> bool:
        """Whether it is this message's turn, which is over then. It is still waited for when this is asked."""
        order = self._order
        if order[0] != uid:
            self._drop_answered()
            if order[0] != uid:
                return False
        order.popleft()
        return True

    def keep(self, item: Listed, body: Body) -> None:
        """Until its turn comes. The body must not need the connection any more."""
        self._early[item.meta.uid] = item, body
        self.octets += body.length

    def due(self) -> Iterator[tuple[Listed, Body]]:
        """What was kept and whose turn it is now."""
        while self._early:
            self._drop_answered()
            if not self._order or (kept := self._early.pop(self._order[0], None)) is None:
                return
            self._order.popleft()
            self.octets -= kept[1].length
            yield kept

    def _drop_answered(self) -> None:
        """What nothing is waited for any more: handed over, or not given."""
        order, waiting, early = self._order, self._waiting, self._early
        while order and order[0] not in waiting and order[0] not in early:
            order.popleft()
