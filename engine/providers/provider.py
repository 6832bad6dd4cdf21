"""What we know of one mail provider, and how its data file becomes that knowledge.

Owns the types and the reading of one file (format: engine/providers/README.md). Must not know where the files are (catalogue.py)
nor what a reply means (rules.py). Always: nothing with status U leaves this room; a fact that nobody confirmed is never shown.
"""
from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from types import MappingProxyType
from typing import NamedTuple

from engine.causes import Cause, Who, Words
from engine.endpoint import Security
from engine.providers.reading import Table


class Status(StrEnum):
    """How sure a fact is (verified, likely, unverified)."""

    VERIFIED = "V"
    LIKELY = "L"
    UNVERIFIED = "U"


class LoginForm(StrEnum):
    ADDRESS = "address"  # the full mail address
    LOCAL = "local"      # the part before the @
    ANY = "any"          # as the administrator says: address, UPN, DOMAIN\\user


class Quirk(StrEnum):
    """How a server departs from what it promises. Code asks for these by name."""

    ID_BEFORE_SELECT = "id_before_select"              # SELECT fails until ID was sent (facts: N01)
    NO_SASL_IR = "no_sasl_ir"                          # SASL-IR is advertised and refused (facts: N04)
    NO_AUTHENTICATE_PLAIN = "no_authenticate_plain"    # AUTH=PLAIN is advertised and not served (facts: S02)
    NOOP_KEEPS_NOT_ALIVE = "noop_keeps_not_alive"      # the idle timer runs on through NOOP; STATUS resets it
    SEARCH_UNRELIABLE = "search_unreliable"            # text SEARCH answers OK with no hits
    ENVELOPE_UNRELIABLE = "envelope_unreliable"        # ENVELOPE or BODYSTRUCTURE is malformed or altered
    SIZE_IS_ESTIMATE = "size_is_estimate"              # RFC822.SIZE may differ from the octets served
    KEYWORDS_NOT_STORED = "keywords_not_stored"
    CREATE_UNRELIABLE = "create_unreliable"            # CREATE says NO, or the folder vanishes
    OK_WITHOUT_DATA = "ok_without_data"                # a FETCH of a counted message answers OK and nothing
    STATUS_WITHOUT_UIDNEXT = "status_without_uidnext"
    UIDVALIDITY_CONSTANT = "uidvalidity_constant"      # always 1: cannot tell a rebuilt folder
    HEADER_ONLY_BODIES = "header_only_bodies"          # may serve a header and no body to movers
    MESSAGE_ID_REWRITTEN = "message_id_rewritten"      # of sent mail
    LABELS_ARE_FOLDERS = "labels_are_folders"          # one message shows in several folders
    LOCALISED_FOLDERS = "localised_folders"            # special folders bear names in the mailbox's language
    NON_MAIL_FOLDERS = "non_mail_folders"              # calendar, contacts, tasks appear as folders
    HIDES_BEYOND_10000 = "hides_beyond_10000"          # the usual host hides older mail of a folder
    LIST_DUPLICATES = "list_duplicates"
    TRAILING_BLANK_DROPS = "trailing_blank_drops"      # a folder name with a trailing blank drops the connection


class Host(NamedTuple):
    host: str  # may hold {domain}: the mail domain of the account
    port: int = 993
    security: Security = Security.TLS
    note: str = ""

    def for_domain(self, domain: str) -> str:
        return self.host.replace("{domain}", domain)


class Step(NamedTuple):
    """One action of one person on one screen. `checked` is the date (YYYY-MM-DD or YYYY-MM) when the menu words were last seen."""

    id: str
    who: Who
    zh: str
    en: str
    why: Words
    where: Words
    checked: str
    picture: str | None
    status: Status
    note: Words | None = None
    url: str | None = None

    @property
    def words(self) -> Words:
        return Words(self.zh, self.en)


class Limits(NamedTuple):
    """What we hold ourselves to. `connections` per mailbox; rates in octets per day; None: the provider states nothing."""

    connections: int = 2
    published_connections: int | None = None
    download_per_day: int | None = None
    upload_per_day: int | None = None
    messages_per_day: int | None = None
    logins_per_hour: int | None = None
    command_bytes: int | None = None
    uids_per_fetch: int | None = None
    keep_alive_seconds: int | None = None
    wrong_logins_per_hour: int = 2


class Mend(NamedTuple):
    """What mends a cause at this provider: the step, and if needed other words or another person than usual."""

    step: str | None
    words: Words | None
    who: Who | None


class MxPattern(NamedTuple):
    pattern: re.Pattern[str]
    fallback: bool = False  # looked at only when no provider's ordinary pattern matches


class Provider(NamedTuple):
    """`steps` is the numbered guidance in order; `occasional` those that help only with a cause; `mends` says which help with what.
    `secret_name` is what the person types; `code_name` what replaces the web password (mostly the same)."""

    key: str
    name: Words
    secret_name: Words
    code_name: Words
    imap_hosts: tuple[Host, ...] = ()
    overseas_host: Host | None = None
    pop_hosts: tuple[str, ...] = ()
    domains: tuple[str, ...] = ()
    hosts_by_domain: Mapping[str, str] = MappingProxyType({})
    mx: tuple[MxPattern, ...] = ()
    greetings: tuple[re.Pattern[str], ...] = ()
    family: str | None = None
    login_form: LoginForm = LoginForm.ADDRESS
    secret_shape: re.Pattern[str] | None = None  # a hint for wording only; a login is never blocked because of it
    inner_blanks: bool = False                   # the secret is shown in groups: blanks inside are taken out before it is tried
    oauth_only: bool = False
    destination: bool = False                    # also a usual destination: its MX may mean that the company has switched already
    steps: tuple[Step, ...] = ()
    occasional: tuple[Step, ...] = ()
    mends: Mapping[Cause, Mend] = MappingProxyType({})
    id_before_select: bool = False
    limits: Limits = Limits()
    folder_names: Mapping[str, tuple[str, ...]] = MappingProxyType({})
    exclude: tuple[str, ...] = ()
    quirks: frozenset[str] = frozenset()
    warnings: tuple[Words, ...] = ()

    def step(self, step_id: str) -> Step | None:
        return next((step for step in (*self.steps, *self.occasional) if step.id == step_id), None)

    def hosts_for(self, domain: str) -> tuple[Host, ...]:
        """Hosts to try for a mail domain, best first."""
        own = self.hosts_by_domain.get(domain)
        first = (Host(own),) if own else ()
        return first + tuple(Host(h.for_domain(domain), h.port, h.security, h.note) for h in self.imap_hosts)


_CHECKED = re.compile(r"^20\d\d-(0[1-9]|1[0-2])(-(0[1-9]|[12]\d|3[01]))?$")
PICTURES = frozenset({"switch", "range", "code", "admin", "unlock", "verify", "sign_in", "wait"})


def _step(row: Table) -> Step:
    picture, checked = row.optional("picture"), row.text("checked")
    if picture is not None and picture not in PICTURES:
        raise row.bad("picture", f"{picture!r} is none of {', '.join(sorted(PICTURES))}")
    if not _CHECKED.match(checked):
        raise row.bad("checked", f"{checked!r} is not a date; write 2026-11-23 or 2026-11")
    step = Step(row.text("id"), row.enum("who", Who), row.text("zh"), row.text("en"), row.words("why"), row.words("where"), checked,
                picture, row.enum("status", Status), row.optional_words("note"), row.optional("url"))
    row.text("source", "")  # where the fact stands; for those who edit the file, never shown
    row.finish()
    return step


def _host(row: Table) -> Host | None:
    host = Host(row.text("host"), row.number("port", 993), row.enum("security", Security, "tls"), row.text("note", ""))
    status = row.enum("status", Status, "V")
    row.finish()
    return None if status is Status.UNVERIFIED else host


def _mx(row: Table) -> MxPattern | None:
    found = MxPattern(row.regex("re"), row.flag("fallback"))
    status = row.enum("status", Status)
    row.text("source", "")
    row.finish()
    return None if status is Status.UNVERIFIED else found


def _limits(table: Table) -> Limits:
    usual = Limits()
    limits = Limits(
        connections=table.number("connections", usual.connections),
        published_connections=table.optional_number("published_connections"),
        download_per_day=table.optional_number("download_per_day"), upload_per_day=table.optional_number("upload_per_day"),
        messages_per_day=table.optional_number("messages_per_day"), logins_per_hour=table.optional_number("logins_per_hour"),
        command_bytes=table.optional_number("command_bytes"), uids_per_fetch=table.optional_number("uids_per_fetch"),
        keep_alive_seconds=table.optional_number("keep_alive_seconds"),
        wrong_logins_per_hour=table.number("wrong_logins_per_hour", usual.wrong_logins_per_hour))
    if limits.connections < 1:
        raise table.bad("connections", "must be at least 1")
    table.finish()
    return limits


def _mends(table: Table) -> dict[Cause, Mend]:
    found = {}
    for key in table:
        if key not in set(Cause):
            raise table.bad(key, "not a cause")
        row = table.table(key)
        words = Words(row.text("zh"), row.text("en")) if row.has("zh") or row.has("en") else None
        found[Cause(key)] = Mend(row.optional("step"), words, row.enum("who", Who) if row.has("who") else None)
        row.finish()
    return found


def read_steps(file: Table) -> dict[str, Step]:
    """The steps that a file defines, by id. A step with status U is dropped here, so that nothing can show it."""
    steps: dict[str, Step] = {}
    for row in file.tables("step"):
        step = _step(row)
        if step.id in steps:
            raise row.bad("id", f"{step.id} stands twice")
        steps[step.id] = step
    return {key: step for key, step in steps.items() if step.status is not Status.UNVERIFIED}


def read_provider(file: Table, key: str, shared: Mapping[str, Step]) -> Provider:
    """`shared` are steps of the files named under `steps_from`. Raises BadData naming file and key."""
    own = read_steps(file)
    known = {**shared, **own}
    guidance, occasional = file.texts("guidance"), file.texts("occasional")
    for listed, ids in (("guidance", guidance), ("occasional", occasional)):
        for step_id in ids:
            if step_id not in known:
                raise file.bad(listed, f"{step_id!r} is no confirmed step of this file or of steps_from")
    unused = sorted(set(own) - set(guidance) - set(occasional))
    if unused:
        raise file.bad("step", f"{unused[0]!r} stands in neither guidance nor occasional")
    mends = _mends(file.optional_table("mend"))
    for cause, mend in mends.items():
        if mend.step is not None and mend.step not in (*guidance, *occasional):
            raise file.bad(f"mend.{cause}.step", f"{mend.step!r} stands in neither guidance nor occasional")
    names = file.optional_table("folder_names")
    by_domain = file.optional_table("hosts_by_domain")
    overseas = _host(file.table("overseas")) if file.has("overseas") else None
    quirks = frozenset[str](file.enums("quirks", Quirk))
    provider = Provider(
        key=key, name=file.words("name"), secret_name=file.words("secret_name"),
        code_name=file.optional_words("code_name") or file.words("secret_name"),
        imap_hosts=tuple(host for host in map(_host, file.tables("imap")) if host), overseas_host=overseas,
        pop_hosts=file.texts("pop"), domains=file.texts("domains"),
        hosts_by_domain={domain: by_domain.text(domain) for domain in by_domain},
        mx=tuple(pattern for pattern in map(_mx, file.tables("mx")) if pattern), greetings=file.regexes("greetings"),
        family=file.optional("family"), login_form=file.enum("login_form", LoginForm, "address"),
        secret_shape=file.regex("secret_shape") if file.has("secret_shape") else None, inner_blanks=file.flag("inner_blanks"),
        oauth_only=file.flag("oauth_only"), destination=file.flag("destination"),
        steps=tuple(known[s] for s in guidance), occasional=tuple(known[s] for s in occasional), mends=mends,
        id_before_select=Quirk.ID_BEFORE_SELECT in quirks, limits=_limits(file.optional_table("limits")),
        folder_names={role: names.texts(role) for role in names}, exclude=file.texts("exclude"), quirks=quirks,
        warnings=tuple(_warning(row) for row in file.tables("warning")))
    file.texts("steps_from")
    file.finish()
    return provider


def _warning(row: Table) -> Words:
    words = Words(row.text("zh"), row.text("en"))
    row.finish()
    return words

