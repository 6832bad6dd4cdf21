"""What passes between the reader's and the writer's thread: in which order, how much at once, and how each learns of the other's end."""
from __future__ import annotations

import threading
from collections.abc import Callable, Iterator

import pytest

from engine.transfer import queues
from engine.transfer.queues import Abandoned, ByteQueue

PATIENCE = 5.0


class Doing:
    """A thread that puts or takes, and what came of it."""

    def __init__(self, act: Callable[[], object]) -> None:
        self._act = act
        self.error: BaseException | None = None
        self.done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        try:
            self._act()
        except BaseException as error:  # told to the test
            self.error = error
        self.done.set()

    def waits(self) -> bool:
        return not self.done.wait(0.05)

    def ended(self) -> bool:
        return self.done.wait(PATIENCE)


@pytest.fixture
def queue() -> ByteQueue[str]:
    return ByteQueue(10)


def test_items_come_in_order_and_then_the_end(queue: ByteQueue[str]) -> None:
    queue.put("a", 1)
    queue.put_many(["b", "c"], 2)
    queue.put("d", 1)
    queue.end()
    assert [*queue] == ["a", "b", "c", "d"]
    assert (queue.take(), queue.take()) == (None, None)


@pytest.mark.parametrize("way", [lambda queue: list(queue), lambda queue: list(queue.until(lambda: False))])
def test_what_the_reader_met_comes_after_what_it_read(queue: ByteQueue[str], way: Callable[[ByteQueue[str]], list[str]]) -> None:
    queue.put_many(["a", "b"], 2)
    queue.end(OSError("lost"))
    assert [queue.take(), queue.take()] == ["a", "b"]
    with pytest.raises(OSError, match="lost"):
        way(queue)


@pytest.mark.parametrize(("queued", "size", "waits"), [([4], 6, False), ([4], 7, True), ([3, 3], 4, False), ([3, 3], 5, True),
                                                       ([], 99, False), ([0], 99, False), ([99], 1, True)])
def test_so_many_octets_are_queued_and_no_more(queue: ByteQueue[str], queued: list[int], size: int, waits: bool) -> None:
    for octets in queued:
        queue.put("before", octets)
    putting = Doing(lambda: queue.put("last", size))
    assert putting.waits() if waits else putting.ended()
    for _ in queued:
        assert queue.take() == "before"
    assert putting.ended() and putting.error is None
    assert queue.take() == "last"


def test_what_was_taken_makes_room_for_as_much_again(queue: ByteQueue[str]) -> None:
    for _ in range(5):
        queue.put("five", 5)
        queue.put("more", 5)
        putting = Doing(lambda: queue.put("waits", 5))
        assert putting.waits()
        assert queue.take() == "five"
        assert putting.ended()
        assert (queue.take(), queue.take()) == ("more", "waits")


def test_whoever_waits_to_put_is_told_that_nobody_takes(queue: ByteQueue[str]) -> None:
    queue.put("full", 10)
    assert queue.abandoned() is False
    putting = Doing(lambda: queue.put("waits", 1))
    assert putting.waits()
    queue.abandon()
    assert putting.ended() and isinstance(putting.error, Abandoned)
    assert queue.abandoned() and not queue.ready()
    with pytest.raises(Abandoned):
        queue.put("a", 1)


def test_what_is_abandoned_holds_nothing(queue: ByteQueue[str]) -> None:
    queue.put("full", 10)
    queue.abandon()
    queue.end()
    assert (queue.take(), queue._bytes) == (None, 0)


def test_ready_means_that_taking_need_not_wait(queue: ByteQueue[str]) -> None:
    assert queue.ready() is False
    queue.put_many(["a", "b"], 2)
    assert queue.ready() is True
    queue.take()
    assert queue.ready()  # in hand
    queue.take()
    assert not queue.ready()
    queue.end()
    assert queue.ready()


def test_a_taker_waits_for_what_comes_later(queue: ByteQueue[str]) -> None:
    taken: list[str | None] = []
    taking = Doing(lambda: taken.append(queue.take()))
    assert taking.waits()
    queue.put("late", 1)
    assert taking.ended() and taken == ["late"]
    taking = Doing(lambda: taken.append(queue.take()))
    assert taking.waits()
    queue.end()
    assert taking.ended() and taken == ["late", None]


def test_until_waits_for_what_comes_later_and_asks_now_and_then_whether_to_stop(queue: ByteQueue[str],
                                                                               monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "STOP_POLL_SECONDS", 0.005)
    stop, both = threading.Event(), threading.Event()
    taken: list[str] = []

    def take() -> None:
        for item in queue.until(stop.is_set):
            taken.append(item)
            if len(taken) == 2:
                both.set()

    taking = Doing(take)
    assert taking.waits()
    queue.put_many(["a", "b"], 2)
    assert both.wait(PATIENCE) and taking.waits()
    stop.set()
    assert taking.ended() and taken == ["a", "b"]


def test_until_stops_before_the_next_item_and_leaves_it(queue: ByteQueue[str]) -> None:
    queue.put_many(["a", "b", "c"], 3)
    taken: list[str] = []

    def two() -> Iterator[None]:
        for item in queue.until(lambda: len(taken) == 2):
            taken.append(item)
            yield

    assert len([*two()]) == 2
    assert (taken, queue.take()) == (["a", "b"], "c")


def test_until_takes_what_was_put_before_the_end(queue: ByteQueue[str]) -> None:
    queue.put("a", 1)
    queue.end()
    assert [*queue.until(lambda: False)] == ["a"]


def test_until_does_not_wait_for_what_is_there(queue: ByteQueue[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "STOP_POLL_SECONDS", 60.0)
    queue.put("a", 1)
    taken: list[str] = []
    taking = Doing(lambda: taken.append(next(queue.until(lambda: False))))
    assert taking.ended() and taken == ["a"]


def test_until_ends_with_what_ends_later(queue: ByteQueue[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(queues, "STOP_POLL_SECONDS", 60.0)  # it is woken, it does not poll
    taking = Doing(lambda: [*queue.until(lambda: False)])
    assert taking.waits()
    queue.end()
    assert taking.ended() and taking.error is None
