"""What the stories of this directory share: a sink that remembers what it was told, and questions to a rig."""
from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from engine.causes import Cause, Side
from engine.progress import Progress
from tests.unit.simulation.rig import Rig

Make = Callable[..., Rig]


@dataclass
class Heard:
    """What the sink was told."""

    lines: list[tuple[Side, Cause, str]] = field(default_factory=list)

    def progress(self, at: Progress) -> None:
        pass

    def server_line(self, side: Side, cause: Cause, text: str) -> None:
        self.lines.append((side, cause, text))


def took(one: Rig) -> float:
    """Seconds that a copy took."""
    begun = one.world.monotonic()
    one.copy()
    return one.world.monotonic() - begun


def two_folders(filled_rig: Make) -> Rig:
    one = filled_rig(connections=2)
    one.fill(30)
    one.source.add_folder("Projects")
    one.fill(20, "Projects")
    return one


def bodies_by(one: Rig) -> set[int]:
    """The connections over which bodies were asked for."""
    return {c.connection for c in one.source.commands if b"BODY.PEEK[]" in c.line}
