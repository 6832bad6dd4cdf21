"""The reply rules: which words of which server mean which cause (engine/providers/replies.toml, transport.toml).

Owns the types and the reading of both files. Deciding which rule fits is classify.py's. Always: rules keep the order of the file
(first match wins); a rule with status U is read, checked and left out.
"""
from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cache
from pathlib import Path

from engine.causes import Cause, Retry, Who, Words
from engine.providers.provider import Status
from engine.providers.reading import BadData, Table, read_table

_DATA = Path(__file__).parent
ANY = "any"


class Phase(StrEnum):
    """What we were doing when the server answered. ANY in a rule: fits every phase; in a question: we cannot say."""

    ANY = "any"
    GREETING = "greeting"
    AUTH = "auth"
    SELECT = "select"
    FETCH = "fetch"
    APPEND = "append"  # CREATE too


class Spoken(StrEnum):
    ANY = "any"
    IMAP = "imap"
    POP3 = "pop3"
    SMTP = "smtp"
    OAUTH = "oauth"


@dataclass(frozen=True)
class Verdict:
    """What a reply means and what follows. `seconds` goes with WAIT; with HINT the server states it (group 1, milliseconds)."""

    causes: tuple[Cause, ...]
    retry: Retry
    seconds: float | None
    who: Who
    step: str | None


@dataclass(frozen=True)
class Rule:
    id: str
    providers: frozenset[str]  # provider keys, families, or "any"
    protocol: Spoken
    phases: frozenset[Phase]
    pattern: re.Pattern[str]
    sample: str
    verdict: Verdict
    status: Status
    at: Mapping[str, Verdict] = field(default_factory=dict)  # at this provider or family instead
    after_id: Verdict | None = None                          # instead, when ID was sent before (facts: N01)


class Transport(StrEnum):
    """What may happen to a connection before or without a reply. Values are the keys of transport.toml."""

    NAME_UNKNOWN = "name_unknown"            # NXDOMAIN, no address
    REFUSED = "refused"                      # nothing listens on the port
    CONNECT_TIMEOUT = "connect_timeout"
    UNREACHABLE = "unreachable"              # no route
    CLOSED_BEFORE_GREETING = "closed_before_greeting"
    GREETING_TIMEOUT = "greeting_timeout"
    CERTIFICATE_NAME = "certificate_name"    # the certificate is for another name
    CERTIFICATE = "certificate"              # not trusted, or expired
    TLS_MISMATCH = "tls_mismatch"            # not TLS, or too old
    CONNECTION_LOST = "connection_lost"      # in the middle of work


@dataclass(frozen=True)
class TransportRule:
    id: Transport
    verdict: Verdict
    say: Words
    advice: Words


_RETRY = re.compile(r"^(stop|id|now|hint|reconnect|skip|next_host|wait:(\d{1,6}))$")


def _verdict(row: Table, usual: Verdict | None = None) -> Verdict:
    """Reads causes, retry, who, step; what a row leaves out is as `usual` says."""
    causes = row.enums("causes", Cause) if usual is None or row.has("causes") else usual.causes
    if not causes:
        raise row.bad("causes", "at least one cause")
    retry, seconds = (usual.retry, usual.seconds) if usual else (Retry.STOP, None)
    if usual is None or row.has("retry"):
        text = row.text("retry")
        match = _RETRY.match(text)
        if not match:
            raise row.bad("retry", f"{text!r} is none of stop, id, now, hint, reconnect, skip, next_host, wait:SECONDS")
        retry, seconds = Retry(text.partition(":")[0]), float(match[2]) if match[2] else None
    who = row.enum("who", Who) if usual is None or row.has("who") else usual.who
    step = row.optional("step") if row.has("step") or usual is None else usual.step
    return Verdict(causes, retry, seconds, who, step)


def _rule(row: Table) -> Rule:
    verdict = _verdict(row)
    at, after = row.optional_table("at"), row.optional_table("after_id")
    rules_at = {}
    for name in at:
        other = at.table(name)
        rules_at[name] = _verdict(other, verdict)
        other.finish()
    after_id = _verdict(after, verdict) if list(after) else None
    after.finish()
    rule = Rule(
        id=row.text("id"), providers=frozenset(row.texts("providers")), protocol=row.enum("protocol", Spoken),
        phases=frozenset(row.enums("phase", Phase)), pattern=row.regex("re"), sample=row.text("sample"), verdict=verdict,
        status=row.enum("status", Status), at=rules_at, after_id=after_id)
    row.text("source", "")
    row.text("note", "")  # for those who edit the file
    row.finish()
    if not rule.providers:
        raise row.bad("providers", "at least one provider or family, or \"any\"")
    if not rule.phases:
        raise row.bad("phase", "at least one phase, or \"any\"")
    if verdict.retry is Retry.HINT and rule.pattern.groups < 1:
        raise row.bad("re", "retry = hint needs a group with the milliseconds")
    if rule.pattern.search(""):
        raise row.bad("re", "fits an empty text, so it would fit everything")
    return rule


def read_rules(path: Path) -> tuple[Rule, ...]:
    """All rules of a file in its order, those with status U left out. Raises BadData naming file and key."""
    file = read_table(path)
    rules = tuple(_rule(row) for row in file.tables("rule"))
    file.finish()
    seen: set[str] = set()
    for rule in rules:
        if rule.id in seen:
            raise BadData(f"{path.name}: rule: {rule.id} stands twice")
        seen.add(rule.id)
    return tuple(rule for rule in rules if rule.status is not Status.UNVERIFIED)


@cache
def rules() -> tuple[Rule, ...]:
    return read_rules(_DATA / "replies.toml")


@cache
def transport_rules() -> dict[Transport, TransportRule]:
    file = read_table(_DATA / "transport.toml")
    found = {}
    for kind in Transport:
        row = file.table(kind)
        found[kind] = TransportRule(kind, _verdict(row), row.words("say"), row.words("advice"))
        row.finish()
    file.finish()
    return found
