"""What is to be done with a mailbox before any of it is moved: which folders, where to, in what order, and which are done with already.

Owns the end of an undo that was interrupted, the look at both sides, the ledger's rows of folders that nobody opens (left out by a rule,
unchanged), and the making of what folders are missing. Must not: open a connection, move a message.
Always: a folder that was complete is looked at, not read; a look that broke off is begun anew, and what it had found is there for the
report. `delta` and `undo` are loaded only where the ledger knows the mailbox, so that a first copy starts quickly.
"""
from __future__ import annotations

import threading
from collections import deque
from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from engine.folders.mapping import FolderPlan, ignores_case, plan_folders
from engine.folders.roles import FolderRole
from engine.imap.session import FolderStatus, Session, Survey
from engine.ledger import FolderRow
from engine.progress import ProgressSink
from engine.transfer import points
from engine.transfer.records import SerialStore
from engine.transfer.tally import Tally

if TYPE_CHECKING:
    from engine.transfer.delta import FolderDelta
    from engine.transfer.sessions import Sessions


class Job(NamedTuple):
    """Folders that go to one destination folder, in order."""

    target: str
    folders: list[FolderPlan]


class Plan:
    """What a run has to do, as far as it is known. Folders go by the name that they have at the source."""

    def __init__(self, tally: Tally) -> None:
        self.tally = tally
        self.folders: list[FolderPlan] = []            # all of the source
        self.counted: dict[str, FolderStatus] = {}
        self.existing: dict[str, FolderStatus] = {}    # at the destination, by the name there
        self.deltas: dict[str, FolderDelta] = {}       # of those that were complete
        self.done_with: set[str] = set()               # without new mail
        self.jobs: deque[Job] = deque()

    def messages(self, folder: FolderPlan) -> int:
        """As the source counts them."""
        counted = self.counted.get(folder.source.name)
        return counted.messages if counted else 0


class Rows:
    """The ledger's rows by source folder: as they are now, and `before`, when this run began, without those that were started anew."""

    def __init__(self) -> None:
        self.now: dict[str, FolderRow] = {}
        self.before: dict[str, FolderRow] = {}

    def begin(self, rows: Iterable[FolderRow]) -> None:
        self.now = {row.source: row for row in rows}
        self.before = dict(self.now)

    def of(self, folder: FolderPlan) -> FolderRow:
        """The folder's row; without an id where the ledger has none yet."""
        name = folder.source.name
        return self.now.get(name) or FolderRow(
            name, folder.target, source_display=folder.source.display, target_display=folder.target_display,
            role=folder.role.value if folder.role else None, note=folder.note)


class Planner(NamedTuple):
    """Makes `plan`, and follows it in `rows`, which have begun. `provider`: the source's, where the account names it."""

    provider: str | None
    store: SerialStore
    sink: ProgressSink
    retry_set_aside: bool
    plan: Plan
    rows: Rows

    def look(self, sessions: Sessions, *, make_folders: bool) -> None:
        """Which folders, where to, how many messages; unchanged folders are done with here, without being read. Not `make_folders`: one of
        them may have broken the connection; each is then made when its turn comes."""
        source, target, plan = sessions.source, sessions.target, self.plan
        plan.done_with = set()
        here, there = _survey(sessions)
        if self.rows.now:
            from engine.transfer.undo import finish_undone  # of no use in a first copy

            self.rows.begin(finish_undone(target, self.store))
        plan.folders = plan_folders(
            here.folders, there.folders, source_prefix=here.prefix, destination_prefix=there.prefix,
            destination_separator=there.separator or "", provider=self.provider or source.provider,
            case_insensitive=ignores_case(target.provider), kept={row.source: row.target for row in self.rows.now.values() if row.target})
        plan.counted, plan.existing = here.statuses, there.statuses
        wanted = [folder for folder in plan.folders if folder.rule is None]
        plan.deltas = self._look_for_changes(source, [row for folder in wanted if (row := self._may_be_unchanged(folder))])
        plan.tally = Tally(self.sink, sum(s.messages for s in plan.counted.values()), sum(s.size or 0 for s in plan.counted.values()),
                           len(plan.folders))
        for folder in plan.folders:
            if folder.rule is not None:
                self._exclude(folder)
        jobs = self._jobs(wanted)
        if make_folders:
            self._make_folders(target, [folder for job in jobs for folder in job.folders])
        plan.jobs = deque(sorted(map(self._as_made, jobs), key=self._turn))

    def _look_for_changes(self, source: Session, rows: list[FolderRow]) -> dict[str, FolderDelta]:
        if not rows:
            return {}
        from engine.transfer.delta import look_for_changes  # of no use in a first copy

        return look_for_changes(source, rows, self.store)

    def _may_be_unchanged(self, folder: FolderPlan) -> FolderRow | None:
        """The row of a folder that was complete and whose destination is the one it was; whether it is the same still, a look tells."""
        row, there = self.rows.now.get(folder.source.name), self.plan.existing.get(folder.target)
        if row is None or not row.complete or there is None or there.uidvalidity != row.target_uidvalidity:
            return None
        return None if self.retry_set_aside and row.set_aside else row

    def _exclude(self, folder: FolderPlan) -> None:
        messages = self.plan.messages(folder)
        row = self.rows.of(folder)
        excluded = FolderRow(row.source, "", row.id, source_display=folder.source.display, role=row.role, rule=folder.rule,
                             total=messages, excluded=messages)
        self.rows.now[row.source] = excluded if excluded == row else self.store.put_folder(excluded)
        self.plan.tally.put(self.rows.now[row.source])

    def _jobs(self, wanted: list[FolderPlan]) -> list[Job]:
        """By destination folder, what is to be moved or has flags to be carried over."""
        by_target: dict[str, Job] = {}
        for folder in wanted:
            delta = self.plan.deltas.get(folder.source.name)
            if delta is not None and delta.nothing_new():
                self._done_with(folder.source.name, delta)
                if not delta.changed:
                    continue
            by_target.setdefault(folder.target, Job(folder.target, [])).folders.append(folder)
        return list(by_target.values())

    def _done_with(self, name: str, delta: FolderDelta) -> None:
        """Nothing is to be moved. What is gone at the source is counted, once."""
        self.plan.done_with.add(name)
        row, gone = self.rows.now[name], delta.gone
        if gone:
            row = self.store.put_folder(row._replace(gone=row.gone + gone, source_messages=row.source_messages - gone))
            self.rows.now[name] = row
        self.plan.tally.put(row)

    def _make_folders(self, target: Session, folders: list[FolderPlan]) -> None:
        """All at once, while the destination has nothing else to do. What it refuses is asked for again when its turn comes, under
        another name if need be (target.py)."""
        wanted = list(dict.fromkeys(folder.target for folder in folders if not folder.exists))
        if wanted:
            points.reached("before folders are made")
            self.plan.existing = self.plan.existing | target.make(wanted)

    def _as_made(self, job: Job) -> Job:
        there = job.target in self.plan.existing
        return Job(job.target, [folder._replace(exists=folder.exists or there) for folder in job.folders])

    def _turn(self, job: Job) -> tuple[bool, int]:
        """Inbox first, then the largest: the longest folder must not be the last to start."""
        messages = sum(self.plan.messages(folder) for folder in job.folders if folder.source.name not in self.plan.done_with)
        return (all(folder.role is not FolderRole.INBOX for folder in job.folders), -messages)


def _survey(sessions: Sessions) -> tuple[Survey, Survey]:
    """Both sides at once."""
    found: list[Survey | BaseException] = []

    def survey_target() -> None:
        try:
            found.append(sessions.target.survey())
        except BaseException as error:  # raised by the thread that asked
            found.append(error)

    helper = threading.Thread(target=survey_target, name="survey-destination", daemon=True)
    helper.start()
    try:
        here = sessions.source.survey()
    finally:
        helper.join()
    if isinstance(found[0], BaseException):
        raise found[0]
    return here, found[0]
