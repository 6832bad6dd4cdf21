"""`make test`: sets up what the suites need, runs them all, says in its last lines what could not run.

Owns no test. Always: exits 1 if a check or test failed; with REQUIRE_ALL=1 (.ci/run) also if anything was skipped, so that nothing
passes by not running. Services of the system (a Redis or Dovecot that a package starts) are never used: the tests start their own.
The browser suite has processes of its own: Playwright's loop and others' do not share one.
"""
from __future__ import annotations

import contextlib
import os
import shutil
import signal
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from dataclasses import dataclass, field
from pathlib import Path

from tests.support import cyrus_packages

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "test-results"
NO_SERVICES = Path("/usr/sbin/policy-rc.d")


@dataclass(frozen=True)
class Need:
    """A program that suites start, and the Debian package that brings it. `paths` may be names to look up on PATH."""

    what: str
    package: str
    paths: tuple[str, ...]

    def present(self) -> bool:
        return any(Path(p).exists() if p.startswith("/") else shutil.which(p, path=os.environ.get("PATH", "") + ":/usr/sbin")
                   for p in self.paths)


NEEDS = (
    Need("Dovecot IMAP", "dovecot-imapd", ("/usr/lib/dovecot/imap", "/usr/libexec/dovecot/imap")),
    Need("Dovecot POP3", "dovecot-pop3d", ("/usr/lib/dovecot/pop3", "/usr/libexec/dovecot/pop3")),
    Need("Redis", "redis-server", ("redis-server", "valkey-server")),
    Need("Chromium", "chromium", ("chromium", "chromium-browser", "google-chrome")),
    Need("Chinese fonts", "fonts-noto-cjk", ("/usr/share/fonts/opentype/noto/NotoSansCJK-Regular.ttc",
                                             "/usr/share/fonts/google-noto-sans-cjk-fonts", "/System/Library/Fonts/PingFang.ttc")),
)


@dataclass
class Suite:
    """One step: a check (no `junit`) or a pytest run. `seconds` is also its limit's unit."""

    name: str
    command: list[str]
    limit: float = 900.0
    junit: Path | None = None
    failed: bool = False
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    not_run: list[str] = field(default_factory=list)

    def run(self) -> None:
        print(f"\n=== {self.name} ===", flush=True)
        begun = time.monotonic()
        process = subprocess.Popen(self.command, cwd=ROOT, start_new_session=True)
        try:
            self.failed = process.wait(self.limit) not in ((0, 5) if self.junit else (0,))
        except subprocess.TimeoutExpired:
            print(f"{self.name}: not finished after {self.limit:.0f} s, ended", flush=True)
            self.failed = True
        finally:
            _end_group(process)
        self.seconds = time.monotonic() - begun
        if self.junit:
            self._read_results(self.junit)

    def _read_results(self, junit: Path) -> None:
        if not junit.exists():
            self.not_run.append(f"{self.name}: no test ran")
            return
        cases = list(ElementTree.parse(junit).getroot().iter("testcase"))  # written by pytest a moment ago
        skipped = [(case, s) for case in cases if (s := case.find("skipped")) is not None]
        broken = sum(1 for case in cases if case.find("failure") is not None or case.find("error") is not None)
        self.counts = {"passed": len(cases) - len(skipped) - broken, "failed": broken, "skipped": len(skipped)}
        self.not_run += [f"{case.get('classname')}::{case.get('name')}: {s.get('message')}" for case, s in skipped]
        if not cases:
            self.not_run.append(f"{self.name}: no test found")

    def line(self) -> str:
        told = ", ".join(f"{n} {what}" for what, n in self.counts.items() if n) or ("failed" if self.failed else "ok")
        return f"  {'FAILED' if self.failed else 'ok':6} {self.name:12} {told} ({self.seconds:.0f} s)"


def _end_group(process: subprocess.Popen[bytes]) -> None:
    """Whatever a suite left behind in its own session goes with it."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _pytest(name: str, *paths: str, spread: bool, limit: float = 900.0) -> Suite:
    junit = RESULTS / f"{name}.xml"
    side_by_side = ["-n", "2", "--dist", "loadfile"] if spread else []
    there = [p for p in paths if (ROOT / p).exists()]
    return Suite(name, [sys.executable, "-m", "pytest", "-q", *side_by_side, f"--junitxml={junit}", *there], limit, junit)


def suites() -> list[Suite]:
    tops = sorted(str(p.relative_to(ROOT)) for p in (ROOT / "tests").glob("test_*.py"))
    return [
        Suite("ruff", [sys.executable, "-m", "ruff", "check", "."]),
        Suite("mypy", [sys.executable, "-m", "mypy"]),
        _pytest("unit", "tests/unit", *tops, spread=True),
        _pytest("integration", "tests/integration", spread=True, limit=1200.0),
        _pytest("browser", "tests/browser", spread=True),
    ]


def provide() -> list[str]:
    """On Debian as root, installs what is missing; unpacks Cyrus, which cannot be installed beside Dovecot. Returns what is missing still,
    as sentences."""
    missing = [need for need in NEEDS if not need.present()]
    if missing and shutil.which("apt-get") and os.geteuid() == 0:
        packages = [need.package for need in missing]
        print(f"installing {' '.join(packages)} …", flush=True)
        quiet = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
        held_back = not NO_SERVICES.exists()  # Debian's own way to install a server without starting it
        if held_back:
            NO_SERVICES.write_text("#!/bin/sh\nexit 101\n")
            NO_SERVICES.chmod(0o755)
        try:
            for command in (["apt-get", "update", "-qq"],
                            ["apt-get", "install", "-y", "-qq", "--no-install-recommends", *packages]):
                subprocess.run(command, env=quiet, stdout=subprocess.DEVNULL, timeout=900, check=False)
        finally:
            if held_back:
                NO_SERVICES.unlink(missing_ok=True)
        missing = [need for need in NEEDS if not need.present()]
    told = [f"{need.what} is not installed (Debian: apt install {need.package})" for need in missing]
    said = cyrus_packages.unpack()
    return [*told, f"Cyrus IMAP is not there: {said}"] if said else told


def main() -> int:
    chosen = sys.argv[1:]
    require_all = os.environ.get("REQUIRE_ALL") == "1"
    shutil.rmtree(RESULTS, ignore_errors=True)
    RESULTS.mkdir()
    absent = provide()
    ran = [suite for suite in suites() if not chosen or suite.name in chosen]
    for suite in ran:
        suite.run()
    print("\n=== summary ===")
    for suite in ran:
        print(suite.line())
    not_run = absent + [line for suite in ran for line in suite.not_run]
    for line in not_run:
        print(f"  not run: {line}")
    failed = any(suite.failed for suite in ran) or (require_all and bool(not_run))
    if require_all and not_run:
        print("  REQUIRE_ALL=1: what could not run counts as failed")
    print("FAILED" if failed else "all passed" if not not_run else f"passed; {len(not_run)} not run", flush=True)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
