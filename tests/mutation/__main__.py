"""`make mutants`: breaks the ledger, the matcher, recovery, writing and pacing in small ways, one at a time, and counts how many of them
the fast tests notice. Figures and the survivors' reasons: README.md beside this file.

    python -m tests.mutation                              everything: hours
    python -m tests.mutation --sample 300 --seed 1        a sample, the same one for the same seed
    python -m tests.mutation --only 'engine.transfer.matching*' --children 2

Works on a copy of the tree as it is committed; the tool (mutmut) lives beside it. Owns: which modules and which tests. Must not: touch
the checkout, install anything into the project's environment.
"""
from __future__ import annotations

import argparse
import fnmatch
import json
import os
import random
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
WORK = ROOT / "test-results" / "mutants"
MODULES = (
    "engine/ledger.py", "engine/ledger_file.py", "engine/transfer/matching.py", "engine/transfer/records.py", "engine/transfer/recover.py",
    "engine/transfer/adopt.py", "engine/transfer/careful.py", "engine/transfer/writing.py", "engine/transfer/pairs.py",
    "engine/transfer/flags.py", "engine/transfer/proof.py", "engine/transfer/complete.py", "engine/transfer/repair.py",
    "engine/transfer/queues.py", "engine/transfer/pairing.py", "engine/transfer/planning.py", "engine/transfer/copier.py",
    "engine/transfer/outcome.py",
    "engine/transfer/working.py", "engine/transfer/proving.py", "engine/transfer/earlier_proof.py",
    "engine/transfer/turns.py", "engine/transfer/breaks.py",
    "engine/imap/held_ends.py", "engine/pacing/*",
)
FILES = ("matching", "records", "flags", "proof", "repair", "queues", "reading", "faults", "compressing", "folders_that_change",
         "planning", "outcome", "ahead")
TESTS = (*(f"tests/unit/transfer/test_{name}.py" for name in FILES),
         "tests/unit/portal/test_store_ledger.py", "tests/unit/imap/test_held_ends.py", "tests/unit/pacing",
         "tests/unit/mutation", "tests/unit/simulation")
SQL = re.compile(r"SELECT|INSERT|DELETE|UPDATE|ORDER BY|VALUES|COMMIT|BEGIN|ROLLBACK|PRAGMA|WHERE")
PARTS = ("engine", "config.py", "relay", "portal", "tests", "pyproject.toml", "worker.py", "bench")
NOT_NOTICED = {0: "survived", 33: "no test runs it", 36: "timed out", 24: "timed out", -24: "timed out", 152: "timed out"}


def prepare() -> Path:
    """The committed tree and the tool, in WORK. Returns where the tool lies."""
    WORK.mkdir(parents=True, exist_ok=True)
    tool, tree = WORK / "tool", WORK / "tree"
    if not tool.exists():
        subprocess.run([ROOT / ".venv/bin/uv", "pip", "install", "-q", "--python", sys.executable, "--target", tool, "--require-hashes",
                        "-r", Path(__file__).parent / "requirements.txt"], check=True)
    if not tree.exists():
        tree.mkdir()
        archive = subprocess.run(["git", "archive", "HEAD", *PARTS], cwd=ROOT, check=True, stdout=subprocess.PIPE).stdout
        subprocess.run(["tar", "-x", "-C", tree], input=archive, check=True)
    lines = {"source_paths": ["engine"], "only_mutate": MODULES, "also_copy": PARTS[1:], "pytest_add_cli_args_test_selection": TESTS,
             "pytest_add_cli_args": ["-p", "no:cacheprovider", "-x", "-q", "--tb=native"]}  # a module of mutants is long to quote from
    text = "".join(f"{name}=\n" + "".join(f"    {value}\n" for value in values) for name, values in lines.items())
    (tree / "setup.cfg").write_text(f"[mutmut]\n{text}timeout_multiplier=5\ntimeout_constant=10\n")
    return tool


def mutmut(tool: Path, *arguments: str, quiet: bool = True) -> None:
    environment = {**os.environ, "PYTHONPATH": str(tool), "SIM_SEEDS": "10", "HYPOTHESIS_PROFILE": "ci"}
    with (WORK / "log").open("ab") as log:
        subprocess.run([sys.executable, "-m", "mutmut", *arguments], cwd=WORK / "tree", env=environment, check=False,
                       stdout=log if quiet else None, stderr=subprocess.STDOUT)


def verdicts() -> dict[str, int | None]:
    found: dict[str, int | None] = {}
    for path in sorted((WORK / "tree/mutants/engine").rglob("*.meta")):
        found.update(json.loads(path.read_text())["exit_code_by_key"])
    return found


def main() -> int:
    parser = argparse.ArgumentParser()
    parser.add_argument("--sample", type=int)
    parser.add_argument("--seed", default="1")
    parser.add_argument("--only", default="*")
    parser.add_argument("--children", type=int, default=1, help="mutants that are tried at the same time")
    options = parser.parse_args()
    tool = prepare()
    if not verdicts():
        mutmut(tool, "run", "none of them")  # makes them, and learns which test runs which function
    everything = sorted(name for name in verdicts() if fnmatch.fnmatch(name, options.only))
    names = everything
    if options.sample and options.sample < len(everything):
        names = sorted(random.Random(options.seed).sample(everything, options.sample))
    print(f"{len(names)} of {len(everything)} mutants", flush=True)
    for at in range(0, len(names), 50):
        mutmut(tool, "run", "--max-children", str(options.children), *names[at:at + 50])
        report(tool, names[:at + 50])
    return report(tool, names, survivors=True)


def same_sql(tool: Path, name: str) -> bool:
    """Whether the mutant differs in nothing but the case of SQL words, which means the same."""
    shown = subprocess.run([sys.executable, "-m", "mutmut", "show", name], cwd=WORK / "tree", env={**os.environ, "PYTHONPATH": str(tool)},
                           check=False, capture_output=True, text=True).stdout
    before, after = ("\n".join(line[1:] for line in shown.splitlines() if line.startswith(sign + " ")) for sign in "-+")
    return before.lower() == after.lower() and SQL.search(before + after) is not None


def report(tool: Path, names: list[str], *, survivors: bool = False) -> int:
    """The figures. 0 when at least nine of ten were noticed; what means the same is not counted."""
    exits = verdicts()
    judged = {name: NOT_NOTICED.get(code, "noticed") for name in names if (code := exits.get(name)) is not None}
    if survivors:
        judged = {name: "means the same" if what == "survived" and same_sql(tool, name) else what for name, what in judged.items()}
    counts = Counter(judged.values())
    noticed, of = counts["noticed"] + counts["timed out"], len(judged) - counts["means the same"]
    print(f"{noticed} of {of} noticed ({100 * noticed / max(1, of):.1f} %), {dict(counts)}", flush=True)
    if survivors:
        for name, what in judged.items():
            if what in ("survived", "no test runs it"):
                print(" ", what, name)
    return 0 if noticed >= 0.9 * of else 1


if __name__ == "__main__":
    sys.exit(main())
