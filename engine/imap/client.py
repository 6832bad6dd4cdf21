"""IMAPClient's verbs on our own connection.

IMAPClient and imaplib below it bring the session's state machine and verbs; sending, reading, capping and refusing are Channel's.
Must not: be given an argument that engine/wire/encoder.py did not build: imaplib puts what it gets on the line as it is.
Always: folder names are quoted by our encoder; nothing is logged or remembered (imaplib keeps the last ten command lines, secrets and
all; here it never sees one that holds a secret); refusals are our exceptions, not imaplib's.
"""
from __future__ import annotations

import imaplib
import time
from collections.abc import Sequence

from imapclient import IMAPClient

from engine.imap.channel import Answer, Channel
from engine.wire import encoder
from engine.wire.decoder import StatusText

FAREWELL = 5.0  # seconds for LOGOUT

_PHASES = {"SELECT": "select", "EXAMINE": "select", "STATUS": "select", "LIST": "select", "XLIST": "select"}
_CODES_AS_UNTAGGED = frozenset((b"UIDVALIDITY", b"UIDNEXT", b"PERMANENTFLAGS", b"READ-ONLY", b"READ-WRITE", b"HIGHESTMODSEQ", b"CAPABILITY",
                                b"UIDNOTSTICKY"))  # fmt: skip


class _Imap4(imaplib.IMAP4):
    """imaplib's bookkeeping without its socket, parser and log."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        super().__init__()

    def open(self, host: str = "", port: int = 143, timeout: float | None = None) -> None:
        """Nothing to open: the channel is connected."""

    def _connect(self) -> None:
        self.state = "NONAUTH"
        self.capabilities: tuple[str, ...] = ()

    def shutdown(self) -> None:
        self.channel.stream.close()

    def _command(self, name: str, *args: str | bytes | None) -> bytes:
        words = [name.encode("ascii")]
        words += [arg if isinstance(arg, bytes) else arg.encode("latin-1") for arg in args if arg is not None]
        self.untagged_responses: dict[str, list[bytes | tuple[bytes, bytes]]] = {}
        if name == "LOGOUT":
            self.channel.leaving = True
        return self.channel.send(b" ".join(words))

    def _command_complete(self, name: str, tag: bytes) -> tuple[str, list[bytes]]:
        answer = self.channel.finish(tag, started=time.monotonic(), seconds=FAREWELL if name == "LOGOUT" else None)
        self.remember(answer)
        if name == "LOGOUT":
            return "BYE", [answer.tagged.text.text]  # what IMAPClient looks for
        if answer.tagged.status != b"OK":
            raise self.channel.refusal(answer.tagged, _PHASES.get(name, "any"))
        return "OK", [answer.tagged.text.text]

    def remember(self, answer: Answer) -> None:
        """Puts an answer where IMAPClient looks for it: untagged responses by kind, response codes as if they were such."""
        for response in answer.untagged:
            text = response.parts[0] if response.number is None else b"%d %s" % (response.number, response.parts[0])
            if response.kind in (b"EXISTS", b"RECENT", b"EXPUNGE"):
                text = b"%d" % (response.number or 0)
            self._keep(response.kind, text)
            if response.kind == b"OK":
                self._keep_code(response.parts[0])
        self._keep_code(answer.tagged.text.text)

    def _keep(self, kind: bytes, text: bytes) -> None:
        self.untagged_responses.setdefault(kind.decode("ascii"), []).append(text)

    def _keep_code(self, text: bytes) -> None:
        status = StatusText.of(text)
        if status.code in _CODES_AS_UNTAGGED:
            self._keep(status.code, status.arguments)

    def _simple_command(self, name: str, *args: str | bytes | None) -> tuple[str, list[bytes]]:
        self.channel.must_be_free()
        return self._command_complete(name, self._command(name, *args))


class Client(IMAPClient):  # type: ignore[misc]  # IMAPClient has no types
    """IMAPClient over a Channel. Used for capability, ID, SELECT/EXAMINE, CREATE, SUBSCRIBE, NOOP, UNSELECT, CLOSE, LOGOUT."""

    _imap: _Imap4

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        super().__init__(host="", port=0, ssl=False)
        self.folder_encode = False

    def _create_IMAP4(self) -> _Imap4:
        return _Imap4(self.channel)

    def _set_read_timeout(self) -> None:
        """Deadlines are the stream's."""

    def _normalise_folder(self, folder_name: str | bytes) -> bytes:
        return encoder.mailbox(folder_name if isinstance(folder_name, str) else encoder.wire_name(folder_name))

    def forget_capabilities(self) -> None:
        """After STARTTLS and after a login what was advertised before does not count (RFC 3501 §6.2.1)."""
        self._cached_capabilities: tuple[bytes, ...] | None = None
        self._imap.untagged_responses.pop("CAPABILITY", None)

    def remember(self, answer: Answer) -> None:
        self._imap.remember(answer)

    def volunteered(self, text: bytes) -> None:
        """A greeting's text, which may bring the capabilities."""
        self._imap._keep_code(text)

    def logged_in(self) -> None:
        self._imap.state = "AUTH"

    def capability_set(self, *, ask: bool = True) -> frozenset[str]:
        """Upper case. Takes what the server volunteered (greeting, login), else asks."""
        words: Sequence[bytes]
        volunteered = self._imap.untagged_responses.pop("CAPABILITY", None)
        if volunteered:
            words = bytes(volunteered[-1] if isinstance(volunteered[-1], bytes) else b"").upper().split()
        elif ask:
            answer = self.channel.run(b"CAPABILITY")
            words = [word for response in answer.of_kind(b"CAPABILITY") for word in response.parts[0].upper().split()]
        else:
            words = []
        self._cached_capabilities = tuple(words)
        return frozenset(word.decode("ascii", "replace") for word in words)
