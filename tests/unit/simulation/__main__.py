"""Runs seeds: one number tells its story, two are a range that is run quietly and counted."""
from __future__ import annotations

import sys
import tempfile
import time
import traceback
from collections import Counter
from pathlib import Path

from tests.unit.simulation import invariants
from tests.unit.simulation.scenario import Story


def main(arguments: list[str]) -> int:
    first = int(arguments[0])
    last = int(arguments[1]) if len(arguments) > 1 else first
    happened: Counter[str] = Counter()
    failed: list[tuple[int, str]] = []
    begun = time.monotonic()
    memory = Path("/dev/shm")
    with tempfile.TemporaryDirectory(dir=memory if memory.is_dir() else None) as directory:
        for seed in range(first, last + 1):
            story = Story(seed, Path(directory), told=first == last)
            try:
                story.run()
                invariants.check(story)
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt):
                    raise
                failed.append((seed, f"{type(error).__name__}: {error}"[:300]))
                print("seed", seed, "FAILED", failed[-1][1], flush=True)
                if first == last:
                    traceback.print_exc()
            happened.update(story.happened)
            story.disk.lose()
    print(f"{last - first + 1} seeds in {time.monotonic() - begun:.0f} s, {len(failed)} failed")
    for name, count in sorted(happened.items()):
        print(f"{count:7d}  {name}")
    return bool(failed)


sys.exit(main(sys.argv[1:]))
