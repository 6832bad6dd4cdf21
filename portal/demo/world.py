"""The demo's world: two projects, a relay, three people, one helpdesk account; put together through the services like anybody's.

Always: entering it twice changes nothing that is still true; the one person with a wrong code was imported with it and started, so the
desk has somebody to help.
"""
from __future__ import annotations

import contextlib
import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import select
from sqlalchemy.orm import Session

from config import PortRange, Settings
from engine.endpoint import Secret
from portal.demo.certificates import Authority
from portal.demo.mail import mailbox
from portal.demo.mailservers import MailServers, mail_directory
from portal.demo.state import HELPDESK, PEOPLE, SOURCE_DOMAIN, DemoPerson, DemoState, load_state, save_state, settle_ports
from portal.models import Person, Project, Relay, Role, Staff
from portal.security.vault import Sealer
from portal.services.common import Actor, transaction
from portal.services.credentials import DESTINATION_SECRET, SOURCE_SECRET
from portal.services.links import issue_link, link_url
from portal.services.moves import start
from portal.services.people import NewPerson, add_person, find_person, keep_secrets
from portal.services.projects import Server, change_destination, change_source, choose_relay, create_project
from portal.services.relays import change_relay, create_relay
from portal.services.staff import create_staff, invite, take_invitation
from portal.store.db import Database

ROOT = Path(__file__).resolve().parent.parent.parent
HOST = "localhost"
LOOPBACK = (ipaddress.ip_network("127.0.0.0/8"), ipaddress.ip_network("::1/128"))
ACTOR = Actor("system", "demo")
RELAY_CLIENT, RELAY_NAME = "demo", "样例中继"
DIRECT, RELAYED = "样例公司（直接搬）", "样例公司（经中继）"
PROVIDER = {DIRECT: "qiye163", RELAYED: "m263"}  # whose guidance the pages show; the servers are our own
WHY_OWN_CA = "样例服务器的证书由样例自己的 CA 签发 · the demo's servers have certificates of the demo's own authority"
CONTACT = "信息部 李工，分机 8000"
OWN_CA = "样例服务器用自己的证书机构"  # why the demo servers are exempt from the public roots


@dataclass
class World:
    """The demo while it runs."""

    settings: Settings
    state: DemoState
    mail: MailServers

    def link(self, person: DemoPerson) -> str:
        """A fresh personal link; older ones stay good."""
        database = Database(self.settings.database_url)
        try:
            with database.session() as session:
                row = _person(session, person)
                return link_url(self.settings, issue_link(session, ACTOR, row, self.settings))
        finally:
            database.close()


def demo_settings(settings: Settings, name: str) -> Settings:
    """The operator's settings, but for a demo of its own in a directory of its own, on SQLite and a private Redis."""
    instance = settings.instance_dir / name
    return replace(settings, instance_dir=instance, database_url=f"sqlite:///{instance}/banjia.db",
                   redis_url=f"unix://{instance}/redis/redis.sock?db=0", secret_key_file=instance / "secret.key",
                   vault_public_key_file=instance / "vault.public", vault_private_key_file=instance / "vault.private",
                   allowed_networks=LOOPBACK, allowed_ports=(PortRange(1, 65535),), relay_config=None, trusted_proxies=0)


class DemoWorld:
    """Enters the world beside the portal's processes (portal.launcher.Plan.beside); `world` is there while inside."""

    def __init__(self, kind: str | None = None) -> None:
        self.kind = kind
        self.world: World | None = None

    @contextlib.contextmanager
    def __call__(self, settings: Settings) -> Iterator[Settings]:
        state = load_state(settings.instance_dir)
        settle_ports(state, ("old", "new", "old-plain", "new-plain", "relay"))
        mail = MailServers(mail_directory(settings.instance_dir), state.codes, state.passwords, self.kind)
        mail.start(state.ports)
        try:
            for person in PEOPLE:
                mail.fill(person.source, mailbox(person.sample, SOURCE_DOMAIN))
            relay_config = write_relay_config(settings.instance_dir, state, mail.authority)
            mail.authority.write(settings.instance_dir)
            save_state(settings.instance_dir, state)
            database = Database(settings.database_url)
            try:
                with database.session() as session:
                    furnish(session, settings, state, mail)
            finally:
                database.close()
            settings = replace(settings, relay_config=relay_config)
            self.world = World(settings, state, mail)
            yield settings
        finally:
            self.world = None
            mail.stop()


# --- relay ----------------------------------------------------------------------------------------------------------------


def write_relay_config(instance: Path, state: DemoState, authority: Authority) -> Path:
    """The relay's file, as an operator would write it; its token comes from the relay's own command."""
    made = subprocess.run([sys.executable, "-m", "relay", "token", RELAY_CLIENT, "--json"], cwd=ROOT, check=True, timeout=60,
                          capture_output=True, text=True, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          start_new_session=True)  # Ctrl-C is for us to answer
    token = json.loads(made.stdout)
    state.relay_token = token["token"]
    authority.issue().write(instance, "relay")
    path = instance / "relay.toml"
    path.write_text(f"""[relay]
listen = ["127.0.0.1:{state.ports['relay']}"]
certificate = "relay.pem"
key = "relay.key"
log_format = "text"

[[clients]]
id = "{RELAY_CLIENT}"
token_sha256 = "{token['token_sha256']}"
upstreams = ["old"]

[[upstreams]]
id = "old"
host = "{HOST}"
port = {state.ports['old']}
allowed_networks = {json.dumps([str(network) for network in LOOPBACK])}
""")
    path.chmod(0o600)
    return path


# --- rows -----------------------------------------------------------------------------------------------------------------


def furnish(session: Session, settings: Settings, state: DemoState, mail: MailServers) -> None:
    """Brings projects, relay, people and helpdesk to what the demo says; what is right already stays untouched."""
    sealer = Sealer.from_file(settings.vault_public_key_file)
    relay = _relay(session, state, mail, sealer)
    for name in (DIRECT, RELAYED):
        project = session.scalar(select(Project).where(Project.name == name)) or create_project(session, ACTOR, name, contact=CONTACT)
        old, new = (Server(HOST, state.ports[side], ca_pem=mail.ca_pem, reason=WHY_OWN_CA) for side in ("old", "new"))
        change_source(session, ACTOR, project, PROVIDER[name], old, allowed_ports=settings.allowed_ports)
        change_destination(session, ACTOR, project, new, allowed_ports=settings.allowed_ports)
        choose_relay(session, ACTOR, project, relay if name == RELAYED else None)
    for person in PEOPLE:
        _add(session, state, person, sealer)
    if session.scalar(select(Staff).where(Staff.email == HELPDESK)) is None:
        staff = create_staff(session, ACTOR, HELPDESK, Role.ADMIN, "样例客服")
        take_invitation(session, ACTOR, invite(session, ACTOR, staff, settings), Secret(state.desk_password))


def _relay(session: Session, state: DemoState, mail: MailServers, sealer: Sealer) -> Relay:
    known = session.scalar(select(Relay).where(Relay.name == RELAY_NAME))
    token, port = Secret(state.relay_token), state.ports["relay"]
    if known is None:
        return create_relay(session, ACTOR, RELAY_NAME, HOST, port, token, sealer, mail.ca_pem)
    return change_relay(session, ACTOR, known, HOST, port, token, sealer, mail.ca_pem)


def _add(session: Session, state: DemoState, person: DemoPerson, sealer: Sealer) -> None:
    """Everybody's new mailbox password is the company's to give; the old one's code only its owner has."""
    if _find(session, person) is not None:
        return
    project = session.scalar(select(Project).where(Project.name == (RELAYED if person.through_relay else DIRECT)))
    assert project is not None
    row = add_person(session, ACTOR, project, NewPerson(person.source, person.sample.name, destination_address=person.destination))
    given = {DESTINATION_SECRET: Secret(state.passwords[person.destination])}
    if person.wrong_at_first:
        given[SOURCE_SECRET] = Secret(state.codes[person.source][::-1])
    with transaction(session):
        keep_secrets(session, row, given, sealer)
    if person.wrong_at_first:
        start(session, ACTOR, row.move)


def _find(session: Session, person: DemoPerson) -> Person | None:
    for project in session.scalars(select(Project).where(Project.name.in_((DIRECT, RELAYED)))):
        if row := find_person(session, project, person.source):
            return row
    return None


def _person(session: Session, person: DemoPerson) -> Person:
    row = _find(session, person)
    assert row is not None
    return row

