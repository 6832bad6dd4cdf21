"""`make fuzz`: every target for a while, from a seed that is printed. With atheris installed (`pip install atheris`, CPython 3.11 has a
wheel; it is no requirement of the project) the inputs are guided by coverage, one target per process.

    python -m tests.unit.fuzz                        every target, 20 s each
    python -m tests.unit.fuzz --seconds 600 sheet    one target
    python -m tests.unit.fuzz --atheris sheet -max_total_time=600
"""
from __future__ import annotations

import argparse
import resource
import secrets
import sys
import time

from tests.unit.fuzz.targets import TARGETS, variants

SLOW_SECONDS = 1.0
MOST_GROWTH = 64 << 10   # KiB of memory that one target may take


def fuzz(name: str, seconds: float, seed: str) -> list[str]:
    """What went wrong: one line per kind of failure."""
    target, found = TARGETS[name], {}
    before, begun, runs, slowest, rounds = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss, time.monotonic(), 0, 0.0, 0
    while time.monotonic() - begun < seconds:
        rounds += 1
        for octets in variants(target, f"{name} {seed} {rounds}", 2000):
            started = time.process_time()
            try:
                target.run(octets)
            except Exception as error:
                found.setdefault(f"{type(error).__name__}: {error}"[:80], octets)
            runs += 1
            slowest = max(slowest, time.process_time() - started)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    print(f"{name:20} {runs:9} runs, slowest {slowest * 1000:6.1f} ms, memory +{grown / 1024:.1f} MiB", flush=True)
    lines = [f"{name}: {what}: {octets!r}" for what, octets in found.items()]
    if slowest > SLOW_SECONDS:
        lines.append(f"{name}: one run took {slowest:.1f} s")
    if grown > MOST_GROWTH:
        lines.append(f"{name}: memory grew by {grown / 1024:.0f} MiB")
    return lines


def guided(name: str, arguments: list[str]) -> None:
    import atheris  # type: ignore[import-not-found]  # optional

    atheris.instrument_all()
    atheris.Setup([sys.argv[0], *arguments], lambda octets: TARGETS[name].run(octets))
    atheris.Fuzz()


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("targets", nargs="*", metavar="TARGET")
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--seed", default=secrets.token_hex(4))
    parser.add_argument("--atheris", metavar="TARGET", choices=sorted(TARGETS))
    options, further = parser.parse_known_args()
    if options.atheris:
        guided(options.atheris, further)
        return 0
    print("seed", options.seed)
    failures = [line for name in options.targets or sorted(TARGETS) for line in fuzz(name, options.seconds, options.seed)]
    print("\n".join(failures) or "nothing found")
    return bool(failures)


if __name__ == "__main__":
    sys.exit(main())
