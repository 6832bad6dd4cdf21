"""Making sure that a destination folder exists, under its name or the nearest one that the server takes."""
from __future__ import annotations

from dataclasses import replace

from engine.causes import Cause, Side
from engine.errors import EngineError, Refused
from engine.folders.mapping import FolderPlan, next_name_after_refusal
from engine.imap.session import Session


def ensure_target(target: Session, plan: FolderPlan) -> FolderPlan:
    """Creates and subscribes the folder unless it exists; the plan comes back with the name that was taken.

    Raises Refused(DESTINATION_REFUSED) when the server takes none of the reversible names either.
    """
    if plan.exists:
        return plan
    while True:
        try:
            target.create(plan.target)
        except EngineError as error:
            if error.cause not in (Cause.X_FOLDER, Cause.X_CLIENT, Cause.DESTINATION_REFUSED, Cause.UNKNOWN, Cause.X_ITEM):
                raise
            other = next_name_after_refusal(plan, error.server_text)
            if other is None:
                raise Refused(Cause.DESTINATION_REFUSED, side=Side.DESTINATION, server_text=error.server_text,
                              detail=f"no name for folder {plan.source.display!r} was accepted") from error
            plan = other
            continue
        subscribe(target, plan.target)
        return replace(plan, exists=True)


def subscribe(target: Session, name: str) -> None:
    """A subscription is a convenience for mail programs; a server without them may refuse, and nothing is lost."""
    try:
        target.subscribe(name)
    except Refused:
        return
