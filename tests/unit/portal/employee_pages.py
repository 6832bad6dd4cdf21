"""A person on the pages, for the scenarios of this folder: invited, with a browser of their own, and with what a worker would write.

A worker's hand is played by the services that a worker calls (portal/services/leases.py), never by writing columns it owns.
"""
from __future__ import annotations

import datetime as dt
import re
from dataclasses import dataclass, field
from typing import Any

from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from engine.causes import Cause, Side
from engine.endpoint import Secret
from engine.progress import Progress
from engine.report.check import CheckResult, FolderFound
from engine.report.copy import CopyOutcome, CopyReport
from engine.report.steps import Step
from portal.models import Check, LedgerFolder, Move, SetAside
from portal.services import leases, links, people, projects
from portal.services.common import SYSTEM
from portal.services.projects import Server
from tests.support.portal_app import PortalForTests, form_token

STEPS = [step.value for step in Step]
FOUND = (FolderFound("INBOX", "inbox", 120, 9_000_000), FolderFound("客户 <b>A</b>", None, 30, 1_000_000),
         FolderFound("广告邮件", "ads", 5, 10_000, "ads"))


def form_owner(page: str) -> str:
    """For whom the forms of a page were made; "" before a visit has begun."""
    found = re.search(r'name="whose" value="([^"]+)"', page)
    return found[1] if found else ""


def invite(portal: PortalForTests, name: str = "wang", provider: str | None = "exmail", language: str = "zh",
           destination_secret: bool = True) -> Someone:
    """A person of an open project whose new mailboxes are reached with the project's own password (or: with everybody's own)."""
    with portal.database.session() as session:
        project = projects.create_project(session, SYSTEM, f"Project of {name}", days=30, contact="Helpdesk, ext. 8021")
        projects.change_destination(session, SYSTEM, project, Server("imap.new.example", 993))
        if destination_secret:
            projects.set_destination_secret(session, SYSTEM, project, Secret("master-of-all"), portal.sealer)
        person = people.add_person(session, SYSTEM, project, people.NewPerson(
            source_address=f"{name}@old.example", destination_address=f"{name}@new.example", name="王小明", language=language))
        if provider:
            people.choose_provider(session, SYSTEM, person, provider)
        token = links.issue_link(session, SYSTEM, person, portal.settings)
        return Someone(portal, person.id, person.move.id, token, portal.client())


@dataclass
class Someone:
    """One person, their link and their browser."""

    portal: PortalForTests
    person_id: int
    move_id: int
    token: str
    browser: FlaskClient
    page: str = field(default="", repr=False)

    # --- what the person does ---

    def open(self, path: str, **kwargs: Any) -> TestResponse:
        answer = self.browser.get(path, **kwargs)
        self.page = answer.text
        return answer

    def submit(self, path: str, **values: str) -> TestResponse:
        """Sends a form with the hidden values of the page that is open."""
        return self.browser.post(path, data={"csrf_token": form_token(self.page), "whose": form_owner(self.page), **values})

    def begin(self) -> str:
        """Opens the link and presses the button; where it leads."""
        self.open(f"/m/{self.token}")
        answer = self.submit(f"/m/{self.token}")
        assert answer.status_code == 303, answer.text
        return answer.headers["Location"]

    def follow(self) -> TestResponse:
        """To the page where the way goes on."""
        answer = self.browser.get("/move", follow_redirects=True)
        self.page = answer.text
        return answer

    def enter(self, secret: str = "abcdefghijklmnop") -> TestResponse:
        self.open("/move/credentials")
        return self.submit("/move/credentials", source_secret=secret)

    # --- what a worker does ---

    def check_row(self) -> Check:
        with self.portal.database.reading() as session:
            row = session.query(Check).filter_by(person_id=self.person_id).order_by(Check.id.desc()).first()
            assert row is not None
            session.expunge(row)
            return row

    def worker_checks(self, cause: Cause | None = None, warnings: list[dict[str, Any]] | None = None, server_text: str = "",
                      largest: int = 4_000_000) -> int:
        """Takes the check that waits and ends it: passed, or failed at the login with `cause`."""
        check_id = self.check_row().id
        with self.portal.database.session() as session:
            assert leases.begin_check(session, check_id) is not None
            steps = [{"side": "source", "step": step, "state": "ok"} for step in (STEPS if cause is None else STEPS[:3])]
            if cause is not None:
                steps.append({"side": "source", "step": "login", "state": "failed"})
            result = CheckResult(outcome="failed" if cause else "ok", cause=cause, folders=2, messages=150, bytes=10_000_000,
                                 largest=largest, warnings=warnings or [], found=list(FOUND) if cause is None else [])
            leases.finish_check(session, "w1", check_id, steps, {"source": result.to_json()}, cause, server_text)
        return check_id

    def worker_takes(self) -> leases.Lease:
        with self.portal.database.session() as session:
            lease = leases.claim(session, "w1", self.move_id, 60)
            assert lease is not None
            return lease

    def worker_progresses(self, lease: leases.Lease, moved: int, folder: str = "INBOX", total: int = 155) -> None:
        with self.portal.database.session() as session:
            leases.record_progress(session, lease, Progress(folder, 3, total, 10_010_000, moved, 2, 5, 1, moved * 60_000), 60)

    def worker_ends(self, lease: leases.Lease, outcome: CopyOutcome, cause: Cause | None = None, side: Side = Side.SOURCE,
                    server_text: str = "", retry_after: float | None = None) -> None:
        with self.portal.database.session() as session:
            leases.finish_slice(session, "w1", lease, CopyReport(outcome, cause, side if cause else None, server_text,
                                                                retry_after=retry_after))

    def ledger(self, set_aside: int = 0, folder: str = "INBOX") -> None:
        """As the copier leaves it: 150 of 155 in place, five left out by rule, `set_aside` of the first folder put aside."""
        with self.portal.database.session() as session:
            rows = [LedgerFolder(move_id=self.move_id, source="INBOX", source_display=folder, target="INBOX", target_display="INBOX",
                                 role="inbox", total=120, moved=118 - set_aside, already_there=2, set_aside=set_aside,
                                 bytes_moved=9_000_000),
                    LedgerFolder(move_id=self.move_id, source="A", source_display="客户 <b>A</b>", target="A", target_display="客户 A",
                                 total=30, moved=30, note="renamed:客户 <b>A</b>"),
                    LedgerFolder(move_id=self.move_id, source="ads", source_display="广告邮件", target="", role="ads", total=5, excluded=5,
                                 rule="ads")]
            session.add_all(rows)
            session.flush()
            session.add_all(SetAside(folder_id=rows[0].id, uid=100 + n, reason=Cause.X_ITEM.value, server_text="=cmd|' /C calc'!A0",
                                     size=1500, internal_date="01-Mar-2019 10:22:33 +0800") for n in range(set_aside))

    def shift_back(self, **delta: float) -> None:
        """Makes the started attempt older, as if time had passed."""
        with self.portal.database.session() as session:
            for attempt in session.get_one(Move, self.move_id).attempts:
                if attempt.started_at is not None:
                    attempt.started_at -= dt.timedelta(**delta)

    # --- shortcuts along the way ---

    def ready(self) -> Someone:
        self.begin()
        assert self.enter().status_code == 303
        self.worker_checks()
        return self

    def started(self) -> Someone:
        self.ready()
        self.open("/move/review")
        assert self.submit("/move/start").headers["Location"] == "/move/progress"
        return self
