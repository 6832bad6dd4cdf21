"""Folder lists as tests write them: display names with their attributes."""
from __future__ import annotations

from collections.abc import Sequence

from engine.folders.mapping import FolderPlan, plan_folders
from engine.imap.session import RemoteFolder
from engine.wire import utf7


def folder(name: str, *attributes: str, separator: str | None = "/") -> RemoteFolder:
    """A folder by the name that people write."""
    return RemoteFolder(utf7.encode(name), name, separator, frozenset(attribute.lower() for attribute in attributes))


def listed(*names: str, separator: str = "/") -> list[RemoteFolder]:
    """Plain folders; "name \\Role" gives the last word as attribute."""
    found = []
    for name in names:
        plain, mark, attribute = name.rpartition(" \\")
        found.append(folder(plain if mark else name, *(["\\" + attribute] if mark else []), separator=separator))
    return found


def planned(source: Sequence[RemoteFolder], destination: Sequence[RemoteFolder] = (), *, source_prefix: str = "",
            destination_prefix: str = "", separator: str = "/", provider: str | None = None, case_insensitive: bool = False,
            kept: dict[str, str] | None = None) -> dict[str, FolderPlan]:
    """Plans by the source's display name, in the order of the plan."""
    plans = plan_folders(source, destination, source_prefix=source_prefix, destination_prefix=destination_prefix,
                         destination_separator=separator, provider=provider, case_insensitive=case_insensitive, kept=kept)
    return {plan.source.display: plan for plan in plans}


def targets(*arguments: object, **options: object) -> dict[str, str]:
    return {name: plan.target_display for name, plan in planned(*arguments, **options).items()}  # type: ignore[arg-type]
