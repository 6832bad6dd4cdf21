"""The tests' own certificate authority: one per process, made once (the type is the demo's).

    authority().pem                      what a client has to trust
    authority().issue()                  a pair for localhost and 127.0.0.1
    authority().issue("mail.example")    a pair for another name (to be refused)
    stranger().issue()                   a pair that nobody trusts
"""
from __future__ import annotations

from functools import cache

from portal.demo.certificates import Authority, ServerCertificate

__all__ = ["Authority", "ServerCertificate", "authority", "stranger"]


@cache
def authority() -> Authority:
    return Authority("Banjia test CA")


@cache
def stranger() -> Authority:
    return Authority("Nobody's CA")
