"""A world in which the engine runs without sockets, threads or real time: one loop, one clock, one seeded source of chance.

The engine's threads are greenlets: one runs at a time, and another may run only where the running one waits (a transport, a condition,
a lock, a sleep). The servers are asyncio tasks on the same loop. Time jumps to the next thing that happens. So one seed is one run,
and the same seed is the same run.

Owns: the clock, the tasks, the death of the process (`Killed`, raised at a chosen step in every task: from then on nothing that the
process does has an effect). What takes the place of time, threading and others in the engine's modules is in instead.py.
Must not: know IMAP or the engine.
"""
from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Callable
from contextlib import suppress
from typing import Any, TypeVar

from greenlet import greenlet

Result = TypeVar("Result")

EPOCH = 1_790_000_000.0   # wall clock at the start of every world
STEPS_AT_MOST = 400_000   # of one run of the mover: more is a hot loop


class Killed(BaseException):
    """SIGKILL: raised in every task of the process."""


class Deadlock(AssertionError):
    """Somebody waits for something that can never happen."""


class _Selector:
    """What the loop waits with: nothing to wait for but the time of the next timer."""

    def __init__(self, loop: VirtualLoop) -> None:
        self._loop = loop

    def select(self, timeout: float | None) -> list[Any]:
        if timeout is None:
            raise Deadlock("nothing is ready and nothing will be")
        self._loop.now += max(0.0, timeout)
        return []

    def close(self) -> None:
        pass


class VirtualLoop(asyncio.BaseEventLoop):
    def __init__(self) -> None:
        super().__init__()
        self.now = 1000.0
        self._clock_resolution = 1e-7
        self._selector = _Selector(self)

    def time(self) -> float:
        return self.now

    def _process_events(self, events: list[Any]) -> None:
        pass

    def _write_to_self(self) -> None:
        pass


class Waiter:
    """A task that waits; `woken` tells a wake-up from a time-out."""

    __slots__ = ("due", "handle", "task", "woken")

    def __init__(self, task: greenlet) -> None:
        self.task = task
        self.woken = False
        self.due = False
        self.handle: asyncio.TimerHandle | None = None


class World:
    def __init__(self, seed: int | str) -> None:
        self.rng = random.Random(seed)
        self.loop = VirtualLoop()
        self.steps = 0
        self.kill_at: int | None = None
        self.killed = False
        self.wall_offset = EPOCH - self.loop.now
        self._trace = hashlib.sha256()
        self.traced = 0
        self._tasks: list[greenlet] = []
        self.on_kill: list[Callable[[], None]] = []
        self.pollable: dict[int, Any] = {}   # fake descriptor -> transport
        self.failures: list[BaseException] = []
        self.loop.set_exception_handler(self._failed)

    # -- what happened, in order ----------------------------------------------------------------------------------------------

    def note(self, *what: object) -> None:
        """Goes into the fingerprint by which two runs of one seed are compared."""
        self.traced += 1
        self._trace.update(repr((round(self.loop.now, 6), what)).encode())

    def fingerprint(self) -> str:
        return self._trace.hexdigest()

    def _failed(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        self.failures.append(context.get("exception") or AssertionError(context.get("message")))

    # -- time -------------------------------------------------------------------------------------------------------------------

    def monotonic(self) -> float:
        return self.loop.now

    def wall(self) -> float:
        return self.loop.now + self.wall_offset

    def sleep(self, seconds: float) -> None:
        self.wait(self.waiter(), max(0.0, seconds))

    # -- tasks ------------------------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """A place where the process may die."""
        if self.killed:
            raise Killed
        self.steps += 1
        if self.steps > STEPS_AT_MOST:
            raise AssertionError(f"a hot loop: more than {STEPS_AT_MOST} steps in one run")
        if self.steps == self.kill_at:
            self.die()
            raise Killed

    def die(self) -> None:
        if self.killed:
            return
        self.killed = True
        self.note("killed", self.steps)
        for act in self.on_kill:
            act()
        self.loop.call_soon(self._unwind)

    def _unwind(self) -> None:
        for _ in range(50):
            alive = [task for task in self._tasks if not task.dead and task is not greenlet.getcurrent()]
            if not alive:
                return
            for task in alive:
                if not task.dead:
                    with suppress(Killed):  # from one that had not begun
                        task.throw(Killed)
        raise AssertionError("a task outlives its process")

    def waiter(self) -> Waiter:
        return Waiter(greenlet.getcurrent())

    def wait(self, waiter: Waiter, seconds: float | None = None) -> bool:
        """Until `wake` or for so many seconds; whether it was woken."""
        self.step()
        if not waiter.due:
            waiter.handle = self.loop.call_later(seconds, self._resume, waiter) if seconds is not None else None
        hub = greenlet.getcurrent().parent
        assert hub is not None, "only a task of the simulated process may wait"
        hub.switch()
        if self.killed:
            raise Killed
        return waiter.woken

    def wake(self, waiter: Waiter) -> None:
        """The task goes on soon: who goes first when several may is chance."""
        if waiter.due:
            return
        waiter.due = waiter.woken = True
        if waiter.handle is not None:
            waiter.handle.cancel()
        waiter.handle = self.loop.call_later(self.rng.choice((1e-5, 1e-5, 2e-5, 3e-5, 1e-4, 1e-3)) * (1 + self.rng.random()),
                                             self._resume, waiter)

    def _resume(self, waiter: Waiter) -> None:
        waiter.due = True
        if not waiter.task.dead:
            waiter.task.switch()

    def spawn(self, work: Callable[[], None]) -> greenlet:
        """A task of the process, started soon. What it raises is its own affair, but for a failure of the world itself."""
        parent = greenlet.getcurrent().parent or greenlet.getcurrent()
        task = greenlet(work, parent)
        self._tasks.append(task)
        waiter = Waiter(task)
        self.wake(waiter)
        return task

    def run_process(self, work: Callable[[], Result], *, kill_at: int | None = None) -> Result:
        """Runs `work` as the main thread of a new process to its end; raises what it raised, Killed when it died."""
        self.steps, self.kill_at, self.killed, self._tasks = 0, kill_at, False, []
        done = self.loop.create_future()

        def main() -> None:
            try:
                result = work()
            except BaseException as error:
                done.set_result((None, error))
            else:
                done.set_result((result, None))

        self.loop.call_soon(lambda: self.spawn(main))
        result, error = self.loop.run_until_complete(done)
        self.loop.run_until_complete(asyncio.sleep(0.01))
        died, left = self.killed, [task for task in self._tasks if not task.dead]
        if left:
            self.killed = True
            self._unwind()
        if self.failures:
            raise AssertionError(f"a thread failed: {self.failures[0]}") from self.failures[0]
        if died:
            raise Killed
        if error is not None:
            raise error
        assert not left, "a thread outlives the run"
        return result

    def pass_time(self, seconds: float) -> None:
        """Nobody of ours runs; servers do."""
        self.loop.run_until_complete(asyncio.sleep(seconds))

    def close(self) -> None:
        """Ends the servers. Safe also after a failure."""
        if self.loop.is_closed():
            return
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_until_complete(asyncio.sleep(1.0))
        self.loop.close()
