"""What people do to two mailboxes while one is moved into the other, and what each act loosens of what must hold (`touched`)."""
from __future__ import annotations

from collections import Counter
from pathlib import Path

from tests.support.simulator_mail import Folder
from tests.unit.simulation.disk import Disk
from tests.unit.simulation.mailboxes import FLAGS, Ever, Mailboxes
from tests.unit.simulation.network import SimulatedServer

QUIET_SECONDS = 70.0          # after which nothing of a dead client is executed any more
WHILE_IT_RUNS = ("mail_arrives", "mail_arrives", "flags_change", "mail_is_deleted", "source_uidvalidity_changes",
                 "destination_uidvalidity_changes", "source_folder_is_renamed", "source_folder_is_deleted", "destination_folder_is_deleted",
                 "destination_folder_is_renamed", "quota_is_reached")
BETWEEN_RUNS = ("mail_arrives", "flags_change", "mail_is_deleted", "a_copy_is_removed", "ledger_is_lost", "source_uidvalidity_changes",
                "destination_uidvalidity_changes", "source_folder_is_renamed", "source_folder_is_deleted",
                "destination_folder_is_renamed", "destination_folder_is_deleted")


class MailboxesInUse(Mailboxes):
    """Mailboxes that people use, and the ledger that one of them may lose."""

    def __init__(self, seed: int | str, directory: Path, *, told: bool = False, source: str = "", destination: str = "") -> None:
        super().__init__(seed, told=told, source=source, destination=destination)
        self.disk = Disk(self.world, directory / f"ledger-{seed}")

    def somebody(self, names: tuple[str, ...]) -> None:
        """One of these acts."""
        name = self.rng.choice(names)
        self.say("--", name)
        self.world.note(name)
        self.happened[name] += 1
        getattr(self, name)()

    # -- mail

    def mail_arrives(self) -> None:
        for _ in range(self.rng.choice((1, 1, 4))):
            self.arrives(self.rng.choice(self.source_folders()))

    def flags_change(self) -> None:
        folder = self.rng.choice(self.source_folders())
        if folder.messages:
            message = self.rng.choice(folder.messages)
            message.flags = self.rng.choice(FLAGS)
            self.ever[folder.name].saw(message)

    def mail_is_deleted(self) -> None:
        folder = self.rng.choice(self.source_folders())
        if folder.messages:
            folder.messages.remove(self.rng.choice(folder.messages))
            self.touched.add("deleted at the source")

    def a_copy_is_removed(self) -> None:
        folders = [f for f in self.destination_folders() if f.messages]
        if folders:
            folder = self.rng.choice(folders)
            message = self.rng.choice(folder.messages)
            folder.messages.remove(message)
            self.removed[message.content] += 1
            self.touched.add("copy removed")

    def quota_is_reached(self) -> None:
        box = self.destination.account()
        box.quota = box.used() + self.rng.choice((0, 1000, 4000))

    # -- folders

    def source_uidvalidity_changes(self) -> None:
        if self.source.profile.uidvalidity is None:
            self._rebuilt(self.source, self.rng.choice(self.source_folders()))

    def destination_uidvalidity_changes(self) -> None:
        self._rebuilt(self.destination, self.rng.choice(self.destination_folders()))
        self.touched.add("destination rebuilt")

    def _rebuilt(self, server: SimulatedServer, folder: Folder) -> None:
        """No session may live through it (RFC 3501 §2.3.1.1 lets UIDs change between sessions only)."""
        server.disconnect_all()
        server.renumber(folder)
        self.touched.add("rebuilt")

    def _one_of_users(self, folders: list[Folder]) -> Folder | None:
        chosen = [f for f in folders if f.name != "INBOX"]
        return self.rng.choice(chosen) if chosen else None

    def source_folder_is_renamed(self) -> None:
        folder = self._one_of_users(self.source_folders())
        if folder and self.source.profile.uidvalidity is None:
            del self.source.account().folders[folder.name]
            self.ever[f"Renamed {self.serial}"] = self.ever.get(folder.name, Ever())
            folder.name = f"Renamed {self.serial}"
            folder.attributes = ()
            self.source.account().folders[folder.name] = folder
            self.serial += 1

    def source_folder_is_deleted(self) -> None:
        folder = self._one_of_users(self.source_folders())
        if folder:
            del self.source.account().folders[folder.name]

    def destination_folder_is_deleted(self) -> None:
        folder = self._one_of_users(self.destination_folders())
        if folder:
            del self.destination.account().folders[folder.name]
            self.own.pop(folder.name, None)
            self.touched.add("destination folder gone")

    def destination_folder_is_renamed(self) -> None:
        folder = self._one_of_users(self.destination_folders())
        if folder:
            box = self.destination.account()
            del box.folders[folder.name]
            self.own.pop(folder.name, None)
            folder.name = f"Moved by me {self.serial}"
            box.folders[folder.name] = folder
            self.own[folder.name] = Counter(m.content for m in folder.messages)
            self.serial += 1
            self.touched.add("destination folder gone")

    # -- the ledger

    def ledger_is_lost(self) -> None:
        self.world.pass_time(QUIET_SECONDS)  # a ledger that is lost takes its watches with it
        self.disk.lose()
        self.touched.add("ledger lost")
