"""A copy that kills itself with SIGKILL at the n-th moment of its transfer: `python -m tests.support.dying_copy N copy …`.

The arguments after N are those of `python -m engine`. Without an n-th moment it ends as the engine does, and the last line on stderr says
how many moments there were.
"""
from __future__ import annotations

import os
import signal
import sys
import threading

from engine.cli import main
from engine.transfer import points


class Death:
    def __init__(self, at: int) -> None:
        self._left = at
        self._lock = threading.Lock()
        self.seen = 0

    def __call__(self, moment: str) -> None:
        with self._lock:
            self.seen += 1
            if self.seen == self._left:
                sys.stderr.write(f"died: {moment}\n")
                sys.stderr.flush()
                os.kill(os.getpid(), signal.SIGKILL)


if __name__ == "__main__":
    death = Death(int(sys.argv[1]))
    points.install(death)
    code = main(sys.argv[2:])
    print(f"moments: {death.seen}", file=sys.stderr)
    sys.exit(code)
