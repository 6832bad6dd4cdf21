"""The proof after a move: reads both mailboxes on fresh connections and compares them message by message.

Must not: believe anything that the move remembered (a ledger only says which two messages are to be compared); change anything
(EXAMINE and BODY.PEEK on both sides). Always: nothing is held of a message but its digest, size, date and flags, and that on disk; what
could not be read counts as missing, never as equal.

mailboxes.py runs it; reading.py reads one part of one folder; spool.py holds what was read; expected.py says what the ledger says;
compare.py compares.
"""
from engine.report.verify import VerifyMode
from engine.verify.mailboxes import verify_mailboxes

__all__ = ["VerifyMode", "verify_mailboxes"]
