"""Passwords of staff: argon2id with OWASP's floor (m = 19 MiB, t = 2, p = 1; the library's default of 64 MiB would let eight
threads take 512 MiB: facts, portal 2.3). Checking takes the same time whether or not the person exists.
"""
from __future__ import annotations

import re
from functools import cache

from argon2 import PasswordHasher, Type
from argon2.exceptions import InvalidHashError, VerificationError

from engine.causes import Words
from engine.endpoint import Secret

_HASHER = PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1, type=Type.ID)
SHORTEST = 12
LONGEST = 256  # characters; argon2 would take more, a request should not

# The beginnings people use when twelve characters are demanded. Short on purpose: length and the throttle do the work.
_COMMON = re.compile(
    r"(password|passw0rd|qwerty|qwertz|1q2w3e|admin|letmein|welcome|iloveyou|abc123|banjia|woaini|5201314|12345|00000|11111)")


def hash_password(password: Secret) -> str:
    return _HASHER.hash(password.reveal())


@cache
def _nobody() -> str:
    return _HASHER.hash("nobody has this password")


def password_matches(password_hash: str | None, password: Secret) -> bool:
    """False without a hash too, after the same work."""
    try:
        matches = _HASHER.verify(password_hash or _nobody(), password.reveal()[: 4 * LONGEST])
    except (VerificationError, InvalidHashError):
        return False
    return matches and password_hash is not None


def needs_new_hash(password_hash: str) -> bool:
    """True when the costs above have been raised since."""
    return _HASHER.check_needs_rehash(password_hash)


def why_weak(password: Secret, email: str) -> Words | None:
    """What is wrong with a new password, or None. No rules on kinds of characters (ASVS 5.0, 6.2.5)."""
    text = password.reveal()
    folded = text.casefold()
    if len(text) < SHORTEST:
        return Words(f"密码至少 {SHORTEST} 个字符，一句话最好记。",
                     f"At least {SHORTEST} characters; a sentence is easiest to remember.")
    if len(text) > LONGEST:
        return Words(f"密码最多 {LONGEST} 个字符。", f"At most {LONGEST} characters.")
    local = email.split("@", 1)[0].casefold()
    if len(local) > 3 and local in folded:
        return Words("密码里不要有自己的邮箱名。", "Leave your own mail name out of the password.")
    if len(set(folded)) < 6 or len(_COMMON.sub("", folded)) < SHORTEST // 2:
        return Words("这个密码太容易猜到，请换一个。", "This password is too easy to guess; choose another.")
    return None
