"""A company in the middle of its move, for the staff pages: two projects, people in every state, staff of every role.

Everything a person does goes through the services; what only a worker writes (progress, ended attempts, folders, finished checks) is
written as rows, as a worker writes them.
"""
from __future__ import annotations

import datetime as dt
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from flask.testing import FlaskClient
from sqlalchemy.orm import Session

from engine.causes import Cause, Side
from engine.endpoint import Secret
from portal.models import (
    Attempt,
    Check,
    CheckState,
    LedgerFolder,
    Move,
    MoveState,
    Person,
    Project,
    Role,
    ServerLine,
    SetAside,
    now,
)
from portal.services.checks import start_project_test
from portal.services.common import Actor
from portal.services.credentials import DESTINATION_SECRET, SOURCE_SECRET
from portal.services.links import issue_link
from portal.services.people import NewPerson, add_person, keep_secrets
from portal.services.projects import Server, change_destination, change_source, create_project
from portal.services.relays import create_relay
from portal.services.staff import create_staff, invite, take_invitation
from tests.support.portal_app import PortalForTests, form_token

PASSWORD = "a good clerk is calm and exact"
CANARY = "canary-7f3c-secret"  # every stored secret of the scene; must never be on a page
TOKEN = "rt1.beijing." + "k" * 43
BOSS = Actor("staff:boss@moves.example", "192.0.2.9")
EMAILS = {Role.HELPDESK: "li@moves.example", Role.ADMIN: "zhao@moves.example", Role.OPERATOR: "boss@moves.example"}
MAIN_NAME = "华东贸易有限公司"
_NAMES = {Role.HELPDESK: "李娜", Role.ADMIN: "赵敏", Role.OPERATOR: "周强"}

# name, address, state, cause, outcome, (moved, total), minutes since the last sign of life
_PEOPLE = (
    ("王芳", "wangfang", MoveState.STUCK, Cause.NEEDS_AUTH_CODE, None, (0, 0), 12),
    ("刘洋", "liuyang", MoveState.STUCK, Cause.NEEDS_AUTH_CODE, None, (0, 0), 45),
    ("陈静", "chenjing", MoveState.STUCK, Cause.SECURE_LOGIN, None, (0, 0), 130),
    ("杨帆", "yangfan", MoveState.STUCK, Cause.DESTINATION_QUOTA, None, (9120, 18040), 33),
    ("赵磊", "zhaolei", MoveState.MOVING, None, None, (12300, 18040), 0),
    ("黄丽", "huangli", MoveState.MOVING, None, None, (410, 5122), 42),
    ("周杰", "zhoujie", MoveState.WAITING, Cause.THROTTLED, None, (3300, 9900), 3),
    ("吴敏", "wumin", MoveState.QUEUED, None, None, (0, 0), None),
    ("徐强", "xuqiang", MoveState.PAUSED, None, None, (700, 2100), 1500),
    ("孙丽华", "sunlihua", MoveState.DONE, None, "complete", (18040, 18040), 300),
    ("马超", "machao", MoveState.DONE, None, "partial", (2203, 2206), 900),
    ("胡一菲", "huyifei", MoveState.READY, None, None, (0, 0), None),
    ("郭靖", "guojing", MoveState.INVITED, None, None, (0, 0), None),
)
_SAID = {
    Cause.NEEDS_AUTH_CODE: "LOGIN Login error, password error or need client password",
    Cause.DESTINATION_QUOTA: "[OVERQUOTA] Mailbox is full",
    Cause.THROTTLED: "NO system busy, try later",
    Cause.IP_BLOCKED: "ERR.LOGIN.IPDENY <script>alert(1)</script>",  # a server's words are never markup
}
# wire name, name for people, target, share of the messages
_FOLDERS = (("INBOX", "收件箱", "INBOX", 0.5), ("&XfJT0ZAB-", "已发送", "Sent", 0.3), ("&W6JiNw-/2023", "客户/2023", "客户/2023", 0.2))


@dataclass
class DeskScene:
    """Ids of projects: `main` has everybody in it, `other` two stuck people, `bare` nothing yet."""

    portal: PortalForTests
    main: int
    other: int
    bare: int
    moves: dict[str, int]  # local part of the old address -> move id
    relay_id: int
    staff_ids: dict[Role, int]
    passed_test: int = 0
    failed_test: int = 0
    browsers: int = 0

    def signed_in(self, role: Role | None) -> FlaskClient:
        """A browser, at its own address, in which somebody with this role signed in through the page; None: nobody."""
        self.browsers += 1
        client = self.portal.client()
        client.environ_base["REMOTE_ADDR"] = f"198.51.100.{self.browsers % 250 + 1}"  # so that one's wrong tries do not hold up others
        if role is not None:
            token = form_token(client.get("/login").text)
            answer = client.post("/login", data={"csrf_token": token, "email": EMAILS[role], "password": PASSWORD})
            assert answer.status_code == 303, answer.text
        return client

    @contextmanager
    def look(self) -> Iterator[Session]:
        with self.portal.database.reading() as session:
            yield session


def send(client: FlaskClient, path: str, **data: object):  # type: ignore[no-untyped-def]
    """Submits a form as the browser would: with the token of a page of this session."""
    page = client.get("/login", follow_redirects=True).text
    return client.post(path, data={"csrf_token": form_token(page), **data}, content_type="multipart/form-data")


def text_of(page: str) -> str:
    """What a person reads: without tags."""
    return " ".join(re.sub(r"<[^>]+>", " ", page.replace("<wbr>", "")).split())


def build_desk_scene(portal: PortalForTests) -> DeskScene:
    with portal.database.open_session() as session:
        staff_ids = _staff(session, portal)
        main = _project(session, MAIN_NAME, "exmail", "mail.huadong.example")
        other = _project(session, "Northwind (Suzhou) Ltd.", "qiye163", "mail.northwind.example")
        bare = create_project(session, BOSS, "还没开始的项目", days=60)
        relay = create_relay(session, BOSS, "北京机房", "relay.beijing.example", 8443, Secret(TOKEN), portal.sealer)
        moves = {}
        for name, local, state, cause, outcome, progress, minutes in _PEOPLE:
            moves[local] = _person(session, portal, main, name, local, state, cause, outcome, progress, minutes)
        moves["emma"] = _person(session, portal, other, "Emma Li", "emma", MoveState.STUCK, Cause.NEEDS_AUTH_CODE, None, (0, 0), 20)
        moves["daniel"] = _person(session, portal, other, "", "daniel", MoveState.STUCK, Cause.IP_BLOCKED, None, (0, 0), 25)
        scene = DeskScene(portal, main.id, other.id, bare.id, moves, relay.id, staff_ids)
        scene.passed_test = _test(session, portal, main, Side.DESTINATION, None)
        scene.failed_test = _test(session, portal, main, Side.SOURCE, Cause.NEEDS_AUTH_CODE)
        session.commit()
    return scene


def _staff(session: Session, portal: PortalForTests) -> dict[Role, int]:
    ids = {}
    for role, email in EMAILS.items():
        member = create_staff(session, BOSS, email, role, _NAMES[role])
        take_invitation(session, Actor("system"), invite(session, BOSS, member, portal.settings), Secret(PASSWORD))
        ids[role] = member.id
    create_staff(session, BOSS, "new@moves.example", Role.HELPDESK)
    return ids


def _project(session: Session, name: str, provider: str, host: str) -> Project:
    project = create_project(session, BOSS, name, days=30, contact="信息部 李工，分机 8000")
    change_source(session, BOSS, project, provider, None)
    change_destination(session, BOSS, project, Server(host))
    return project


def _person(session: Session, portal: PortalForTests, project: Project, name: str, local: str, state: MoveState, cause: Cause | None,
            outcome: str | None, progress: tuple[int, int], minutes: int | None) -> int:
    person = add_person(session, BOSS, project, NewPerson(f"{local}@old.example", name, destination_address=f"{local}@new.example"))
    issue_link(session, BOSS, person, portal.settings)
    move = person.move
    if state is not MoveState.INVITED:
        keep_secrets(session, person, {SOURCE_SECRET: Secret(CANARY), DESTINATION_SECRET: Secret(CANARY)}, portal.sealer)
    moved, total = progress
    move.state, move.cause, move.outcome = state, cause.value if cause else None, outcome
    move.moved, move.messages_total, move.bytes_total = moved, total, total * 24_000
    if minutes is not None:
        move.last_sign_at = now() - dt.timedelta(minutes=minutes)
    if state is MoveState.QUEUED:
        move.queued_at = now()
    if state is MoveState.WAITING:
        move.not_before = now() + dt.timedelta(minutes=17)
    if state in (MoveState.MOVING,):
        move.current_folder, move.started_at = "已发送", now() - dt.timedelta(hours=2)
    if outcome == "partial":
        move.moved, move.set_aside = total - 3, 3
    if state not in (MoveState.INVITED, MoveState.READY, MoveState.QUEUED):
        _attempts(session, move, state, cause, outcome, moved)
    if total:
        _folders(session, move, outcome)
    session.commit()
    return move.id


def _attempts(session: Session, move: Move, state: MoveState, cause: Cause | None, outcome: str | None, moved: int) -> None:
    over = state in (MoveState.STUCK, MoveState.DONE, MoveState.PAUSED)
    attempt = Attempt(move_id=move.id, number=1, launched_by="person", slices=2, started_at=now() - dt.timedelta(hours=3), moved=moved,
                      ended_at=now() if over else None,
                      outcome=outcome or ("paused" if state is MoveState.PAUSED else "failed" if over else None))
    session.add(attempt)
    session.flush()
    if cause is not None:
        said = _SAID.get(cause, "NO refused")
        attempt.cause, attempt.server_text, attempt.side = cause.value, said, "source"
        session.add(ServerLine(attempt_id=attempt.id, side="source", cause=cause.value, text=said))


def _folders(session: Session, move: Move, outcome: str | None) -> None:
    for source, display, target, share in _FOLDERS:
        total = int(move.messages_total * share)
        moved = min(total, int(move.moved * share))
        folder = LedgerFolder(move_id=move.id, source=source, target=target, source_display=display, target_display=display, total=total,
                              moved=moved, complete=moved == total, set_aside=3 if outcome == "partial" and source == "INBOX" else 0)
        session.add(folder)
        session.flush()
        for uid in range(folder.set_aside):
            session.add(SetAside(folder_id=folder.id, uid=4010 + uid, reason=Cause.X_ITEM.value, size=48_211 * (uid + 1),
                                 server_text="message has a header only", internal_date="12-Mar-2021 09:14:22 +0800", noticed_at=now()))


def _test(session: Session, portal: PortalForTests, project: Project, side: Side, cause: Cause | None) -> int:
    check = start_project_test(session, BOSS, project, side, "test@old.example", Secret(CANARY), portal.sealer)
    reached = ("name", "connect", "tls", "login", "folders") if cause is None else ("name", "connect", "tls", "login")
    row = session.get_one(Check, check.id)
    row.steps = [{"side": side.value, "step": step, "state": "failed" if cause and step == "login" else "ok"} for step in reached]
    row.state, row.finished_at, row.started_at = CheckState.DONE, now(), now()
    row.cause = cause.value if cause else None
    row.server_text = "LOGIN Login error, password error" if cause else ""
    row.result = {side.value: {"outcome": "failed" if cause else "ok", "folders": 23, "messages": 18040, "bytes": 4_400_000_000}}
    session.commit()
    return row.id


def person_of(session: Session, scene: DeskScene, local: str) -> Person:
    return session.get_one(Move, scene.moves[local]).person
