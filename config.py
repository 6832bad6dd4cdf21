"""The settings: one validated object from the environment and an optional `.env` file.

Owns: names, kinds, defaults and meanings of every setting (`SETTINGS`, from which docs/settings.md is made: `python -m config`).
Must not: import anything of ours, open a connection, read a key, or print a password that stands in an URL.
Always: a variable of the environment wins over `.env`; an empty value means "not set"; a bad value names the variable, what is
wrong with it and what to write instead.
"""
from __future__ import annotations

import difflib
import ipaddress
import os
import re
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields
from enum import StrEnum
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from dotenv import dotenv_values

Network = ipaddress.IPv4Network | ipaddress.IPv6Network


class LogFormat(StrEnum):
    TEXT = "text"
    JSON = "json"


class BadSettings(ValueError):
    """A setting that cannot be used; `others` are further ones, a line of the text each. The text never holds the value of a setting
    that may carry a password."""

    def __init__(self, name: str, problem: str, write: str, others: Sequence[BadSettings] = ()) -> None:
        super().__init__("\n".join([f"{name}: {problem}. Write {write}.", *map(str, others)]))
        self.name = name
        self.problem = problem
        self.write = write


class _Wrong(ValueError):
    """(problem, what to write), raised by a parser that does not know the variable's name."""

    def __init__(self, problem: str, write: str) -> None:
        super().__init__(problem)
        self.problem = problem
        self.write = write


@dataclass(frozen=True)
class PortRange:
    """TCP ports from `first` to `last`, both included."""

    first: int
    last: int

    def __contains__(self, port: object) -> bool:
        return isinstance(port, int) and self.first <= port <= self.last

    def __str__(self) -> str:
        return str(self.first) if self.first == self.last else f"{self.first}-{self.last}"


# Where mail servers listen: IMAP, IMAP over TLS, POP3, POP3 over TLS (RFC 8314).
MAIL_PORTS = (PortRange(143, 143), PortRange(993, 993), PortRange(110, 110), PortRange(995, 995))


@dataclass(frozen=True)
class Settings:
    """What a process of Banjia needs to know before it starts. Build it with `load_settings`."""

    instance_dir: Path
    database_url: str
    redis_url: str
    secret_key_file: Path
    vault_public_key_file: Path
    vault_private_key_file: Path
    bind: str
    base_url: str
    trusted_proxies: int
    language: str
    link_days: int
    session_minutes: int
    staff_session_minutes: int
    invitation_hours: int
    upload_bytes: int
    allowed_networks: tuple[Network, ...]
    allowed_ports: tuple[PortRange, ...]
    slice_seconds: int
    lease_seconds: int
    reconcile_seconds: int
    connections: int
    relay_config: Path | None
    log_format: LogFormat
    log_level: str

    @property
    def secure_cookies(self) -> bool:
        """Cookies carry the Secure flag exactly when the portal is reached over HTTPS."""
        return self.base_url.startswith("https://")

    def port_allowed(self, port: int) -> bool:
        return any(port in ports for ports in self.allowed_ports)

    def __repr__(self) -> str:
        shown = ", ".join(f"{f.name}={shown_value(getattr(self, f.name))}" for f in fields(self))
        return f"Settings({shown})"


def without_password(url: str) -> str:
    """The URL with its password shown as ***; query parameters are left out as they may carry one too."""
    scheme, _, rest = url.partition("://")
    rest, question, _ = rest.partition("?")
    userinfo, at, place = rest.rpartition("@")
    if ":" in userinfo:
        userinfo = userinfo.split(":", 1)[0] + ":***"
    return f"{scheme}://{userinfo}{at}{place}{'?***' if question else ''}"


def shown_value(value: object) -> str:
    """A setting's value as it may be shown to people and logs."""
    if isinstance(value, tuple):
        return ",".join(str(item) for item in value) or "-"
    if isinstance(value, str) and "://" in value:
        return without_password(value)
    return "-" if value is None else str(value)


# --- kinds ----------------------------------------------------------------------------------------------------------------


def _text(text: str) -> str:
    return text


def _path(text: str) -> Path:
    return Path(text).expanduser()


def _number(least: int, most: int) -> Callable[[str], int]:
    def parse(text: str) -> int:
        want = f"a whole number from {least} to {most}"
        if not re.fullmatch(r"\d{1,12}", text):
            raise _Wrong(f"{text!r} is not a whole number", want)
        number = int(text)
        if not least <= number <= most:
            raise _Wrong(f"{number} is out of range", want)
        return number

    return parse


def _one_of(*choices: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        if text.lower() not in choices:
            raise _Wrong(f"{text!r} is not one of the choices", " or ".join(choices))
        return text.lower()

    return parse


def _log_format(text: str) -> LogFormat:
    return LogFormat(_one_of(*LogFormat)(text))


def _database_url(text: str) -> str:
    want = "sqlite:////absolute/path/banjia.db or postgresql://user:password@host/name"
    scheme, separator, rest = text.partition("://")
    if not separator:
        raise _Wrong("this is not a database URL", want)
    if scheme in ("postgresql", "postgres"):
        return f"postgresql+psycopg://{rest}"
    if scheme == "postgresql+psycopg":
        return text
    if scheme != "sqlite":
        raise _Wrong(f"the scheme {scheme!r} is not supported", want)
    if not rest.startswith("/") or rest == "/" or ":memory:" in rest:
        raise _Wrong("a database in memory would be lost and is not shared between web and workers", want)
    path, question, query = rest[1:].partition("?")
    return f"sqlite:///{Path(path).absolute()}{question}{query}"


def _redis_url(text: str) -> str:
    want = "redis://host:6379/0, rediss://:password@host:6379/0 or unix:///path/redis.sock"
    parts = urlsplit(text)
    if parts.scheme not in ("redis", "rediss", "unix"):
        raise _Wrong("this is not a Redis URL", want)
    if not (parts.path if parts.scheme == "unix" else parts.hostname):
        raise _Wrong("the URL names no server", want)
    return text


def _base_url(text: str) -> str:
    want = "the address people type, for example https://move.example.com"
    try:
        parts = urlsplit(text)
    except ValueError:
        raise _Wrong("this is not a web address", want) from None
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise _Wrong("this is not a web address", want)
    if parts.path not in ("", "/") or parts.query or parts.fragment or parts.username is not None:
        raise _Wrong("only scheme, host and port may stand here", want)
    return f"{parts.scheme}://{parts.netloc}"


_HOST = re.compile(r"\[[0-9A-Fa-f:.]+\]|[0-9A-Za-z._-]+")  # as it stands in an URL: an IPv6 address in brackets
_EVERY_ADDRESS = frozenset({"0.0.0.0", "[::]"})  # noqa: S104  compared, not bound


def _bind(text: str) -> str:
    host, colon, port = text.rpartition(":")
    if not colon or not _HOST.fullmatch(host) or not port.isdecimal() or not 0 < int(port) < 65536:
        raise _Wrong(f"{text!r} is not an address and a port", "for example 127.0.0.1:8000")
    return text


def _networks(text: str) -> tuple[Network, ...]:
    networks: list[Network] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        try:
            networks.append(ipaddress.ip_network(part))
        except ValueError:
            raise _Wrong(f"{part!r} is not a network", "networks with commas between, for example 10.1.0.0/16,fd00::/8") from None
    return tuple(networks)


def _ports(text: str) -> tuple[PortRange, ...]:
    ranges: list[PortRange] = []
    for part in filter(None, (p.strip() for p in text.split(","))):
        match = re.fullmatch(r"(\d{1,5})(?:-(\d{1,5}))?", part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (0, 0)
        if not 1 <= first <= last <= 65535:
            raise _Wrong(f"{part!r} is not a port or a range of ports", "ports with commas between, for example 143,993,8000-8999")
        ranges.append(PortRange(first, last))
    return tuple(ranges)


# --- the table ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Setting:
    """One row: the variable, the field of `Settings`, how it is read, its default, and what it means (zh, en).

    A default may name an earlier setting in braces; None means "not set".
    """

    name: str
    field: str
    kind: str
    parse: Callable[[str], Any]
    default: str | None
    zh: str
    en: str


SETTINGS: tuple[Setting, ...] = (
    Setting("INSTANCE_DIR", "instance_dir", "path", _path, "instance",
            "本机数据目录：数据库、钥匙、私有 Redis。", "Where this machine keeps its data: database, keys, the private Redis."),
    Setting("DATABASE_URL", "database_url", "URL", _database_url, "sqlite:///{INSTANCE_DIR}/banjia.db",
            "数据库。默认 SQLite；多台机器用 PostgreSQL。", "The database. SQLite by default; PostgreSQL for several machines."),
    Setting("REDIS_URL", "redis_url", "URL", _redis_url, "unix://{INSTANCE_DIR}/redis/redis.sock?db=0",
            "任务队列用的 Redis。只传任务，不存数据。", "Redis for the work queues. It carries work and keeps nothing."),
    Setting("SECRET_KEY_FILE", "secret_key_file", "path", _path, "{INSTANCE_DIR}/secret.key",
            "给会话签名的钥匙文件（0600）。", "The file with the key that signs sessions (0600)."),
    Setting("VAULT_PUBLIC_KEY_FILE", "vault_public_key_file", "path", _path, "{INSTANCE_DIR}/vault.public",
            "封存密码用的公钥。网页进程只需要这一把。",
            "The public key that seals people's passwords. All that the web process needs."),
    Setting("VAULT_PRIVATE_KEY_FILE", "vault_private_key_file", "path", _path, "{INSTANCE_DIR}/vault.private",
            "打开密码用的私钥（0600），可以有几把。只放在搬家的机器上。",
            "The private keys that open them (0600), one or several. Belongs on worker machines only."),
    Setting("BIND", "bind", "address:port", _bind, "127.0.0.1:8000",
            "网页服务监听的地址和端口。", "Where the web server listens."),
    Setting("BASE_URL", "base_url", "URL", _base_url, "http://{BIND}",
            "大家打开的网址，个人链接由它组成。不写就跟着 BIND（监听所有地址时用 127.0.0.1）。",
            "The address people open; personal links are made from it. Unset, it follows BIND (127.0.0.1 where that is every address)."),
    Setting("TRUSTED_PROXIES", "trusted_proxies", "number", _number(0, 5), "0",
            "前面有几层自己的反向代理（决定信哪个 X-Forwarded-For）。",
            "How many reverse proxies of yours stand in front (decides which X-Forwarded-For is believed)."),
    Setting("DEFAULT_LANGUAGE", "language", "zh, en", _one_of("zh", "en"), "zh",
            "没有选择时用的语言。", "The language when nobody has chosen one."),
    Setting("LINK_DAYS", "link_days", "days", _number(1, 90), "30",
            "个人链接的有效天数（不超过项目截止日）。",
            "How many days a personal link is good for (never past the project's end)."),
    Setting("SESSION_MINUTES", "session_minutes", "minutes", _number(5, 240), "30",
            "员工打开链接后多久不动要重新打开。", "After how many idle minutes an employee opens the link again."),
    Setting("STAFF_SESSION_MINUTES", "staff_session_minutes", "minutes", _number(5, 720), "60",
            "工作人员多久不动要重新登录。", "After how many idle minutes staff sign in again."),
    Setting("INVITATION_HOURS", "invitation_hours", "hours", _number(1, 336), "72",
            "工作人员邀请链接的有效小时数。", "How many hours an invitation of staff is good for."),
    Setting("UPLOAD_BYTES", "upload_bytes", "octets", _number(10_000, 50_000_000), "5000000",
            "上传名单的最大字节数。", "The largest sheet that may be uploaded."),
    Setting("ALLOWED_NETWORKS", "allowed_networks", "networks", _networks, "",
            "允许连接的内网网段。不写就只连公网。", "Private networks that may be connected to. None: public addresses only."),
    Setting("ALLOWED_PORTS", "allowed_ports", "ports", _ports, "143,993,110,995",
            "邮件服务器可以用的端口。", "The ports on which a mail server may be reached."),
    Setting("SLICE_SECONDS", "slice_seconds", "seconds", _number(5, 3600), "600",
            "一次搬多久就让出位置（进度不丢）。",
            "How long one mailbox is worked on before it queues again (no progress is lost)."),
    Setting("LEASE_SECONDS", "lease_seconds", "seconds", _number(5, 600), "60",
            "搬家进程失联多久后由别的进程接手。", "After how long without a sign of life another worker takes over."),
    Setting("RECONCILE_SECONDS", "reconcile_seconds", "seconds", _number(1, 600), "30",
            "多久核对一次数据库和队列。", "How often the database and the queues are compared."),
    Setting("CONNECTIONS", "connections", "number", _number(1, 10), "4",
            "每个邮箱最多同时用几对连接（服务商规定更少时按规定）；能加快时，新服务器一边最多可到两倍再加一路。",
            "Over how many pairs of connections a mailbox is moved at most (fewer where the provider demands it). The new server may get "
            "up to twice as many and one more, where they pay."),
    Setting("RELAY_CONFIG", "relay_config", "path", _path, None,
            "中继的配置文件，只有中继进程要用。", "The relay's configuration file; only the relay needs it."),
    Setting("LOG_FORMAT", "log_format", "text, json", _log_format, "text",
            "日志格式。", "The form of the log."),
    Setting("LOG_LEVEL", "log_level", "debug, info, warning, error", _one_of("debug", "info", "warning", "error"), "info",
            "日志详细程度。", "How much is logged."),
)

_BY_NAME = {setting.name: setting for setting in SETTINGS}


def default_of(name: str) -> str | None:
    """As the table writes it."""
    return _BY_NAME[name].default


def load_settings(environ: Mapping[str, str] | None = None, dotenv: Path | None = Path(".env")) -> Settings:
    """Reads the environment (default: this process's) and then `dotenv`, if that file exists. Raises BadSettings."""
    given = dict(_from_dotenv(dotenv)) if dotenv is not None and dotenv.is_file() else {}
    given.update({k: v for k, v in (os.environ if environ is None else environ).items() if k in _BY_NAME and v.strip()})
    texts: dict[str, str] = {}
    values: dict[str, Any] = {}
    bad: list[BadSettings] = []
    for setting in SETTINGS:
        text = given.get(setting.name, "").strip() or (setting.default and setting.default.format(**texts))
        if setting.name == "INSTANCE_DIR":
            text = str(Path(text or ".").expanduser().absolute())
        texts[setting.name] = text or ""
        try:
            values[setting.field] = None if text is None else setting.parse(text)
        except _Wrong as wrong:
            bad.append(BadSettings(setting.name, wrong.problem, wrong.write))
            texts[setting.name] = setting.default or ""  # what is made from it is not complained of, too
        if setting.name == "BIND":
            texts["BIND"] = web_address(texts["BIND"]).removeprefix("http://")
    if bad:
        raise BadSettings(bad[0].name, bad[0].problem, bad[0].write, bad[1:])
    settings = Settings(**values)
    _fit_together(settings)
    return settings


def _from_dotenv(path: Path) -> dict[str, str]:
    found: dict[str, str] = {}
    for name, value in dotenv_values(path, interpolate=False).items():
        if name in _BY_NAME:
            found[name] = value or ""
        elif near := difflib.get_close_matches(name, _BY_NAME, n=1, cutoff=0.85):
            raise BadSettings(name, f"there is no such setting (in {path.name})", near[0])
    return {name: value for name, value in found.items() if value.strip()}


def _fit_together(settings: Settings) -> None:
    if settings.reconcile_seconds >= 2 * settings.lease_seconds:
        raise BadSettings("RECONCILE_SECONDS", "it must be shorter than twice LEASE_SECONDS, or a lost mailbox waits too long",
                          f"a number below {2 * settings.lease_seconds}")
    if settings.vault_private_key_file == settings.vault_public_key_file:
        raise BadSettings("VAULT_PRIVATE_KEY_FILE", "it is the same file as VAULT_PUBLIC_KEY_FILE", "two different files")


def web_address(bind: str) -> str:
    """Where a browser on this machine reaches what listens at `bind`."""
    host, _, port = bind.rpartition(":")
    return f"http://{'127.0.0.1' if host in _EVERY_ADDRESS else host}:{port}"


def unreachable_links(settings: Settings) -> str:
    """What to say (Chinese and English) where the portal listens for others, but links that only this machine opens; else ""."""
    if not _only_here(urlsplit(f"http://{settings.bind}").hostname) and _only_here(urlsplit(settings.base_url).hostname):
        return (f"BASE_URL 是 {settings.base_url}：个人链接和邀请只有这台机器打得开。把 BASE_URL 设成大家打开的网址。\n"
                f"BASE_URL is {settings.base_url}: only this machine opens personal links and invitations. Set BASE_URL to the address "
                "people open.")
    return ""


def _only_here(host: str | None) -> bool:
    try:
        return ipaddress.ip_address(host or "").is_loopback
    except ValueError:
        return host == "localhost"


# --- the document ---------------------------------------------------------------------------------------------------------

_INTRODUCTION = """# 设置 · Settings

由 `python -m config > docs/settings.md` 生成，不要手改。每项是一个环境变量，也可以写在 `.env` 里；环境变量优先，空值等于没写。

Made by `python -m config > docs/settings.md`; do not edit. Each is an environment variable or a line of `.env`; the environment
wins, an empty value counts as not set.

| 变量 · variable | 写法 · kind | 默认 · default | 含义 · meaning |
|---|---|---|---|
"""


def document() -> str:
    """docs/settings.md, made from the table."""
    rows = [f"| `{s.name}` | {s.kind} | {f'`{s.default}`' if s.default else '–'} | {s.zh}<br>{s.en} |" for s in SETTINGS]
    return _INTRODUCTION + "\n".join(rows) + "\n"


def main(arguments: list[str]) -> int:
    """`python -m config` prints the document; `python -m config --check` prints this machine's settings without passwords."""
    if arguments not in ([], ["--check"]):
        sys.stderr.write("usage: python -m config [--check]\n")
        return 2
    if not arguments:
        sys.stdout.write(document())
        return 0
    try:
        settings = load_settings()
    except BadSettings as bad:
        sys.stderr.write(f"{bad}\n")
        return 1
    for setting in SETTINGS:
        sys.stdout.write(f"{setting.name}={shown_value(getattr(settings, setting.field))}\n")
    if warning := unreachable_links(settings):
        sys.stderr.write(f"{warning}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
