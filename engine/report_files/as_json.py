"""The report as one JSON object, for programs. Field names are public; values are the engine's own, with words beside them.

    format        "banjia-report"
    version       1
    language      "zh" | "en": of every *_words
    made_at       ISO 8601, UTC
    source, destination, reference
                  as the heading names them
    passes        [{id, begun_at, ended_at | null, outcome}]    ISO 8601, UTC; outcome complete | partial | failed | paused | ""
    folders       [{source, source_wire, target, target_wire, role, rule, rule_words, note, note_words, source_uidvalidity,
                    target_uidvalidity, runs, set_aside, repairs, complete, proof, digest, counts}]
      runs        [{source_first, source_last, count, target_first, target_last, outcome, pass}]    UIDs; outcome moved | already_there
                  | undoing. `count` messages of the UIDs source_first to source_last, in order, are target_first to target_last.
      set_aside   [{uid, reason, reason_words, server_text, size, internal_date}]    reason: a cause; size in octets
      repairs     [{uid, repair, repair_words, server_text}]    repair: keywords | date | line_ends
      proof       holds | open | broken
      digest      see engine/manifest.py
      counts      {total, moved, already_there, excluded, set_aside, vanished, gone, repaired, flags_updated, bytes_moved}
    totals        the same counts, of all folders
    proof, digest of the mailbox

Servers' words are redacted. Proof and totals come last: they are known when everything was read.
"""
from __future__ import annotations

import datetime as dt
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict
from typing import Any

from engine.ledger import LedgerStore, RepairRow, Run, SetAsideRow
from engine.manifest import Facts, FolderManifest, Manifest, folder_manifest, last_target
from engine.redact import redact
from engine.report_files import words
from engine.report_files.heading import Heading

ROWS_AT_ONCE = 200  # in one piece of text


def as_json(ledger: LedgerStore, heading: Heading) -> Iterator[str]:
    passes = ledger.passes()
    head = {"format": "banjia-report", "version": 1, "language": heading.language, "made_at": _time(heading.made_at),
            "source": heading.source, "destination": heading.destination, "reference": heading.reference,
            "passes": [{"id": p.id, "begun_at": _time(p.begun_at), "ended_at": _time(p.ended_at), "outcome": p.outcome} for p in passes]}
    yield _open(head) + ', "folders": ['
    digest = hashlib.sha256()
    folders: list[FolderManifest] = []
    for row in ledger.folders():
        facts = Facts.of(ledger, row)
        folder = folder_manifest(row, facts)
        yield ("" if not folders else ", ") + "\n"
        yield from _folder(folder, facts, heading)
        folders.append(folder)
        digest.update(folder.digest.encode("ascii") + b"\n")
    whole = Manifest(folders, passes, digest.hexdigest())
    tail = {"totals": asdict(whole.counts), "proof": whole.proof.value, "digest": whole.digest}
    yield "],\n" + json.dumps(tail, ensure_ascii=False)[1:] + "\n"


def _folder(folder: FolderManifest, facts: Facts, heading: Heading) -> Iterator[str]:
    row, language = folder.row, heading.language
    note = words.note_words(row.note)
    yield _open({
        "source": row.source_display or row.source, "source_wire": row.source, "target": row.target_display or row.target,
        "target_wire": row.target, "role": row.role, "rule": row.rule,
        "rule_words": words.rule_words(row.rule).in_(language) if row.rule else None,
        "note": row.note, "note_words": note.in_(language) if note else None,
        "source_uidvalidity": row.source_uidvalidity, "target_uidvalidity": row.target_uidvalidity})
    yield from _list("runs", map(_run, facts.runs))
    yield from _list("set_aside", (_set_aside(s, heading) for s in facts.set_aside))
    yield from _list("repairs", (_repair(r, heading) for r in facts.repairs))
    tail = {"complete": row.complete, "proof": folder.proof.value, "digest": folder.digest, "counts": asdict(folder.counts)}
    yield ", " + json.dumps(tail, ensure_ascii=False)[1:]


def _run(run: Run) -> dict[str, Any]:
    return {"source_first": run.source_first, "source_last": run.source_last, "count": run.count, "target_first": run.target_first,
            "target_last": last_target(run), "outcome": run.outcome.value, "pass": run.pass_id}


def _set_aside(row: SetAsideRow, heading: Heading) -> dict[str, Any]:
    return {"uid": row.uid, "reason": row.reason.value,
            "reason_words": words.reason_words(row.reason, heading.provider).in_(heading.language),
            "server_text": redact(row.server_text), "size": row.size, "internal_date": row.internal_date}


def _repair(row: RepairRow, heading: Heading) -> dict[str, Any]:
    return {"uid": row.uid, "repair": row.repair.value, "repair_words": words.repair_words(row.repair).in_(heading.language),
            "server_text": redact(row.words)}


def _list(name: str, rows: Iterable[dict[str, Any]]) -> Iterator[str]:
    yield f', "{name}": ['
    some: list[str] = []
    lead = ""
    for row in rows:
        some.append(json.dumps(row, ensure_ascii=False))
        if len(some) == ROWS_AT_ONCE:
            yield lead + ",\n".join(some)
            some, lead = [], ",\n"
    yield (lead + ",\n".join(some) if some else "") + "]"


def _open(fields: dict[str, Any]) -> str:
    """An object without its last brace: more fields follow."""
    return json.dumps(fields, ensure_ascii=False)[:-1]


def _time(at: float | None) -> str | None:
    return None if at is None else dt.datetime.fromtimestamp(at, dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
