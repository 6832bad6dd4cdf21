"""Makes sure of Dovecot, and of mbsync where it can be had. On Debian as root they are installed; elsewhere it says what is missing."""
from __future__ import annotations

import os
import shutil
import subprocess
import sys

from portal.demo.dovecot import installed_version

_PACKAGES = {"dovecot": "dovecot-imapd", "mbsync": "isync"}
_APT_SECONDS = 300


def provide() -> str:
    """"" when Dovecot is there; otherwise a sentence. A peer that is missing is no reason to stop."""
    packages = [_PACKAGES["dovecot"]] * (installed_version() is None) + [_PACKAGES["mbsync"]] * (shutil.which("mbsync") is None)
    if packages and os.geteuid() == 0 and shutil.which("apt-get"):
        print(f"apt-get install {' '.join(packages)} …", file=sys.stderr)
        for words in (["update", "-qq"], ["install", "-y", "-qq", "--no-install-recommends", *packages]):
            subprocess.run(["apt-get", *words], env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"}, stdout=subprocess.DEVNULL,
                           stderr=subprocess.DEVNULL, timeout=_APT_SECONDS, check=False)
        installed_version.cache_clear()
    return "" if installed_version() else "Dovecot with IMAP is not installed (Debian: apt install dovecot-imapd): nothing to measure with"
