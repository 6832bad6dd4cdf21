"""Which folder is the one for sent mail, drafts, trash …: by attribute first, then by name.

Owns the reading of names.toml. Must not: decide where mail goes (mapping.py does).
Always: an attribute wins over a name; a name counts only at the top of the mailbox, directly under its personal prefix, or inside
the provider's own container ([Gmail]); a folder deep in the tree that a person called "Sent" stays a custom folder.
"""
from __future__ import annotations

import tomllib
import unicodedata
from dataclasses import dataclass
from enum import StrEnum
from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from engine.imap.session import RemoteFolder


class FolderRole(StrEnum):
    INBOX = "inbox"
    SENT = "sent"
    DRAFTS = "drafts"
    TRASH = "trash"
    JUNK = "junk"
    ARCHIVE = "archive"
    ALL = "all"
    FLAGGED = "flagged"
    IMPORTANT = "important"
    CHATS = "chats"
    VIRUS = "virus"
    ADS = "ads"
    SUBSCRIPTIONS = "subscriptions"
    NONMAIL = "nonmail"


@dataclass(frozen=True)
class _Named:
    role: FolderRole
    rank: int           # position in the table: the usual name first
    inside: str | None  # counts only inside this container
    only: str | None    # counts only at this group of providers


@dataclass(frozen=True)
class Names:
    """names.toml, read."""

    attributes: dict[str, FolderRole]
    by_name: dict[str, tuple[_Named, ...]]
    containers: dict[str, frozenset[str]]  # group of providers -> normalised names
    providers: dict[str, frozenset[str]]   # group of providers -> catalogue keys
    rules: dict[FolderRole, str]
    rule_words: dict[str, tuple[str, str]]  # rule -> (zh, en)


@cache
def names() -> Names:
    table: dict[str, Any] = tomllib.loads(files("engine.folders").joinpath("names.toml").read_text(encoding="utf-8"))
    by_name: dict[str, list[_Named]] = {}
    for role, languages in table["roles"].items():
        inside, only = languages.pop("inside", None), languages.pop("only", None)
        for rank, name in enumerate(name for group in languages.values() for name in group):
            by_name.setdefault(normalised(name), []).append(_Named(FolderRole(role), rank, inside, only))
    return Names(
        attributes={attribute: FolderRole(role) for attribute, role in table["attributes"].items()},
        by_name={name: tuple(sorted(found, key=lambda named: not (named.only or named.inside))) for name, found in by_name.items()},
        containers={group: frozenset(map(normalised, members)) for group, members in table["containers"].items()},
        providers={group: frozenset(keys) for group, keys in table["providers"].items()},
        rules={FolderRole(role): rule for rule, row in table["rules"].items() for role in row["roles"]},
        rule_words={rule: (row["zh"], row["en"]) for rule, row in table["rules"].items()},
    )


def normalised(name: str) -> str:
    """The form in which names are compared: width and case folded, "_" as a blank, runs of blanks as one."""
    return " ".join(unicodedata.normalize("NFKC", name).replace("_", " ").casefold().split())


def is_inbox(name: str) -> bool:
    """RFC 3501 §5.1: INBOX in any case is the one inbox."""
    return name.upper() == "INBOX"


def role_by_attribute(folder: RemoteFolder) -> FolderRole | None:
    """What the server itself says (SPECIAL-USE or XLIST)."""
    if is_inbox(folder.name):
        return FolderRole.INBOX
    table = names().attributes
    return next((table[a] for a in sorted(folder.attributes) if a in table), None)


def container_group(name: str, provider: str | None) -> str | None:
    """The group of providers whose container this top-level name is, when `provider` belongs to it."""
    known = names()
    return next((group for group, members in known.containers.items()
                 if normalised(name) in members and provider in known.providers[group]), None)


def _meaning(folder: RemoteFolder, provider: str | None, prefix: str) -> _Named | None:
    path = relative_path(folder.display, folder.separator, prefix)
    inside = None
    if len(path) == 2:
        inside = next((group for group, members in names().containers.items() if normalised(path[0]) in members), None)
        if inside is None:
            return None
        path = path[1:]
    if len(path) != 1:
        return None
    for named in names().by_name.get(normalised(path[0]), ()):
        if named.only and provider not in names().providers[named.only]:
            continue
        if named.inside and named.inside != inside:
            continue
        if inside == "tencent" and named.role not in (FolderRole.VIRUS, FolderRole.SUBSCRIPTIONS, FolderRole.ADS):
            continue  # what a person keeps under 其他文件夹 is theirs; the provider puts only these there
        return named
    return None


def relative_path(name: str, separator: str | None, prefix: str) -> list[str]:
    """A name's components without the personal prefix. "INBOX.Sent" under prefix "INBOX." -> ["Sent"]."""
    if prefix and name.upper().startswith(prefix.upper()) and len(name) > len(prefix):
        name = name[len(prefix):]
    return [part for part in name.split(separator) if part] or [name] if separator else [name]


def role_of(folder: RemoteFolder, provider: str | None, *, prefix: str = "") -> FolderRole | None:
    """The folder's role, or None for a person's own folder. `provider` is the catalogue key; `prefix` the personal namespace's."""
    if not folder.selectable:
        return None
    by_attribute = role_by_attribute(folder)
    if by_attribute:
        return by_attribute
    meaning = _meaning(folder, provider, prefix)
    return meaning.role if meaning else None


def name_rank(folder: RemoteFolder, provider: str | None, *, prefix: str = "") -> int:
    """How usual a folder's name is for its role: 0 is the most usual. Settles which of two same-role folders is the one."""
    meaning = _meaning(folder, provider, prefix)
    return meaning.rank if meaning else 0
