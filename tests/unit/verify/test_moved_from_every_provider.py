"""From each simulated provider: everything arrives, the comparison says so, and the source has only been read."""
from __future__ import annotations

from pathlib import Path

import pytest

from engine.ledger_file import SqliteLedger
from engine.report.copy import CopyOutcome
from engine.transfer.copier import copy_mailbox
from engine.verify import verify_mailboxes
from tests.support.provider_simulator import LOOPBACK, PROFILES, ProviderSimulator, message

WHOLE_BODIES = sorted(key for key, profile in PROFILES.items() if not profile.header_only)


@pytest.mark.parametrize("profile", WHOLE_BODIES)
def test_a_mailbox_of_this_provider_is_moved_and_proved(profile: str, tmp_path: Path) -> None:
    with ProviderSimulator(profile) as source, ProviderSimulator("dovecot") as destination:
        for folder in source.account().folders.values():
            if folder.selectable:
                folder.put(*(message(f"{folder.name}-{n}", "body " * n) for n in range(5)), flags=("\\Seen",))
        ends = source.login_for(), destination.login_for()
        ledger = SqliteLedger(tmp_path / "ledger.sqlite", "pair")
        copied = copy_mailbox(*ends, ledger=ledger, source_route=LOOPBACK, destination_route=LOOPBACK)
        assert (copied.outcome, copied.cause) == (CopyOutcome.COMPLETE, None)
        totals = copied.totals()
        assert totals["moved"] + totals["excluded"] == totals["total"] == sum(
            len(folder.messages) for folder in source.account().folders.values())
        assert verify_mailboxes(*ends, source_route=LOOPBACK, destination_route=LOOPBACK).equal
        assert not source.source_changes()
        assert source.count("LOGIN") == 2 and destination.count("LOGIN") == 2
        ledger.close()
