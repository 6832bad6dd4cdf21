"""How a run ended, as its report says it: of each folder what this run did, what was set aside and why, and whose word ended it.

Must not: change anything. Always: what earlier runs of the ledger moved was there already.
"""
from __future__ import annotations

from collections.abc import Mapping

from engine.causes import Side
from engine.errors import EngineError, Throttled
from engine.folders.mapping import FolderPlan
from engine.ledger import SetAsideRow
from engine.pacing.pace import Pace
from engine.redact import redact
from engine.report.copy import CopyOutcome, CopyReport, FolderReport, SetAsideReport
from engine.transfer.planning import Plan, Rows
from engine.transfer.records import SerialStore


class End:
    """What is learned on the way and no row tells. `error`, `stopped`: why the run ended before all was done; the first reason counts."""

    def __init__(self) -> None:
        self.error: BaseException | None = None
        self.stopped = False
        self.refused: list[SetAsideReport] = []      # whole folders; surplus copies that stay, by their folder there
        self.out_of_order: dict[str, int] = {}       # messages, by source folder


def report_of(plan: Plan, rows: Rows, end: End, store: SerialStore, paces: Mapping[Side, Pace]) -> CopyReport:
    """Of one run, without its pass and its time."""
    report = CopyReport()
    for folder in plan.folders:
        report.folders.append(_folder_report(folder, plan, rows))
        row = rows.now.get(folder.source.name)
        report.set_aside += [_set_aside_report(folder, aside) for aside in (store.set_aside(row.id) if row and row.id else ())]
    report.set_aside += end.refused
    report.out_of_order = sum(end.out_of_order.values())
    before = {row.source: row.bytes_moved for row in rows.before.values()}
    report.bytes = sum(max(0, row.bytes_moved - before.get(row.source, 0)) for row in rows.now.values())
    if isinstance(end.error, EngineError):
        _failed(report, end.error)
    elif end.stopped:
        _stopped(report, paces)
    else:
        report.outcome = CopyOutcome.PARTIAL if report.set_aside else CopyOutcome.COMPLETE
    return report


def _failed(report: CopyReport, error: EngineError) -> None:
    report.outcome = CopyOutcome.PAUSED if isinstance(error, Throttled) else CopyOutcome.FAILED
    report.cause, report.side, report.detail = error.cause, error.side, error.detail
    report.server_text, report.retry_after = redact(error.server_text), error.retry_after


def _stopped(report: CopyReport, paces: Mapping[Side, Pace]) -> None:
    """A wait that the server stated outlives the stop: whoever begins the next run is told of it."""
    report.outcome = CopyOutcome.PAUSED
    standing = [(seconds, side, cause) for side, pace in paces.items() for cause, seconds in pace.standing_wait()]
    if standing:
        report.retry_after, report.side, report.cause = max(standing)


def _folder_report(folder: FolderPlan, plan: Plan, rows: Rows) -> FolderReport:
    row = rows.now.get(folder.source.name)
    if row is None:
        return FolderReport(folder.source.display, folder.target_display, folder.role.value if folder.role else None,
                            total=plan.messages(folder), rule=folder.rule, note=folder.note)
    earlier = rows.before.get(folder.source.name)
    moved = max(0, row.moved - earlier.moved) if earlier else row.moved
    return FolderReport(folder.source.display, row.target_display, row.role, row.total, moved,
                        row.already_there + row.moved - moved, row.excluded, row.set_aside, row.vanished, row.rule, row.note,
                        row.repaired, row.gone, row.flags_updated)


def _set_aside_report(folder: FolderPlan, aside: SetAsideRow) -> SetAsideReport:
    return SetAsideReport(folder.source.display, aside.uid, aside.reason.value, aside.server_text, aside.size, aside.internal_date)
