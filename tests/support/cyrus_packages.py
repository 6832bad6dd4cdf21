"""Where Cyrus is found, and how it gets there: Debian's packages, unpacked beside the installed Dovecot.

dovecot-imapd and cyrus-imapd exclude each other, so Cyrus is not installed: `unpack` fetches the two packages and the libraries that
they want and the machine lacks, through apt (which checks the archive's signatures), and unpacks them with `dpkg -x`. Needs no root, and
changes nothing outside DIRECTORY. Only the standard library: `make test` calls this before anything else.
"""
from __future__ import annotations

import contextlib
import os
import re
import shutil
import subprocess
import tempfile
from pathlib import Path

DIRECTORY = Path(__file__).resolve().parents[2] / ".cache" / "cyrus"
PACKAGES = ("cyrus-imapd", "cyrus-common")
# What imapd and master load themselves; cyrus-common's other programs want a virus scanner and more, which no test needs.
_LIBRARIES = re.compile(r"(lib(?:ical|icu|jansson|krb5|ldap|pcre|sqlite|xapian|xml2|wrap|com-err|sasl2)[\w.+-]*)")
_PROGRAMS = ("usr/lib/cyrus/bin/master", "usr/lib/cyrus/bin/imapd")
_PATIENCE = 300.0  # seconds for one apt command


def root() -> Path | None:
    """The tree that holds Cyrus's programs: the unpacked one, or / where it is installed. None: nowhere."""
    return next((top for top in (DIRECTORY, Path("/")) if all((top / program).exists() for program in _PROGRAMS)), None)


def environment(top: Path) -> dict[str, str]:
    """What its programs need to find their libraries and SASL's mechanisms."""
    libraries = sorted({str(path.parent) for place in ("usr/lib", "lib") for path in (top / place).glob("**/lib*.so*")
                        if path.parent.name != "sasl2"}) if top != Path("/") else []
    mechanisms = [str(path) for place in (top, Path("/")) for path in sorted(place.glob("usr/lib/*/sasl2")) if any(path.glob("*.so"))]
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG", "TMPDIR")}
    return {**kept, "LD_LIBRARY_PATH": ":".join(libraries), "SASL_PATH": ":".join(mechanisms)}


def missing_libraries(top: Path) -> list[str]:
    """Names of shared libraries that its programs ask for and the machine does not have."""
    told: set[str] = set()
    for program in _PROGRAMS:
        shown = subprocess.run(["ldd", str(top / program)], env=environment(top), capture_output=True, text=True, timeout=60, check=False)
        told |= set(re.findall(r"(\S+) => not found", shown.stdout))
    return sorted(told)


def unpack() -> str:
    """Fetches and unpacks where that is not done yet. Returns "" or why it could not, in words. Half a tree is never left behind."""
    if root() is not None:
        return ""
    if not (shutil.which("apt-get") and shutil.which("dpkg-deb")):
        return "no apt-get here; Cyrus is taken from Debian's packages"
    DIRECTORY.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix="cyrus-", dir=DIRECTORY.parent) as work:
        tree, fetched = Path(work) / "tree", Path(work) / "packages"
        fetched.mkdir()
        said = _fetch(fetched, PACKAGES)
        if said:
            return said
        wanted = ["libsasl2-modules"]  # SASL's PLAIN
        for package in fetched.glob("*.deb"):
            wanted += _LIBRARIES.findall(_run(["dpkg-deb", "-f", str(package), "Depends"])[1])
        said = _fetch(fetched, sorted(name for name in set(wanted) if not _installed(name)))
        for package in sorted(fetched.glob("*.deb")):
            code, words = _run(["dpkg-deb", "-x", str(package), str(tree)])
            if code:
                return words
        lacking = missing_libraries(tree)
        if lacking:
            return f"libraries missing: {' '.join(lacking)} {said}".strip()
        Path(tree).chmod(0o755)
        with contextlib.suppress(OSError):  # somebody else was quicker
            tree.rename(DIRECTORY)
    return ""


def _fetch(directory: Path, packages: list[str] | tuple[str, ...]) -> str:
    if not packages:
        return ""
    sandbox = ["-o", "APT::Sandbox::User=root"] if os.geteuid() == 0 else []  # its own user could not write here
    command = ["apt-get", "download", "-qq", *sandbox, *packages]
    code, words = _run(command, directory)
    if code and os.geteuid() == 0:  # a machine that has no lists of packages yet, or old ones
        _run(["apt-get", "update", "-qq"])
        code, words = _run(command, directory)
    return words or "apt-get download failed" if code else ""


def _installed(package: str) -> bool:
    code, words = _run(["dpkg-query", "-W", "-f", "${db:Status-Status}", package])
    return code == 0 and words.startswith("installed")


def _run(command: list[str], directory: Path | None = None) -> tuple[int, str]:
    try:
        done = subprocess.run(command, cwd=directory, capture_output=True, text=True, timeout=_PATIENCE, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return 1, f"{command[0]}: {error}"
    return done.returncode, (done.stderr.strip()[-400:] if done.returncode else done.stdout.strip())
