"""threading for the engine in a simulated world: the same names, one task at a time, switches only where somebody waits.

Must not: take a shortcut that the real module does not have (a Condition must be held, a Lock is not reentrant).
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from types import SimpleNamespace, TracebackType
from typing import TYPE_CHECKING, Any

from greenlet import greenlet

from tests.unit.simulation.world import Killed

if TYPE_CHECKING:
    from tests.unit.simulation.world import Waiter, World


class Threads:
    """Stands where the module `threading` stands."""

    def __init__(self, world: World) -> None:
        self._world = world
        self._main = SimpleNamespace(name="MainThread", ident=1, daemon=False)

    def Thread(self, group: None = None, target: Callable[..., object] | None = None, name: str | None = None, args: Iterable[Any] = (),
               kwargs: Mapping[str, Any] | None = None, *, daemon: bool | None = None) -> _Thread:
        return _Thread(self._world, target, name or "thread", tuple(args), dict(kwargs or {}))

    def Lock(self) -> _Lock:
        return _Lock(self._world, reentrant=False)

    def RLock(self) -> _Lock:
        return _Lock(self._world, reentrant=True)

    def Condition(self, lock: _Lock | None = None) -> _Condition:
        return _Condition(self._world, lock or self.RLock())

    def Event(self) -> _Event:
        return _Event(self._world)

    def Semaphore(self, value: int = 1) -> _Semaphore:
        return _Semaphore(self._world, value)

    BoundedSemaphore = Semaphore

    def local(self) -> SimpleNamespace:
        return SimpleNamespace()

    def get_ident(self) -> int:
        return id(greenlet.getcurrent())

    def current_thread(self) -> SimpleNamespace:
        return self._main

    def main_thread(self) -> SimpleNamespace:
        return self._main


class _Thread:
    def __init__(self, world: World, target: Callable[..., object] | None, name: str, args: tuple[Any, ...],
                 kwargs: dict[str, Any]) -> None:
        self._world, self._target, self._args, self._kwargs = world, target, args, kwargs
        self.name = name
        self.daemon = True
        self._ended = False
        self._task: greenlet | None = None
        self._joining: list[Waiter] = []

    def start(self) -> None:
        assert self._task is None, "threads can only be started once"
        self._task = self._world.spawn(self._run)

    def _run(self) -> None:
        try:
            if self._target is not None:
                self._target(*self._args, **self._kwargs)
        except Killed:
            pass
        finally:
            self._ended = True
            for waiter in self._joining:
                self._world.wake(waiter)

    def is_alive(self) -> bool:
        return self._task is not None and not self._ended

    def join(self, timeout: float | None = None) -> None:
        deadline = None if timeout is None else self._world.monotonic() + timeout
        while not self._ended:
            left = None if deadline is None else deadline - self._world.monotonic()
            if left is not None and left <= 0:
                return
            waiter = self._world.waiter()
            self._joining.append(waiter)
            self._world.wait(waiter, left)


class _Lock:
    def __init__(self, world: World, *, reentrant: bool) -> None:
        self._world, self._reentrant = world, reentrant
        self._owner: greenlet | None = None
        self._count = 0
        self._waiting: list[Waiter] = []

    def acquire(self, blocking: bool = True, timeout: float = -1) -> bool:
        me = greenlet.getcurrent()
        deadline = self._world.monotonic() + timeout if timeout >= 0 else None
        while self._owner is not None and not (self._reentrant and self._owner is me):
            if not blocking or (deadline is not None and self._world.monotonic() >= deadline):
                return False
            waiter = self._world.waiter()
            self._waiting.append(waiter)
            self._world.wait(waiter, None if deadline is None else deadline - self._world.monotonic())
        self._owner = me
        self._count += 1
        return True

    def release(self) -> None:
        assert self._owner is greenlet.getcurrent() or (not self._reentrant and self._owner), "released by somebody else"
        self._count -= 1
        if not self._count:
            self._owner = None
            waiting, self._waiting = self._waiting, []
            for waiter in waiting:
                self._world.wake(waiter)

    def locked(self) -> bool:
        return self._owner is not None

    def held(self) -> bool:
        return self._owner is greenlet.getcurrent()

    def let_go(self) -> int:
        """Releases as often as it was taken, for a Condition's wait."""
        count, self._count = self._count, 1
        self.release()
        return count

    def take_back(self, count: int) -> None:
        self.acquire()
        self._count = count

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()


class _Condition:
    def __init__(self, world: World, lock: _Lock) -> None:
        self._world, self._lock = world, lock
        self._waiting: list[Waiter] = []
        self.acquire, self.release = lock.acquire, lock.release

    def __enter__(self) -> bool:
        return self._lock.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        if self._lock.held():  # not when it died while it waited
            self._lock.release()

    def wait(self, timeout: float | None = None) -> bool:
        assert self._lock.held(), "wait on a Condition that is not held"
        waiter = self._world.waiter()
        self._waiting.append(waiter)
        count = self._lock.let_go()
        try:
            return self._world.wait(waiter, timeout)
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)
            if not self._world.killed:
                self._lock.take_back(count)

    def wait_for(self, predicate: Callable[[], bool], timeout: float | None = None) -> bool:
        deadline = None if timeout is None else self._world.monotonic() + timeout
        while not (result := predicate()):
            left = None if deadline is None else deadline - self._world.monotonic()
            if left is not None and left <= 0:
                break
            self.wait(left)
        return result

    def notify(self, n: int = 1) -> None:
        assert self._lock.held(), "notify on a Condition that is not held"
        woken, self._waiting = self._waiting[:n], self._waiting[n:]
        for waiter in woken:
            self._world.wake(waiter)

    def notify_all(self) -> None:
        self.notify(len(self._waiting))


class _Event:
    def __init__(self, world: World) -> None:
        self._condition = _Condition(world, _Lock(world, reentrant=False))
        self._set = False

    def is_set(self) -> bool:
        return self._set

    def set(self) -> None:
        with self._condition:
            self._set = True
            self._condition.notify_all()

    def clear(self) -> None:
        self._set = False

    def wait(self, timeout: float | None = None) -> bool:
        with self._condition:
            return self._condition.wait_for(self.is_set, timeout)


class _Semaphore:
    def __init__(self, world: World, value: int) -> None:
        self._condition = _Condition(world, _Lock(world, reentrant=False))
        self._value = value

    def acquire(self, blocking: bool = True, timeout: float | None = None) -> bool:
        with self._condition:
            if not blocking and not self._value:
                return False
            if not self._condition.wait_for(lambda: self._value > 0, timeout):
                return False
            self._value -= 1
            return True

    def release(self, n: int = 1) -> None:
        with self._condition:
            self._value += n
            self._condition.notify(n)

    def __enter__(self) -> bool:
        return self.acquire()

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.release()
