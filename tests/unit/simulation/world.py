"""A world in which the engine runs without sockets, threads or real time: one loop, one clock, one seeded source of chance.

The engine's threads are greenlets: one runs at a time, and another may run only where the running one waits (a transport, a condition,
a lock, a sleep). The servers are asyncio tasks on the same loop. Time jumps to the next thing that happens. So one seed is one run,
and the same seed is the same run.

Owns: the clock, the tasks, the death of the process (`Killed`, raised at a chosen step in every task: from then on nothing that the
process does has an effect), and what takes the place of time, threading, select, random and secrets in the engine's modules.
Must not: know IMAP or the engine's own names beyond those standard modules.
"""
from __future__ import annotations

import asyncio
import hashlib
import os
import random
import secrets
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import is_dataclass
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

from greenlet import greenlet

EPOCH = 1_790_000_000.0   # wall clock at the start of every world
STEPS_AT_MOST = 400_000   # of one run of the mover: more is a hot loop
DAY = 86_400.0


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


class _Waiter:
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

    def waiter(self) -> _Waiter:
        return _Waiter(greenlet.getcurrent())

    def wait(self, waiter: _Waiter, seconds: float | None = None) -> bool:
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

    def wake(self, waiter: _Waiter) -> None:
        """The task goes on soon: who goes first when several may is chance."""
        if waiter.due:
            return
        waiter.due = waiter.woken = True
        if waiter.handle is not None:
            waiter.handle.cancel()
        waiter.handle = self.loop.call_later(self.rng.choice((1e-5, 1e-5, 2e-5, 3e-5, 1e-4, 1e-3)) * (1 + self.rng.random()),
                                             self._resume, waiter)

    def _resume(self, waiter: _Waiter) -> None:
        waiter.due = True
        if not waiter.task.dead:
            waiter.task.switch()

    def spawn(self, work: Callable[[], None]) -> greenlet:
        """A task of the process, started soon. What it raises is its own affair, but for a failure of the world itself."""
        parent = greenlet.getcurrent().parent or greenlet.getcurrent()
        task = greenlet(work, parent)
        self._tasks.append(task)
        waiter = _Waiter(task)
        self.wake(waiter)
        return task

    def run_process(self, work: Callable[[], Any], *, kill_at: int | None = None) -> Any:
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

    # -- in place of the standard modules -----------------------------------------------------------------------------------------

    def substitutes(self) -> dict[ModuleType, Any]:
        from tests.unit.simulation.threads import Threads

        return {
            time: SimpleNamespace(monotonic=self.monotonic, time=self.wall, sleep=self.sleep, perf_counter=self.monotonic,
                                  process_time=time.process_time, monotonic_ns=lambda: int(self.monotonic() * 1e9),
                                  strftime=time.strftime, gmtime=time.gmtime, localtime=time.localtime),
            threading: Threads(self),
            select: SimpleNamespace(poll=lambda: _Poll(self), POLLIN=select.POLLIN, POLLOUT=select.POLLOUT, POLLERR=select.POLLERR,
                                    POLLHUP=select.POLLHUP),
            random: self.rng,
            secrets: SimpleNamespace(token_hex=lambda octets=16: self.rng.randbytes(octets).hex(), token_bytes=self.rng.randbytes,
                                     choice=self.rng.choice, randbelow=self.rng.randrange),
            os: _Instead(os, dup=lambda descriptor: descriptor if descriptor in self.pollable else os.dup(descriptor)),
            socket: _Instead(socket, socket=lambda *a, fileno=None, **k: _Waker(self.pollable[fileno]) if fileno in self.pollable
                             else socket.socket(*a, fileno=fileno, **k)),
        }

    @contextmanager
    def instead_of(self, packages: tuple[str, ...], further: dict[Any, Any] | None = None) -> Iterator[None]:
        """In every loaded module of these packages the standard modules (and the `further` objects) are ours while this lasts."""
        substitutes = self.substitutes()
        ours = {id(module): stand_in for module, stand_in in substitutes.items()}
        ours |= {id(theirs): stand_in for theirs, stand_in in (further or {}).items()}
        for name in ("Lock", "RLock", "Condition", "Event", "Semaphore", "BoundedSemaphore"):
            ours[id(getattr(threading, name))] = getattr(substitutes[threading], name)
        undo: list[Callable[[], object]] = []
        for name, module in list(sys.modules.items()):
            if module is None or not name.startswith(packages):
                continue
            for attribute, value in list(vars(module).items()):
                if id(value) in ours:
                    undo.append(partial(setattr, module, attribute, value))
                    setattr(module, attribute, ours[id(value)])
                elif is_dataclass(value) and isinstance(value, type) and value.__module__ == name:
                    # `field(default_factory=threading.Lock)` was looked up when the class was made, and lies in its __init__'s cells.
                    for cell in value.__init__.__closure__ or ():  # type: ignore[misc]
                        if id(cell.cell_contents) in ours:
                            undo.append(partial(setattr, cell, "cell_contents", cell.cell_contents))
                            cell.cell_contents = ours[id(cell.cell_contents)]
        try:
            yield
        finally:
            for act in undo:
                act()


class _Instead:
    """A module with some of its names replaced."""

    def __init__(self, module: ModuleType, **names: Any) -> None:
        self._module = module
        self.__dict__.update(names)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._module, name)


class _Waker:
    """A second descriptor of a transport, by which another thread wakes who waits on it."""

    def __init__(self, transport: Any) -> None:
        self._transport = transport

    def shutdown(self, how: int) -> None:
        self._transport.reset()

    def __enter__(self) -> _Waker:
        return self

    def __exit__(self, *_: object) -> None:
        pass


class _Poll:
    """select.poll over transports of this world."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._events: dict[int, int] = {}

    def register(self, descriptor: int, events: int = select.POLLIN | select.POLLOUT) -> None:
        self._events[descriptor] = events

    modify = register

    def unregister(self, descriptor: int) -> None:
        del self._events[descriptor]

    def poll(self, milliseconds: float | None = None) -> list[tuple[int, int]]:
        deadline = None if milliseconds is None else self._world.monotonic() + max(0.0, milliseconds) / 1000
        while True:
            ready = [(number, events) for number, events in self._events.items() if self._world.pollable[number].ready(events)]
            left = None if deadline is None else deadline - self._world.monotonic()
            if ready or (left is not None and left <= 0):
                return ready
            waiter = self._world.waiter()
            for number in self._events:
                self._world.pollable[number].waiters.append(waiter)
            self._world.wait(waiter, left)
