"""A folder that is opened and read at the source before its turn has come at the destination.

While the destination stores and shows what was the end of the folder before, the source has nothing to do; over long roads that is several
round trips a folder. Owns the thread that opens the folder, and the reader until somebody takes it.
Must not: be begun for a folder of which the ledger or the destination knows anything (what is to be read is not known then), or while the
source's connection is used otherwise.
"""
from __future__ import annotations

import threading
from collections.abc import Callable

from engine.folders.mapping import FolderPlan
from engine.imap.session import FolderStatus, Selected, Session
from engine.ledger import FolderRow
from engine.transfer.reading import Reader


class Ahead:
    """`reader` gives the reader of the opened folder; it is started here."""

    def __init__(self, session: Session, name: str, reader: Callable[[Selected], Reader]) -> None:
        self.name = name
        self._session = session
        self._reader_of = reader
        self._taken: tuple[Selected, Reader] | None = None
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._open, name="open-ahead", daemon=True)
        self._thread.start()

    def _open(self) -> None:
        try:
            selected = self._session.examine(self.name)
            reader = self._reader_of(selected)
            reader.start()
            self._taken = selected, reader
        except BaseException as error:  # raised by whoever takes it
            self._error = error

    def take(self) -> tuple[Selected, Reader]:
        """The folder as it was opened, and its reader, which is the caller's from now on. Raises why it could not be opened."""
        self._thread.join()
        if self._error is not None:
            raise self._error
        assert self._taken is not None, "taken twice"
        taken, self._taken = self._taken, None
        return taken

    def abandon(self) -> None:
        """Nobody wants it: the connection is cut, because it may be in the middle of an answer."""
        if self._thread.is_alive():
            self._session.close()
        self._thread.join()
        if self._taken is not None:
            self._taken[1].abandon()


def nothing_is_known(row: FolderRow, plan: FolderPlan, there: FolderStatus | None) -> bool:
    """Neither of the folder, by the ledger, nor of mail but ours at its destination, as it was counted when the run was planned: so all of
    it will be read."""
    return not row.id and (not plan.exists or (there is not None and not there.messages))
