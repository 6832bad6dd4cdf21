"""Reads the relay's TOML file: whole, checked whole, every fault reported at once with its key, cause and what to write.

A file with a fault is never used. Values of token_sha256 are never repeated in a fault's text.
"""
from __future__ import annotations

import difflib
import ipaddress
import os
import re
import stat
import tomllib
from collections.abc import Mapping
from dataclasses import fields
from datetime import UTC, date, datetime
from pathlib import Path
from typing import Any

from relay.config import LIMITS, BadConfig, Client, Limit, Limits, Listen, Network, Problem, RelayConfig, Upstream, is_address

FILE_CAP = 1 << 20  # octets; a thousand clients need a quarter of it
IDENTIFIER = re.compile(r"[a-z0-9](?:[a-z0-9-]{0,30}[a-z0-9])?")
HOST_NAME = re.compile(r"(?=.{1,253}\Z)[a-z0-9_](?:[a-z0-9_-]{0,62})(?:\.[a-z0-9_](?:[a-z0-9_-]{0,62}))*")
SHA256_HEX = re.compile(r"[0-9a-f]{64}")

KEYS = {
    "": {"relay", "limits", "clients", "upstreams"},
    "relay": {"listen", "listen_plaintext", "certificate", "key", "log_format"},
    "clients": {"id", "token_sha256", "upstreams", "expires", "sources", "max_connections"},
    "upstreams": {"id", "host", "port", "allowed_networks", "server_name", "max_connections"},
    "limits": set(LIMITS),
}
EXAMPLE = {
    "relay": "[relay]",
    "listen": 'listen = ["0.0.0.0:8443"]',
    "listen_plaintext": 'listen_plaintext = ["127.0.0.1:8480"]',
    "certificate": 'certificate = "relay.crt"',
    "key": 'key = "relay.key"',
    "log_format": 'log_format = "json"',
    "clients": '[[clients]] id = "worker-1" …',
    "upstreams": '[[upstreams]] id = "cn263" host = "imap.263.net" port = 993',
    "id": 'id = "worker-1"',
    "token_sha256": 'token_sha256 = "…" (python -m relay token worker-1)',
    "client_upstreams": 'upstreams = ["cn263"]',
    "expires": "expires = 2027-06-30T00:00:00Z",
    "sources": 'sources = ["203.0.113.0/24"]',
    "max_connections": "max_connections = 32",
    "host": 'host = "imap.263.net"',
    "port": "port = 993",
    "allowed_networks": 'allowed_networks = ["10.1.0.0/16"]',
    "server_name": 'server_name = "imap.263.net"',
}


def load_config(path: Path) -> RelayConfig:
    """The configuration in the file. Raises BadConfig."""
    return _Reader(path).read()


class _Reader:
    """Reads one file; collects problems instead of stopping at the first."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.problems: list[Problem] = []

    def fault(self, key: str, zh: str, en: str, write: str) -> None:
        self.problems.append(Problem(str(self.path), key, zh, en, write))

    def read(self) -> RelayConfig:
        document = self.document()
        self.known(document, "", "")
        relay = self.table(document, "relay")
        self.known(relay, "relay", "relay.")
        listen = self.listeners(relay)
        certificate, key = self.certificate(relay, any(one.tls for one in listen))
        log_format = relay.get("log_format", "json")
        if log_format not in ("json", "text"):
            self.fault("relay.log_format", '只能是 "json" 或 "text"', 'is neither "json" nor "text"', EXAMPLE["log_format"])
        limits = self.limits(self.table(document, "limits"))
        upstreams = self.upstreams(document)
        clients = self.clients(document, set(upstreams))
        if self.problems:
            raise BadConfig(self.problems)
        return RelayConfig(self.path, listen, certificate, key, log_format, limits, clients, upstreams)

    def document(self) -> dict[str, Any]:
        """The parsed file. Its mode is taken from the open file, so that it cannot be exchanged in between."""
        try:
            with self.path.open("rb") as file:
                mode = os.fstat(file.fileno()).st_mode
                octets = file.read(FILE_CAP + 1)
        except OSError as error:
            self.fault("-", f"读不了：{error.strerror}", f"cannot be read: {error.strerror}", "--config /etc/banjia/relay.toml")
            raise BadConfig(self.problems) from None
        if mode & (stat.S_IWGRP | stat.S_IWOTH):
            self.fault("-", "同组或其他用户可以改写它（它决定谁能使用中继）",
                       "is writable by its group or by others (it decides who may use the relay)", f"chmod 640 {self.path}")
        if len(octets) > FILE_CAP:
            self.fault("-", "超过 1 MiB", "is larger than 1 MiB", "fewer clients in one relay")
            raise BadConfig(self.problems)
        try:
            return tomllib.loads(octets.decode("utf-8"))
        except UnicodeDecodeError:
            self.fault("-", "不是 UTF-8 文本", "is not UTF-8 text", "a TOML file in UTF-8")
        except tomllib.TOMLDecodeError as error:
            # tomllib names line and column, never the text of the line
            self.fault("-", f"不是 TOML：{error}", f"is not TOML: {error}", EXAMPLE["relay"])
        raise BadConfig(self.problems) from None

    def known(self, table: Mapping[str, Any], kind: str, prefix: str) -> None:
        for key in table.keys() - KEYS[kind]:
            near = difflib.get_close_matches(key, KEYS[kind], 1)
            self.fault(prefix + key, "没有这个键", "is no key of this table", near[0] if near else ", ".join(sorted(KEYS[kind])))

    def table(self, document: Mapping[str, Any], name: str) -> dict[str, Any]:
        table = document.get(name, {})
        if isinstance(table, dict):
            return table
        self.fault(name, "应为一个表", "is not a table", f"[{name}]")
        return {}

    def entries(self, document: Mapping[str, Any], name: str) -> list[tuple[str, dict[str, Any]]]:
        """Each [[name]] entry with the prefix of its keys; entries with a missing, malformed or repeated id are faults."""
        rows = document.get(name, [])
        if not isinstance(rows, list) or not all(isinstance(row, dict) for row in rows):
            self.fault(name, "应为若干个表", "is not a list of tables", EXAMPLE[name])
            return []
        if not rows:
            self.fault(name, "一个也没有；没有名单的中继不启动", "there is none; a relay without a list does not start",
                       EXAMPLE[name])
        found, seen = [], set()
        for index, row in enumerate(rows):
            identifier, prefix = row.get("id"), f"{name}[{index}]."
            if not isinstance(identifier, str) or not IDENTIFIER.fullmatch(identifier):
                self.fault(prefix + "id", "应为 1 到 32 个小写字母、数字或中间的连字符",
                           "is not 1 to 32 lower-case letters, digits or inner hyphens", EXAMPLE["id"])
                continue
            prefix = f"{name}.{identifier}."
            if identifier in seen:
                self.fault(prefix + "id", "重复了", "occurs twice", "another id")
            seen.add(identifier)
            self.known(row, name, prefix)
            found.append((prefix, row))
        return found

    def texts(self, row: Mapping[str, Any], key: str, prefix: str, write: str, *, required: bool = False) -> list[str]:
        value = row.get(key, [])
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self.fault(prefix + key, "应为文本的列表", "is not a list of texts", write)
            return []
        if required and not value:
            self.fault(prefix + key, "没有写", "is missing or empty", write)
        return value

    def number(self, row: Mapping[str, Any], key: str, prefix: str, bounds: Limit, write: str) -> int:
        value = row.get(key, bounds.default)
        if isinstance(value, bool) or not isinstance(value, int) or not bounds.low <= value <= bounds.high:
            self.fault(prefix + key, f"应为 {bounds.low} 到 {bounds.high} 的整数",
                       f"is not a whole number from {bounds.low} to {bounds.high}", write)
            return bounds.default
        return value

    def networks(self, row: Mapping[str, Any], key: str, prefix: str) -> tuple[Network, ...]:
        found: list[Network] = []
        for text in self.texts(row, key, prefix, EXAMPLE[key]):
            try:
                found.append(ipaddress.ip_network(text))
            except ValueError:
                self.fault(prefix + key, f"{text!r} 不是网段（主机位须为 0）", f"{text!r} is not a network (host bits must be 0)",
                           EXAMPLE[key])
        return tuple(found)

    def listeners(self, relay: Mapping[str, Any]) -> tuple[Listen, ...]:
        found = []
        for key, tls in (("listen", True), ("listen_plaintext", False)):
            for text in self.texts(relay, key, "relay.", EXAMPLE[key]):
                one = _listen_address(text, tls)
                if one is None:
                    self.fault(f"relay.{key}", f"{text!r} 不是 IP:端口", f"{text!r} is not address:port", EXAMPLE[key])
                elif not tls and not ipaddress.ip_address(one.host).is_loopback:
                    self.fault(f"relay.{key}", f"{text!r} 不是本机环回地址；令牌不能明文过网",
                               f"{text!r} is not a loopback address; tokens never cross a network in plaintext", EXAMPLE[key])
                else:
                    found.append(one)
        if not found and not self.problems:
            self.fault("relay.listen", "没有写", "is missing or empty", EXAMPLE["listen"])
        return tuple(found)

    def certificate(self, relay: Mapping[str, Any], needed: bool) -> tuple[Path | None, Path | None]:
        """Paths of certificate chain and key, relative to the file's folder; the key must not be readable by all."""
        paths: list[Path | None] = []
        for name in ("certificate", "key"):
            value = relay.get(name)
            if value is None:
                if needed:
                    self.fault(f"relay.{name}", "没有写", "is missing", EXAMPLE[name])
                paths.append(None)
                continue
            if not isinstance(value, str) or not value:
                self.fault(f"relay.{name}", "应为文件名", "is not a file name", EXAMPLE[name])
                paths.append(None)
                continue
            path = self.path.parent / value
            try:
                mode = path.stat().st_mode
            except OSError as error:
                self.fault(f"relay.{name}", f"读不了 {path}：{error.strerror}", f"{path} cannot be read: {error.strerror}",
                           EXAMPLE[name])
                paths.append(None)
                continue
            if name == "key" and mode & (stat.S_IROTH | stat.S_IWOTH | stat.S_IWGRP):
                self.fault("relay.key", f"{path} 其他用户可读或可改", f"{path} is readable or writable by others",
                           f"chmod 600 {path}")
            paths.append(path)
        return paths[0], paths[1]

    def limits(self, table: Mapping[str, Any]) -> Limits:
        self.known(table, "limits", "limits.")
        return Limits(**{name: self.number(table, name, "limits.", LIMITS[name], f"{name} = {LIMITS[name].default}")
                         for name in (one.name for one in fields(Limits))})

    def upstreams(self, document: Mapping[str, Any]) -> dict[str, Upstream]:
        found: dict[str, Upstream] = {}
        places: dict[tuple[str, int], str] = {}
        for prefix, row in self.entries(document, "upstreams"):
            host = self.host(row.get("host"), prefix + "host", EXAMPLE["host"], address=True)
            port = self.number(row, "port", prefix, Limit(993, 1, 65535), EXAMPLE["port"])
            server_name = None
            if "server_name" in row:
                server_name = self.host(row["server_name"], prefix + "server_name", EXAMPLE["server_name"], address=False)
            cap = self.number(row, "max_connections", prefix, Limit(0, 0, 20_000), EXAMPLE["max_connections"])
            if host is None:
                continue
            if (host, port) in places:
                other = places[host, port]
                self.fault(prefix + "host", f"与 {other} 是同一个服务器", f"is the server of {other} again",
                           "one entry for each host and port")
            places[host, port] = row["id"]
            found[row["id"]] = Upstream(row["id"], host, port, self.networks(row, "allowed_networks", prefix), server_name, cap)
        return found

    def host(self, value: object, key: str, write: str, *, address: bool) -> str | None:
        """A host name in its ASCII form (lower case, no trailing dot), or an IP literal where one may stand."""
        text = value.lower() if isinstance(value, str) else ""
        if is_address(text) and "%" not in text and address:
            return str(ipaddress.ip_address(text))
        last = text.rpartition(".")[2]
        if not HOST_NAME.fullmatch(text) or last.isdigit() or last.startswith("0x"):
            self.fault(key, "不是主机名（中文域名写 xn-- 形式，末尾不带点）",
                       "is not a host name (an IDN in its xn-- form, no trailing dot)", write)
            return None
        return text

    def clients(self, document: Mapping[str, Any], upstreams: set[str]) -> dict[str, Client]:
        found: dict[str, Client] = {}
        owners: dict[str, str] = {}
        for prefix, row in self.entries(document, "clients"):
            names = self.texts(row, "upstreams", prefix, EXAMPLE["client_upstreams"], required=True)
            for name in names:
                if name not in upstreams:
                    self.fault(prefix + "upstreams", f"没有名为 {name!r} 的上游", f"there is no upstream {name!r}",
                               ", ".join(sorted(upstreams)) or EXAMPLE["upstreams"])
            hashes = self.token_hashes(row, prefix)
            for one in hashes:
                if owners.setdefault(one, row["id"]) != row["id"]:
                    self.fault(prefix + "token_sha256", f"与 {owners[one]} 的令牌相同", f"is the token of {owners[one]}",
                               EXAMPLE["token_sha256"])
            found[row["id"]] = Client(
                id=row["id"], token_hashes=hashes, upstreams=frozenset(names), expires=self.expiry(row, prefix),
                sources=self.networks(row, "sources", prefix),
                max_connections=self.number(row, "max_connections", prefix, Limit(32, 1, 20_000), EXAMPLE["max_connections"]))
        return found

    def token_hashes(self, row: Mapping[str, Any], prefix: str) -> tuple[str, ...]:
        value = row.get("token_sha256")
        hashes = [value] if isinstance(value, str) else value
        good = isinstance(hashes, list) and hashes and all(isinstance(one, str) and SHA256_HEX.fullmatch(one) for one in hashes)
        if not isinstance(hashes, list) or not good:
            # the value is not repeated: somebody may have written the token itself here
            self.fault(prefix + "token_sha256", "不是 64 位小写十六进制（或其列表）",
                       "is not 64 lower-case hexadecimal digits (or a list of such)", EXAMPLE["token_sha256"])
            return ()
        return tuple(hashes)

    def expiry(self, row: Mapping[str, Any], prefix: str) -> datetime | None:
        value = row.get("expires")
        if isinstance(value, datetime):
            if value.tzinfo is not None:
                return value.astimezone(UTC)
        elif isinstance(value, date):
            return datetime(value.year, value.month, value.day, tzinfo=UTC)
        elif value is None:
            return None
        self.fault(prefix + "expires", "应为日期，或带时区的时间", "is not a date, or a time with its zone", EXAMPLE["expires"])
        return None


def _listen_address(text: str, tls: bool) -> Listen | None:
    host, colon, port = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        return None
    if not colon or not is_address(host) or not port.isascii() or not port.isdigit() or int(port) > 65535:
        return None
    return Listen(host, int(port), tls)
