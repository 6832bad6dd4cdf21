"""What one demo remembers between its starts: who its people are, what they must type, the ports of its servers.

Owns demo.json in the demo's instance directory (0600). The secrets in it open nothing but the demo's own servers on loopback; they
are made anew for each demo all the same.
"""
from __future__ import annotations

import contextlib
import json
import secrets
import socket
import string
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path

from portal.demo.mail import SamplePerson
from portal.security.keyfiles import replace_private

SOURCE_DOMAIN, DESTINATION_DOMAIN = "old.example", "new.example"
HELPDESK = "helpdesk@new.example"


@dataclass(frozen=True)
class DemoPerson:
    """`through_relay`: the project's old server is reached through the demo's relay. `wrong_at_first`: imported with a wrong code."""

    sample: SamplePerson
    through_relay: bool = False
    wrong_at_first: bool = False

    @property
    def source(self) -> str:
        return f"{self.sample.local}@{SOURCE_DOMAIN}"

    @property
    def destination(self) -> str:
        return f"{self.sample.local}@{DESTINATION_DOMAIN}"


PEOPLE = (
    DemoPerson(SamplePerson("王小明", "xiaoming", 240)),
    DemoPerson(SamplePerson("张伟", "zhangwei", 120), through_relay=True),
    DemoPerson(SamplePerson("李雪", "lixue", 90), wrong_at_first=True),
)


@dataclass
class DemoState:
    """`codes` and `passwords` by address: what the old and the new mailbox want. Ports by name; they stay, because a secret given for
    one server is destroyed when the project names another."""

    codes: dict[str, str]
    passwords: dict[str, str]
    desk_password: str
    relay_token: str = ""
    ports: dict[str, int] = field(default_factory=dict)


def has_state(instance: Path) -> bool:
    """Whether an earlier start left something to go on with."""
    return (instance / "demo.json").exists()


def load_state(instance: Path) -> DemoState:
    """The demo's memory, made at its first start."""
    path = instance / "demo.json"
    if path.exists():
        return DemoState(**json.loads(path.read_text()))
    state = DemoState({p.source: _letters(16) for p in PEOPLE}, {p.destination: _letters(12) for p in PEOPLE},
                      f"{_letters(6)}-{_letters(6)}")
    save_state(instance, state)
    return state


def save_state(instance: Path, state: DemoState) -> None:
    replace_private(instance / "demo.json", json.dumps(asdict(state), indent=1).encode())


def settle_ports(state: DemoState, names: Iterable[str]) -> bool:
    """Keeps each port that is still free, chooses another where it is not. True when one changed."""
    changed = False
    with contextlib.ExitStack() as held:
        for name in names:
            probe = held.enter_context(socket.socket())
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            for port in (state.ports.get(name, 0), 0):
                with contextlib.suppress(OSError):
                    probe.bind(("127.0.0.1", port))
                    break
            found = probe.getsockname()[1]
            changed |= found != state.ports.get(name)
            state.ports[name] = found
    return changed


def _letters(length: int) -> str:
    """Lower-case letters without those that look alike: somebody may have to type them on a phone."""
    return "".join(secrets.choice([c for c in string.ascii_lowercase if c not in "lio"]) for _ in range(length))
