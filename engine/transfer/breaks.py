"""Whose doing it is that the connection breaks: counted a message at a time, so that one does not stop a mailbox."""
from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

BREAKS_BEFORE_SET_ASIDE = 3  # times that one message may take the connection down with it


@dataclass
class Breaks:
    """How often the connection broke while a message was under way; lives as long as the mailbox's run."""

    counts: Counter[tuple[str, int]] = field(default_factory=Counter)
    ask_first: bool = False  # the destination ends the connection over literals that it did not ask for, whatever it offers

    def count(self, folder: str, uids: Iterable[int]) -> None:
        self.counts.update((folder, uid) for uid in uids)

    def ask_from_now(self) -> None:
        """Why the connection broke is known now: it was no message's doing."""
        self.ask_first = True
        self.counts.clear()

    def suspect(self, folder: str, uid: int) -> bool:
        return self.counts[folder, uid] > 0

    def hopeless(self, folder: str, uid: int) -> bool:
        return self.counts[folder, uid] >= BREAKS_BEFORE_SET_ASIDE
