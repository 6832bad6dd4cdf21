"""Which provider a mailbox lives at: by the domain, else by the domain's MX; a server by its name or its greeting.

Owns the order of the evidence (facts: section 1) and the words for it. Must not ask the mail server anything.
Always: answers within the DNS deadline; says on what the answer rests; without evidence the answer is None, never a guess.
MX lies when a filter stands in front, and when the company has already switched to us: then the answer is None, with that said.
"""
from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from engine.causes import Words
from engine.endpoint import BadAddress, host_name
from engine.providers.catalogue import greetings, mentioning, providers
from engine.providers.provider import Provider

MX_LIFETIME = 3.0  # seconds for the whole lookup
_MAX_HOSTS = 20    # MX hosts looked at
_MAX_GREETING = 1000

# Filters that stand before the mailbox host: they say nothing about it (facts: section 1, GATEWAY).
_GATEWAY = re.compile(r"(^|\.)(pphosted|mimecast|messagelabs|barracudanetworks|iphmx|trendmicro|sophos)\.", re.IGNORECASE)


class Detection(NamedTuple):
    """`evidence` says on what it rests, for people. `switched`: the MX already names a usual destination of moves."""

    provider: str | None
    evidence: Words
    switched: bool = False


class MxFailed(Exception):
    """The lookup had no answer in time, or DNS failed. A domain without MX is not a failure: that is an empty list."""


def lookup_mx(domain: str) -> list[str]:
    """MX hosts of a domain, most preferred first, lower-cased, without trailing dot. Raises MxFailed."""
    import dns.exception
    import dns.resolver  # only here: the command line seldom needs it

    try:
        answer = dns.resolver.resolve(domain, "MX", lifetime=MX_LIFETIME)
    except (dns.resolver.NXDOMAIN, dns.resolver.NoAnswer):
        return []
    except (dns.exception.DNSException, OSError) as error:
        raise MxFailed(type(error).__name__) from None
    hosts = sorted((int(record.preference), str(record.exchange).rstrip(".").lower()) for record in answer)
    return [host for _, host in hosts if host]


def _domain(address: str) -> str:
    """In its wire form; empty when it cannot be the domain of an address."""
    try:
        domain = host_name(address.rpartition("@")[2])
    except BadAddress:
        return ""
    return domain if "." in domain else ""


def detect(address: str, *, mx_lookup: Callable[[str], list[str]] | None = None) -> Detection:
    """The provider of a mail address or domain. `mx_lookup` gives MX hosts, most preferred first; raises MxFailed or OSError."""
    domain = _domain(address)
    if not domain:
        return Detection(None, Words("邮箱地址里没有可以查的域名。", "The address has no domain to look up."))
    for one in mentioning(domain):
        if domain in one.domains:
            return Detection(one.key, Words(f"{domain} 是{one.name.zh}自己的域名。", f"{domain} belongs to {one.name.en}."))
    try:
        hosts = (mx_lookup or lookup_mx)(domain)[:_MAX_HOSTS]
    except (MxFailed, OSError):
        return Detection(None, Words(f"没能查到 {domain} 的 MX 记录。", f"The MX of {domain} could not be looked up."))
    if not hosts:
        return Detection(None, Words(f"{domain} 没有 MX 记录。", f"{domain} has no MX."))
    return _by_mx(domain, [host.strip().rstrip(".").lower()[:253] for host in hosts])


def _by_mx(domain: str, hosts: list[str]) -> Detection:
    said = (f"{domain} 的 MX 记录是 {hosts[0]}", f"The MX of {domain} is {hosts[0]}")
    for one, host in _matches(hosts):
        if one.destination:
            evidence = Words(f"{domain} 的 MX 记录已经指向新邮箱（{host}），看不出旧邮箱在哪家。",
                             f"The MX of {domain} already names the new provider ({host}); it does not tell the old one.")
            return Detection(None, evidence, switched=True)
        return Detection(one.key, Words(f"{domain} 的 MX 记录是 {host}，属于{one.name.zh}。",
                                        f"The MX of {domain} is {host}, which is {one.name.en}."))
    if any(_GATEWAY.search(host) for host in hosts):
        return Detection(None, Words(f"{said[0]}，那是邮件过滤服务，看不出邮箱在哪家。",
                                     f"{said[1]}, a mail filter; it does not tell where the mailbox is."))
    return Detection(None, Words(f"{said[0]}，我们不认识这家。", f"{said[1]}, which we do not know."))


def _matches(hosts: list[str]) -> Iterator[tuple[Provider, str]]:
    """Ordinary patterns of all providers before fallback ones; within each, the most preferred MX first."""
    for fallback in (False, True):
        for host in hosts:
            for one in providers().values():
                if any(mx.fallback is fallback and mx.pattern.search(host) for mx in one.mx):
                    yield one, host


def by_greeting(greeting: str) -> str | None:
    """The provider key that an IMAP or POP3 greeting shows (its family is in the provider's data). None: it shows nothing.

    Where several fit, the one that recognised most of the text is the most particular.
    """
    best, recognised = None, 0
    for key, pattern in greetings():
        match = pattern.search(greeting[:_MAX_GREETING])
        if match and len(match[0]) > recognised:
            best, recognised = key, len(match[0])
    return best


def by_host(host: str) -> str | None:
    """The provider whose server has this name. None: no provider's own name."""
    host = host.strip().rstrip(".").lower()
    if not host:
        return None
    for one in mentioning(host):
        own = [*one.imap_hosts, *((one.overseas_host,) if one.overseas_host else ())]
        if host in [h.host for h in own if "{" not in h.host] or host in one.pop_hosts or host in one.hosts_by_domain.values():
            return one.key
    return None
