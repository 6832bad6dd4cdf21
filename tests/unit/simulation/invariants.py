"""What must be true of every story when it is over, whatever happened in it."""
from __future__ import annotations

from collections import Counter, defaultdict

from engine.ledger import Outcome
from engine.transfer.matching import instant
from tests.support.simulator_mail import Folder
from tests.unit.simulation.mailboxes import Ever
from tests.unit.simulation.scenario import Story


def check(story: Story) -> None:
    _source_was_only_read(story)
    _back_offs_were_kept(story)
    _sums_are_equal(story)
    _everything_is_there_once(story)
    _order_was_kept_or_counted(story)


def _source_was_only_read(story: Story) -> None:
    assert not story.source.source_changes(), story.source.source_changes()[0].line
    for server in (story.source, story.destination):
        assert not [verb for verb in server.counts() if "SEARCH" in verb], "SEARCH was sent"
    for verb in ("DELETE", "RENAME", "EXPUNGE", "COPY", "UID COPY", "UID MOVE", "CLOSE EXPUNGE"):
        assert not story.destination.count(verb), verb


def _back_offs_were_kept(story: Story) -> None:
    for server in (story.source, story.destination):
        for kind, sent in server.sent_in_back_off:
            story.happened[f"back-off not kept: {kind}"] += 1
            raise AssertionError(f"sent to the {server.host} while it had asked for a pause ({kind}): {sent!r}")


def _sums_are_equal(story: Story) -> None:
    for row, runs, set_aside, _ in story.in_ledger:
        if row.rule is not None or not row.complete:
            continue
        parts = row.moved + row.already_there + row.excluded + row.set_aside + row.vanished
        assert row.total == parts, row
        assert row.set_aside == len(set_aside), (row, set_aside)
        first = 0
        for run in runs:
            assert run.source_first > first and run.count >= 1 and run.source_last >= run.source_first + run.count - 1, runs
            first = run.source_last
        uids = [uid for run in runs for uid in range(run.target_first, run.target_first + run.count)]
        assert len(uids) == len(set(uids)), f"one destination UID for two messages in {row.source}"
        if not story.touched:
            in_runs_too = sum(any(r.source_first <= s.uid <= r.source_last for r in runs) for s in set_aside)
            assert row.moved + row.already_there == sum(run.count for run in runs) - in_runs_too, (row, runs)
    for folder in story.last.folders:
        parts = folder.moved + folder.already_there + folder.excluded + folder.set_aside + folder.vanished
        assert folder.total == parts or folder.source not in {r.source_display for r, *_ in story.in_ledger if r.complete}, folder


def _everything_is_there_once(story: Story) -> None:
    """Per destination folder, by content: at least what the sources that go there hold now but for what is named as set aside, at
    most what they ever held and what was there before."""
    here = {f.name: f for f in story.source_folders()}
    there = {f.name: f for f in story.destination_folders()}
    by_target: dict[str, list[tuple[str, set[int]]]] = defaultdict(list)
    for row, _, set_aside, _ in story.in_ledger:
        if row.rule is None and row.target:
            by_target[row.target].append((row.source, {s.uid for s in set_aside}))
    known = {row.source for row, *_ in story.in_ledger}
    forgotten: Counter[bytes] = Counter()  # of folders that were renamed after they were moved by a ledger that is lost
    for name, ever in story.ever.items() if "ledger lost" in story.touched else ():
        forgotten += ever.contents if name not in known else Counter()
    for folder in here.values():
        assert folder.name in known or not folder.messages, f"nothing is said of {folder.name}"
    for target, sources in by_target.items():
        least: Counter[bytes] = Counter()
        most: Counter[bytes] = Counter()
        for name, aside in sources:
            ever = story.ever.get(name, Ever())
            most += ever.contents
            for message in here[name].messages if name in here else ():
                if message.uid not in aside:
                    least[message.content] += 1
                else:
                    assert story.may_be_set_aside(message.content), f"set aside without a reason: {message.content[:60]!r} in {name}"
        own = story.own.get(target, Counter())
        found = Counter(m.content for m in there[target].messages) if target in there else Counter()
        for content in sorted(set(least) | set(most) | set(found) | set(own)):
            low = max(least[content], min(own[content], 1)) - story.removed[content]
            high = max(own[content], most[content]) if content in most else own[content]
            if own[content] and most[content]:
                high = own[content] + most[content] - min(own[content], most[content])
            assert found[content] >= low, f"lost in {target}: {low - found[content]} of {content[:60]!r}"
            if story.touched & {"rebuilt", "destination folder gone", "ledger lost"} and any(a.ended != "complete" for a in story.attempts):
                continue  # a watch ends with its UIDVALIDITY, or with its ledger: what a dead client had sent may land after
            high += forgotten[content]
            assert found[content] <= high, f"too many in {target}: {found[content]} instead of {high} of {content[:60]!r}"
        if target in there:
            followed = all(name in here for name, _ in sources)
            _flags_and_dates(story, there[target], followed, [story.ever.get(name, Ever()) for name, _ in sources], own)
    for name, own in story.own.items():
        found = Counter(m.content for m in there[name].messages) if name in there else Counter()
        lost = own - found - story.removed
        assert not lost, f"the destination's own mail is gone from {name}: {next(iter(lost))[:60]!r}"


def _order_was_kept_or_counted(story: Story) -> None:
    """What one run appended to a folder stands there as it stands at the source, unless the run's report counts what does not."""
    in_order = {a.report.pass_id for a in story.attempts if a.report is not None and not a.report.out_of_order}
    for row, runs, _, _ in story.in_ledger:
        highest: dict[int, int] = defaultdict(int)
        for run in runs:
            if run.outcome is Outcome.MOVED and run.pass_id in in_order and not story.touched:
                assert run.target_first > highest[run.pass_id], f"out of order in {row.source}, and not counted: {runs}"
                highest[run.pass_id] = run.target_first
                story.happened["order looked at"] += 1


def _flags_and_dates(story: Story, folder: Folder, followed: bool, ever: list[Ever], own: Counter[bytes]) -> None:
    """Dates are the source's. Flags are what the source has now (`followed`: its folders are there still); where the ledger was
    started anew a copy also keeps flags of before."""
    now: dict[bytes, list[tuple[str, ...]]] = defaultdict(list)
    for source in story.source_folders():
        for message in source.messages:
            now[message.content].append(tuple(sorted(message.flags)))
    for message in folder.messages:
        if own[message.content]:
            continue
        content, flags = message.content, tuple(sorted(message.flags))
        flags_ever = {f for e in ever for f in e.flags.get(content, ())}
        dates = {instant(d) for e in ever for d in e.dates.get(content, ())}
        if not flags_ever:
            continue
        assert instant(message.internal_date) in dates, (content[:60], message.internal_date, dates)
        words = {word for f in flags_ever for word in f}
        assert set(flags) <= words, (content[:60], flags, flags_ever)
        if not story.touched:
            assert flags in flags_ever, (content[:60], flags, flags_ever)
        only = sum(e.contents[content] for e in ever) == 1 == len(now[content])
        if followed and only and not story.touched:
            assert flags == now[content][0], f"flags of {content[:40]!r} are {flags}, at the source {now[content][0]}"
