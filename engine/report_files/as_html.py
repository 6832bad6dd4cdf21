"""The report as one printable page: nothing is loaded, nothing runs, every value is escaped, A4.

What is long is cut here and whole in the CSV; the page says how many more there are. The ledger is read once.
"""
from __future__ import annotations

import base64
import hashlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cache
from importlib.resources import files

from engine.causes import Cause, Words
from engine.ledger import FolderRow, LedgerStore, PassRow, Repair, RepairRow, SetAsideRow
from engine.manifest import Facts, FolderManifest, Manifest, Proof, folder_manifest
from engine.redact import redact
from engine.report_files import words
from engine.report_files.heading import Heading
from engine.report_files.markup import EMPTY, Markup, html, joined
from engine.report_files.tables import Cell, Column, bar, counted, name, table

FOLDERS_SHOWN = 1000
MESSAGES_SHOWN = 200  # set aside, and again repaired
PASSES_SHOWN = 50
NAMES_SHOWN = 20      # folders in one sentence
NAME_SHOWN = 40       # characters of a folder's name beside each of its messages

_MARKS = {Proof.HOLDS: "M4 12.5l5.5 5.5L20 6.5", Proof.OPEN: "M12 6v6.5l4 2.5M12 3a9 9 0 1 0 .01 0", Proof.BROKEN: "M12 4v10M12 19v.5"}
_HEAD = """<!doctype html>
<html lang="{lang}"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="robots" content="noindex"><title>{title} · {source}</title><style>{style}</style></head>
<body>
<header><p class="brand"><svg viewBox="0 0 32 24" aria-hidden="true">
<path d="M1.5 5.5h12v14h-12zM1.5 6l6 5 6-5M17 12.5h13M25 7.5l5 5-5 5"/></svg>{brand}</p>
<h1>{title}</h1><p class="route"><bdi>{source}</bdi><span>→</span><bdi>{destination}</bdi></p>
<p class="small soft">{made}</p></header>
<main>
"""
_VERDICT = """<section class="verdict {kind}">
<p><svg class="mark" viewBox="0 0 24 24" aria-hidden="true"><path d="{mark}"/></svg><span>{says}</span></p>{off}
<dl class="equation"><div class="sum"><dt>{total}</dt><dd>{n}</dd></div>{terms}</dl>{bar}</section>
"""
_TERM = '<div class="{kind}"><dt>{what}</dt><dd><span aria-hidden="true">{sign}</span>{n}</dd></div>'
_SECTION = "<section><h2>{title}{small}</h2>{lead}{body}{more}</section>\n"
_FOOT = """</main>
<footer class="foot"><p>{proof}</p><p>{more}</p><p class="words">SHA-256 {digest}</p></footer>
</body></html>
"""


@dataclass
class _Picked:
    """What the page shows, of one reading."""

    folders: list[FolderManifest] = field(default_factory=list)
    set_aside: list[tuple[FolderRow, SetAsideRow]] = field(default_factory=list)
    reasons: Counter[Cause] = field(default_factory=Counter)
    repairs: list[tuple[FolderRow, RepairRow]] = field(default_factory=list)
    kinds: Counter[Repair] = field(default_factory=Counter)


def as_html(ledger: LedgerStore, heading: Heading) -> Iterator[str]:
    picked, digest = _Picked(), hashlib.sha256()
    for row in ledger.folders():
        facts = Facts.of(ledger, row)
        picked.folders.append(folder_manifest(row, facts))
        digest.update(picked.folders[-1].digest.encode("ascii") + b"\n")
        picked.set_aside += [(row, aside) for aside in facts.set_aside[:MESSAGES_SHOWN - len(picked.set_aside)]]
        picked.repairs += [(row, repair) for repair in facts.repairs[:MESSAGES_SHOWN - len(picked.repairs)]]
        picked.reasons.update(aside.reason for aside in facts.set_aside)
        picked.kinds.update(repair.repair for repair in facts.repairs)
    page = _Page(heading, Manifest(picked.folders, ledger.passes(), digest.hexdigest()), picked)
    for part in (page.head, page.verdict, page.facts, page.folders, page.left_out, page.set_aside, page.repaired, page.since, page.passes,
                 page.foot):
        yield part()


@cache
def style() -> str:
    return files("engine.report_files").joinpath("report.css").read_text(encoding="utf-8")


@cache
def content_security_policy() -> str:
    """Of an answer that is this page: nothing but its own style sheet, named by its hash."""
    digest = base64.b64encode(hashlib.sha256(style().encode("utf-8")).digest()).decode("ascii")
    return f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"


@dataclass
class _Page:
    heading: Heading
    manifest: Manifest
    picked: _Picked

    def say(self, zh: str, en: str, **values: object) -> str:
        text = en if self.heading.language == "en" else zh
        return text.format(**{key: words.Counted(v) if isinstance(v, int) else v for key, v in values.items()}) if values else text

    def of(self, pair: Words) -> str:
        return pair.in_(self.heading.language)

    # -- the parts -----------------------------------------------------------------------------------------------------------

    def head(self) -> Markup:
        heading = self.heading
        made = self.say("报告时间 {at}", "Written {at}", at=heading.moment(heading.made_at))
        if heading.reference:
            made += self.say(" · 编号 {n}", " · number {n}", n=heading.reference)
        return html(_HEAD, lang=self.say("zh-CN", "en"), title=self.say("搬家报告", "Report of the move"), style=Markup(style()),
                    brand=self.say("邮箱搬家", "Banjia"), source=heading.source, destination=heading.destination, made=made)

    def verdict(self) -> Markup:
        counts, proof = self.manifest.counts, self.manifest.proof
        parts = {words.MOVED: counts.moved, words.ALREADY_THERE: counts.already_there, words.EXCLUDED: counts.excluded,
                 words.SET_ASIDE: counts.set_aside}
        parts |= {what: n for what, n in ((words.VANISHED, counts.vanished), (words.REMAINING, counts.remaining)) if n > 0}
        terms = joined(html(_TERM, kind="" if n else "zero", what=self.of(what), sign="+ " if at else "= ", n=words.number(n))
                       for at, (what, n) in enumerate(parts.items()))
        return html(_VERDICT, kind=proof.value, mark=_MARKS[proof], says=self._says(),
                    off=html("<p>{text}</p>", text=self._broken()) if proof is Proof.BROKEN else EMPTY,
                    total=self.say("旧邮箱里共有", "In the old mailbox"), n=words.number(counts.total), terms=terms, bar=bar(counts))

    def _says(self) -> str:
        counts, proof = self.manifest.counts, self.manifest.proof
        if not self.manifest.folders:
            return self.say("还没有开始搬。", "Nothing has been moved yet.")
        if proof is Proof.HOLDS:
            return self.say("旧邮箱里的 {n} 封邮件，每一封都有着落。",
                            "{n:The one message|All {n} messages} of the old mailbox {n:is|are} accounted for.",
                            n=counts.total)
        if proof is Proof.OPEN:
            if counts.remaining > 0:
                return self.say("还没搬完：{n} 封还没有结果。", "Not finished: {n} {n:message is|messages are} not settled yet.",
                                n=counts.remaining)
            return self.say("还没搬完：还有文件夹没有走完。", "Not finished: not every folder has been gone through yet.")
        return self.say("数目对不上！先不要停用旧邮箱，请把这份报告交给管理员。",
                        "The sum does not hold! Keep the old mailbox, and give this report to your administrator.")

    def _broken(self) -> str:
        broken = [f for f in self.manifest.folders if f.proof is Proof.BROKEN]
        return self.say("对不上的文件夹：{names}", "Folders that do not add up: {names}", names=self._listed([
            self.say("{name}（旧邮箱 {total} 封，有结果 {settled} 封，逐段记录 {recorded} 封）",
                     "{name} (old mailbox {total}, settled {settled}, recorded in ranges {recorded})", name=self._old(f.row),
                     total=f.counts.total, settled=f.counts.accounted, recorded=f.recorded + f.counts.excluded + f.counts.vanished)
            for f in broken]))

    def facts(self) -> Markup:
        facts = {self.say("文件夹", "Folders"): words.number(len(self.manifest.folders)),
                 self.say("搬的大小", "Size moved"): words.size(self.manifest.counts.bytes_moved)}
        passes = self.manifest.passes
        if passes and passes[0].begun_at:
            facts[self.say("第一次开始", "First begun")] = self.heading.moment(passes[0].begun_at)
        if passes and passes[-1].ended_at:
            facts[self.say("最后一次结束", "Last ended")] = self.heading.moment(passes[-1].ended_at)
        return html('<dl class="facts">{rows}</dl>\n',
                    rows=joined(html("<dt>{what}</dt><dd>{value}</dd>", what=what, value=value) for what, value in facts.items()))

    def folders(self) -> Markup:
        fields = [("total", self.say("共有", "In all")), ("moved", self.say("搬到", "Moved")),
                  ("already_there", self.say("本来就有", "Were there")), ("excluded", self.say("不搬", "Left out")),
                  ("set_aside", self.say("没搬成", "Set aside"))]
        if self.manifest.counts.vanished:
            fields.append(("vanished", self.say("搬前已删", "Had left")))
        columns = [self._column("旧文件夹", "Old folder"), self._column("新文件夹", "New folder"),
                   *(Column(title, "number") for _, title in fields), self._column("核对", "Proof")]
        rows = [self._folder(folder, [key for key, _ in fields]) for folder in self.manifest.folders[:FOLDERS_SHOWN]]
        foot: list[Cell] = [self.say("合计", "Sum"), "", *(getattr(self.manifest.counts, key) for key, _ in fields), ""]
        return self._section(self.say("各个文件夹", "By folder"), table(columns, rows, foot),
                             more=self._more(len(self.manifest.folders) - len(rows), "个文件夹", "folder|folders"))

    def _folder(self, folder: FolderManifest, fields: list[str]) -> list[Cell]:
        row, note = folder.row, words.note_words(folder.row.note)
        lands = self.say("（不搬）", "(left out)") if row.rule else name(self._new(row), self.of(note) if note else "")
        proof = {Proof.HOLDS: self.say("✓ 对上", "✓ holds"), Proof.OPEN: self.say("◐ 没搬完", "◐ open"),
                 Proof.BROKEN: self.say("! 对不上", "! broken")}[folder.proof]
        return [self._old(row), lands, *(getattr(folder.counts, key) for key in fields),
                html('<span class="proof {kind}">{proof}</span>', kind=folder.proof.value, proof=proof)]

    def left_out(self) -> Markup:
        by_rule: dict[str, list[FolderManifest]] = {}
        for folder in self.manifest.folders:
            if folder.row.rule:
                by_rule.setdefault(folder.row.rule, []).append(folder)
        if not by_rule:
            return EMPTY
        columns = [self._column("规则", "Rule"), self._column("文件夹", "Folders"), self._column("封数", "Messages", "number")]
        rows: list[list[Cell]] = [[self.of(words.rule_words(rule)), self._listed([self._old(f.row) for f in found]),
                                   sum(f.counts.excluded for f in found)] for rule, found in by_rule.items()]
        return self._section(self.say("按规则不搬", "Left out by rule"), table(columns, rows), total=self.manifest.counts.excluded)

    def set_aside(self) -> Markup:
        reasons = self.picked.reasons
        if not reasons:
            return EMPTY
        columns = [self._column("旧文件夹", "Old folder"), Column("UID", "number"), self._column("日期", "Date", "nowrap"),
                   self._column("大小", "Size", "number"), self._column("原因", "Reason", "reason"),
                   self._column("服务器的原话或细节", "Server’s words or detail", "words")]
        rows: list[list[Cell]] = [
            [self._where(row), str(aside.uid or "–"), words.internal_date_words(aside.internal_date) or "–",
             words.size(aside.size) if aside.size else "–", self._reason(aside.reason), name(redact(aside.server_text) or "–")]
            for row, aside in self.picked.set_aside]
        return self._section(
            self.say("没搬成的邮件", "Messages set aside"),
            joined([counted((n, self._reason(reason)) for reason, n in reasons.most_common()), table(columns, rows)]),
            total=reasons.total(),
            lead=self._what_to_do(reasons), more=self._more(reasons.total() - len(rows), "封", "message|messages"))

    def _what_to_do(self, reasons: Counter[Cause]) -> str:
        parts = [self.say("它们还在旧邮箱里，没有改动。", "They are still in the old mailbox, unchanged.")]
        if reasons[Cause.X_ITEM]:
            parts.append(self.say("旧邮箱没给全的，请旧邮箱的客服恢复。", "What it did not give in full, its support can restore."))
        if reasons[Cause.DESTINATION_REFUSED] or reasons[Cause.DESTINATION_QUOTA]:
            parts.append(self.say("新邮箱没收下的，请新邮箱的管理员看看原话。",
                                  "What the new mailbox did not take is for its administrator to see."))
        parts.append(self.say("处理好再搬一次，已经搬到的不会重复。", "Then move once more; nothing is copied twice."))
        return self.say("", " ").join(parts)

    def repaired(self) -> Markup:
        kinds = self.picked.kinds
        if not kinds:
            return EMPTY
        columns = [self._column("旧文件夹", "Old folder"), Column("UID", "number"), self._column("怎么改的", "How", "reason"),
                   self._column("新邮箱原来的话", "What the new mailbox had said", "words")]
        rows: list[list[Cell]] = [[self._where(row), str(repair.uid), self.of(words.repair_words(repair.repair)),
                                   name(redact(repair.words) or "–")] for row, repair in self.picked.repairs]
        lead = self.say("新邮箱不肯原样收下，只改了下面说的这一处。它们算在“搬到了新邮箱”里。",
                        "The new mailbox did not take them as they were; only what is named here was changed. They count as moved.")
        kinds_shown = counted((n, self.of(words.repair_words(kind))) for kind, n in kinds.most_common())
        return self._section(self.say("改动后才收下的邮件", "Messages that were repaired"), joined([kinds_shown, table(columns, rows)]),
                             total=kinds.total(), lead=lead, more=self._more(kinds.total() - len(rows), "封", "message|messages"))

    def since(self) -> Markup:
        counts = self.manifest.counts
        told = [(counts.gone, self.say("封搬好以后从旧邮箱里删掉了，新邮箱里的保留",
                                       "deleted in the old mailbox after the move; the new one keeps them")),
                (counts.flags_updated, self.say("次补上了搬好以后的新标记（已读、星标等）",
                                                "flags (read, starred …) changed later; the new mailbox has the new ones"))]
        told = [(n, text) for n, text in told if n]
        return self._section(self.say("搬好以后的变化", "Changes since"), counted(told)) if told else EMPTY

    def passes(self) -> Markup:
        every = self.manifest.passes
        shown = every[-PASSES_SHOWN:]
        if not shown:
            return EMPTY
        columns = [self._column("次", "Pass"), self._column("开始", "Begun"), self._column("结束", "Ended"),
                   self._column("结果", "Outcome"), self._column("搬到、现在还在的封数", "Moved and still there", "number")]
        return self._section(self.say("每次搬的经过", "Passes"), 
                             table(columns, [self._pass(number, one) for number, one in enumerate(shown, len(every) - len(shown) + 1)]),
                             more=self._more(len(every) - len(shown), "次更早的", "earlier one|earlier ones"))

    def _pass(self, number: int, one: PassRow) -> list[Cell]:
        return [str(number), self.heading.moment(one.begun_at) if one.begun_at else "–",
                self.heading.moment(one.ended_at) if one.ended_at else "–", self.of(words.pass_words(one.outcome)),
                self.manifest.appended(one.id)]

    def foot(self) -> Markup:
        return html(_FOOT, digest=self.manifest.digest,
                    proof=self.say("核对：每个文件夹里，旧邮箱数出的封数等于上面各项之和，也等于逐段记录的封数。",
                                   "Proof: in each folder, what the old mailbox counted is the sum of these columns, "
                                   "and what the recorded ranges hold."),
                    more=self.say("逐段的记录和完整名单在 CSV 和 JSON 报告里，指纹相同就是同一份结果。",
                                  "The ranges and the whole lists are in the CSV and JSON reports; one fingerprint means one result."))

    # -- small parts ---------------------------------------------------------------------------------------------------------

    def _column(self, zh: str, en: str, kind: str = "") -> Column:
        return Column(self.say(zh, en), kind)

    def _section(self, title: str, body: Markup, *, total: int | None = None, lead: str = "", more: tuple[int, str] = (0, "")) -> Markup:
        """`total`: messages, beside the title; `more`: how many of what are not shown."""
        rest = self.say("还有 {n} {what}，完整名单在 CSV 报告里。", "{n} more {what}; the CSV report has all.", n=more[0], what=more[1])
        return html(_SECTION, title=title, body=body, lead=html('<p class="lead">{text}</p>', text=lead) if lead else EMPTY,
                    small=html(" <small>{n}</small>", n=self.say("{n} 封", "{n}", n=total)) if total is not None else EMPTY,
                    more=html('<p class="more">{text}</p>', text=rest) if more[0] > 0 else EMPTY)

    def _more(self, n: int, zh: str, en: str) -> tuple[int, str]:
        """How many of what are not shown; `en`: "one|many"."""
        return n, self.say(zh, format(words.Counted(n), en))

    def _where(self, row: FolderRow) -> str:
        """The old folder beside one of its messages; the table of folders has the whole name."""
        name = self._old(row)
        return name if len(name) <= NAME_SHOWN else f"{name[:NAME_SHOWN * 2 // 3]}…{name[-NAME_SHOWN // 3:]}"

    def _old(self, row: FolderRow) -> str:
        return self.of(words.folder_words(row.source, row.source_display))

    def _new(self, row: FolderRow) -> str:
        return self.of(words.folder_words(row.target, row.target_display))

    def _listed(self, names: list[str]) -> str:
        return self.say("、", ", ").join(names[:NAMES_SHOWN]) + (" …" if len(names) > NAMES_SHOWN else "")

    def _reason(self, reason: Cause) -> str:
        return self.of(words.reason_words(reason, self.heading.provider))
