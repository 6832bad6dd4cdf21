"""Given a mailbox and its mover, when mail comes and goes, flags change, folders are renamed, ledgers are lost, UIDVALIDITYs change and the
mover runs, is killed and runs again, in any order, then at every end the destination is what the model says.

The world is the simulation's (tests/unit/simulation): no sockets, no real time. Derandomized: the same examples every time; another
set with `--hypothesis-seed`, more with PROPERTY_EXAMPLES.
"""
from __future__ import annotations

import os
import random
import tempfile
from collections import Counter
from pathlib import Path

from hypothesis import HealthCheck, note, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from engine.report.copy import CopyOutcome
from engine.wire import utf7
from tests.unit.simulation import invariants
from tests.unit.simulation.mailboxes import DESTINATIONS
from tests.unit.simulation.people import QUIET_SECONDS
from tests.unit.simulation.rig import Rig

EXAMPLES = int(os.environ.get("PROPERTY_EXAMPLES", "30"))
PICKS = st.integers(0, 2**16)
MEMORY = "/dev/shm" if Path("/dev/shm").is_dir() else None


class Mailbox(RuleBasedStateMachine):
    """The model is `story.ever`: what each source folder ever held. What no rule touched since the last copy must be exact."""

    @initialize(source=st.sampled_from(("dovecot", "plain", "qq", "netease")), destination=st.sampled_from(DESTINATIONS), mails=PICKS)
    def begin(self, source: str, destination: str, mails: int) -> None:
        self.directory = tempfile.TemporaryDirectory(dir=MEMORY)
        self.story = Rig(Path(self.directory.name), source, destination, connections=1 + mails % 2)
        self.story.enter()
        self.story.source.add_folder("Projects")
        self.changed = True
        self.mail_arrives(mails)

    def act(self, name: str, pick: int) -> None:
        self.story.rng = random.Random(pick)
        getattr(self.story, name)()
        self.changed = True

    @rule(pick=PICKS)
    def mail_arrives(self, pick: int) -> None:
        self.act("mail_arrives", pick)

    @rule(pick=PICKS)
    def mail_is_deleted(self, pick: int) -> None:
        self.act("mail_is_deleted", pick)

    @rule(pick=PICKS)
    def flags_change(self, pick: int) -> None:
        self.act("flags_change", pick)

    @rule(pick=PICKS)
    def a_folder_is_renamed(self, pick: int) -> None:
        self.act("source_folder_is_renamed", pick)

    @rule(pick=PICKS)
    def source_uidvalidity_changes(self, pick: int) -> None:
        self.story.world.pass_time(QUIET_SECONDS)  # test_found.py has what happens within seconds of a death
        self.act("source_uidvalidity_changes", pick)

    @precondition(lambda self: self.story.destination_folders())
    @rule(pick=PICKS)
    def destination_uidvalidity_changes(self, pick: int) -> None:
        self.story.world.pass_time(QUIET_SECONDS)
        self.act("destination_uidvalidity_changes", pick)

    @rule()
    def the_ledger_is_lost(self) -> None:
        self.story.ledger_is_lost()
        self.changed = True

    @rule(step=st.integers(1, 900))
    def a_copy_is_killed(self, step: int) -> None:
        self.story.destination.manners.stall_when_alone = 1.0
        self.story.copy(kill_at=step)

    @rule(write=st.integers(1, 25), when=st.sampled_from(("before", "after")))
    def a_copy_dies_at_its_ledger(self, write: int, when: str) -> None:
        self.story.disk.die_at = (write, when)
        self.story.copy()
        self.story.disk.die_at = None

    @rule()
    def a_copy(self) -> None:
        appended = self.story.destination.count("APPEND")
        for _ in range(3):
            attempt = self.story.copy()
            if attempt.report is not None and attempt.report.outcome is CopyOutcome.COMPLETE:
                break
        else:
            raise AssertionError(f"no end: {attempt}")
        if not self.changed and not self.story.touched:
            assert self.story.destination.count("APPEND") == appended, "nothing had changed, and something was appended"
        self.changed = False
        self._nothing_is_missing({f.source for f in attempt.report.folders if f.rule})

    def _nothing_is_missing(self, left_out: set[str]) -> None:
        """Right after a copy: everything that the source holds is there. (Not more than that: what a dead client had sent may land yet.)"""
        there = Counter(m.content for f in self.story.destination_folders() for m in f.messages)
        here = Counter(m.content for f in self.story.source_folders() if utf7.decode(f.name) not in left_out for m in f.messages)
        assert not here - there, f"missing: {here - there}"

    def teardown(self) -> None:
        if not hasattr(self, "story"):
            return
        try:
            self.story.finish()
            invariants.check(self.story)
            note(str(self.story.happened))
        finally:
            self.story.leave()
            self.directory.cleanup()


TestMailbox = Mailbox.TestCase
TestMailbox.settings = settings(max_examples=EXAMPLES, stateful_step_count=10, deadline=None, derandomize=True, database=None,
                                print_blob=True, suppress_health_check=list(HealthCheck))
