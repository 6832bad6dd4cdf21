"""Making sure that a destination folder exists, under its name or the nearest one that the server takes.

The commands are sent before their answers are waited for, so that a new folder costs one round trip, and none while the source's folder
is being opened.
"""
from __future__ import annotations

from engine.causes import Cause, Side
from engine.errors import EngineError, Refused
from engine.folders.mapping import FolderPlan, next_name_after_refusal
from engine.imap.session import FolderStatus, Session
from engine.transfer import points
from engine.wire import encoder


class TargetFolder:
    """One destination folder, asked for. `known` are its counts where a survey told them."""

    def __init__(self, target: Session, plan: FolderPlan, known: FolderStatus | None) -> None:
        self._target = target
        self._plan = plan
        self._known = known if plan.exists else None
        self._create: bytes | None = None
        self._subscribe: bytes | None = None
        if plan.exists:
            return
        try:
            name = encoder.mailbox(plan.target)
        except encoder.EncodeError:
            return  # `ready` says so in words, or finds another name
        self._create = target.channel.send(b"CREATE " + name)
        self._subscribe = target.channel.send(b"SUBSCRIBE " + name)
        points.reached("after a folder was asked for")

    def ready(self) -> tuple[FolderPlan, FolderStatus]:
        """The plan with the name that was taken, and the folder's counts. Raises Refused(DESTINATION_REFUSED) when the server takes none
        of the reversible names either."""
        target, plan = self._target, self._plan
        if self._create is not None and self._subscribe is not None:
            created = target.channel.finish(self._create)
            target.channel.finish(self._subscribe)  # a convenience for mail programs; a server without them may refuse
            if created.tagged.status == b"OK":
                plan = plan._replace(exists=True)
        if not plan.exists:
            plan = _with_a_name_that_is_taken(target, plan)
        return plan, self._known or target.status(plan.target)


def _with_a_name_that_is_taken(target: Session, plan: FolderPlan) -> FolderPlan:
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
        return plan._replace(exists=True)


def subscribe(target: Session, name: str) -> None:
    """A subscription is a convenience for mail programs; a server without them may refuse, and nothing is lost."""
    try:
        target.subscribe(name)
    except Refused:
        return
