"""Servers and connections of a simulated world: the provider simulator's sessions at one end, the engine's Transport at the other.

A connection has a latency each way, a small send window, pieces of any length, and may be cut after any octet. What the client had
sent when it died or was cut off still arrives and is executed, perhaps much later (facts: reliability, finding 1).
Must not: know what a scenario wants; a command's meaning is the simulator's (tests/support).
"""
from __future__ import annotations

import asyncio
import re
import select
from collections import Counter
from dataclasses import dataclass

from engine.causes import Side
from tests.support.provider_simulator import ProviderSimulator
from tests.support.simulator_commands import Command
from tests.support.simulator_mail import Folder, MailAccount
from tests.support.simulator_profiles import Profile
from tests.support.simulator_session import SimulatedSession
from tests.unit.simulation.world import Waiter, World

SEND_WINDOW = 16 * 1024          # octets on their way to the server
HEARD_WITHIN = 0.01              # seconds from when a word to wait was read off the network until every thread has understood it
_BACK_OFF = re.compile(rb"(?m)^\S+ (OK|NO|BAD|BYE) [^\r\n]*Suggested Backoff Time: (\d+) milliseconds[^\r\n]*\r\n")
_COMMAND = re.compile(rb"\S{2,20} ([A-Z]+)[ \r]")
_KINDS = {b"OK": "notice", b"BYE": "goodbye"}


@dataclass
class Manners:
    """How slow a server and the way to it are. Seconds."""

    latency: float = 0.01
    service: float = 0.0           # of any command
    append_service: float = 0.0    # … of an APPEND, in addition
    stall_when_alone: float = 0.0  # once, before what a client that is gone had sent is executed


class _Session(SimulatedSession):
    sim: SimulatedServer
    writer: _Writer  # type: ignore[assignment]

    async def meet_faults_and_execute(self, command: Command) -> None:
        manners = self.sim.manners
        wait = manners.service + (manners.append_service if command.verb == "APPEND" else 0.0)
        if self.writer.abandoned and manners.stall_when_alone and not self.writer.stalled:
            self.writer.stalled = True
            wait += manners.stall_when_alone
        if wait:
            await asyncio.sleep(wait * (0.5 + self.sim.world.rng.random()))
        if self.writer.stalled and command.verb == "APPEND":
            self.sim.happened["late execution"] += 1
        self.sim.world.note(self.sim.host, self.number, command.verb, len(command.line), [len(x) for x in command.literals])
        before = [f for f in self.sim.faults if f.times]
        times = [f.times for f in before]
        try:
            await super().meet_faults_and_execute(command)
        finally:
            for fault, left in zip(before, times, strict=True):
                if fault.times != left:
                    self.sim.happened[f"{fault.action.value} at {self.sim.host}"] += 1


class _Loose:
    """Stands for a certificate authority where no connection is encrypted."""

    pem = ""

    def issue(self, *names: str) -> None:
        return None


class SimulatedServer(ProviderSimulator):
    def __init__(self, world: World, host: str, side: Side, profile: str | Profile) -> None:
        self.world, self.side = world, side
        self.manners = Manners()
        self.happened: Counter[str] = Counter()
        self.back_off_until = -1.0
        self.back_off_kind = ""
        self.pairs = 1               # connections that the mover may have here at once
        self.told_to_wait: Transport | None = None
        self.told_at = -1.0
        self.sent_in_back_off: list[tuple[str, bytes]] = []   # how the wait had been stated, and what was sent all the same
        self.sessions: set[SimulatedSession] = set()
        self.links: list[Link] = []
        self.cut_next: tuple[str, int] | None = None    # ("out" | "in", octets): the next connection is cut there
        self._validity = 1_700_000_000
        super().__init__(profile, signed_by=_Loose())  # type: ignore[arg-type]
        self.host = host

    def add_folder(self, name: str, *attributes: str, box: MailAccount | None = None) -> Folder:
        """A folder of a name that was used before has another UIDVALIDITY (RFC 3501 §2.3.1.1)."""
        folder = super().add_folder(name, *attributes, box=box)
        self._validity += 1
        folder.uidvalidity = self.profile.uidvalidity or self._validity
        return folder

    def renumber(self, folder: Folder) -> None:
        """As a server does that rebuilt a folder: another UIDVALIDITY, and UIDs from 1."""
        self._validity += 1
        folder.uidvalidity = self._validity
        folder.uidnext = 1
        for message in folder.messages:
            message.uid = folder.uidnext
            folder.uidnext += folder.uid_step

    def connect(self) -> Transport:
        link = Link(self.world, self)
        self.links.append(link)
        return link.transport

    async def serve(self, session: SimulatedSession) -> None:
        self.connections += 1
        self.sessions.add(session)
        self.open_now += 1
        self.open_peak = max(self.open_peak, self.open_now)
        try:
            await session.serve()
        except (ConnectionError, asyncio.IncompleteReadError, asyncio.CancelledError):
            pass
        finally:
            self.open_now -= 1
            self.sessions.discard(session)
            session.abort()

    def disconnect_all(self) -> None:
        for session in list(self.sessions):
            session.abort()


class _Writer:
    """What a session writes to; stands for asyncio.StreamWriter and its transport."""

    def __init__(self, link: Link) -> None:
        self._link = link
        self.transport = self
        self.stalled = False

    @property
    def abandoned(self) -> bool:
        return self._link.transport.gone

    def write(self, data: bytes) -> None:
        self._link.to_client(bytes(data))

    async def drain(self) -> None:
        return None

    def close(self) -> None:
        self._link.to_client(None)

    async def wait_closed(self) -> None:
        return None

    def abort(self) -> None:
        self._link.to_client(None)
        self._link.server_gone = True


class Link:
    """One connection."""

    def __init__(self, world: World, server: SimulatedServer) -> None:
        self.world, self.server = world, server
        self.reader = asyncio.StreamReader(limit=1 << 20, loop=world.loop)
        self.writer = _Writer(self)
        self.transport = Transport(self)
        self.server_gone = False
        self.closed_in = False
        self._at_server = self._at_client = world.loop.time()
        self.left_out, self.left_in = (server.cut_next[1] if server.cut_next and server.cut_next[0] == way else None
                                       for way in ("out", "in"))
        self.cut = server.cut_next is not None
        server.cut_next = None
        session = _Session(server, self.reader, self.writer, server.connections + 1)  # type: ignore[arg-type]
        self.task = world.loop.create_task(server.serve(session))

    def _when(self, last: float) -> float:
        latency = self.server.manners.latency
        return max(self.world.loop.time() + latency * (0.8 + 0.4 * self.world.rng.random()), last + 1e-6)

    def to_server(self, data: bytes) -> None:
        if self.left_out is not None:
            data, self.left_out = data[:self.left_out], self.left_out - len(data)
        if data:
            self._at_server = self._when(self._at_server)
            self.world.loop.call_at(self._at_server, self._arrive, data)
        if self.left_out is not None and self.left_out <= 0:
            self.broken()

    def _arrive(self, data: bytes) -> None:
        self.transport.in_flight -= len(data)
        self.transport.wake()
        if not self.reader.at_eof() and not getattr(self.reader, "_eof", False):
            self.reader.feed_data(data)

    def end_of_client(self) -> None:
        """The client's half is closed: what was sent before still arrives."""
        self._at_server = self._when(self._at_server)
        self.world.loop.call_at(self._at_server, self.reader.feed_eof)

    def to_client(self, data: bytes | None) -> None:
        if self.closed_in:
            return
        if data is not None and self.left_in is not None:
            data, self.left_in = data[:self.left_in], self.left_in - len(data)
        self._at_client = self._when(self._at_client)
        self.closed_in = data is None
        self.world.loop.call_at(self._at_client, self.transport.arrived, data)
        if self.left_in is not None and self.left_in <= 0:
            self.broken()

    def broken(self) -> None:
        """Somewhere between the two the connection is lost: neither hears of the other again."""
        self.server.happened[f"cut of the connection to {self.server.host}"] += 1
        self.left_in = self.left_out = None
        self.closed_in = True
        self.world.loop.call_at(self._when(self._at_client), self.transport.reset)
        self.transport.gone = True
        self.end_of_client()


class Transport:
    """The engine's end: what engine/net/stream.Transport asks for."""

    def __init__(self, link: Link) -> None:
        self._link, self._world = link, link.world
        self._buffer = bytearray()
        self._eof = self._reset = self._closed = False
        self.gone = False            # dead or cut: nobody listens to the server any more
        self.in_flight = 0
        self.waiters: list[Waiter] = []
        self._seen, self._said = bytearray(), b""
        self._number = 1_000_000 + len(self._world.pollable)
        self._world.pollable[self._number] = self

    def ready(self, events: int) -> bool:
        readable = bool(self._buffer) or self._eof or self._reset or self._closed
        return bool(events & select.POLLIN and readable) or bool(events & select.POLLOUT and (self._writable() or self._reset))

    def _writable(self) -> bool:
        return self.in_flight < SEND_WINDOW or self.gone

    def lost(self) -> bool:
        return self._reset or self._eof

    def wake(self) -> None:
        waiters, self.waiters = self.waiters, []
        for waiter in waiters:
            self._world.wake(waiter)

    def arrived(self, data: bytes | None) -> None:
        if data is None:
            self._eof = True
        else:
            self._buffer += data
        self.wake()

    def reset(self) -> None:
        self._reset = True
        self.wake()

    # -- what the engine calls --------------------------------------------------------------------------------------------------

    def recv(self, size: int, /) -> bytes:
        self._world.step()
        if self._closed:
            raise OSError(9, "Bad file descriptor")
        if self._buffer:
            count = min(size, len(self._buffer))
            if self._world.rng.random() < 0.2:
                count = self._world.rng.randint(1, count)
            data = bytes(self._buffer[:count])
            del self._buffer[:count]
            self._look_for_back_off(data)
            return data
        if self._reset:
            raise ConnectionResetError(104, "Connection reset by peer")
        if self._eof:
            return b""
        raise BlockingIOError

    def send(self, data: bytes | memoryview, /) -> int:
        self._world.step()
        if self._closed:
            raise OSError(9, "Bad file descriptor")
        if self._reset or self._eof:
            raise BrokenPipeError(32, "Broken pipe")
        if not self._writable():
            raise BlockingIOError
        piece = bytes(data[:max(1, SEND_WINDOW - self.in_flight)])
        if len(piece) > 1 and self._world.rng.random() < 0.1:
            piece = piece[:self._world.rng.randint(1, len(piece))]
        self._keeps_back_off(piece)
        self.in_flight += len(piece)
        self._link.to_server(piece)
        return len(piece)

    def fileno(self) -> int:
        return -1 if self._closed else self._number

    def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        if not self.gone:
            self.gone = True
            self._link.end_of_client()
        self.wake()

    # -- back-offs ----------------------------------------------------------------------------------------------------------------

    def _look_for_back_off(self, data: bytes) -> None:
        """A stated wait counts from when its line was read."""
        self._seen += data
        server = self._link.server
        for found in _BACK_OFF.finditer(bytes(self._seen)):
            until = self._world.monotonic() + int(found[2]) / 1000
            if until > server.back_off_until:
                server.back_off_until, server.told_to_wait, server.told_at = until, self, self._world.monotonic()
                server.back_off_kind = _KINDS.get(found[1], "refusal")
        self._seen = self._seen[self._seen.rfind(b"\n") + 1:]

    def _keeps_back_off(self, piece: bytes) -> None:
        """A farewell may be said, and the octets of a message that the server asked for before."""
        server = self._link.server
        self._said = self._said[self._said.rfind(b"\n") + 1:] + piece
        command = _COMMAND.match(self._said)
        if self._world.monotonic() >= server.back_off_until - 1e-6 or command is None or command[1] == b"LOGOUT":
            return
        if self._world.monotonic() - server.told_at < HEARD_WITHIN:
            return
        told = server.told_to_wait
        after = ""
        if told is not self and told is not None:
            after = " on another connection" if server.pairs > 1 else " before the connection broke" if told.lost() else ""
        elif not server.profile.offers("UIDPLUS"):
            after = " without UIDPLUS"
        server.sent_in_back_off.append((server.back_off_kind + after, self._said[:80]))
