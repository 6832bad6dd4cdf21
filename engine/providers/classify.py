"""What a refusal means: the server's words in, causes out, by the rules of replies.toml.

Owns the choice of the rule and the fallbacks where no rule fits; words.py decodes a reply's bytes. The rules themselves are data.
Must not guess: words that no rule knows are UNKNOWN. Always: first match wins among the rules of that provider, its family and
"any"; only a bounded part of a text is looked at; what comes back never holds the text.
"""
from __future__ import annotations

import errno
import re
import socket
import ssl
from dataclasses import dataclass
from functools import cache

from engine.causes import Cause, Retry, Who
from engine.providers import catalogue
from engine.providers.rules import ANY, Phase, Rule, Spoken, Transport, Verdict, rules, transport_rules

MAX_LOOKED_AT = 2000         # characters of a reply; rules' patterns are tested to be quick on this much
MAX_STATED_WAIT = 6 * 3600.0  # seconds; a longer stated back-off is asked again after this
_REPLY = re.compile(r"^(?:(?:\*|[A-Za-z0-9][A-Za-z0-9.]{0,31}) )?(NO|BAD|BYE|OK|PREAUTH)\b[ \t]*(.*)$", re.IGNORECASE | re.DOTALL)
_WRONG_NAME = (62, 64)       # X509_V_ERR_HOSTNAME_MISMATCH, X509_V_ERR_IP_ADDRESS_MISMATCH
_CODES = re.compile(r"\[[^\]]{0,200}\]")
# A refusal of the login that says nothing but that: only these words and punctuation (facts: providers, section 3).
_REFUSAL_WORDS = frozenset(("no", "err", "login", "logon", "authenticate", "authentication", "auth", "pass", "failed", "failure", "error",
                            "denied", "rejected", "refused", "unsuccessful", "command", "is", "was", "your", "the", "sorry"))
_WORD = re.compile(r"[a-z]+|[^a-z\s.,:;!-]")


@dataclass(frozen=True)
class Classified:
    """`causes` likeliest first; several when the server does not distinguish them. `retry_after` is in seconds."""

    causes: tuple[Cause, ...]
    rule: str | None  # None: no rule matched
    retry: Retry
    retry_after: float | None
    who: Who
    step: str | None

    @property
    def cause(self) -> Cause:
        return self.causes[0]


def _normal(text: str) -> str:
    """`A12 NO x` and `* NO x` become `NO x`; a text without status stays as it is."""
    text = text[:MAX_LOOKED_AT].strip()
    reply = _REPLY.match(text)
    return f"{reply[1].upper()} {reply[2]}".strip() if reply else text


@cache
def _names(provider: str | None, family: str | None) -> tuple[str, ...]:
    """Everything under which rules may name this server, the most particular first."""
    found: list[str] = []
    for name in (provider, family):
        if name:
            own_family = catalogue.provider(name).family if catalogue.known(name) else None
            found += [one for one in (name, own_family) if one and one not in found]
    return tuple(found)


def _fits(rule: Rule, names: tuple[str, ...], phase: Phase, protocol: Spoken) -> bool:
    return (rule.protocol in (Spoken.ANY, protocol)
            and (phase is Phase.ANY or Phase.ANY in rule.phases or phase in rule.phases)
            and (ANY in rule.providers or any(name in rule.providers for name in names)))


def _step_here(step: str | None, names: tuple[str, ...], cause: Cause) -> str | None:
    """The step, or what mends the cause at this provider: nobody is sent to the settings page of another one."""
    key = next((name for name in names if catalogue.known(name)), None)
    if step is None or key is None:
        return step
    here = catalogue.provider(key)
    if here.step(step) or catalogue.provider(None).step(step):
        return step
    mend = here.mends.get(cause)
    return mend.step if mend else None


def _classified(rule: Rule, names: tuple[str, ...], match: re.Match[str], id_sent: bool) -> Classified:
    told = next((rule.at[name] for name in names if name in rule.at), rule.verdict)
    if id_sent and rule.after_id:
        told = rule.after_id
    seconds = told.seconds
    if told.retry is Retry.HINT:
        seconds = min(int(match[1]), MAX_STATED_WAIT * 1000) / 1000
    return Classified(told.causes, rule.id, told.retry, seconds, told.who, _step_here(told.step, names, told.causes[0]))


def classify(text: str, *, phase: str, provider: str | None, family: str | None = None, protocol: str = "imap",
             id_sent: bool = False) -> Classified:
    """What a reply means. `text` is decoded, with or without tag and status; `phase` is a value of rules.Phase; `id_sent`: we had
    sent ID before, so a server that still asks for it has locked the account (facts: N01)."""
    asked, spoken, names, normal = Phase(phase), Spoken(protocol), _names(provider, family), _normal(text)
    for rule in rules():
        if _fits(rule, names, asked, spoken) and (match := rule.pattern.search(normal)):
            return _classified(rule, names, match, id_sent)
    if asked is Phase.AUTH and _REFUSAL_WORDS.issuperset(_WORD.findall(_CODES.sub(" ", normal).lower())):
        return Classified((Cause.BAD_SECRET, Cause.UNKNOWN), None, Retry.STOP, None, Who.USER, None)
    if asked in (Phase.SELECT, Phase.FETCH, Phase.APPEND):  # one folder or one message: the caller counts it and goes on
        return Classified((Cause.UNKNOWN,), None, Retry.SKIP, None, Who.HELPDESK, None)
    return Classified((Cause.UNKNOWN,), None, Retry.STOP, None, Who.HELPDESK, None)


def transport_kind(error: OSError, *, connected: bool = False, greeted: bool = False) -> Transport:
    """Which transport rule an exception of the socket or TLS layer falls under. `connected`: TCP was up; `greeted`: the server
    had spoken."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return Transport.CERTIFICATE_NAME if getattr(error, "verify_code", None) in _WRONG_NAME else Transport.CERTIFICATE
    if isinstance(error, ssl.SSLError) and not isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return Transport.TLS_MISMATCH
    if isinstance(error, socket.gaierror):
        return Transport.NAME_UNKNOWN
    if greeted:
        return Transport.CONNECTION_LOST
    if connected:
        return Transport.GREETING_TIMEOUT if isinstance(error, TimeoutError) else Transport.CLOSED_BEFORE_GREETING
    if isinstance(error, ConnectionRefusedError):
        return Transport.REFUSED
    if error.errno in (errno.EHOSTUNREACH, errno.ENETUNREACH):
        return Transport.UNREACHABLE
    return Transport.CONNECT_TIMEOUT


def classify_transport(kind: Transport) -> Classified:
    told: Verdict = transport_rules()[kind].verdict
    return Classified(told.causes, kind.value, told.retry, told.seconds, told.who, told.step)
