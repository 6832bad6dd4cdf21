"""`make demo-check`: the demo without a person. Walks three journeys to their reports, then compares old and new message by message.

Always: in an instance of its own, made new and removed afterwards (kept when something failed); exit 0 only if every message of
every mailbox arrived, octet for octet, with flags and date, and nothing else did.
"""
from __future__ import annotations

import re
import shutil
import sys
import time
from collections.abc import Callable
from dataclasses import replace

from sqlalchemy import select

from config import Settings
from engine.causes import Cause
from engine.sizes import size
from portal.demo.browser import NotOnPage
from portal.demo.comparison import differences
from portal.demo.imap import ImapSaysNo, SmallImap, Stored
from portal.demo.journey import Desk, Employee
from portal.demo.mail import EMPTY_FOLDER, mailbox
from portal.demo.mailservers import forget, mail_directory
from portal.demo.state import HELPDESK, PEOPLE, SOURCE_DOMAIN, DemoPerson
from portal.demo.world import DIRECT, PROVIDER, RELAYED, DemoWorld, World, demo_settings
from portal.launcher import CannotStart, Launcher, Plan, free_port, only_one
from portal.models import LedgerFolder, Move, Person
from portal.store.db import Database

NAME = "demo-check"
SHOWN = 10  # differences told of one mailbox


class DemoFailed(RuntimeError):
    """A journey or the comparison did not end as it must."""


def check_demo(settings: Settings, *, mail: str | None, keep: bool) -> int:
    """Exit code 0 or 1. `mail`: "dovecot", "pymap", or None for the better one that is there."""
    begun = time.monotonic()
    mine = demo_settings(settings, NAME)
    port = free_port("127.0.0.1", 0)
    mine = replace(mine, bind=f"127.0.0.1:{port}", base_url=f"http://127.0.0.1:{port}", relay_config=None)

    def tell(text: str) -> None:
        print(f"[{time.monotonic() - begun:5.1f} s] {text}", flush=True)

    _wipe(mine)
    tell("启动两台邮件服务器、中继和搬家程序，然后三个人各走一遍 · two mail servers, a relay and the movers start; then three journeys")
    beside = DemoWorld(mail)
    try:
        with Launcher(Plan(mine, beside=beside), echo=None) as running:
            running.watch_in_background()
            world = beside.world
            assert world is not None
            tell(f"就绪 · ready: {world.settings.base_url} ({world.mail.kind})")
            _walk_all(world, tell)
            compared = [_compare(world, person, tell) for person in PEOPLE]
    except (NotOnPage, DemoFailed, ImapSaysNo, CannotStart, OSError) as error:
        print(f"\n失败 · FAILED: {type(error).__name__}: {error}\n日志 · logs: {mine.instance_dir / 'log'}", file=sys.stderr, flush=True)
        return 1
    if not keep:
        _wipe(mine)
    messages, octets = (sum(column) for column in zip(*compared, strict=True))
    amount = f"{messages} 封 messages, {size(octets)}"
    tell(f"三个邮箱全部到齐，逐封一致 · all three mailboxes arrived, every message equal: {amount}")
    print("  比过：每封的每个字节、标记和日期，一封不多、一封不少；旧邮箱的封数和未读数没有变\n"
          "  compared: every octet, flag and date of each, none lost, none doubled; the old mailboxes' counts and unread are as before",
          flush=True)
    return 0


def _wipe(settings: Settings) -> None:
    if settings.instance_dir.exists():
        with only_one(settings.instance_dir):
            shutil.rmtree(settings.instance_dir)
    forget(mail_directory(settings.instance_dir))


# --- journeys -------------------------------------------------------------------------------------------------------------


def _walk_all(world: World, tell: Callable[[str], None]) -> None:
    direct, relayed, wrong = PEOPLE
    started = []
    for person in (direct, relayed):
        employee = _arrived(world, person)
        employee.start()
        started.append((employee, person))
        tell(f"{person.sample.name}：检查通过，开始搬 · checked, started{'（经中继 · through the relay）' if person.through_relay else ''}")
    desk = Desk(world.settings.base_url, HELPDESK, world.state.desk_password)
    move_id = desk.find_stuck(wrong.source, Cause.BAD_SECRET)
    tell(f"{wrong.sample.name}：授权码不对，服务台列在原因下面 · wrong code, shown at the desk under its cause")
    employee = _arrived(world, wrong)
    tell(f"{wrong.sample.name}：填了对的，检查通过 · mended, checked")
    desk.relaunch(move_id)
    tell(f"{wrong.sample.name}：服务台重新开始 · relaunched at the desk")
    for mover, person in (*started, (employee, wrong)):
        _report(mover, person, tell)


def _arrived(world: World, person: DemoPerson) -> Employee:
    """From the link to a passed check."""
    employee = Employee(world.settings.base_url, world.link(person))
    employee.arrive(PROVIDER[RELAYED if person.through_relay else DIRECT])
    employee.enter(world.state.codes[person.source], world.state.passwords[person.destination])
    return employee


def _report(employee: Employee, person: DemoPerson, tell: Callable[[str], None]) -> None:
    report = employee.wait_for_the_report()
    count = len(mailbox(person.sample, SOURCE_DOMAIN))
    numbers = {int(n.replace(",", "")) for n in re.findall(r"\d[\d,]*", report)}
    if count not in numbers:
        raise DemoFailed(f"the report of {person.source} does not name its {count} messages: {report[:600]}")
    tell(f"{person.sample.name}：{count} 封，报告已出 · {count} messages, reported")


# --- comparison -----------------------------------------------------------------------------------------------------------


def _compare(world: World, person: DemoPerson, tell: Callable[[str], None]) -> tuple[int, int]:
    """How many messages and octets were found equal. Raises DemoFailed with what was not."""
    with world.mail.source.client(person.source, tls=True) as source, \
         world.mail.destination.client(person.destination, tls=True) as destination:
        before, after = source.read_all(), destination.read_all()
        targets = _targets(world, person, source, destination)
    samples = mailbox(person.sample, SOURCE_DOMAIN)
    found = differences(before, after, target_of=targets)
    found += _untouched(before, person)
    found += [f"{folder}: moved to {targets[folder]}, not under its own name" for folder in before
              if "/" in folder or folder == EMPTY_FOLDER if targets.get(folder) != folder]
    if sum(map(len, after.values())) != len(samples):
        found.append(f"{sum(map(len, after.values()))} messages arrived, {len(samples)} were there")
    if found:
        told = "\n  ".join(found[:SHOWN])
        raise DemoFailed(f"{person.source} -> {person.destination}: {len(found)} differences\n  {told}")
    octets = sum(len(s.content) for s in samples)
    tell(f"{person.sample.name}：逐封一致 · equal: {len(samples)} 封 messages, {size(octets)}, {len(before)} 个文件夹 folders")
    return len(samples), octets


def _targets(world: World, person: DemoPerson, source: SmallImap, destination: SmallImap) -> dict[str, str]:
    """Where each folder went, as the report says; the names are made readable by the judge's own means."""
    database = Database(world.settings.database_url)
    try:
        with database.reading() as session:
            rows = session.scalars(select(LedgerFolder).join(Move, Move.id == LedgerFolder.move_id).join(Person)
                                   .where(Person.source_address == person.source, LedgerFolder.rule.is_(None)))
            return {source.display_name(row.source): destination.display_name(row.target) for row in rows}
    finally:
        database.close()


def _untouched(before: dict[str, list[Stored]], person: DemoPerson) -> list[str]:
    """The old mailbox still holds exactly what was put there."""
    wanted: dict[str, int] = {}
    unseen = 0
    for sample in mailbox(person.sample, SOURCE_DOMAIN):
        wanted[sample.folder] = wanted.get(sample.folder, 0) + 1
        unseen += "\\Seen" not in sample.flags
    told = [f"the old mailbox has {len(before.get(folder, []))} messages in {folder}, not {count}" for folder, count in wanted.items()
            if len(before.get(folder, [])) != count]
    still = sum("\\Seen" not in m.flags for mails in before.values() for m in mails)
    return told + ([f"the old mailbox had {unseen} unread messages, now {still}"] if still != unseen else [])
