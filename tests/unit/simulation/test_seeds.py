"""Given two mailboxes and whatever may happen on the way, when the mover has been let run to its end, then nothing is lost, doubled or
changed, the sums are right, and every wait that a server stated was kept. One seed is one story (scenario.py); it replays identically.

SIM_SEEDS=3000 runs as many; SIM_FIRST says where to begin. A failing seed is told by `python -m tests.unit.simulation SEED`.
"""
from __future__ import annotations

import os
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest

from engine.imap.append_command import Command
from engine.imap.held_ends import HeldEnds
from tests.unit.simulation import invariants
from tests.unit.simulation.scenario import Story

SEEDS = int(os.environ.get("SIM_SEEDS", "120"))
FIRST = int(os.environ.get("SIM_FIRST", "1"))
TOGETHER = 10

# Each really happened, at least so often over 120 seeds: a fault that never fires tests nothing.
SOMETIMES = {
    "killed at a step": 20, "killed before a ledger write": 5, "killed after a ledger write": 5, "lease lost": 2, "disk full": 2,
    "late execution": 8, "no connection": 5, "mail_arrives": 10, "mail_is_deleted": 8, "flags_change": 8, "a_copy_is_removed": 8,
    "ledger_is_lost": 5, "source_uidvalidity_changes": 8, "destination_uidvalidity_changes": 8, "source_folder_is_renamed": 8,
    "source_folder_is_deleted": 8, "destination_folder_is_renamed": 8, "destination_folder_is_deleted": 8, "quota_is_reached": 1,
    "ended complete": 200, "ended partial": 10, "ended paused": 5, "ended failed": 10,
}
TOGETHER_SOMETIMES = {  # names that begin so, added up
    "body ": 10, "cut of the connection": 5, "cut_answer at": 3, "close at": 3, "hang at": 3, "late at": 2, "reply at": 10,
    "untagged at": 2, "execute_then_close at": 2,
}


@pytest.fixture(scope="module")
def happened() -> Iterator[Counter[str]]:
    yield Counter()


@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS, TOGETHER))
def test_every_story_ends_well(first: int, tmp_path: Path, happened: Counter[str]) -> None:
    for seed in range(first, min(first + TOGETHER, FIRST + SEEDS)):
        print("seed", seed)
        story = Story(seed, tmp_path)
        story.run()
        invariants.check(story)
        happened.update(story.happened)


@pytest.mark.parametrize("uidplus", ["UIDPLUS ", ""])
@pytest.mark.parametrize("first", range(FIRST, FIRST + SEEDS // 2, TOGETHER))
def test_every_story_ends_well_where_several_connections_fill_a_folder(first: int, uidplus: str, tmp_path: Path,
                                                                       monkeypatch: pytest.MonkeyPatch) -> None:
    held: Counter[bool] = Counter()
    real = HeldEnds.sent

    def sent(ends: HeldEnds, command: Command) -> None:
        real(ends, command)
        held[ends.holding] += 1

    monkeypatch.setattr(HeldEnds, "sent", sent)
    for seed in range(first, first + TOGETHER):
        print("seed", seed)
        story = Story(f"next door {seed}", tmp_path, destination=f"IMAP4rev1 {uidplus}LITERAL+ MULTIAPPEND")
        story.next_door()
        story.run()
        invariants.check(story)
    assert held[True] >= TOGETHER


@pytest.mark.skipif(SEEDS < 120, reason="so few seeds need not meet everything")
def test_every_kind_of_fault_did_happen(happened: Counter[str]) -> None:
    seldom = {name: happened[name] for name, least in SOMETIMES.items() if happened[name] < least}
    for beginning, least in TOGETHER_SOMETIMES.items():
        count = sum(n for name, n in happened.items() if name.startswith(beginning))
        if count < least:
            seldom[beginning] = count
    assert not seldom


@pytest.mark.parametrize("seed", [3, 36, 101])
def test_one_seed_is_one_story(seed: int, tmp_path: Path) -> None:
    prints = []
    for turn in ("one", "two"):
        (tmp_path / turn).mkdir()
        story = Story(seed, tmp_path / turn)
        story.run()
        prints.append((story.world.fingerprint(), story.world.traced, story.happened))
    assert prints[0] == prints[1]
