"""The way from a row in the database to a worker's hands.

Owns: the names of the queues and jobs, and what a queue entry may hold: integers. Must not: decide anything, import a worker.
Always: JSON, never pickle; Redis may be wiped or down at any time, so every caller treats an entry as a hint about a row, and the
reconciler puts back what is missing. Waiting until a time is a column (`moves.not_before`), never an entry in Redis.
"""
from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from rq import Queue
from rq.serializers import JSONSerializer

from portal.models import now

QUEUE_MOVE = "move"
QUEUE_CHECK = "check"
RUN_CHECK = "worker.run_check"
RUN_SLICE = "worker.run_slice"

CONNECT_SECONDS = 1.0  # a person is waiting for the page
ANSWER_SECONDS = 3.0
KEEP_FAILED_SECONDS = 86_400


@dataclass(frozen=True)
class Waiting:
    """Ids of the rows that have an entry waiting in a queue."""

    moves: frozenset[int]
    checks: frozenset[int]


class WorkQueue:
    """Raises redis.exceptions.RedisError when Redis does not answer within a few seconds; nothing is retried here."""

    def __init__(self, redis_url: str) -> None:
        self.connection = Redis.from_url(redis_url, socket_connect_timeout=CONNECT_SECONDS, socket_timeout=ANSWER_SECONDS,
                                         retry=Retry(NoBackoff(), 0))

    def enqueue_check(self, check_id: int) -> None:
        self.enqueue_checks([check_id])

    def enqueue_slice(self, move_id: int, not_before: datetime | None = None) -> None:
        """With a `not_before` in the future nothing is put: the reconciler does it when the time has come."""
        if not_before is None or not_before <= now():
            self.enqueue_slices([move_id])

    def enqueue_checks(self, check_ids: Sequence[int]) -> None:
        self._put(QUEUE_CHECK, RUN_CHECK, "check", check_ids)

    def enqueue_slices(self, move_ids: Sequence[int]) -> None:
        self._put(QUEUE_MOVE, RUN_SLICE, "slice", move_ids)

    def waiting(self) -> Waiting:
        return Waiting(_rows(self._queue(QUEUE_MOVE).job_ids), _rows(self._queue(QUEUE_CHECK).job_ids))

    def alive(self) -> bool:
        return bool(self.connection.ping())

    def _queue(self, name: str) -> Queue:
        return Queue(name, connection=self.connection, serializer=JSONSerializer)

    def _put(self, queue: str, function: str, word: str, ids: Sequence[int]) -> None:
        """One round trip however many there are. An id of its own for every entry: a slice that is ending and the next one of
        the same mailbox exist side by side. job_timeout -1: RQ's alarm would strike anywhere; the engine has deadlines."""
        if not all(type(row) is int for row in ids):
            raise TypeError("a queue entry holds integers only")
        if ids:
            self._queue(queue).enqueue_many([
                Queue.prepare_data(function, args=(row,), timeout=-1, result_ttl=0, failure_ttl=KEEP_FAILED_SECONDS,
                                   description=f"{word} {row}", job_id=f"{word}-{row}-{secrets.token_hex(6)}")
                for row in ids])


def _rows(job_ids: Iterable[str]) -> frozenset[int]:
    parts = (job_id.split("-") for job_id in job_ids)
    return frozenset(int(part[1]) for part in parts if len(part) == 3 and part[1].isdigit())
