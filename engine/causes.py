"""Every failure a person can see has one of these causes; each has words, a next step and somebody who takes it."""
from __future__ import annotations

from enum import StrEnum


class Side(StrEnum):
    SOURCE = "source"
    DESTINATION = "destination"


class Cause(StrEnum):
    # what the old provider says (facts: providers, section 0)
    BAD_SECRET = "bad_secret"
    NEEDS_AUTH_CODE = "needs_auth_code"
    IMAP_DISABLED = "imap_disabled"
    TWO_FACTOR = "two_factor"
    SECURE_LOGIN = "secure_login"
    NEEDS_ID = "needs_id"
    IP_BLOCKED = "ip_blocked"
    THROTTLED = "throttled"
    TOO_MANY_CONNECTIONS = "too_many_connections"
    ACCOUNT_EXPIRED_LOCKED = "account_expired_locked"
    QUOTA = "quota"
    TLS = "tls"
    DNS_CONNECT = "dns_connect"
    SERVER_BUSY = "server_busy"
    OAUTH_ONLY = "oauth_only"
    X_CLIENT = "x_client"
    X_FOLDER = "x_folder"
    X_ITEM = "x_item"
    X_STATE = "x_state"
    X_NAME = "x_name"
    UNKNOWN = "unknown"
    # what the new provider says
    DESTINATION_LOGIN = "destination_login"
    DESTINATION_QUOTA = "destination_quota"
    DESTINATION_TLS = "destination_tls"
    DESTINATION_CONNECT = "destination_connect"
    DESTINATION_BUSY = "destination_busy"
    DESTINATION_REFUSED = "destination_refused"
    # our own side
    ADDRESS_REFUSED = "address_refused"
    RELAY_UNREACHABLE = "relay_unreachable"
    RELAY_REFUSED = "relay_refused"
    SECRET_MISSING = "secret_missing"
    LEDGER_UNWRITABLE = "ledger_unwritable"
    INCOMPLETE = "incomplete"
    WORKER_LOST = "worker_lost"
    WINDOW_CLOSED = "window_closed"
    INTERNAL = "internal"
