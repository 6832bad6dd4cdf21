"""The connections of one pair."""
from __future__ import annotations

from dataclasses import dataclass, field

from engine.imap.session import Session


@dataclass
class Sessions:
    """One connection to each side; `lanes` are further ones to a destination whose folders several can fill. `first`: it begins with the
    inbox."""

    source: Session
    target: Session
    lanes: list[Session] = field(default_factory=list)
    first: bool = False
