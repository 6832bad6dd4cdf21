"""Tokens that stand in a personal link or an invitation: 256 random bits; only their SHA-256 is ever stored.

A token is compared by looking up its hash, so there is nothing to time. Tokens never go into a log (logfilter.py).
"""
from __future__ import annotations

import hashlib
import re
import secrets

_FORM = re.compile(r"[A-Za-z0-9_-]{43}")  # base64url of 32 octets


def new_token() -> str:
    return secrets.token_urlsafe(32)


def token_sha256(token: str) -> str:
    return hashlib.sha256(token.encode("utf-8", "surrogatepass")).hexdigest()


def looks_like_token(text: str) -> bool:
    """False for what cannot be one of ours; saves the database a lookup."""
    return _FORM.fullmatch(text) is not None
