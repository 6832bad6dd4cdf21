"""Every failure a person can see has one of these causes; each has words, a next step and somebody who takes it.

Owns the enum of causes, the words for each (engine/causes.toml, zh and en side by side), who acts and what a retry may do.
Must not know a protocol: which words of a server mean which cause stands in engine/providers/replies.toml.
Always: one cause, one sentence on what it means, one next step; the words never hold a secret, an address or a server's text.
"""
from __future__ import annotations

import tomllib
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

_TEXTS = Path(__file__).with_name("causes.toml")


class Side(StrEnum):
    SOURCE = "source"
    DESTINATION = "destination"


class Cause(StrEnum):
    # what the old provider says (facts: providers, section 0)
    BAD_SECRET = "bad_secret"
    NEEDS_AUTH_CODE = "needs_auth_code"
    IMAP_DISABLED = "imap_disabled"
    TWO_FACTOR = "two_factor"
    SECURE_LOGIN = "secure_login"
    NEEDS_ID = "needs_id"
    IP_BLOCKED = "ip_blocked"
    THROTTLED = "throttled"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    ACCOUNT_EXPIRED_LOCKED = "account_expired_locked"
    QUOTA = "quota"
    TLS = "tls"
    DNS_CONNECT = "dns_connect"
    SERVER_BUSY = "server_busy"
    OAUTH_ONLY = "oauth_only"
    X_CLIENT = "x_client"
    X_FOLDER = "x_folder"
    X_ITEM = "x_item"
    X_STATE = "x_state"
    X_NAME = "x_name"
    UNKNOWN = "unknown"
    # what the new provider says
    DESTINATION_LOGIN = "destination_login"
    DESTINATION_QUOTA = "destination_quota"
    DESTINATION_TLS = "destination_tls"
    DESTINATION_CONNECT = "destination_connect"
    DESTINATION_BUSY = "destination_busy"
    DESTINATION_REFUSED = "destination_refused"
    # our own side
    ADDRESS_REFUSED = "address_refused"
    RELAY_UNREACHABLE = "relay_unreachable"
    RELAY_REFUSED = "relay_refused"
    SECRET_MISSING = "secret_missing"
    LEDGER_UNWRITABLE = "ledger_unwritable"
    INCOMPLETE = "incomplete"
    WORKER_LOST = "worker_lost"
    WINDOW_CLOSED = "window_closed"
    INTERRUPTED = "interrupted"
    INTERNAL = "internal"


class Who(StrEnum):
    """Who takes the next step."""

    USER = "user"                # the person whose mailbox it is
    ADMIN = "admin"              # the old provider's administrator in that company
    PORTAL = "portal"            # nobody: we go on by ourselves
    HELPDESK = "helpdesk"        # our helpdesk or operator
    DESTINATION = "destination"  # whoever runs the new mailbox
    PROVIDER = "provider"        # the old provider's support


class Retry(StrEnum):
    """What may be tried again without a person."""

    STOP = "stop"            # nothing, until somebody changed something
    ID = "id"                # send ID (RFC 2971), then repeat once
    NOW = "now"              # repair, then repeat once
    WAIT = "wait"            # after a number of seconds
    HINT = "hint"            # after the number of seconds that the server stated
    RECONNECT = "reconnect"  # on a new connection
    SKIP = "skip"            # leave this message or folder, go on with the next
    NEXT_HOST = "next_host"  # once, at the provider's next host


class Words(NamedTuple):
    """The same text in both languages."""

    zh: str
    en: str

    def in_(self, language: str) -> str:
        """`language` is "zh" or "en"; anything else gets Chinese, our first language."""
        return self.en if language == "en" else self.zh

    def filled(self, **values: Words) -> Words:
        """Both texts with their {placeholders} replaced."""
        return Words(self.zh.format(**{k: v.zh for k, v in values.items()}), self.en.format(**{k: v.en for k, v in values.items()}))


class Explanation(NamedTuple):
    """What happened, what it means, what to do, who does it. `step` is the id of the guidance step that mends it."""

    title: Words
    meaning: Words
    next_step: Words
    who: Who
    retry: Retry
    step: str | None = None


class BadTexts(ValueError):
    """engine/causes.toml cannot be used; names the key."""


def _words(table: Any, key: str) -> Words:
    if not isinstance(table, dict) or set(table) != {"zh", "en"} or not all(isinstance(v, str) and v for v in table.values()):
        raise BadTexts(f"causes.toml: {key}: needs zh and en, both not empty")
    return Words(table["zh"], table["en"])


def _explanation(key: str, row: Any) -> Explanation:
    if not isinstance(row, dict) or set(row) - {"cli"} != {"who", "retry", "title", "meaning", "next"}:
        raise BadTexts(f"causes.toml: {key}: needs who, retry, title, meaning, next")
    try:
        who, retry = Who(row["who"]), Retry(row["retry"])
    except ValueError as error:
        raise BadTexts(f"causes.toml: {key}: {error}") from None
    return Explanation(_words(row["title"], f"{key}.title"), _words(row["meaning"], f"{key}.meaning"),
                       _words(row["next"], f"{key}.next"), who, retry)


def _for_cli(key: str, row: Any) -> dict[str, Words]:
    own = row.get("cli", {})
    if not isinstance(own, dict) or set(own) - {"meaning", "next"}:
        raise BadTexts(f"causes.toml: {key}.cli: may hold next and meaning")
    return {name: _words(table, f"{key}.cli.{name}") for name, table in own.items()}


class _Texts(NamedTuple):
    plain: dict[Cause, Explanation]
    cli: dict[Cause, dict[str, Words]]


@cache
def _texts() -> _Texts:
    rows = tomllib.loads(_TEXTS.read_text("utf-8"))
    unknown, missing = sorted(set(rows) - set(Cause)), sorted(set(Cause) - set(rows))
    if unknown or missing:
        raise BadTexts(f"causes.toml: not a cause: {unknown}; no words for: {missing}")
    return _Texts({Cause(key): _explanation(key, row) for key, row in rows.items()},
                  {Cause(key): _for_cli(key, row) for key, row in rows.items()})


@cache
def explain(cause: Cause, provider: str | None = None, *, cli: bool = False) -> Explanation:
    """The words for a cause. With a provider, its own name for the secret, and the step that mends it there (its data file). `cli`: for
    who runs a command that is about to end. Nobody tries again for them, and no helpdesk is theirs: they take the step themselves."""
    from engine.providers.catalogue import provider as find_provider  # the catalogue is data: read only when somebody asks

    known = find_provider(provider)
    texts = _texts()
    plain, own = texts.plain[cause], texts.cli[cause] if cli else {}
    mend = known.mends.get(cause)
    next_step = own.get("next") or (mend and mend.words) or plain.next_step
    who = (mend and mend.who) or plain.who
    if cli and who in (Who.PORTAL, Who.HELPDESK):
        who = Who.USER
    names = {"secret": known.secret_name, "code": known.code_name, "provider": known.name}
    return plain._replace(title=plain.title.filled(**names), meaning=own.get("meaning", plain.meaning).filled(**names),
                   next_step=next_step.filled(**names), who=who, step=mend.step if mend else None)


_AT_DESTINATION = {
    **dict.fromkeys((Cause.BAD_SECRET, Cause.NEEDS_AUTH_CODE, Cause.IMAP_DISABLED, Cause.TWO_FACTOR, Cause.SECURE_LOGIN,
                     Cause.ACCOUNT_EXPIRED_LOCKED, Cause.OAUTH_ONLY, Cause.X_NAME), Cause.DESTINATION_LOGIN),
    Cause.QUOTA: Cause.DESTINATION_QUOTA,
    Cause.TLS: Cause.DESTINATION_TLS,
    Cause.DNS_CONNECT: Cause.DESTINATION_CONNECT,
    **dict.fromkeys((Cause.THROTTLED, Cause.TOO_MANY_CONNECTIONS, Cause.SERVER_BUSY), Cause.DESTINATION_BUSY),
    **dict.fromkeys((Cause.IP_BLOCKED, Cause.X_FOLDER, Cause.X_ITEM, Cause.UNKNOWN), Cause.DESTINATION_REFUSED),
}


def at_destination(cause: Cause) -> Cause:
    """The cause as it is called when the new provider said it. Causes of our own side, and of the protocol, stay what they are."""
    return _AT_DESTINATION.get(cause, cause)
