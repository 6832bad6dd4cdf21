"""What the reader hands to the writer: messages in the source's order, small ones several at a time, large ones while they are read.

Owns: the queue between the two, and when what was read is passed on. Must not: ask the server for anything.
Bounds: QUEUE_BYTES read and not yet taken, TOGETHER_BYTES gathered for it, STREAM_BUFFER of a message that is being read.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import NamedTuple

from engine.errors import EngineError
from engine.imap.append import Outgoing
from engine.imap.fetch import Body, Metadata
from engine.transfer.queues import Abandoned, ByteQueue
from engine.transfer.records import Listed

STREAM_OVER = 2 << 20            # a larger message travels chunk by chunk
STREAM_CHUNK = 256 * 1024
STREAM_BUFFER = 1 << 20          # octets of it between the two threads
QUEUE_BYTES = 6 << 20            # read and not yet appended
TOGETHER_BYTES = 256 * 1024      # handed over as one, at most …
TOGETHER_MESSAGES = 64           # … and at the latest before we would wait for the network
ITEM_BYTES = 512                 # what a message costs besides its octets


class Ready(NamedTuple):
    """A message on its way. With a `stream`, its content can be taken only once, while it is being read."""

    listed: Listed
    outgoing: Outgoing
    stream: ByteQueue[bytes] | None = None


class Unreadable(NamedTuple):
    listed: Listed
    error: EngineError


class Gone(NamedTuple):
    """Deleted or moved at the source since it was listed."""

    listed: Listed


Item = Ready | Unreadable | Gone


class Handing:
    """`as_break` says what a failure in the middle of a message means for whoever appends it."""

    def __init__(self, as_break: Callable[[BaseException], BaseException]) -> None:
        self._as_break = as_break
        self.queue: ByteQueue[Item] = ByteQueue(QUEUE_BYTES)
        self._out: list[Item] = []                  # read, to be handed over together
        self._out_bytes = 0
        self._stream: ByteQueue[bytes] | None = None

    def message(self, item: Listed, content: bytes) -> None:
        self.put(Ready(item, _outgoing(item.meta, len(content), content)), len(content))

    def put(self, item: Item, octets: int = 0) -> None:
        self._out.append(item)
        self._out_bytes += octets + ITEM_BYTES
        if self._out_bytes >= TOGETHER_BYTES or len(self._out) >= TOGETHER_MESSAGES:
            self.flush()

    def flush(self) -> None:
        if self._out:
            out, octets = self._out, self._out_bytes
            self._out, self._out_bytes = [], 0
            self.queue.put_many(out, octets)

    def pour(self, item: Listed, body: Body, end_of_body: Callable[[], None] | None = None) -> None:
        """A large message, while it is read. Its last piece is held back until `end_of_body` is sure that the message ended there."""
        stream = self._stream = ByteQueue(STREAM_BUFFER)
        self.flush()
        self.queue.put(Ready(item, _outgoing(item.meta, body.length, iter(stream)), stream), ITEM_BYTES)
        last = b""
        try:
            for chunk in body.chunks(STREAM_CHUNK):
                if last:
                    stream.put(last, len(last))
                last = chunk
            if end_of_body is not None:
                end_of_body()
            stream.put(last, len(last))
        except Abandoned:
            for _ in body.chunks():  # refused at the destination: the rest is read past
                pass
        except EngineError as error:
            stream.end(self._as_break(error))
            raise
        else:
            stream.end()

    def abandon(self) -> None:
        """Nobody takes any more: whoever waits to hand over gets Abandoned."""
        self.queue.abandon()
        if self._stream is not None:
            self._stream.abandon()


def _outgoing(meta: Metadata, size: int, content: bytes | Iterator[bytes]) -> Outgoing:
    return Outgoing(meta.uid, meta.flags, meta.internal_date, size, content)
