"""Which folder is the one for sent mail, drafts, trash …: by attribute first, then by name.

Owns the reading of names.toml. Must not: decide where mail goes (mapping.py does).
Always: an attribute wins over a name; a name counts only at the top of the mailbox, directly under its personal prefix, or inside
the provider's own container ([Gmail]); a folder deep in the tree that a person called "Sent" stays a custom folder.
"""
from __future__ import annotations

import tomllib
import unicodedata
from enum import StrEnum
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from engine.causes import Words
from engine.providers import catalogue

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


PUT_BY_PROVIDER = frozenset({FolderRole.VIRUS, FolderRole.ADS, FolderRole.SUBSCRIPTIONS})


class _Named(NamedTuple):
    role: FolderRole
    rank: int           # position in the table: the usual name first
    inside: str | None = None  # counts only inside this container


class Container(NamedTuple):
    """A parent that exists only to hold others, at providers of this family or with this quirk."""

    key: str
    names: frozenset[str]  # normalised
    family: str | None
    quirk: str | None

    def made_by(self, provider: str | None) -> bool:
        maker = catalogue.provider(provider)
        return (self.family is not None and maker.family == self.family) or self.quirk in maker.quirks


class Names(NamedTuple):
    """names.toml, read."""

    attributes: dict[str, FolderRole]
    by_name: dict[str, tuple[_Named, ...]]
    containers: tuple[Container, ...]
    rules: dict[FolderRole, str]
    rule_words: dict[str, Words]


@cache
def names() -> Names:
    table: dict[str, Any] = tomllib.loads(Path(__file__).with_name("names.toml").read_text(encoding="utf-8"))
    by_name: dict[str, list[_Named]] = {}
    for role, languages in table["roles"].items():
        inside = languages.pop("inside", None)
        for rank, name in enumerate(name for group in languages.values() for name in group):
            by_name.setdefault(normalised(name), []).append(_Named(FolderRole(role), rank, inside))
    return Names(
        attributes={attribute: FolderRole(role) for attribute, role in table["attributes"].items()},
        by_name={name: tuple(found) for name, found in by_name.items()},
        containers=tuple(Container(key, frozenset(map(normalised, row["names"])), row.get("family"), row.get("quirk"))
                         for key, row in table["containers"].items()),
        rules={FolderRole(role): rule for rule, row in table["rules"].items() for role in row["roles"]},
        rule_words={rule: Words(row["zh"], row["en"]) for rule, row in table["rules"].items()},
    )


@cache
def _by_provider(key: str | None) -> dict[str, _Named]:
    """The names that this provider's data file gives: roles, and folders to leave out that hold no mail."""
    maker = catalogue.provider(key)
    found = {normalised(name): _Named(FolderRole(role), rank)
             for role, listed in maker.folder_names.items() for rank, name in enumerate(listed)}
    for name in map(normalised, maker.exclude):
        role = next((named.role for named in names().by_name.get(name, ()) if named.role in names().rules), FolderRole.NONMAIL)
        found.setdefault(name, _Named(role, 0))
    return found


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


def container(name: str) -> Container | None:
    """The container that a top-level name may be."""
    return next((one for one in names().containers if normalised(name) in one.names), None)


def _meaning(folder: RemoteFolder, provider: str | None, prefix: str) -> _Named | None:
    path = relative_path(folder.display, folder.separator, prefix)
    inside = container(path[0]) if len(path) == 2 else None
    if len(path) != (2 if inside else 1):
        return None
    name = normalised(path[-1])
    meanings = [*filter(None, [_by_provider(provider).get(name)]), *names().by_name.get(name, ())]
    for named in meanings:
        if named.inside and (inside is None or inside.key != named.inside):
            continue
        if inside and inside.key == "tencent" and named.role not in PUT_BY_PROVIDER:
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
