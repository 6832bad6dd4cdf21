"""What takes the place of standard modules in the engine while it runs in a simulated world: time, threading, select, random, secrets,
and of os and socket what a thread is woken with.

Must not: know the engine's own names.
"""
from __future__ import annotations

import os
import random
import secrets
import select
import socket
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import is_dataclass
from functools import partial
from types import ModuleType, SimpleNamespace
from typing import Any

from tests.unit.simulation.threads import Threads
from tests.unit.simulation.world import World


def substitutes(world: World) -> dict[ModuleType, Any]:
    return {
        time: SimpleNamespace(monotonic=world.monotonic, time=world.wall, sleep=world.sleep, perf_counter=world.monotonic,
                              process_time=time.process_time, monotonic_ns=lambda: int(world.monotonic() * 1e9),
                              strftime=time.strftime, gmtime=time.gmtime, localtime=time.localtime),
        threading: Threads(world),
        select: SimpleNamespace(poll=lambda: _Poll(world), POLLIN=select.POLLIN, POLLOUT=select.POLLOUT, POLLERR=select.POLLERR,
                                POLLHUP=select.POLLHUP),
        random: world.rng,
        secrets: SimpleNamespace(token_hex=lambda octets=16: world.rng.randbytes(octets).hex(), token_bytes=world.rng.randbytes,
                                 choice=world.rng.choice, randbelow=world.rng.randrange),
        os: _Instead(os, dup=lambda descriptor: descriptor if descriptor in world.pollable else os.dup(descriptor)),
        socket: _Instead(socket, socket=lambda *a, fileno=None, **k: _Waker(world.pollable[fileno]) if fileno in world.pollable
                         else socket.socket(*a, fileno=fileno, **k)),
    }


@contextmanager
def instead_of(world: World, packages: tuple[str, ...], further: dict[Any, Any] | None = None) -> Iterator[None]:
    """In every loaded module of these packages the standard modules (and the `further` objects) are ours while this lasts."""
    standard = substitutes(world)
    ours = {id(module): stand_in for module, stand_in in standard.items()}
    ours |= {id(theirs): stand_in for theirs, stand_in in (further or {}).items()}
    for name in ("Lock", "RLock", "Condition", "Event", "Semaphore", "BoundedSemaphore"):
        ours[id(getattr(threading, name))] = getattr(standard[threading], name)
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
