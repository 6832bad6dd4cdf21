"""A scripted IMAP server in a thread that behaves like one of the providers, and misbehaves when told to.

    with ProviderSimulator("netease", tls=True) as server:
        box = server.account()                                 # user@example.com / secret
        box["INBOX"].put(message("one"), message("two"), flags=("\\\\Seen",))
        server.faults.append(Fault("APPEND", Action.LATE, seconds=1.5))
        ... open server.login_for(box) over server.route ...
        assert server.count("LOGIN") == 1 and server.bodies_opened == 0 and not server.source_changes()

Owns: listening on an ephemeral port of 127.0.0.1, counting and recording every command (a line shows secrets to the test, never
in its repr). Must not: be lenient: what the profile's server refuses is refused, and what a mover must not do to a source is recorded.
What it says is in simulator_session.py and the files of verbs named there (odd wordings in simulator_oddities.py), profiles in
simulator_profiles.py, mail in simulator_mail.py, faults in simulator_faults.py.
"""
from __future__ import annotations

import asyncio
import contextlib
import ipaddress
import ssl
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import TracebackType

from engine.endpoint import Account, Endpoint, Route, Secret, Security
from tests.support.certificates import Authority, authority
from tests.support.simulator_faults import Action, AppendRefusal, Fault
from tests.support.simulator_mail import BodyFault, Folder, Form, MailAccount, Message, message
from tests.support.simulator_oddities import Oddity
from tests.support.simulator_profiles import PROFILES, Profile, with_capabilities
from tests.support.simulator_session import SimulatedSession

__all__ = ["LOOPBACK", "PROFILES", "Action", "AppendRefusal", "BodyFault", "Fault", "Folder", "Form", "MailAccount", "Message", "Profile",
           "ProviderSimulator", "Received", "message", "with_capabilities"]

LOOPBACK = Route(allowed_networks=(ipaddress.IPv4Network("127.0.0.0/8"),))
CHANGES_A_MAILBOX = frozenset({"SELECT", "STORE", "UID STORE", "COPY", "UID COPY", "MOVE", "UID MOVE", "EXPUNGE", "UID EXPUNGE",
                               "DELETE", "RENAME", "CREATE", "APPEND", "SUBSCRIBE", "UNSUBSCRIBE", "SETACL", "SETMETADATA"})
PATIENCE = 10.0  # seconds that wait_until waits


@dataclass(frozen=True)
class Received:
    """One command as it came, literals left out. The line holds the secret of a LOGIN: it is not in the repr."""

    connection: int
    verb: str
    line: bytes = field(repr=False)
    at: float  # monotonic seconds


class ProviderSimulator:
    """`accounts` maps logins to secrets. `certificate_names` and `signed_by` make a certificate to be refused."""

    def __init__(self, profile: str | Profile = "plain", *, tls: bool = False, accounts: dict[str, str] | None = None,
                 certificate_names: tuple[str, ...] = (), signed_by: Authority | None = None) -> None:
        self.profile = PROFILES[profile] if isinstance(profile, str) else profile
        self.faults: list[Fault] = []
        self.append_refusals: list[AppendRefusal] = []
        self.oddity: Oddity | None = None    # how FETCH responses are put on the wire instead of as the grammar has it
        self.commands: list[Received] = []
        self.impatient: list[Received] = []  # commands within a back-off that the server had demanded
        self.bodies_opened = 0
        self.connections = 0
        self.open_now = 0
        self.open_peak = 0
        self.accounts: dict[str, MailAccount] = {}
        self.backoff_until: dict[str, float] = {}
        self.host, self.port, self.tls = "127.0.0.1", 0, tls
        self.ca_pem = authority().pem
        self._certificate = (signed_by or authority()).issue(*certificate_names)
        self._changed = threading.Condition()
        self._ready = threading.Event()
        for login, secret in (accounts or {"user@example.com": "secret"}).items():
            self.add_account(login, secret)

    # ---- the test's side

    def add_account(self, login: str, secret: str) -> MailAccount:
        box = MailAccount(login, secret)
        self.accounts[login] = box
        for name, attributes in self.profile.folders:
            self.add_folder(name, *attributes, box=box)
        return box

    def add_folder(self, name: str, *attributes: str, box: MailAccount | None = None) -> Folder:
        box = box or self.account()
        validity = self.profile.uidvalidity or 1_700_000_001 + len(box.folders)
        folder = Folder(name, attributes, validity, self.profile.first_uid, self.profile.uid_step,
                        selectable="\\noselect" not in " ".join(attributes).lower())
        box.folders[name] = folder
        return folder

    def account(self, login: str | None = None) -> MailAccount:
        return self.accounts[login] if login else next(iter(self.accounts.values()))

    @property
    def endpoint(self) -> Endpoint:
        return Endpoint(self.host, self.port, Security.TLS if self.tls else Security.PLAIN, ca_pem=self.ca_pem)

    @property
    def route(self) -> Route:
        return LOOPBACK

    def login_for(self, box: MailAccount | None = None, *, secret: str | None = None, security: Security | None = None) -> Account:
        """What the engine opens: the account with its secret, or with another one."""
        box = box or self.account()
        endpoint = replace(self.endpoint, security=security) if security else self.endpoint
        return Account(endpoint, box.login, Secret(box.secret if secret is None else secret))

    def count(self, verb: str) -> int:
        return sum(1 for command in list(self.commands) if command.verb == verb)

    def counts(self) -> Counter[str]:
        return Counter(command.verb for command in list(self.commands))

    def lines(self, verb: str) -> list[bytes]:
        return [command.line for command in list(self.commands) if command.verb == verb]

    def source_changes(self) -> list[Received]:
        """Commands that a source must never see: anything that changes a mailbox, and FETCH that sets \\Seen."""
        return [command for command in list(self.commands) if command.verb in CHANGES_A_MAILBOX or
                ("FETCH" in command.verb and (b"BODY[" in command.line.upper() or b" RFC822 " in command.line.upper() + b" "))]

    def wait_until(self, condition: Callable[[ProviderSimulator], bool], seconds: float = PATIENCE) -> None:
        """Returns as soon as the condition holds (looked at after every command and change of connections)."""
        with self._changed:
            if not self._changed.wait_for(lambda: condition(self), seconds):
                raise AssertionError(f"waited {seconds} s in vain; commands so far: {self.counts()}")

    # ---- life

    def __enter__(self) -> ProviderSimulator:
        self._thread = threading.Thread(target=lambda: asyncio.run(self._serve()), name="simulator", daemon=True)
        self._thread.start()
        if not self._ready.wait(PATIENCE):
            raise AssertionError("the simulator did not start")
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(PATIENCE)

    def disconnect_all(self) -> None:
        """Cuts every connection as a crashing server does."""
        def cut() -> None:
            for session in list(self._sessions):
                session.abort()

        self._loop.call_soon_threadsafe(cut)

    async def _serve(self) -> None:
        self._loop, self._stop = asyncio.get_running_loop(), asyncio.Event()
        self._sessions: set[SimulatedSession] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        context = self.tls_context() if self.tls else None
        server = await asyncio.start_server(self._connected, self.host, 0, limit=1 << 20, ssl=context)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._stop.wait()
        server.close()
        for session in list(self._sessions):
            session.abort()
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        self.connections += 1
        session = SimulatedSession(self, reader, writer, self.connections)
        self._sessions.add(session)
        self.open_now += 1
        self.open_peak = max(self.open_peak, self.open_now)
        try:
            with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError, ssl.SSLError, asyncio.CancelledError):
                await session.serve()
        finally:
            self.open_now -= 1
            self._sessions.discard(session)
            self._tasks.discard(task)
            session.abort()
            self.changed()

    def tls_context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        with tempfile.TemporaryDirectory() as directory:
            context.load_cert_chain(*self._certificate.write(Path(directory)))
        return context

    # ---- the sessions' side

    def changed(self) -> None:
        with self._changed:
            self._changed.notify_all()

    def record(self, connection: int, verb: str, line: bytes, login: str | None) -> None:
        received = Received(connection, verb, line, time.monotonic())
        self.commands.append(received)
        if login and received.at < self.backoff_until.get(login, 0.0):
            self.impatient.append(received)
        self.changed()

    def fault_for(self, verb: str, line: bytes, *, literal: bool = False) -> Fault | None:
        """The first fault that this command meets; those that cut a literal are asked for while it arrives."""
        return next((f for f in self.faults if (f.action is Action.CUT_LITERAL) == literal and f.matches(verb, line)), None)
