"""What flows between the reader's and the writer's thread, bounded in bytes.

A small message travels whole; a large one as a stream of chunks that is read while it is written, so that memory does not depend
on the size of a message. Either side may fail: the other then gets the failure instead of waiting for ever.
"""
from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from typing import Generic, TypeVar

T = TypeVar("T")

STOP_POLL_SECONDS = 0.2


class Abandoned(Exception):
    """The other side gave up; there is nobody to work for."""


class ByteQueue(Generic[T]):
    """A queue of items with sizes. `put` waits while `limit` bytes are queued (items larger than that pass when alone). One taker."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._items: deque[tuple[Sequence[T], int]] = deque()
        self._bytes = 0
        self._ended = False
        self._abandoned = False
        self._error: BaseException | None = None
        self._changed = threading.Condition()
        self._in_hand: deque[T] = deque()  # the taker's own: items whose lock was paid for together

    def put(self, item: T, size: int) -> None:
        self.put_many((item,), size)

    def put_many(self, items: Sequence[T], size: int) -> None:
        """Several items as one: waits once, wakes the taker once. `size`: their octets together."""
        with self._changed:
            while self._bytes and self._bytes + size > self._limit and not self._abandoned:
                self._changed.wait()
            if self._abandoned:
                raise Abandoned
            self._items.append((items, size))
            self._bytes += size
            self._changed.notify_all()

    def end(self, error: BaseException | None = None) -> None:
        """No more items come: all was read, or reading failed with `error` (raised at the taker after the queued items)."""
        with self._changed:
            self._ended, self._error = True, error
            self._changed.notify_all()

    def abandon(self) -> None:
        """The taker takes no more; a waiting `put` raises Abandoned."""
        with self._changed:
            self._abandoned = True
            self._items.clear()
            self._bytes = 0
            self._changed.notify_all()

    def abandoned(self) -> bool:
        return self._abandoned

    def ready(self) -> bool:
        """Whether the next `take` would not have to wait."""
        with self._changed:
            return bool(self._in_hand or self._items) or self._ended

    def take(self) -> T | None:
        """The next item; None at the end. Raises what the reader raised."""
        if self._in_hand:
            return self._in_hand.popleft()
        with self._changed:
            while not self._items and not self._ended:
                self._changed.wait()
            if self._items:
                items, size = self._items.popleft()
                self._bytes -= size
                self._changed.notify_all()
                self._in_hand.extend(items)
                return self._in_hand.popleft()
            if self._error is not None:
                raise self._error
            return None

    def __iter__(self) -> Iterator[T]:
        while (item := self.take()) is not None:
            yield item

    def until(self, stopped: Callable[[], bool]) -> Iterator[T]:
        """Items until the end, or until `stopped` says so (asked every STOP_POLL_SECONDS while nothing comes)."""
        while not stopped():
            if not self._in_hand:
                with self._changed:
                    if not self._items and not self._ended:
                        self._changed.wait(STOP_POLL_SECONDS)
                        if not self._items and not self._ended:
                            continue
            item = self.take()
            if item is None:
                return
            yield item
