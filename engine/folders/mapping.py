"""Where each source folder goes at the destination.

Owns the plan (FolderPlan) and the names: prefixes, separators, role merging, clashes, reversible renaming.
Must not: talk to a server, or know what is in a folder.
Always: every selectable source folder has exactly one plan; two of them share a target only if both have the same role; a name
that the destination can hold arrives unchanged, to the byte; a changed name carries a note from which the old one can be read;
the same lists give the same plan.

Folder names are wire names (modified UTF-7). A separator is plain ASCII outside the alphabet of modified base64 (RFC 3501 §5.1.3
writes "," for "/"), so a wire name splits into components without being decoded: a name that is not valid modified UTF-7 is
carried over byte for byte.
"""
from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from engine.causes import Words
from engine.folders.roles import FolderRole, container, is_inbox, name_rank, names, relative_path, role_by_attribute, role_of
from engine.providers import catalogue
from engine.providers.provider import Quirk
from engine.wire import utf7

if TYPE_CHECKING:
    from engine.imap.session import RemoteFolder

# Characters that a component keeps when the destination refused the whole: Gmail's old limit (facts: engine 5.1).
LONGEST_COMPONENT = 40
# What some servers refuse (facts: providers section 14, engine section 5).
_AWKWARD = re.compile(r"""[%*+\\/"&~#:;<>|?^`'.{}\[\]()]|^\s|\s$|\s(?=\s)""")
_REFUSED_FOR_GOOD = re.compile(r"OVERQUOTA|number of mailboxes|quota|UNAVAILABLE|INUSE|try again|backoff", re.I)


class FolderPlan(NamedTuple):
    """One source folder. `target` is "" for an excluded one. `note` is "renamed:<old name>" or "merged:<folder it shares>"."""

    source: RemoteFolder
    target: str
    target_display: str
    role: FolderRole | None
    exists: bool
    rule: str | None = None
    note: str | None = None
    components: tuple[str, ...] = ()  # wire components below the source's prefix
    separator: str = ""               # of the destination
    prefix: str = ""                  # of the destination
    rung: int = 0                     # how far the ladder of renames was climbed


def ignores_case(destination_provider: str | None) -> bool:
    """Whether "Case" and "case" are one folder at this provider: Exchange and Gmail (facts: engine section 5.1)."""
    maker = catalogue.provider(destination_provider)
    return maker.family in ("exchange", "microsoft") or Quirk.LABELS_ARE_FOLDERS in maker.quirks


def explain_note(note: str) -> Words:
    """A plan's note in Chinese and English."""
    kind, _, name = note.partition(":")
    if kind == "merged":
        return Words(f"与“{name}”合并到同一文件夹", f"Merged with “{name}” into one folder")
    return Words(f"目的邮箱不接受原名“{name}”，已改名", f"Renamed: the destination does not take the name “{name}”")


def explain_rule(rule: str) -> Words:
    """Why a plan with this rule leaves its folder out."""
    return names().rule_words[rule]


def plan_folders(source: Sequence[RemoteFolder], destination: Sequence[RemoteFolder], *, source_prefix: str,
                 destination_prefix: str, destination_separator: str, provider: str | None, case_insensitive: bool = False,
                 kept: Mapping[str, str] | None = None) -> list[FolderPlan]:
    """The plan of every selectable source folder: INBOX first, then as listed, Gmail's All Mail last.

    `provider`: the source's catalogue key. `case_insensitive`: the destination takes "Case" and "case" for one name
    (`ignores_case`). `kept`: source name -> target of an earlier run of the same move; those stay, whatever the destination has
    grown since.
    """
    return _Planner(source, destination, source_prefix, destination_prefix, destination_separator, provider, case_insensitive,
                    dict(kept or {})).plan()


class _Planner:
    def __init__(self, source: Sequence[RemoteFolder], destination: Sequence[RemoteFolder], source_prefix: str,
                 destination_prefix: str, separator: str, provider: str | None, case_insensitive: bool,
                 kept: dict[str, str]) -> None:
        self.source_prefix, self.prefix, self.separator = source_prefix, destination_prefix, separator
        self.provider, self.case_insensitive, self.kept = provider, case_insensitive, kept
        self.folders = list({("INBOX" if is_inbox(f.name) else f.name): f for f in source if f.selectable}.values())
        self.noselect = {f.name for f in source if not f.selectable}
        self.existing = {self._key(f.name): f.name for f in destination if f.selectable}
        self.inbox_takes_children = not any(is_inbox(f.name) and "\\noinferiors" in f.attributes for f in destination)
        self.barren = {f.name for f in destination if "\\noinferiors" in f.attributes}
        self.roles = self._source_roles()
        self.role_targets = self._role_folders(destination)
        self.taken: dict[str, FolderPlan] = {}
        self.targets: dict[tuple[str, ...], str] = {}  # components -> target, for the children

    def plan(self) -> list[FolderPlan]:
        plans = {folder.name: self._place(folder) for folder in sorted(self.folders, key=self._priority)}
        turn = {FolderRole.INBOX: 0, FolderRole.ALL: 2}
        return sorted((plans[folder.name] for folder in self.folders), key=lambda plan: turn.get(plan.role or FolderRole.SENT, 1))

    def _source_roles(self) -> dict[str, FolderRole | None]:
        """Where the server marks one folder with a role, another with such a name is a person's own."""
        marked = {role_by_attribute(f) for f in self.folders}
        found: dict[str, FolderRole | None] = {}
        for folder in self.folders:
            role = role_of(folder, self.provider, prefix=self.source_prefix)
            found[folder.name] = None if role in marked and role_by_attribute(folder) is not role else role
        return found

    def _role_folders(self, destination: Sequence[RemoteFolder]) -> dict[FolderRole, str]:
        found: dict[FolderRole, tuple[tuple[bool, int, str], str]] = {}
        for folder in destination:
            role = role_of(folder, None, prefix=self.prefix)
            if role:
                rank = (role_by_attribute(folder) is not role, name_rank(folder, None, prefix=self.prefix), folder.name)
                found[role] = min(found.get(role, (rank, folder.name)), (rank, folder.name))
        return {role: name for role, (_, name) in found.items()}

    def _priority(self, folder: RemoteFolder) -> tuple[int, bool, bool, bool]:
        """Parents before children; then those whose name is settled, so that the others make way."""
        components = self._components(folder)
        own = self._join(components)
        plain = all(_fitted(part, self.separator) == part for part in components)
        return (len(components), folder.name not in self.kept, not (plain and self._key(own) in self.existing),
                not (plain and components == self._raw_components(folder)))

    def _place(self, folder: RemoteFolder) -> FolderPlan:
        role, components = self.roles[folder.name], self._components(folder)
        base = FolderPlan(folder, "", "", role, False, components=components, separator=self.separator, prefix=self.prefix)
        rule = names().rules.get(role) if role else None
        if rule == "all_mail" and not self._has_labels():
            rule = None
        if rule:
            return base._replace(rule=rule)
        target, note = self._wanted(folder, components, role)
        twin = self.taken.get(self._key(target))
        if twin and role and twin.role is role:
            note = f"merged:{twin.source.display}"
        elif twin or (is_inbox(target) and role is not FolderRole.INBOX):
            target, note = self._free(target), f"renamed:{folder.display}"
        target = self.existing.get(self._key(target), target)
        plan = base._replace(target=target, target_display=utf7.decode(target), note=note,
                       exists=self._key(target) in self.existing)
        self.taken.setdefault(self._key(target), plan)
        self.targets[components] = target
        return plan

    def _wanted(self, folder: RemoteFolder, components: tuple[str, ...], role: FolderRole | None) -> tuple[str, str | None]:
        if role is FolderRole.INBOX:
            return "INBOX", None
        if folder.name in self.kept:
            kept = self.kept[folder.name]
            return kept, None if role or kept == self._join(components) else f"renamed:{folder.display}"
        fitted = tuple(_fitted(part, self.separator) for part in components)
        own = self._join(fitted)
        whole = self.separator and (not folder.separator or all(folder.name.split(folder.separator)))
        note = None if fitted == components and whole else f"renamed:{folder.display}"
        if self._key(own) in self.existing:
            return own, note
        if role and role in self.role_targets:
            return self.role_targets[role], None
        parent = self.targets.get(components[:-1])
        if parent and parent not in self.barren and parent != self._join(components[:-1]) and self.separator:
            return parent + self.separator + fitted[-1], note
        if is_inbox(components[0]) and len(components) > 1 and not self.inbox_takes_children:
            return self._join(fitted[1:]), f"renamed:{folder.display}"
        return own, note

    def _raw_components(self, folder: RemoteFolder) -> tuple[str, ...]:
        return tuple(relative_path(folder.name, folder.separator, self.source_prefix))

    def _components(self, folder: RemoteFolder) -> tuple[str, ...]:
        """Components below the personal prefix, without a container that only this provider has."""
        parts = self._raw_components(folder)
        parent = container(utf7.decode(parts[0])) if len(parts) > 1 else None
        if parent and parent.made_by(self.provider):
            empty = any(relative_path(name, folder.separator, self.source_prefix) == [parts[0]] for name in self.noselect)
            return parts[1:] if empty else parts
        return parts

    def _join(self, components: Sequence[str]) -> str:
        return join(components, self.prefix, self.separator)

    def _key(self, name: str) -> str:
        """Names with one key are one folder at the destination."""
        head, sep, rest = name.partition(self.separator) if self.separator else (name, "", "")
        name = ("INBOX" if is_inbox(head) else head) + sep + rest
        return utf7.decode(name).casefold() if self.case_insensitive else name

    def _free(self, target: str) -> str:
        """The first of "name (2)", "name (3)" … that no other folder of this move has."""
        numbered = (f"{target} ({n})" for n in range(2, len(self.folders) + 3))
        return next(name for name in numbered if self._key(name) not in self.taken)

    def _has_labels(self) -> bool:
        """Gmail shows each message in All Mail and again under every label; only a server that shows labels repeats them."""
        views = (FolderRole.INBOX, FolderRole.ALL, FolderRole.FLAGGED, FolderRole.IMPORTANT, FolderRole.CHATS)
        return any(role not in views for role in self.roles.values())


def join(components: Sequence[str], prefix: str, separator: str) -> str:
    """Components as one destination name. A child of INBOX stays one: under a prefix "INBOX." it is not INBOX.INBOX.child."""
    if separator and is_inbox(components[0]) and len(components) > 1:
        return separator.join(("INBOX", *components[1:]))
    return prefix + (separator or "_").join(components)  # a server without hierarchy gets one level


def _percent(text: str) -> str:
    return "".join(f"%{octet:02X}" for octet in text.encode("utf-8", "surrogatepass"))


def _fitted(component: str, separator: str) -> str:
    """A wire component as a server with this separator can hold it: itself, or percent-encoded where it must be (then "%" is too,
    so that decoding gives the old name back)."""
    if not component.isascii():  # raw octets on the wire kill some sessions silently (Alibaba; facts: engine 5.3): always encode
        component = utf7.encode(utf7.decode(component))
    text = utf7.decode(component)
    bad = {char for char in text if unicodedata.category(char) in ("Cc", "Cs") or char == separator}
    if not bad:
        return component
    return utf7.encode("".join(_percent(char) if char in bad or char == "%" else char for char in text))


def original_component(component: str) -> str:
    """What a percent-encoded wire component was before."""
    text = utf7.decode(component).encode("utf-8", "surrogatepass")
    raw = re.sub(rb"%([0-9A-F]{2})", lambda found: bytes([int(found.group(1), 16)]), text)
    return utf7.encode(raw.decode("utf-8", "surrogatepass"))


def _rungs(plan: FolderPlan) -> Iterator[str]:
    """Names to try when CREATE was refused, from the most to the least like the old one."""
    texts = [utf7.decode(part) for part in plan.components]
    awkward = [_AWKWARD.sub(lambda found: _percent(found.group()), text) for text in texts]
    mark = hashlib.sha256(plan.source.name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    short = [text if len(text) <= LONGEST_COMPONENT else text[:LONGEST_COMPONENT - 9].rstrip() + "-" + mark for text in awkward]
    for parts in (awkward, short, [" - ".join(short)[:LONGEST_COMPONENT - 9].strip() + "-" + mark], [f"folder-{mark}"]):
        yield join([utf7.encode(text) for text in parts], plan.prefix, plan.separator)


def next_name_after_refusal(plan: FolderPlan, refusal: str) -> FolderPlan | None:
    """The plan with the next name to try after CREATE was refused with the text `refusal`; None: give up.

    A refusal that no other name would escape (quota, server busy) gives up at once. "Already exists" for a folder that the
    destination did not list is a name that differs only in case: that gets a number.
    """
    if _REFUSED_FOR_GOOD.search(refusal):
        return None
    note = f"renamed:{plan.source.display}"
    if re.search(r"ALREADYEXISTS|already exists|\bexists\b", refusal, re.I):
        number = re.search(r" \((\d+)\)$", plan.target)
        if number and int(number.group(1)) > 8:
            return None
        target = f"{plan.target} (2)" if not number else f"{plan.target[:number.start()]} ({int(number.group(1)) + 1})"
        return plan._replace(target=target, target_display=utf7.decode(target), note=note, exists=False)
    for rung, target in enumerate(_rungs(plan), start=1):
        if rung > plan.rung and target != plan.target:
            return plan._replace(target=target, target_display=utf7.decode(target), note=note, rung=rung, exists=False)
    return None
