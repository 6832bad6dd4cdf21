"""Finding what is at the destination already, when the ledger does not know: a lost ledger, a changed UIDVALIDITY, mail that
another mover brought.

Identity is content: octets and the whole header block settle a message that has a Message-ID and no equal beside it; twins and
messages without a Message-ID are compared by every byte. Counts are kept: see engine/transfer/matching.py. No SEARCH is used.
"""
from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence

from engine.imap.fetch import Metadata, fetch_digests, fetch_headers, fetch_metadata
from engine.imap.session import Session
from engine.transfer.matching import Claims, Pair, instant, pair_equal, split_groups

ALTERED_OCTETS = 64  # and 2 % of the message: what line ends, NULs and a final newline can make

_MESSAGE_ID = re.compile(rb"^message-id:[ \t]*(\r?\n[ \t]+)?<[^>\r\n]+>", re.IGNORECASE | re.MULTILINE)


def adopt(source: Session, target: Session, target_folder: str, wanted: Sequence[Metadata], claims: Claims, *,
          sizes_are_exact: bool = True) -> tuple[list[Pair], list[Pair]]:
    """Pairs source messages with unclaimed destination messages: those of the same content, and those that the destination's
    server altered when it stored them. The destination's folder is EXAMINEd here, the source's by the caller.

    `sizes_are_exact` False (Exchange: RFC822.SIZE is a guess) compares headers of all messages, not only of those of equal size.
    """
    if not target.examine(target_folder).messages:
        return [], []
    there = {m.uid: m for m in fetch_metadata(target, 1, None) if m.uid not in claims}
    here = {m.uid: m for m in wanted}
    pairs = _same(source, target, *(_of_common_size(here, there) if sizes_are_exact else (here, there)), sizes_are_exact)
    for pair in pairs:
        del here[pair.source_uid], there[pair.target_uid]
    return pairs, _altered(source, target, here, there)


def _same(source: Session, target: Session, here: dict[int, Metadata], there: dict[int, Metadata],
          sizes_are_exact: bool) -> list[Pair]:
    if not here or not there:
        return []
    here_keys, certain = _keys(source, here, sizes_are_exact)
    there_keys, _ = _keys(target, there, sizes_are_exact)
    if not sizes_are_exact:
        certain = {}
    pairs, here_left, there_left = split_groups(here_keys, there_keys, certain)
    if here_left:
        pairs += _by_every_byte(source, target, {u: here[u] for u in here_left}, {u: there[u] for u in there_left})
    return sorted(pairs, key=lambda pair: pair.source_uid)


def _altered(source: Session, target: Session, here: dict[int, Metadata], there: dict[int, Metadata]) -> list[Pair]:
    """Among what found no equal: the same header block, the same date to the second, nearly the same size. Only messages whose
    date occurs on the other side are looked at, so that a destination's own mail costs nothing."""
    dates = {instant(m.internal_date) for m in here.values()} & {instant(m.internal_date) for m in there.values()}
    here = {u: m for u, m in here.items() if instant(m.internal_date) in dates}
    there = {u: m for u, m in there.items() if instant(m.internal_date) in dates}
    if not here or not there:
        return []
    here_keys, there_keys = dated_headers(source, here), dated_headers(target, there)
    return [p for p in pair_equal(here_keys, there_keys)
            if abs(here[p.source_uid].size - there[p.target_uid].size) <= ALTERED_OCTETS + here[p.source_uid].size // 50]


def dated_headers(session: Session, messages: dict[int, Metadata]) -> dict[int, tuple[bytes, float | str]]:
    """(hash of the header block, date as an instant) by UID: what a server that alters bodies leaves alone."""
    return {uid: (hashlib.sha256(header).digest(), instant(messages[uid].internal_date))
            for uid, header in fetch_headers(session, sorted(messages))}


def _of_common_size(here: dict[int, Metadata], there: dict[int, Metadata]) -> tuple[dict[int, Metadata], dict[int, Metadata]]:
    common = {m.size for m in here.values()} & {m.size for m in there.values()}
    return {u: m for u, m in here.items() if m.size in common}, {u: m for u, m in there.items() if m.size in common}


def _keys(session: Session, messages: dict[int, Metadata], with_size: bool) -> tuple[dict[int, tuple[int, bytes]], dict[int, bool]]:
    """(size, hash of the header block) by UID, and whether the header holds a Message-ID."""
    keys, certain = {}, {}
    for uid, header in fetch_headers(session, sorted(messages)):
        keys[uid] = (messages[uid].size if with_size else 0, hashlib.sha256(header).digest())
        certain[uid] = bool(_MESSAGE_ID.search(header))
    return keys, certain


def _by_every_byte(source: Session, target: Session, here: dict[int, Metadata], there: dict[int, Metadata]) -> list[Pair]:
    """Among equal messages those with the same date are paired first: copies that differ in their date only stay themselves."""
    here_digest, there_digest = dict(fetch_digests(source, sorted(here))), dict(fetch_digests(target, sorted(there)))
    pairs = pair_equal({u: (d, instant(here[u].internal_date)) for u, d in here_digest.items()},
                       {u: (d, instant(there[u].internal_date)) for u, d in there_digest.items()})
    source_paired, target_paired = {p.source_uid for p in pairs}, {p.target_uid for p in pairs}
    return pairs + pair_equal({u: d for u, d in here_digest.items() if u not in source_paired},
                              {u: d for u, d in there_digest.items() if u not in target_paired})
