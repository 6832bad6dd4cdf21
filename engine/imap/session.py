"""A logged-in IMAP session: folders, counts, quota. Message octets are fetch.py's and append.py's, on the same connection.

Must not: open a folder of the source other than by EXAMINE, expunge anything there, send SEARCH (broken at Tencent and Alibaba:
facts, engine §5.2), run a command while a stream of bodies is being read.
Always: used by one thread at a time (`close` may come from another); folder names are wire names; one that cannot be written on the
wire is a Refused(X_FOLDER), never a line.
"""
from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from typing import TYPE_CHECKING

from engine.causes import Cause, Side, at_destination
from engine.endpoint import Account, Route
from engine.errors import EngineError, Refused, Throttled
from engine.imap import folders
from engine.imap.channel import Answer, Channel, Tagged, Timeouts
from engine.imap.folders import FolderStatus, Quota, RemoteFolder, Selected, Survey
from engine.imap.opening import OnStep, Opening
from engine.pacing.pacer import OPEN, Gate
from engine.providers.catalogue import provider as provider_data
from engine.providers.provider import Limits, Quirk
from engine.wire import encoder

if TYPE_CHECKING:
    from engine.imap.client import Client

__all__ = ["FolderStatus", "Quota", "RemoteFolder", "Selected", "Session", "Survey", "Timeouts"]

FAREWELL = 5.0           # seconds for LOGOUT
_CONDSTORE = b" (CONDSTORE)"
_STATUS_AT_ONCE = 100  # STATUS commands sent before their answers are read
_FOLDERS_AT_ONCE = 30  # new folders, each of three commands
_DEFAULT_TIMEOUTS = Timeouts()


class Session:
    """Made by `Session.open`. `capabilities` are upper case; `append_limit` in octets (RFC 7889), None: not told; `family` is the kind
    of server that its greeting shows (catalogue: coremail, tencent, …)."""

    def __init__(self, channel: Channel, *, greeting: str, capabilities: frozenset[str]) -> None:
        self.channel = channel
        self.side = channel.side
        self.greeting = greeting
        self.capabilities = capabilities
        self.family = channel.family
        self.provider = channel.provider
        self._selected: str | None = None
        self._leaving: bytes | None = None  # tag of LOGOUT
        self._written_to = False  # the selected folder is open for writing
        limits = [word[12:] for word in capabilities if word.startswith("APPENDLIMIT=")]
        self.append_limit = int(limits[0]) if limits and limits[0].isdigit() and len(limits[0]) < 20 else None

    @classmethod
    def open(cls, account: Account, route: Route, *, side: Side, on_step: OnStep | None = None,
             timeouts: Timeouts = _DEFAULT_TIMEOUTS, gate: Gate = OPEN) -> Session:
        """Connects and logs in, with LOGIN on the wire once at most. `on_step` is told NAME, CONNECT, TLS and LOGIN as they begin and end.
        Raises Refused, Throttled, ConnectionBroken, ProtocolError, or EngineError(ADDRESS_REFUSED); nothing stays open then."""
        opening = Opening(account, route, side, on_step, timeouts, gate)
        opening.open()
        return cls(opening.channel, greeting=opening.greeting, capabilities=opening.capabilities)

    @property
    def rtt(self) -> float:
        """Seconds of the quickest round trip seen."""
        return self.channel.rtt

    @property
    def limits(self) -> Limits:
        """What we hold ourselves to at this provider."""
        return provider_data(self.provider or self.family).limits

    @property
    def bytes_in(self) -> int:
        return self.channel.stream.bytes_in

    @property
    def bytes_out(self) -> int:
        return self.channel.stream.bytes_out

    def take_throttle(self) -> Throttled | None:
        """A notice to slow down that came inside a successful answer, since this was asked before. `retry_after` as stated."""
        return self.channel.take_throttle()

    def compress(self) -> bool:
        """Compresses everything from now on (RFC 4978), between commands. False when that is not offered, or refused, or on already.
        Whether it pays is compress.pays's to say."""
        if "COMPRESS=DEFLATE" not in self.capabilities:
            return False
        from engine.imap.compress import Deflated  # seldom needed

        self.channel.must_be_free()
        answer = self.channel.finish(self.channel.send(b"COMPRESS DEFLATE"))
        self.capabilities -= {"COMPRESS=DEFLATE"}  # once only (RFC 4978 §3)
        if answer.tagged.status != b"OK":
            return False
        self.channel.stream.lay_over(lambda transport, already: Deflated(transport, already=already))
        return True

    # -- folders ---------------------------------------------------------------------------------------------------------------

    @cached_property
    def _client(self) -> Client:
        from engine.imap.client import Client  # IMAPClient's import costs more than a session; a rerun makes no folder

        return Client(self.channel)

    def _mailbox(self, name: str) -> bytes:
        try:
            return encoder.mailbox(name)
        except encoder.EncodeError as error:
            cause = at_destination(Cause.X_FOLDER) if self.side is Side.DESTINATION else Cause.X_FOLDER
            raise Refused(cause, side=self.side, detail=str(error)) from None

    @contextlib.contextmanager
    def _about_a_folder(self) -> Iterator[None]:
        """A refusal in words that no rule knows is about this folder: the caller counts it and goes on with the next."""
        try:
            yield
        except Refused as error:
            raise self.about_a_folder(error) from None

    @staticmethod
    def about_a_folder(error: EngineError) -> EngineError:
        """The same refusal; words that no rule knows are the folder's."""
        if isinstance(error, Refused) and error.cause is Cause.UNKNOWN:
            error.cause, error.causes = Cause.X_FOLDER, (Cause.X_FOLDER, *error.causes)
        return error

    def survey(self) -> Survey:
        """Namespace, folders and counts in one flight of commands; a second one for the counts where LIST does not bring them (RFC 5819).
        A folder whose STATUS is refused is left out of `statuses`. Raises Throttled when the server asks to wait."""
        channel = self.channel
        channel.must_be_free()
        extended = self._returns(status=True)
        commands = [self._ask_place(), b'LIST "" "*"' + extended, *([b'XLIST "" "*"'] if self._needs_xlist else [])]
        answers = [channel.finish(tag) for tag in channel.send_together(commands)]
        prefix, separator = self._place_in(answers[0])
        if answers[1].tagged.status != b"OK" and extended:
            # Offered and not kept: the plain form, as for a server that offers nothing.
            refused = channel.refusal(answers[1].tagged, "select")
            if isinstance(refused, Throttled):
                raise refused
            self.capabilities -= {"LIST-STATUS", "LIST-EXTENDED", "CONDSTORE", "QRESYNC"}
            found, statuses = self.list_folders(), {}
        else:
            channel.expect_ok(answers[1], "select")
            found = folders.merged([r for answer in answers[1:] for r in answer.of_kind(b"LIST", b"XLIST")])
            statuses = folders.statuses(answers[1])
        if prefix is None:
            prefix, separator = self.namespace_prefix()
        elif "NAMESPACE" not in self.capabilities:
            prefix = folders.common_prefix(found, separator)
        names = [folder.name for folder in found if folder.selectable]
        told = {name: statuses[name] for name in names if name in statuses}
        return Survey(prefix, separator, found, told | self._each_status([name for name in names if name not in told]))

    def namespace_prefix(self) -> tuple[str, str | None]:
        """(prefix that every personal folder bears, as wire name; hierarchy separator)."""
        prefix, separator = self._place_in(self.channel.run(self._ask_place()))
        if prefix is None:
            prefix, separator = "", folders.first_separator(self.channel.run(b'LIST "" ""'))
        elif "NAMESPACE" not in self.capabilities:
            prefix = folders.common_prefix(self.list_folders(), separator)
        return prefix, separator

    def _ask_place(self) -> bytes:
        return b"NAMESPACE" if "NAMESPACE" in self.capabilities else b'LIST "" ""'

    def _place_in(self, answer: Answer) -> tuple[str | None, str | None]:
        """Prefix None: NAMESPACE was refused, or told none."""
        if "NAMESPACE" not in self.capabilities:
            self.channel.expect_ok(answer, "any")
            return "", folders.first_separator(answer)
        for response in answer.of_kind(b"NAMESPACE"):
            found = folders.personal_namespace(response)
            if found is not None:
                return found
        return None, None

    def _returns(self, *, status: bool) -> bytes:
        """The RETURN options of LIST (RFC 5258 §3.2, RFC 6154 §2, RFC 5819) that this server knows."""
        options = []
        if {"SPECIAL-USE", "LIST-EXTENDED"} <= self.capabilities:
            options.append(b"SPECIAL-USE")
        if status and "LIST-STATUS" in self.capabilities:
            options.append(b"STATUS " + self._status_items())
        return b" RETURN (%s)" % b" ".join(options) if options else b""

    @property
    def _needs_xlist(self) -> bool:
        """Tencent's LIST shows no roles; its XLIST does (facts, engine §5.0). The set of folders stays LIST's and XLIST's together."""
        return "XLIST" in self.capabilities and "SPECIAL-USE" not in self.capabilities

    def list_folders(self) -> list[RemoteFolder]:
        """Every folder, once, in the server's order, with roles from SPECIAL-USE (RFC 6154) or XLIST where the server has them."""
        responses = self.channel.run(b'LIST "" "*"' + self._returns(status=False), "select").of_kind(b"LIST")
        if self._needs_xlist:
            with contextlib.suppress(Refused):
                responses += self.channel.run(b'XLIST "" "*"', "select").of_kind(b"XLIST")
        return folders.merged(responses)

    def _status_items(self) -> bytes:
        items = [b"MESSAGES", b"UIDNEXT", b"UIDVALIDITY"]
        if not self.capabilities.isdisjoint(("STATUS=SIZE", "IMAP4REV2")):
            items.append(b"SIZE")
        if self.has_modseq:
            items.append(b"HIGHESTMODSEQ")
        return b"(%s)" % b" ".join(items)

    @property
    def has_modseq(self) -> bool:
        """Whether the server counts changes of flags (RFC 7162; QRESYNC implies it). STATUS and FETCH ask for it themselves: no ENABLE."""
        return not self.capabilities.isdisjoint(("CONDSTORE", "QRESYNC"))

    def status(self, name: str) -> FolderStatus:
        """Raises Refused when the server does not know the folder, or says OK and nothing about it."""
        command = b"STATUS %s %s" % (self._mailbox(name), self._status_items())
        with self._about_a_folder():
            answer = self.channel.run(command, "select")
        found = self._status_in(answer, name)
        if found is None:
            cause = at_destination(Cause.X_FOLDER) if self.side is Side.DESTINATION else Cause.X_FOLDER
            raise Refused(cause, side=self.side, detail="STATUS was answered without the counts")
        return found

    def _status_in(self, answer: Answer, name: str) -> FolderStatus | None:
        told = [one for response in answer.of_kind(b"STATUS") if (one := folders.status(response)) is not None]
        exact = [counts for said, counts in told if folders.same_folder(said, name)]
        if exact:
            return exact[-1]
        return told[-1][1] if len(told) == 1 else None  # the server spells the name another way

    def statuses(self, names: Sequence[str]) -> dict[str, FolderStatus]:
        """Counts of many folders in few round trips: LIST-STATUS (RFC 5819) or pipelined STATUS. A folder whose STATUS is refused is
        left out; `status` tells why. Raises Throttled when the server asks to wait."""
        wanted = list(dict.fromkeys(names))
        found: dict[str, FolderStatus] = {}
        if "LIST-STATUS" in self.capabilities and len(wanted) > 2:
            told = folders.statuses(self.channel.run(b'LIST "" "*" RETURN (STATUS %s)' % self._status_items(), "select"))
            found = {name: told[name] for name in wanted if name in told}
        return found | self._each_status([name for name in wanted if name not in found])

    def _each_status(self, names: Sequence[str]) -> dict[str, FolderStatus]:
        found: dict[str, FolderStatus] = {}
        for at in range(0, len(names), _STATUS_AT_ONCE):
            found.update(self._pipelined_statuses(names[at : at + _STATUS_AT_ONCE]))
        return found

    def _pipelined_statuses(self, names: Sequence[str]) -> dict[str, FolderStatus]:
        self.channel.must_be_free()
        items = self._status_items()
        sent = zip(names, self.channel.send_together([b"STATUS %s %s" % (self._mailbox(name), items) for name in names]), strict=True)
        found: dict[str, FolderStatus] = {}
        throttled: EngineError | None = None
        for name, tag in sent:
            answer = self.channel.finish(tag)
            counts = self._status_in(answer, name) if answer.tagged.status == b"OK" else None
            if counts is not None:
                found[name] = counts
            elif answer.tagged.status != b"OK":
                refused = self.channel.refusal(answer.tagged, "select")
                throttled = throttled or (refused if isinstance(refused, Throttled) else None)
        if throttled is not None:
            raise throttled
        return found

    def examine(self, name: str) -> Selected:
        """Opens a folder read-only. Nothing in it changes, \\Recent neither (RFC 3501 §6.3.2)."""
        command = self.examining(name)
        self._selected, self._written_to = None, False
        self.channel.must_be_free()
        started = self.channel.clock()
        answer = self.channel.finish(self.channel.send(command), started=started)
        if self.refused_condstore(command, answer.tagged):
            answer = self.channel.finish(self.channel.send(self.examining(name)))
        with self._about_a_folder():
            self.channel.expect_ok(answer, "select")
        selected = folders.selected(answer)
        if selected is None:
            raise self.channel.misbehaved("EXAMINE was answered with something unreadable")
        self._selected = name
        if not selected.uidvalidity:
            selected = selected._replace(uidvalidity=self.status(name).uidvalidity)
        return selected

    @contextlib.contextmanager
    def opened(self, name: str) -> Iterator[None]:
        """A destination's folder open for writing (SELECT), and unselected at the end; nothing is expunged by that."""
        assert self.side is Side.DESTINATION, "a source is never written to"
        command = b"SELECT " + self._mailbox(name)
        self._selected, self._written_to = None, False
        with self._about_a_folder():
            self.channel.run(command, "select")
        self._selected, self._written_to = name, True
        try:
            yield
        finally:
            if not self.channel.stream.closed:
                self.unselect()

    def examining(self, name: str) -> bytes:
        """The command; Refused(X_FOLDER) when the name has no form on the wire. Dovecot counts changes of a folder, and tells
        HIGHESTMODSEQ, only from the first time that it was opened with CONDSTORE (measured; RFC 7162 §3.1.8)."""
        return b"EXAMINE " + self._mailbox(name) + (_CONDSTORE if self.has_modseq else b"")

    def refused_condstore(self, command: bytes, tagged: Tagged) -> bool:
        """Whether an EXAMINE failed for a word that was offered and is not understood; it is not used again then."""
        if tagged.status != b"BAD" or not command.endswith(_CONDSTORE) or isinstance(self.channel.refusal(tagged, "select"), Throttled):
            return False
        self.capabilities -= {"CONDSTORE", "QRESYNC"}
        return True

    def uid_range(self, first: int, last: int | None) -> bytes:
        """Tencent refuses `*` as it refuses descending sets ("BAD UID parameters!"): there the end is the highest UID that can be."""
        return encoder.uid_range(first, encoder.MAX_UID if last is None and self.family == "tencent" else last)

    def now_examined(self, name: str | None) -> None:
        """For whoever sends EXAMINEs together with what follows them: this is the folder that the last of them left open."""
        self._selected, self._written_to = name, False

    def make(self, names: Sequence[str]) -> dict[str, FolderStatus]:
        """CREATE, SUBSCRIBE and STATUS of folders at a destination, in few round trips. The counts of those that were made; why another was
        not, `create` tells. (Made before anything is appended: a server that stores mail is slow to make folders.)"""
        assert self.side is Side.DESTINATION, "nothing is ever made at a source"
        made: dict[str, FolderStatus] = {}
        for at in range(0, len(names), _FOLDERS_AT_ONCE):
            if not self._make_together(names[at : at + _FOLDERS_AT_ONCE], made):
                break
        return made

    def _make_together(self, names: Sequence[str], made: dict[str, FolderStatus]) -> bool:
        """Adds to `made`. False: the server asks to wait, and the pace has been told."""
        commands: list[bytes] = []
        asked: list[str] = []
        for name in names:
            with contextlib.suppress(Refused):  # a name that has no form on the wire
                wire = self._mailbox(name)
                commands += (b"CREATE " + wire, b"SUBSCRIBE " + wire, b"STATUS %s %s" % (wire, self._status_items()))
                asked.append(name)
        self.channel.must_be_free()
        tags = iter(self.channel.send_together(commands))
        go_on = True
        for name in asked:
            created = self.channel.finish(next(tags)).tagged
            self.channel.finish(next(tags))  # a convenience for mail programs; a server without subscriptions may refuse
            answer = self.channel.finish(next(tags))
            refused = next((one for one in (created, answer.tagged) if one.status != b"OK"), None)
            counts = self._status_in(answer, name) if refused is None else None
            if counts is not None:
                made[name] = counts
            elif refused is not None and isinstance(self.channel.refusal(refused, "select"), Throttled):
                go_on = False
        return go_on

    def create(self, name: str) -> None:
        """Success too when the folder is there already, whatever words the server has for it."""
        wire = self._mailbox(name)
        try:
            self._client.create_folder(name)
        except Refused as error:
            if "[ALREADYEXISTS]" in error.server_text.upper() or self._exists(name, wire):  # RFC 5530 §3
                return
            raise

    def _exists(self, name: str, wire: bytes) -> bool:
        listed = [folders.folder(response) for response in self.channel.run(b'LIST "" ' + wire, "select").of_kind(b"LIST")]
        return any(one is not None and one.selectable and folders.same_folder(one.name, name) for one in listed)

    def subscribe(self, name: str) -> None:
        self._mailbox(name)
        self._client.subscribe_folder(name)

    def quota(self) -> Quota | None:
        """The storage quota of the mailbox (RFC 2087); None: not offered, not limited, or not told."""
        if "QUOTA" not in self.capabilities:
            return None
        with contextlib.suppress(Refused):
            return folders.storage_quota(self.channel.run(b'GETQUOTAROOT "INBOX"').of_kind(b"QUOTA"))
        return None

    # -- keeping and ending ------------------------------------------------------------------------------------------------------

    def noop(self) -> None:
        """Keeps the session alive: NOOP, or STATUS where the idle timer runs on through NOOP (facts: Coremail)."""
        if Quirk.NOOP_KEEPS_NOT_ALIVE in provider_data(self.provider or self.family).quirks:
            self.channel.run(b'STATUS "INBOX" (MESSAGES)', "select")
        else:
            self.channel.run(b"NOOP")

    def unselect(self) -> None:
        """Closes the folder without expunging: UNSELECT (RFC 3691), or CLOSE, which expunges nothing of an EXAMINEd folder. Nobody waits
        for the answer: nothing depends on it, and what follows is executed after it."""
        if self._selected is None:
            return
        if "UNSELECT" in self.capabilities:
            closing = b"UNSELECT"
        else:
            if self._written_to:
                self.examine(self._selected)
            closing = b"CLOSE"
        self._selected, self._written_to = None, False
        self.channel.must_be_free()
        self.channel.send_ahead(closing, lambda _: None)

    def uid_expunge(self, name: str, uids: Sequence[int]) -> None:
        """Removes exactly these messages of a destination folder (UIDPLUS, RFC 4315 §2.1): our own surplus copies, nothing else."""
        assert self.side is Side.DESTINATION, "nothing is ever removed at a source"
        assert "UIDPLUS" in self.capabilities, "without UIDPLUS an EXPUNGE would take more than these"
        with self.opened(name):
            for uid_set in encoder.uid_sets(uids, self.command_bytes):
                self.channel.run(b"UID STORE %s +FLAGS.SILENT (\\Deleted)" % uid_set)
                self.channel.run(b"UID EXPUNGE " + uid_set)

    @property
    def command_bytes(self) -> int:
        """Longest UID set that is sent in one command."""
        return min(8000, self.limits.command_bytes or 8000) - 120

    def say_goodbye(self) -> None:
        """Sends LOGOUT and does not wait: two sessions that end take one round trip so. `logout` follows. Never raises."""
        channel = self.channel
        if self._leaving is None and channel.owner is None and not channel.stream.closed:
            channel.leaving = True
            with contextlib.suppress(EngineError):
                self._leaving = channel.send(b"LOGOUT")

    def logout(self) -> None:
        """A short farewell; never raises."""
        self.say_goodbye()
        if self._leaving is not None and not self.channel.stream.closed:
            with contextlib.suppress(EngineError):
                self.channel.finish(self._leaving, seconds=FAREWELL)
        self.close()

    def close(self) -> None:
        """At once, from any thread."""
        self.channel.stream.close()
