"""Which mailbox, on which server, by which road, with which secret.

Owns the types that name an account; holds the mask of a secret next to the secret. Parses account URLs.
Never prints, pickles or serialises a secret.
"""
from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NoReturn
from urllib.parse import unquote, urlsplit


class Security(StrEnum):
    """How the connection is protected. PLAIN never comes from a person's choice in the portal."""

    TLS = "tls"
    STARTTLS = "starttls"
    PLAIN = "plain"


SCHEMES = {"imaps": (Security.TLS, 993), "imap": (Security.STARTTLS, 143), "imap+plain": (Security.PLAIN, 143)}


class Secret:
    """A password or code. Shown as ***; cannot be pickled, copied into JSON or formatted."""

    __slots__ = ("_text",)

    def __init__(self, text: str) -> None:
        self._text = text

    def reveal(self) -> str:
        return self._text

    def __repr__(self) -> str:
        return "Secret(***)"

    __str__ = __repr__

    def __format__(self, spec: str) -> str:
        return "***"

    def __bool__(self) -> bool:
        return bool(self._text)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Secret) and other._text == self._text

    __hash__ = None  # type: ignore[assignment]  # a hash would let a secret be looked up in a dict

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret does not leave the process")


@dataclass(frozen=True)
class Endpoint:
    """A mail server. `ca_pem` replaces the system's trust roots; `pinned_sha256` (hex of the certificate's SubjectPublicKeyInfo)
    is the audited exception for one endpoint whose certificate cannot be verified by name and chain."""

    host: str
    port: int
    security: Security = Security.TLS
    ca_pem: str | None = None
    pinned_sha256: str | None = None
    provider: str | None = None

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True)
class Account:
    """One mailbox: its server, the login name there, the secret."""

    endpoint: Endpoint
    login: str
    secret: Secret = field(repr=False, compare=False)


@dataclass(frozen=True)
class RelayRoute:
    """A relay that dials for us. `token` is `rt1.<client>.<43 characters>`."""

    host: str
    port: int
    token: Secret = field(repr=False, compare=False)
    ca_pem: str | None = None


@dataclass(frozen=True)
class Route:
    """How a server is reached: directly, or through a relay; and which networks, otherwise denied, are allowed.

    `allowed_networks` opens parts of the deny table of engine/net/addresses.py (a lab, an intranet server).
    """

    relay: RelayRoute | None = None
    allowed_networks: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()


class BadAddress(ValueError):
    """An account URL, or a part of one, that cannot be understood; the words name the part and say what to write instead. They hold no
    more of what was written than a host or a mail address: the rest may be a secret."""

    def __init__(self, zh: str, en: str) -> None:
        super().__init__(en)
        self.zh, self.en = zh, en


_HOST = re.compile(r"^(?=.{1,253}$)[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_]([A-Za-z0-9_-]{0,62}))*$")
_BARE_HOST = re.compile(r"^([A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+|localhost|\[[0-9A-Fa-f:.]+\])(:[0-9]{1,5})?$")  # more digits: a secret
_BARE_MAIL = re.compile(r"^[^\s:/?#@\[\]]+@[A-Za-z0-9_-]+(\.[A-Za-z0-9_-]+)+$")
_LOGIN_EN, _LOGIN_ZH = "LOGIN is mostly the mail address, its @ written %40", "登录名多半是邮箱地址，其中的 @ 写成 %40"


def host_name(text: str) -> str:
    """A host name or address, lower-cased, IDN encoded. Raises BadAddress."""
    host = text.strip().rstrip(".").lower()
    try:
        return str(ipaddress.ip_address(host))
    except ValueError:
        pass
    try:
        host = host.encode("idna").decode("ascii")
    except UnicodeError:
        raise _no_host(text) from None
    if not _HOST.match(host):
        raise _no_host(text)
    return host


def _no_host(text: str) -> BadAddress:
    return BadAddress(f"主机（host）：{text!r} 不是主机名；请写像 mail.example.com 这样的名字，或者 IP 地址",
                      f"the host: {text!r} is not a host name; write one such as mail.example.com, or an IP address")


def parse_account_url(url: str) -> tuple[Endpoint, str]:
    """`imaps://user%40dom@host:port` -> (endpoint, login). The URL must hold no secret. Raises BadAddress."""
    if any(ord(c) < 32 or ord(c) == 127 for c in url):  # urlsplit would drop them without a word
        raise BadAddress("地址（address）里有控制字符；请重新写一遍", "the address holds a control character; write it anew")
    try:
        parts = urlsplit(url)
    except ValueError:
        raise BadAddress("主机（host）：IPv6 地址要写在方括号里，例如 imaps://登录名@[2001:db8::1]:993",
                         "the host: an IPv6 address stands in brackets, as in imaps://LOGIN@[2001:db8::1]:993") from None
    if parts.scheme not in SCHEMES:
        raise _no_scheme(url)
    if parts.password is not None:
        raise BadAddress("密码（password）从不写在地址里；请用密码文件、环境变量，或者等提示",
                         "the password: a secret never goes into the address; use a password file, the environment or the prompt")
    if not parts.username:
        raise _no_user(f"{parts.scheme}://", parts.netloc.rpartition("@")[2])
    if parts.path not in ("", "/") or parts.query or parts.fragment:
        raise BadAddress("路径（path）：主机和端口后面不能再写别的", "the path: nothing may follow the host and port")
    try:
        port = parts.port
    except ValueError:
        raise BadAddress("端口（port）：请写 1 到 65535 的数", "the port: write a number from 1 to 65535") from None
    security, default_port = SCHEMES[parts.scheme]
    return Endpoint(host_name(parts.hostname or ""), port or default_port, security), login_name(unquote(parts.username))


def _no_scheme(url: str) -> BadAddress:
    """Where it is the name of a server or a mail address and nothing else, with all that is missing put in."""
    if _BARE_HOST.match(url):
        return BadAddress(f"缺少开头的 imaps://（scheme）和登录名（user）：请写 imaps://登录名@{url}；{_LOGIN_ZH}",
                          f"the scheme and the user are missing: write imaps://LOGIN@{url}; {_LOGIN_EN}")
    if _BARE_MAIL.match(url):
        login = url.replace("%", "%25").replace("@", "%40")
        return BadAddress(f"缺少开头的 imaps://（scheme）和服务器（host）：请写 imaps://{login}@主机；主机是 IMAP 服务器的名字",
                          f"the scheme and the host are missing: write imaps://{login}@HOST; HOST is the name of the IMAP server")
    choice = [f"{scheme}://" for scheme in SCHEMES]
    return BadAddress(f"协议（scheme）：开头请写 {'、'.join(choice)}；完整的写法是 imaps://登录名@主机:993；{_LOGIN_ZH}",
                      f"the scheme: begin with {', '.join(choice)}; in full: imaps://LOGIN@HOST:993; {_LOGIN_EN}")


def _no_user(scheme: str, host: str) -> BadAddress:
    known = _BARE_HOST.match(host)  # else what stands there may be the beginning of a name and a secret, up to a slash in it
    return BadAddress(f"缺少登录名（user）：请写 {scheme}登录名@{host if known else '主机'}；{_LOGIN_ZH}",
                      f"the user is missing: write {scheme}LOGIN@{host if known else 'HOST'}; {_LOGIN_EN}")


def login_name(text: str) -> str:
    """A login name free of control characters (they would end the command line). Raises BadAddress."""
    if not text or any(ord(c) < 32 or ord(c) == 127 for c in text):
        raise BadAddress("登录名（user）是空的，或者含有控制字符",
                         "the user: the login name is empty or holds a control character")
    return text
