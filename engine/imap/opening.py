"""From an account to a logged-in connection: name, connect, TLS, greeting, capabilities, LOGIN exactly once, ID.

Round trips: what the greeting and LOGIN's OK tell of capabilities is not asked for (RFC 3501 §7.1); ID goes out with what follows.

Must not: send anything to a server that greets with PREAUTH or BYE (GHSA-jvxv-vphc-73rg); send a credential before TLS where the
endpoint demands it; try a login twice (providers count wrong ones: facts, providers §4); use SASL-IR or ENABLE with the Coremail
family (facts, engine §5.2); let a secret into an exception, also when the server echoes it.
Always: what was advertised before STARTTLS and before the login is forgotten (RFC 3501 §6.2.1).
"""
from __future__ import annotations

import base64
import time
from collections.abc import Callable

from engine.causes import Cause, Side, at_destination
from engine.endpoint import Account, Route, Security
from engine.errors import ConnectionBroken, EngineError, Refused, Throttled
from engine.imap.channel import Answer, Channel, Tagged, Timeouts
from engine.net import tls
from engine.net.dial import dial, pacing_key
from engine.net.stream import SILENT, Stream
from engine.pacing.pacer import OPEN, Gate
from engine.providers.catalogue import known, provider
from engine.providers.detect import by_greeting
from engine.providers.words import decode_reply
from engine.report.steps import Step, StepState
from engine.wire import encoder
from engine.wire.decoder import LINE_CAP, StatusText, split_untagged

OUR_ID = {"name": "Banjia", "version": "0.1", "vendor": "Banjia"}  # an honest name works at NetEase (facts, engine §5.2)
COREMAIL = "coremail"
_MAX_SECRET = 1024

OnStep = Callable[[Step, StepState], None]


class Opening:
    """One attempt. `open()` leaves `channel`, `greeting` and `capabilities` for the session."""

    def __init__(self, account: Account, route: Route, side: Side, on_step: OnStep | None, timeouts: Timeouts,
                 gate: Gate = OPEN) -> None:
        self.account = account
        self.endpoint = account.endpoint
        self.route = route
        self.side = side
        self.timeouts = timeouts
        self.gate = gate
        self.greeting = ""
        self.capabilities: frozenset[str] = frozenset()
        self.channel: Channel
        self._on_step = on_step
        self._step: Step | None = None
        self._stream: Stream | None = None
        self._dialled = 0.0

    def open(self) -> None:
        """Raises Refused, Throttled, ConnectionBroken or ProtocolError, with nothing left open."""
        try:
            self._credentials()
            self._connect()
            self._secure()
            self._log_in()
            self._end(StepState.OK)
        except EngineError as error:
            self._end(StepState.FAILED)
            raise self._told(error) from None
        except BaseException:
            self._end(StepState.FAILED)
            raise

    # -- steps -----------------------------------------------------------------------------------------------------------------

    def _begin(self, step: Step) -> None:
        self._end(StepState.OK)
        self._step = step
        if self._on_step is not None:
            self._on_step(step, StepState.RUNNING)

    def _end(self, state: StepState) -> None:
        step, self._step = self._step, None
        if state is StepState.FAILED and self._stream is not None:
            self._stream.close()
        if step is not None and self._on_step is not None:
            self._on_step(step, state)

    def _told(self, error: EngineError) -> EngineError:
        """The same failure, named for its side, without the secret where a server echoed it."""
        secret = self.account.secret.reveal()
        if len(secret) >= 4 and secret in error.server_text:
            error.server_text = error.server_text.replace(secret, "***")
        error.side = self.side
        if self.side is Side.DESTINATION:
            error.cause = at_destination(error.cause)
            error.causes = tuple(dict.fromkeys(at_destination(cause) for cause in error.causes))
        return error

    # -- name, connect, TLS, greeting --------------------------------------------------------------------------------------------

    def _credentials(self) -> None:
        """What cannot be written on the wire is refused before anything is sent."""
        secret = self.account.secret.reveal()
        if not secret:
            raise Refused(Cause.SECRET_MISSING, detail="no password was given")
        try:
            encoder.astring(secret, "password")
            if len(secret) > _MAX_SECRET:
                raise encoder.EncodeError("password is too long")
        except encoder.EncodeError as error:
            raise Refused(Cause.BAD_SECRET, detail=str(error)) from None
        try:
            encoder.astring(self.account.login, "login name")
        except encoder.EncodeError as error:
            raise Refused(Cause.X_NAME, detail=str(error)) from None

    def _connect(self) -> None:
        self._begin(Step.NAME)
        self._dialled = time.monotonic()
        transport = dial(self.endpoint.host, self.endpoint.port, self.route, timeout=self.timeouts.connect, side=self.side,
                         account=pacing_key(self.account), on_resolved=lambda: self._begin(Step.CONNECT))
        self._stream = Stream(transport, side=self.side, idle=self.timeouts.idle)
        self.channel = Channel(self._stream, side=self.side, timeouts=self.timeouts, gate=self.gate)

    def _secure(self) -> None:
        security = self.endpoint.security
        stream = self.channel.stream
        if security is Security.PLAIN:
            self._begin(Step.TLS)
            self._end(StepState.SKIPPED)
            self._begin(Step.LOGIN)
            self._greet()
            return
        self._begin(Step.TLS)
        stream.limit(self.timeouts.connect)
        if security is Security.TLS:
            tls.upgrade(stream, self.endpoint)
            self._begin(Step.LOGIN)
            self._greet()
            return
        self._greet()
        self._need_capabilities()
        if "STARTTLS" not in self.capabilities:
            raise Refused(Cause.TLS, detail="the server offers no encryption (STARTTLS), and we do not go on without")
        answer = self.channel.finish(self.channel.send(b"STARTTLS"), seconds=self.timeouts.connect)
        if answer.tagged.status != b"OK":
            raise Refused(Cause.TLS, server_text=decode_reply(answer.tagged.text.text), detail="the server refused STARTTLS")
        stream.limit(self.timeouts.connect)
        tls.upgrade(stream, self.endpoint)
        self.capabilities = frozenset()
        self._begin(Step.LOGIN)

    def _greet(self) -> None:
        """Reads the greeting. Nothing has been sent before it, and nothing is sent after one that is not OK."""
        stream = self.channel.stream
        stream.limit(self.timeouts.greeting)
        try:
            line = stream.read_line(LINE_CAP)
        except ConnectionBroken as error:
            from engine.providers.classify import classify_transport  # the rules are loaded when something went wrong
            from engine.providers.rules import Transport

            silent = error.detail == SILENT
            found = classify_transport(Transport.GREETING_TIMEOUT if silent else Transport.CLOSED_BEFORE_GREETING)
            raise ConnectionBroken(found.cause, causes=found.causes, detail=f"{error.detail} before it greeted",
                                   retry_after=found.retry_after) from None
        self.channel.rtt = time.monotonic() - self._dialled  # with the name's look-up, TLS and the greeting: a round trip is no longer
        self.greeting = decode_reply(line)
        if line.startswith(b"+OK"):
            raise Refused(Cause.DNS_CONNECT, server_text=self.greeting, detail="this is a POP3 port; IMAP is usually 993")
        self._recognise()
        split = split_untagged(line)
        if split is None or split[1] not in (b"OK", b"PREAUTH", b"BYE"):
            raise Refused(Cause.DNS_CONNECT, server_text=self.greeting, detail="this is no IMAP server")
        _, kind, text = split
        if kind == b"PREAUTH":
            raise Refused(Cause.TLS, server_text=self.greeting, detail="the server says that somebody is logged in already")
        if kind == b"BYE":
            bye = self.channel.said_bye(text)
            if bye.cause in (Cause.THROTTLED, Cause.TOO_MANY_CONNECTIONS, Cause.DESTINATION_BUSY) and bye.retry_after is not None:
                raise Throttled(bye.cause, server_text=bye.server_text, causes=bye.causes, retry_after=bye.retry_after)
            raise bye
        self.capabilities = _in_code(text)

    def _recognise(self) -> None:
        """Family and provider steer quirks and reply rules. The greeting knows better than the host's name, since private Coremail
        sites behave alike (facts, engine §5.2); the project's own word on the provider comes first for its rules."""
        said, shown = self.endpoint.provider, by_greeting(self.greeting)
        named = said if said and known(said) and said != "generic" else None
        self.channel.provider = named or shown
        self.channel.family = (provider(shown).family if shown else None) or (provider(named).family if named else None)

    # -- login -----------------------------------------------------------------------------------------------------------------

    def _log_in(self) -> None:
        channel = self.channel
        self._need_capabilities()
        channel.phase = "auth"
        if "LOGINDISABLED" not in self.capabilities:
            answer = self._login()
        elif "AUTH=PLAIN" in self.capabilities:
            answer = self._authenticate_plain()
        elif self.capabilities & {"AUTH=XOAUTH2", "AUTH=OAUTHBEARER"}:
            raise Refused(Cause.OAUTH_ONLY, detail="the server takes no passwords (LOGINDISABLED)")
        else:
            cause = Cause.TLS if self.endpoint.security is Security.PLAIN else Cause.X_CLIENT
            raise Refused(cause, detail="the server offers no way to log in with a password (LOGINDISABLED)")
        channel.expect_ok(answer, "auth")
        channel.phase = "any"
        before, self.capabilities = self.capabilities, _in_answer(answer)
        early = channel.family == COREMAIL or "ID" in (self.capabilities or before)
        if early:
            self._identify()
        self._need_capabilities()
        if not early and "ID" in self.capabilities:
            self._identify()

    def _need_capabilities(self) -> None:
        """Asks for what the server has not volunteered."""
        if not self.capabilities:
            self.capabilities = _in_answer(self.channel.run(b"CAPABILITY"))

    def _login(self) -> Answer:
        """Both arguments quoted (Tencent wants that), or as literals where they hold more than ASCII."""
        name, name_literal = encoder.astring(self.account.login, "login name")
        secret, secret_literal = encoder.astring(self.account.secret.reveal(), "password")
        parts = [(b"LOGIN " + name, name_literal), (b" " + secret, secret_literal)]
        at_once = not self.capabilities.isdisjoint(("LITERAL+", "LITERAL-"))
        self.channel.stream.limit(self.timeouts.login)
        tag = self.channel.send_with_literals(parts, non_synchronising=at_once)
        return self.channel.finish(tag, seconds=self.timeouts.login)

    def _authenticate_plain(self) -> Answer:
        """RFC 4616, with the initial response where the server takes it; Coremail advertises SASL-IR and refuses it (facts: N04)."""
        token = base64.b64encode(f"\0{self.account.login}\0{self.account.secret.reveal()}".encode())
        channel = self.channel
        if "SASL-IR" in self.capabilities and channel.family != COREMAIL:
            return channel.finish(channel.send(b"AUTHENTICATE PLAIN " + token), seconds=self.timeouts.login)
        tag = channel.send(b"AUTHENTICATE PLAIN")
        if channel.await_continuation(tag):
            channel.stream.write(token + b"\r\n")
        return channel.finish(tag, seconds=self.timeouts.login)

    def _identify(self) -> None:
        """ID before any SELECT for the Coremail family (facts: N01) and wherever it is offered. A refusal of ID refuses nothing else, and
        nobody waits for the answer: commands are executed in order (RFC 3501 §5.5), so what follows finds us named."""
        channel, sent = self.channel, time.monotonic()

        def told(tagged: Tagged) -> None:
            channel.id_sent = tagged.status == b"OK"
            channel.rtt = min(channel.rtt, time.monotonic() - sent)  # or less, when it lay there for a while

        channel.send_ahead(b"ID " + encoder.id_list(OUR_ID), told)


def _words(text: bytes) -> frozenset[str]:
    return frozenset(word.decode("ascii", "replace") for word in text.upper().split())


def _in_code(text: bytes) -> frozenset[str]:
    """The capabilities that a status text volunteers (`[CAPABILITY …]`, RFC 3501 §7.1), upper case; empty when it does not."""
    status = StatusText.of(text)
    return _words(status.arguments) if status.code == b"CAPABILITY" else frozenset()


def _in_answer(answer: Answer) -> frozenset[str]:
    """The last list of capabilities that an answer holds, in whichever form."""
    found = _in_code(answer.tagged.text.text)
    for response in reversed(answer.untagged):
        if found:
            break
        if response.kind == b"CAPABILITY":
            found = _words(response.parts[0])
        elif response.kind == b"OK":
            found = _in_code(response.parts[0])
    return found
