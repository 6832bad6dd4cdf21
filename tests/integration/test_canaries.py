"""Every secret of a whole run is a canary: after three people were moved by the real processes, none may be found anywhere but in
the vault.

Looked through: the database and its log, Redis, every log, the processes' arguments and environments, every page that staff and
employees can open, every export; each secret as it is and in the forms that it could have taken (base64, hex, percent-encoded,
escaped, inside a compressed value). And the web process is searched, all its memory, for the key that opens a sealed secret.
"""
from __future__ import annotations

import base64
import json
import os
import re
import urllib.parse
import zlib
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from config import load_settings
from portal.demo import check as demo_check
from portal.demo.journey import Desk, Employee
from portal.demo.state import HELPDESK, PEOPLE
from portal.demo.world import DemoWorld, World, demo_settings
from portal.launcher import Launcher, Plan, free_port
from portal.private_redis import PrivateRedis

# Where the demo itself keeps what a person would have in their head; it stands for the people, not for the product.
PEOPLES_HEADS = {"demo.json"}


def forms(secret: str) -> Iterator[bytes]:
    """The ways in which a secret could be written down by accident."""
    raw = secret.encode()
    yield raw
    yield raw.hex().encode()
    yield urllib.parse.quote(secret).encode()
    yield json.dumps(secret)[1:-1].encode()
    yield secret.encode("utf-16-le")
    for shift in range(3):  # base64 of a text that holds the secret anywhere
        coded = base64.b64encode(b"\0" * shift + raw)
        yield coded[4 if shift else 0:-4]


def found_in(place: str, content: bytes, canaries: dict[str, str]) -> list[str]:
    return [f"{name} in {place}" for name, secret in canaries.items() for form in set(forms(secret)) if form in content]


def unpacked(content: bytes) -> bytes:
    """With every zlib stream in it (RQ compresses what it stores) opened as well."""
    parts = [content]
    for start in re.finditer(rb"\x78[\x01\x5e\x9c\xda]", content):
        try:
            parts.append(zlib.decompressobj().decompress(content[start.start():], 1 << 20))
        except zlib.error:
            continue
    return b"".join(parts)


def processes_of(instance: Path) -> dict[int, tuple[bytes, bytes]]:
    """Arguments and environment of every process that was told this instance directory."""
    mark, found = f"INSTANCE_DIR={instance}".encode(), {}
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            arguments, environment = (entry / "cmdline").read_bytes(), (entry / "environ").read_bytes()
        except OSError:
            continue
        if mark in environment and int(entry.name) != os.getpid():
            found[int(entry.name)] = (arguments, environment)
    return found


def memory_of(pid: int) -> Iterator[bytes]:
    """Every readable region of a process, with a little of the one before (a key may lie across)."""
    with Path(f"/proc/{pid}/maps").open() as maps, Path(f"/proc/{pid}/mem").open("rb") as memory:
        for line in maps:
            span, rights, *_ = line.split()
            first, last = (int(x, 16) for x in span.split("-"))
            if rights.startswith("rw") and last - first <= 256 << 20:
                memory.seek(first)
                try:
                    yield memory.read(last - first)
                except OSError:
                    continue


def crawl(browser: object, start: list[str], canaries: dict[str, str], limit: int = 400) -> tuple[list[str], int]:
    """Opens every page that is linked from `start`, forms not submitted."""
    seen: set[str] = set()
    waiting, found = list(start), []
    while waiting and len(seen) < limit:
        path = waiting.pop()
        if path in seen or path.startswith("/logout"):
            continue
        seen.add(path)
        page = browser.open(path)  # type: ignore[attr-defined]  # Browser
        found += found_in(f"page {path}", page.html.encode(), canaries)
        links = re.findall(r'(?:href|action|src|data-[a-z-]+)="(/[^"#]*)"', page.html)
        waiting += [link.replace("&amp;", "&") for link in links if link.replace("&amp;", "&") not in seen]
    return found, len(seen)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    settings = demo_settings(load_settings({"INSTANCE_DIR": str(tmp_path / "i"), "LOG_LEVEL": "debug"}, dotenv=None), "canary")
    port = free_port("127.0.0.1", 0)
    beside = DemoWorld()
    with Launcher(Plan(replace(settings, bind=f"127.0.0.1:{port}", base_url=f"http://127.0.0.1:{port}"), beside=beside), echo=None) as up:
        up.watch_in_background()
        assert beside.world is not None
        yield beside.world


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("redis_process")
def test_no_secret_is_found_anywhere(world: World) -> None:
    demo_check._walk_all(world, print)
    instance, state = world.settings.instance_dir, world.state
    canaries = {f"code of {who}": code for who, code in state.codes.items()}
    canaries |= {f"wrong code of {p.source}": state.codes[p.source][::-1] for p in PEOPLE if p.wrong_at_first}
    canaries |= {f"password of {who}": password for who, password in state.passwords.items()}
    canaries |= {"the desk's password": state.desk_password, "the relay's token": state.relay_token}
    canaries |= {f"link of {p.source}": world.link(p).rsplit("/", 1)[1] for p in PEOPLE}
    assert all(len(secret) >= 8 for secret in canaries.values())

    found: list[str] = []
    desk = Desk(world.settings.base_url, HELPDESK, state.desk_password)
    told, pages = crawl(desk.browser, ["/desk", "/desk/moves", "/projects", "/audit", "/account"], canaries)
    found += told
    for person in PEOPLE:
        employee = Employee(world.settings.base_url, world.link(person))
        employee.browser.open(employee.link)
        employee.browser.submit(urllib.parse.urlsplit(employee.link).path)
        own = {name: secret for name, secret in canaries.items() if not name.startswith("link")}
        told, more = crawl(employee.browser, ["/move/progress", "/move/done", "/move/credentials", "/move/help"], own)
        found, pages = found + told, pages + more
    assert pages > 25

    running = processes_of(instance)
    assert len(running) >= 6
    for pid, (arguments, environment) in running.items():
        found += found_in(f"arguments of {pid}", arguments, canaries) + found_in(f"environment of {pid}", environment, canaries)
    redis = PrivateRedis(instance / "redis")
    files = [path for path in instance.rglob("*") if path.is_file() and path.name not in PEOPLES_HEADS]
    names = " ".join(path.name for path in files)
    assert all(name in names for name in ("banjia.db", "web", "worker", "check", "relay")), names
    assert any(path.is_relative_to(redis.directory) for path in files)
    for path in files:
        found += found_in(str(path.relative_to(instance)), unpacked(path.read_bytes()), canaries)
    assert found == []


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("redis_process")
def test_the_web_process_holds_no_key_that_opens_a_secret(world: World) -> None:
    private = world.settings.vault_private_key_file
    [key] = [line.split()[1] for line in private.read_text().splitlines() if line.startswith("banjia-vault-private")]
    raw = base64.urlsafe_b64decode(key)
    desk = Desk(world.settings.base_url, HELPDESK, world.state.desk_password)
    desk.browser.open("/desk/moves")
    web = {pid: told for pid, told in processes_of(world.settings.instance_dir).items() if b"gunicorn" in told[0]}
    assert web
    for pid, (_, environment) in web.items():
        assert b"VAULT_PRIVATE_KEY_FILE" not in environment
        assert not any(raw in region or key.encode() in region for region in memory_of(pid))
        open_files = {os.readlink(f) for f in Path(f"/proc/{pid}/fd").iterdir() if f.exists()}
        assert str(private) not in open_files
