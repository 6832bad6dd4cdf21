"""What starting everything says to whoever started it: the links it prints, and what may stand between them."""
from __future__ import annotations

import io
from types import TracebackType

import pytest

from portal import cli
from portal.launcher import Plan
from tests.support.portal_app import PortalForTests


class Terminal(io.StringIO):
    """A screen, or (`terminal` false) a journal."""

    def __init__(self, *, terminal: bool) -> None:
        super().__init__()
        self.terminal = terminal

    def isatty(self) -> bool:
        return self.terminal


class EverythingRuns:
    """In the launcher's place: nothing is started; keeps where the logs would have gone."""

    echo: object = "not asked"

    def __init__(self, plan: Plan, *, echo: object) -> None:
        self.settings = plan.settings
        type(self).echo = echo

    def __enter__(self) -> EverythingRuns:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        pass

    def run_until_asked(self) -> None:
        pass


def start(portal: PortalForTests, screen: Terminal, monkeypatch: pytest.MonkeyPatch, *arguments: str) -> str:
    monkeypatch.setattr(cli, "Launcher", EverythingRuns)
    monkeypatch.setattr(cli, "load_settings", lambda: portal.settings)
    monkeypatch.setattr("sys.stdout", screen)
    assert cli.main(["up", *arguments]) == 0
    return screen.getvalue()


@pytest.mark.parametrize(("terminal", "arguments", "shown"), [
    (True, (), False), (True, ("--logs",), True), (False, (), True), (False, ("--no-logs",), False)])
def test_on_a_terminal_no_log_buries_the_one_time_link(portal: PortalForTests, monkeypatch: pytest.MonkeyPatch, terminal: bool,
                                                       arguments: tuple[str, ...], shown: bool) -> None:
    """A service manager's journal gets them all; a person is told where they are."""
    screen = Terminal(terminal=terminal)
    printed = start(portal, screen, monkeypatch, *arguments)
    assert EverythingRuns.echo is (screen if shown else None)
    assert f"logs: {portal.settings.instance_dir / 'log'}" in printed


def test_the_link_is_printed_in_one_piece_with_the_words_that_say_what_it_is(portal: PortalForTests,
                                                                             monkeypatch: pytest.MonkeyPatch) -> None:
    """So that no other process's line gets between."""
    written: list[str] = []

    class Screen(Terminal):
        def write(self, text: str) -> int:
            written.append(text)
            return super().write(text)

    start(portal, Screen(terminal=False), monkeypatch)
    piece = next(text for text in written if "/invitation/" in text)
    assert "Banjia is ready" in piece and "one-time link" in piece and "login name: operator@localhost" in piece
