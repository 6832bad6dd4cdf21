"""How far a connection came."""
from __future__ import annotations

from enum import StrEnum


class Step(StrEnum):
    """The five visible steps of a live check, in order."""

    NAME = "name"
    CONNECT = "connect"
    TLS = "tls"
    LOGIN = "login"
    FOLDERS = "folders"


class StepState(StrEnum):
    WAITING = "waiting"
    RUNNING = "running"
    OK = "ok"
    FAILED = "failed"
    SKIPPED = "skipped"
