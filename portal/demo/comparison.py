"""Compares two accounts message by message, the way a suspicious customer would.

Always: a folder is a multiset of (every octet, flags and keywords, internal date as an instant); order and UIDs are not compared.
Shares nothing with engine/verify.py (see portal/demo/imap.py).
"""
from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Mapping

from portal.demo.imap import Stored

Identity = tuple[bytes, frozenset[str], float]


def differences(source: Mapping[str, list[Stored]], destination: Mapping[str, list[Stored]], *,
                target_of: Mapping[str, str] | None = None, extra_is_fine: bool = False) -> list[str]:
    """One sentence per difference; empty when the copy is exact. `target_of` names the destination folder of a source folder
    where it is not the same; `extra_is_fine` for a destination that held mail of its own."""
    told: list[str] = []
    wanted: dict[str, Counter[Identity]] = {}
    for folder, messages in source.items():
        target = (target_of or {}).get(folder, folder)
        wanted.setdefault(target, Counter()).update(m.identity for m in messages)
    for target, mails in wanted.items():
        if target not in destination:
            told.append(f"{target}: the folder is not at the destination ({mails.total()} messages)")
            continue
        there = Counter(m.identity for m in destination[target])
        told += [f"{target}: {n} x missing: {_sketch(mail)}" for mail, n in (mails - there).items()]
        if not extra_is_fine:
            told += [f"{target}: {n} x too many: {_sketch(mail)}" for mail, n in (there - mails).items()]
    if not extra_is_fine:
        told += [f"{folder}: {len(mails)} messages that no source folder holds"
                 for folder, mails in destination.items() if folder not in wanted and mails]
    return told


def _sketch(mail: Identity) -> str:
    content, flags, date = mail
    return f"{len(content)} octets, sha256 {hashlib.sha256(content).hexdigest()[:12]}, flags {sorted(flags)}, date {date:.0f}"
