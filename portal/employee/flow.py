"""Where a person is on the way, so that whoever comes back lands on the right page, and which numbers the helpdesk may ask for.

Must not: change anything. Always: for every state there is exactly one page.
"""
from __future__ import annotations

from dataclasses import dataclass

from flask import url_for
from sqlalchemy.orm import Session

from engine.causes import Words
from portal.models import Attempt, Check, CheckState, Move, MoveState
from portal.services.checks import latest_check
from portal.services.common import is_over
from portal.services.endpoints import provider_key

# The four stages that the head of each page shows.
STAGES = (Words("准备旧邮箱", "Prepare the old mailbox"), Words("填密码", "Enter the password"),
          Words("检查", "Check"), Words("开始", "Start"))


@dataclass(frozen=True)
class Place:
    """A page, as url_for names it."""

    endpoint: str
    check_id: int | None = None

    def url(self) -> str:
        return url_for(self.endpoint) if self.check_id is None else url_for(self.endpoint, check_id=self.check_id)


OVER = Place("employee.over")


def place_of(session: Session, move: Move) -> Place:
    person = move.person
    check = latest_check(session, person)
    if move.state is MoveState.DONE:
        if is_over(person.project):
            return Place("employee.done")
        again = _checked_since(move, check) if move.outcome == "partial" else None  # to try once more what was set aside
        return again or Place("employee.done")
    if move.state in (MoveState.QUEUED, MoveState.MOVING, MoveState.WAITING):
        return Place("employee.progress")
    if is_over(person.project):
        return OVER
    if move.state in (MoveState.STUCK, MoveState.PAUSED):
        return _checked_since(move, check) or Place("employee.progress")
    if move.state is MoveState.READY:
        running = check is not None and check.state is not CheckState.DONE
        return Place("employee.check", check.id) if check is not None and running else Place("employee.review")
    if check is not None:
        return Place("employee.check", check.id)
    return Place("employee.prepare" if provider_key(person) or person.source_host else "employee.provider")


def _checked_since(move: Move, check: Check | None) -> Place | None:
    """The check that a person asked for after the move stopped, if there is one."""
    attempt = last_attempt(move)
    if check is None or attempt is None or attempt.ended_at is None or check.created_at <= attempt.ended_at:
        return None
    if check.state is CheckState.DONE and check.cause is None:
        return Place("employee.review")
    return Place("employee.check", check.id)


def last_attempt(move: Move) -> Attempt | None:
    return move.attempts[-1] if move.attempts else None


def move_reference(move: Move) -> str:
    """What the helpdesk types into its search to find this mailbox."""
    return f"M{move.id}"


def check_reference(check: Check) -> str:
    return f"C{check.id}"
