"""One connection of the simulated server: reads commands, commits the faults asked for, answers as the profile's server would.

Owns: the order of things from the greeting to the end. The grammar is in simulator_commands.py, what goes out in
simulator_connection.py, and the verbs, one method `do_…` for each, where they belong: simulator_login.py, simulator_folders.py,
simulator_selected.py, simulator_fetch.py, simulator_append.py. Must not: know what a test wants (profile and faults are data).
Always: commands are executed in order, also those that were already received when the client went away (a dead client's pipelined
APPENDs are stored by real servers; facts: reliability, finding 1); a literal that did not arrive whole stores nothing.
"""
from __future__ import annotations

import asyncio
import re
import time

from tests.support.simulator_append import AppendVerb
from tests.support.simulator_commands import Answered, Bad, Command
from tests.support.simulator_connection import Gone
from tests.support.simulator_faults import Action, Fault
from tests.support.simulator_fetch import FetchVerbs
from tests.support.simulator_folders import FolderVerbs
from tests.support.simulator_login import LoginVerbs

LITERAL = re.compile(rb"~?\{(\d+)([+-])?\}$")
NO_LOGIN_NEEDED = {"CAPABILITY", "NOOP", "LOGOUT", "LOGIN", "AUTHENTICATE", "STARTTLS", "ID"}


class SimulatedSession(LoginVerbs, FolderVerbs, FetchVerbs, AppendVerb):
    async def serve(self) -> None:
        if not await self._greet():
            return
        while True:
            command = await self.read_command()
            if command is None:
                return
            self.record(command)
            try:
                await self.meet_faults_and_execute(command)
            finally:
                self.sim.changed()
            if command.verb == "LOGOUT":
                self.writer.close()
                return

    def record(self, command: Command) -> None:
        self.sim.record(self.number, command.verb, command.line, self.box.login if self.box else None)

    # ---- commands in

    async def read_command(self) -> Command | None:
        literals: list[bytes] = []
        text = refusal = b""
        while True:
            line = await self.reader.readline()
            if not line.endswith(b"\n"):
                return None
            text += line.rstrip(b"\r\n")
            if not line.endswith(b"\r\n"):
                refusal = refusal or b"BAD Request not ending with \\r\\n"
            found = LITERAL.search(text)
            command = Command.of(text[:found.start()] if found else text, literals, refusal)
            if not found:
                return command
            size, mark = int(found[1]), found[2]
            refusal = refusal or self.refused_at_announcement(command, size, mark)
            if refusal and not mark:
                self.record(command)
                await self.tagged(command, refusal)
                self.sim.changed()
                text, literals, refusal = b"", [], b""
                continue
            if not mark:
                await self.send(b"+ OK\r\n")
            cut = self.sim.fault_for(command.verb, command.line, literal=True)
            if cut:
                self.record(command)
                await self.reader.readexactly(min(cut.at, size))
                self.end()
            text = text[:found.start()] + b"\0%d\0" % len(literals)
            literals.append(await self.reader.readexactly(size))

    # ---- what each meets

    async def _greet(self) -> bool:
        fault = self.sim.fault_for("GREETING", b"")
        if fault and fault.action is Action.HANG:
            await self.hang()
        if fault and fault.action is Action.CLOSE:
            self.end()
        limit = self.profile.max_connections
        if limit is not None and self.sim.open_now > limit:
            await self.send(b"* " + self.profile.too_many + b"\r\n")
        elif fault:
            await self.send(fault.text + b"\r\n")
        else:
            await self.send(b"* " + self.profile.greeting + b"\r\n")
            return True
        if fault and not fault.text.startswith(b"* BYE"):
            return True
        self.writer.close()
        return False

    async def meet_faults_and_execute(self, command: Command) -> None:
        fault = self.sim.fault_for(command.verb, command.line)
        action = fault.action if fault else None
        if fault is None:
            await self._execute(command)
        elif action is Action.REPLY:
            await self._refuse(command, fault)
        elif action is Action.HANG:
            await self.hang()
        elif action is Action.CLOSE:
            self.end()
        elif action in (Action.DELAY, Action.EXECUTE_THEN_CLOSE):
            await self._execute_with_late_answer(command, fault)
        else:
            if action is Action.UNTAGGED:
                await self.send(fault.text + b"\r\n")
            elif action is Action.LATE:
                await asyncio.sleep(fault.seconds)
            self._trailing = fault.text if action is Action.TRAILING else b""
            self._cut_after = fault.at if action is Action.CUT_ANSWER else None
            await self._execute(command)

    async def _execute_with_late_answer(self, command: Command, fault: Fault) -> None:
        self._held = bytearray()
        await self._execute(command)
        held, self._held = bytes(self._held), None
        self.sim.changed()
        if fault.action is Action.EXECUTE_THEN_CLOSE:
            self.end()
        await asyncio.sleep(fault.seconds)
        await self.send(held)

    async def _refuse(self, command: Command, fault: Fault) -> None:
        if fault.seconds and self.box:
            self.sim.backoff_until[self.box.login] = time.monotonic() + fault.seconds
        if fault.text.startswith(b"BYE"):
            await self.send(b"* " + fault.text + b"\r\n")
            self.writer.close()
            raise Gone
        await self.tagged(command, fault.text)

    async def _execute(self, command: Command) -> None:
        try:
            if command.refusal:
                raise Bad(command.refusal)
            if len(command.line) > self.profile.max_command:
                raise Bad(b"BAD Command Argument Error. 11")
            if command.verb in self.profile.hang_on:
                await self.hang()
            if self.box is None and command.verb not in NO_LOGIN_NEEDED:
                raise Bad(b"BAD Command received in invalid state")
            act = getattr(self, "do_" + command.verb.lower().replace(" ", "_"), None)
            if act is None:
                raise Bad(b"BAD Unknown command")
            await self.tagged(command, await act(command))
        except Answered:
            return
        except Bad as refused:
            await self.tagged(command, refused.text)
