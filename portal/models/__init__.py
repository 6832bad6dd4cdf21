"""The tables. Importable without Flask; importing this package registers them all."""
from portal.models.audit import AuditEvent
from portal.models.base import Base, now
from portal.models.credentials import Credential, Owner
from portal.models.ledger import LedgerFlags, LedgerFolder, LedgerIntent, LedgerRepair, LedgerRun, SetAside
from portal.models.moves import RUNNABLE, Attempt, Check, CheckState, Move, MoveState, ServerLine
from portal.models.people import Link, Person
from portal.models.projects import Project, ProjectState, Relay
from portal.models.staff import Role, Staff, StaffInvitation

__all__ = ["RUNNABLE", "Attempt", "AuditEvent", "Base", "Check", "CheckState", "Credential", "LedgerFlags", "LedgerFolder",
           "LedgerIntent", "LedgerRepair", "LedgerRun", "Link", "Move", "MoveState", "Owner", "Person", "Project", "ProjectState",
           "Relay", "Role", "ServerLine", "SetAside", "Staff", "StaffInvitation", "now"]
