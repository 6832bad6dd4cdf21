"""The report as a sheet: UTF-8 with a byte-order mark, as Excel in Chinese wants it; no cell can be run by a spreadsheet program.

One row for each fact. Columns: record; old folder; new folder; messages; outcome; explanation; old UIDs from, to; new UIDs from, to;
which pass (1, 2, …; JSON has their ids); size in octets; date; server's words. Records, in this order: of each folder its counts (what is
not zero), its proof with the digest, its UID ranges, what was set aside, what was repaired; then the passes, the totals, and the proof of
the whole. A column that a record has no value for is empty.
"""
from __future__ import annotations

import csv
import hashlib
import io
from collections.abc import Iterable, Iterator, Sequence

from engine.causes import Words
from engine.ledger import LedgerStore
from engine.manifest import Facts, FolderManifest, Manifest, Proof, Sum, folder_manifest, last_target
from engine.redact import redact, visible
from engine.report_files import words
from engine.report_files.cells import safe_cell
from engine.report_files.heading import Heading

LEAD = "\ufeff"
ROWS_AT_ONCE = 200

COLUMNS = (
    Words("记录", "Record"), Words("旧文件夹", "Old folder"), Words("新文件夹", "New folder"), Words("封数", "Messages"),
    Words("结果", "Outcome"), Words("说明", "Explanation"), Words("旧邮箱 UID 从", "Old UIDs from"), Words("旧邮箱 UID 到", "Old UIDs to"),
    Words("新邮箱 UID 从", "New UIDs from"), Words("新邮箱 UID 到", "New UIDs to"), Words("第几次", "Pass"),
    Words("大小（字节）", "Size (octets)"), Words("日期", "Date"), Words("服务器的原话或细节", "Server’s words or detail"),
)
FOLDER, RANGE, MESSAGE = Words("文件夹", "Folder"), Words("一段邮件", "Range"), Words("一封邮件", "Message")
PASS, TOTAL, PROOF = Words("每次搬的经过", "Pass"), Words("合计", "Total"), Words("核对", "Proof")
COUNTED = {"total": Words("旧邮箱里共有", "Counted in the old mailbox"), "moved": words.MOVED, "already_there": words.ALREADY_THERE,
           "excluded": words.EXCLUDED, "set_aside": words.SET_ASIDE, "vanished": words.VANISHED, "gone": words.GONE,
           "repaired": words.REPAIRED, "flags_updated": words.FLAGS_UPDATED}
PROOFS = {Proof.HOLDS: Words("对得上：每一封都有着落", "Holds: every message is accounted for"),
          Proof.OPEN: Words("还没搬完", "Not finished yet"),
          Proof.BROKEN: Words("对不上！先不要停用旧邮箱", "DOES NOT HOLD! Keep the old mailbox")}


def as_csv(ledger: LedgerStore, heading: Heading) -> Iterator[str]:
    yield LEAD
    yield from _written(_rows(ledger, heading))


def _written(rows: Iterable[Sequence[object]]) -> Iterator[str]:
    out = io.StringIO(newline="")
    writer = csv.writer(out)
    for count, row in enumerate(rows, 1):
        writer.writerow([cell if isinstance(cell, int) else safe_cell(str(cell)) for cell in row])
        if count % ROWS_AT_ONCE == 0:
            yield out.getvalue()
            out.seek(0)
            out.truncate()
    yield out.getvalue()


def _rows(ledger: LedgerStore, heading: Heading) -> Iterator[Sequence[object]]:
    language = heading.language
    yield [column.in_(language) for column in COLUMNS]
    digest = hashlib.sha256()
    folders: list[FolderManifest] = []
    passes = ledger.passes()
    numbers = {one.id: number for number, one in enumerate(passes, 1)}
    for row in ledger.folders():
        facts = Facts.of(ledger, row)
        folders.append(folder_manifest(row, facts))
        digest.update(folders[-1].digest.encode("ascii") + b"\n")
        yield from _folder(folders[-1], facts, heading, numbers)
    whole = Manifest(folders, passes, digest.hexdigest())
    for one in whole.passes:
        span = f"{heading.moment(one.begun_at)} – {heading.moment(one.ended_at) if one.ended_at else ''}"
        yield [PASS.in_(language), "", "", whole.appended(one.id), words.pass_words(one.outcome).in_(language), span,
               "", "", "", "", numbers[one.id], "", "", ""]
    yield from _counts(TOTAL, "", "", whole.counts, language)
    yield _proof("", "", whole.counts, whole.proof, whole.digest, language)


def _folder(folder: FolderManifest, facts: Facts, heading: Heading, numbers: dict[int, int]) -> Iterator[Sequence[object]]:
    row, language = folder.row, heading.language
    old = visible(words.folder_words(row.source, row.source_display).in_(language))
    new = visible(words.folder_words(row.target, row.target_display).in_(language)) if row.target else ""
    why = words.rule_words(row.rule) if row.rule else words.note_words(row.note)
    yield from _counts(FOLDER, old, new, folder.counts, language, why)
    yield _proof(old, new, folder.counts, folder.proof, folder.digest, language)
    for run in facts.runs:
        yield [RANGE.in_(language), old, new, run.count, words.OUTCOMES[run.outcome].in_(language), "", run.source_first, run.source_last,
               run.target_first, last_target(run), numbers.get(run.pass_id, run.pass_id or ""), "", "", ""]
    for aside in facts.set_aside:
        yield [MESSAGE.in_(language), old, new, 1, words.SET_ASIDE.in_(language),
               words.reason_words(aside.reason, heading.provider).in_(language), aside.uid or "", aside.uid or "", "", "", "",
               aside.size or "", visible(aside.internal_date), redact(aside.server_text)]
    for repair in facts.repairs:
        yield [MESSAGE.in_(language), old, new, 1, words.REPAIRED.in_(language), words.repair_words(repair.repair).in_(language),
               repair.uid, repair.uid, "", "", "", "", "", redact(repair.words)]


def _counts(record: Words, old: str, new: str, counts: Sum, language: str, why: Words | None = None) -> Iterator[Sequence[object]]:
    for name, what in COUNTED.items():
        value = getattr(counts, name)
        if value or name == "total":
            yield [record.in_(language), old, new, value, what.in_(language), why.in_(language) if why else "",
                   "", "", "", "", "", counts.bytes_moved if name == "moved" else "", "", ""]


def _proof(old: str, new: str, counts: Sum, proof: Proof, digest: str, language: str) -> Sequence[object]:
    return [PROOF.in_(language), old, new, counts.accounted, PROOFS[proof].in_(language), f"SHA-256 {digest}",
            "", "", "", "", "", "", "", ""]
