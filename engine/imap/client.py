"""IMAPClient's verbs that change folders (CREATE, SUBSCRIBE), on our own connection.

IMAPClient and imaplib below it bring the verbs; sending, reading, capping and refusing are Channel's. Loaded when a folder has to be
made and not before: the two cost a start more than everything of ours that opens a session.
Must not: be given an argument that engine/wire/encoder.py did not build: imaplib puts what it gets on the line as it is.
Always: folder names are quoted by our encoder; nothing is logged or remembered (imaplib keeps the last ten command lines, secrets and
all; here it never sees one that holds a secret); refusals are our exceptions, not imaplib's.
"""
from __future__ import annotations

import imaplib

from imapclient import IMAPClient

from engine.imap.channel import Channel
from engine.wire import encoder


class _Imap4(imaplib.IMAP4):
    """imaplib's bookkeeping without its socket, parser and log."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        super().__init__()

    def open(self, host: str = "", port: int = 143, timeout: float | None = None) -> None:
        """Nothing to open: the channel is connected."""

    def _connect(self) -> None:
        self.state = "AUTH"  # the session logged in
        self.capabilities: tuple[str, ...] = ()

    def shutdown(self) -> None:
        self.channel.stream.close()

    def _command(self, name: str, *args: str | bytes | None) -> bytes:
        words = [name.encode("ascii")]
        words += [arg if isinstance(arg, bytes) else arg.encode("latin-1") for arg in args if arg is not None]
        return self.channel.send(b" ".join(words))

    def _command_complete(self, name: str, tag: bytes) -> tuple[str, list[bytes]]:
        answer = self.channel.expect_ok(self.channel.finish(tag), "any")
        return "OK", [answer.tagged.text.text]

    def _simple_command(self, name: str, *args: str | bytes | None) -> tuple[str, list[bytes]]:
        self.channel.must_be_free()
        return self._command_complete(name, self._command(name, *args))


class Client(IMAPClient):  # type: ignore[misc]  # IMAPClient has no types
    """IMAPClient over a logged-in Channel."""

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
