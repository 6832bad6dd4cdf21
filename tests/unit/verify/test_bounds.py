"""A folder of any size is compared in the same memory."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[3]
MESSAGES, MOST_MIB = 150_000, 20  # measured: 1,000,000 messages of each side in 11 MiB; held as objects 150,000 take 45

PROGRAM = """
import hashlib, resource, sys
from engine.causes import Side
from engine.imap.fetch import Metadata
from engine.ledger import Outcome, Run
from engine.report.verify import VerifyMode
from engine.verify.compare import Comparison
from engine.verify.expected import Expected
from engine.verify.spool import Spool

count, with_ledger = int(sys.argv[1]), sys.argv[2] == "ledger"
flags = [(), ("\\\\Seen",), ("\\\\Seen", "$Forwarded")]

def messages():
    for uid in range(1, count + 1):
        clock = f"{uid // 3600 % 24:02}:{uid // 60 % 60:02}:{uid % 60:02}"
        yield Metadata(uid, 1000 + uid % 5000, flags[uid % 3], f"{uid % 28 + 1:02}-Jan-2024 {clock} +0800")

def peak():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

before = peak()
with Spool() as spool:
    for side, number in ((Side.SOURCE, 1), (Side.DESTINATION, 0)):
        spool.put(side, number, messages())
        waiting = spool.unread(side, number, 1, count)
        for at in range(0, len(waiting), 200):
            spool.put_digests(side, number, [(uid, hashlib.sha256(b"%d" % uid).digest()) for uid in waiting[at : at + 200]])
    runs = [Run(1, count, count, 1, Outcome.MOVED)]
    verdict = Comparison(spool, "f", {1: "f"}, VerifyMode.FULL, {1: Expected(runs)} if with_ledger else {}, (), with_ledger).run()
assert (verdict.source_messages, verdict.target_messages) == (count, count)
assert not (verdict.missing or verdict.extra or verdict.altered or verdict.altered_flags or verdict.altered_date)
print(peak() - before)
"""


@pytest.mark.parametrize("how", ["ledger", "content"])
def test_memory_does_not_grow_with_the_folder(how: str) -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM, str(MESSAGES), how], cwd=ROOT, capture_output=True, text=True, timeout=300,
                          check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) <= MOST_MIB
