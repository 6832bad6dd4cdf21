"""The queue's own promises, on a real Redis: integers only, JSON, no secret, and a dead Redis told quickly."""
from __future__ import annotations

import datetime as dt
import json
import time
import zlib

import pytest
from redis import Redis
from redis.exceptions import RedisError
from rq import Queue
from rq.job import Job
from rq.serializers import JSONSerializer

from portal.models import Move, MoveState, now
from portal.queueing import QUEUE_CHECK, QUEUE_MOVE, WorkQueue
from portal.services.common import Actor
from portal.services.moves import start
from portal.store.db import Database
from tests.support.portal_app import NO_REDIS, PortalForTests
from tests.unit.portal.company import Company


def entries(redis_url: str, name: str) -> list[Job]:
    queue = Queue(name, connection=Redis.from_url(redis_url), serializer=JSONSerializer)
    return queue.jobs


def test_an_entry_names_a_job_and_one_row(redis_url: str) -> None:
    queue = WorkQueue(redis_url)
    queue.enqueue_check(7)
    queue.enqueue_slices([3, 4])
    (check,) = entries(redis_url, QUEUE_CHECK)
    assert (check.func_name, list(check.args), check.kwargs, check.description) == ("worker.run_check", [7], {}, "check 7")
    assert (check.timeout, check.result_ttl) == (-1, 0)
    assert [(job.func_name, list(job.args)) for job in entries(redis_url, QUEUE_MOVE)] == [
        ("worker.run_slice", [3]),
        ("worker.run_slice", [4]),
    ]
    assert (queue.waiting().moves, queue.waiting().checks) == ({3, 4}, {7})


def test_payloads_are_json(redis_url: str) -> None:
    WorkQueue(redis_url).enqueue_slice(3)
    (job,) = entries(redis_url, QUEUE_MOVE)
    raw = Redis.from_url(redis_url).hget(job.key, "data")
    assert isinstance(raw, bytes) and json.loads(zlib.decompress(raw))[-2:] == [[3], {}]


def test_the_same_mailbox_may_wait_twice(redis_url: str) -> None:
    """The slice that is ending and the next one exist side by side; the lease lets one run."""
    queue = WorkQueue(redis_url)
    queue.enqueue_slice(3)
    queue.enqueue_slice(3)
    assert len({job.id for job in entries(redis_url, QUEUE_MOVE)}) == 2 and queue.waiting().moves == {3}


def test_waiting_until_a_time_is_not_redis_business(redis_url: str) -> None:
    queue = WorkQueue(redis_url)
    queue.enqueue_slice(3, now() + dt.timedelta(seconds=30))
    assert queue.waiting().moves == set()
    queue.enqueue_slice(3, now() - dt.timedelta(seconds=1))
    assert queue.waiting().moves == {3}


@pytest.mark.parametrize("wrong", ["3", 3.0, None, True, {"id": 3}])
def test_nothing_but_integers_enters(redis_url: str, wrong: object) -> None:
    with pytest.raises(TypeError):
        WorkQueue(redis_url).enqueue_slices([wrong])  # type: ignore[list-item]
    assert Redis.from_url(redis_url).keys() == []


def test_a_missing_redis_is_told_at_once() -> None:
    started = time.monotonic()
    with pytest.raises(RedisError):
        WorkQueue(NO_REDIS).enqueue_slice(1)
    assert time.monotonic() - started < 3


def test_no_redis_at_all_and_the_start_still_stands(portal: PortalForTests) -> None:
    company = Company(portal)
    person = company.ready("li")
    move_id = person.move.id
    database = Database(portal.settings.database_url, queue=WorkQueue(NO_REDIS))
    session = database.open_session()
    move = session.get_one(Move, move_id)
    started = time.monotonic()
    assert start(session, Actor.person(person), move).state is MoveState.QUEUED
    assert time.monotonic() - started < 5
    session.close()
    database.close()
    company.close()


def test_what_a_service_starts_arrives(portal_with_queue: PortalForTests, redis_url: str) -> None:
    company = Company(portal_with_queue)
    company.session.info["queue"] = portal_with_queue.queue
    person = company.ready("li")
    start(company.session, Actor.person(person), person.move)
    assert portal_with_queue.queue.waiting().moves == {person.move.id}
    dump = b"".join(Redis.from_url(redis_url).dump(key) or b"" for key in Redis.from_url(redis_url).scan_iter())
    assert b"right-code" not in dump and b"old.example" not in dump
    company.close()
