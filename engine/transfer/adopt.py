"""Finding what is at the destination already, when the ledger does not know: a lost ledger, a changed UIDVALIDITY, mail that
another mover brought.

Identity is content, every byte of it: an equal header block and size may hide another body (a tool that turned 8-bit octets into
question marks, a draft). Counts are kept: see engine/transfer/matching.py. No SEARCH is used.
"""
from __future__ import annotations

import hashlib
from collections.abc import Sequence

from engine.imap.fetch import Metadata, fetch_digests, fetch_headers, fetch_metadata
from engine.imap.session import Session
from engine.transfer.matching import Claims, Pair, instant, pair_equal

ALTERED_OCTETS = 64  # and 2 % of the message: what line ends, NULs and a final newline can make


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
    """Of the same octets. What is read is what could be equal: messages of a size, or else of a header block, that both sides have.
    Among equal messages those with the same date are paired first: copies that differ in their date only stay themselves."""
    if not sizes_are_exact:
        here, there = _of_common_header(source, target, here, there)
    if not here or not there:
        return []
    here_digest, there_digest = dict(fetch_digests(source, sorted(here))), dict(fetch_digests(target, sorted(there)))
    pairs = pair_equal({u: (d, instant(here[u].internal_date)) for u, d in here_digest.items()},
                       {u: (d, instant(there[u].internal_date)) for u, d in there_digest.items()})
    source_paired, target_paired = {p.source_uid for p in pairs}, {p.target_uid for p in pairs}
    return pairs + pair_equal({u: d for u, d in here_digest.items() if u not in source_paired},
                              {u: d for u, d in there_digest.items() if u not in target_paired})


def _of_common_header(source: Session, target: Session, here: dict[int, Metadata],
                      there: dict[int, Metadata]) -> tuple[dict[int, Metadata], dict[int, Metadata]]:
    keys = [{uid: hashlib.sha256(header).digest() for uid, header in fetch_headers(session, sorted(messages))}
            for session, messages in ((source, here), (target, there))]
    common = set(keys[0].values()) & set(keys[1].values())
    return ({u: here[u] for u, key in keys[0].items() if key in common},
            {u: there[u] for u, key in keys[1].items() if key in common})


def _altered(source: Session, target: Session, here: dict[int, Metadata], there: dict[int, Metadata]) -> list[Pair]:
    """Among what found no equal: the same header block, the same date to the second, nearly the same size (not
    the same: those were compared by every byte and are another message). Only messages whose
    date occurs on the other side are looked at, so that a destination's own mail costs nothing."""
    dates = {instant(m.internal_date) for m in here.values()} & {instant(m.internal_date) for m in there.values()}
    here = {u: m for u, m in here.items() if instant(m.internal_date) in dates}
    there = {u: m for u, m in there.items() if instant(m.internal_date) in dates}
    if not here or not there:
        return []
    here_keys, there_keys = dated_headers(source, here), dated_headers(target, there)
    return [p for p in pair_equal(here_keys, there_keys)
            if 0 < abs(here[p.source_uid].size - there[p.target_uid].size) <= ALTERED_OCTETS + here[p.source_uid].size // 50]


def dated_headers(session: Session, messages: dict[int, Metadata]) -> dict[int, tuple[bytes, float | str]]:
    """(hash of the header block, date as an instant) by UID: what a server that alters bodies leaves alone."""
    return {uid: (hashlib.sha256(header).digest(), instant(messages[uid].internal_date))
            for uid, header in fetch_headers(session, sorted(messages))}


def _of_common_size(here: dict[int, Metadata], there: dict[int, Metadata]) -> tuple[dict[int, Metadata], dict[int, Metadata]]:
    common = {m.size for m in here.values()} & {m.size for m in there.values()}
    return {u: m for u, m in here.items() if m.size in common}, {u: m for u, m in there.items() if m.size in common}
