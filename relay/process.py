"""What the process is allowed: no core dumps, enough file descriptors.

Secrets pass through its memory (tokens in prefaces), so its memory never goes to disk or to another process (L2).
"""
from __future__ import annotations

import ctypes
import resource
import sys

from relay.config import BadConfig, Problem, RelayConfig

PR_SET_DUMPABLE = 4
SPARE_FILES = 64  # interpreter, log, listeners, resolver


def no_core_dumps() -> None:
    """Neither a core file nor a tracer of the same user gets at the memory."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(PR_SET_DUMPABLE, 0, 0, 0, 0)


def enough_files(config: RelayConfig) -> None:
    """Raises the soft limit to what the caps need: two descriptors for a session, one for each that has not proved itself.
    Raises BadConfig when the hard limit is below: running out of them in service would hit those that did prove themselves."""
    needed = 2 * config.limits.max_sessions + config.limits.max_unauthenticated + SPARE_FILES
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard != resource.RLIM_INFINITY and hard < needed:
        room = max((hard - config.limits.max_unauthenticated - SPARE_FILES) // 2, 1)
        raise BadConfig([Problem(str(config.path), "limits.max_sessions", f"需要 {needed} 个文件描述符，上限只有 {hard}",
                                 f"needs {needed} file descriptors, the hard limit is {hard}",
                                 f"max_sessions = {room} (LimitNOFILE={needed})")])
    if soft != resource.RLIM_INFINITY and soft < needed:
        resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))
