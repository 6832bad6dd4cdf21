"""That somebody took a move's report away: one audit event. What the report says is the ledger's (engine/report_files)."""
from __future__ import annotations

from sqlalchemy.orm import Session

from portal.models import Move
from portal.services.common import Actor, audit, one_transaction


@one_transaction
def note_export(session: Session, actor: Actor, move: Move, form: str) -> None:
    """`form`: json, csv or html."""
    audit(session, actor, "export.report", move, project_id=move.person.project_id, format=form)
