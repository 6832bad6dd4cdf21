"""Bytes of a reply become readable text, and broken connections become causes."""
from __future__ import annotations

import errno
import socket
import ssl

import pytest

from engine.causes import Cause, Retry
from engine.providers.classify import classify, classify_transport, transport_kind
from engine.providers.rules import Transport
from engine.providers.words import decode_reply


@pytest.mark.parametrize(("raw", "text"), [
    (b"NO plain\r\n", "NO plain"),
    ("NO 请使用授权码登录".encode(), "NO 请使用授权码登录"),
    ("NO 请使用授权码登录".encode("gbk"), "NO 请使用授权码登录"),
    (b"NO \xff\xfe\xff", "NO \ufffd\ufffd\ufffd"),
    (b"NO a\x00b\x1b[2J", "NO a\\x00b\\x1b[2J"),
    ("NO \u202etxt".encode(), "NO \\u202etxt"),
    (b"", ""),
])
def test_a_reply_is_decoded_and_made_visible(raw: bytes, text: str) -> None:
    assert decode_reply(raw) == text


def test_tencents_reply_in_gbk_is_understood() -> None:
    found = classify(decode_reply("NO 请使用授权码登录。详情: http://service.mail.qq.com".encode("gb18030")), phase="auth", provider="qq")
    assert (found.cause, found.rule, found.step) == (Cause.NEEDS_AUTH_CODE, "T02", "qq.authcode")


def wrong_name() -> ssl.SSLCertVerificationError:
    error = ssl.SSLCertVerificationError(1, "certificate verify failed: Hostname mismatch")
    error.verify_code = 62
    return error


@pytest.mark.parametrize(("error", "connected", "greeted", "kind", "cause"), [
    (socket.gaierror(socket.EAI_NONAME, "unknown"), False, False, Transport.NAME_UNKNOWN, Cause.DNS_CONNECT),
    (ConnectionRefusedError(errno.ECONNREFUSED, "refused"), False, False, Transport.REFUSED, Cause.DNS_CONNECT),
    (TimeoutError("timed out"), False, False, Transport.CONNECT_TIMEOUT, Cause.DNS_CONNECT),
    (OSError(errno.ENETUNREACH, "unreachable"), False, False, Transport.UNREACHABLE, Cause.DNS_CONNECT),
    (ConnectionResetError(errno.ECONNRESET, "reset"), True, False, Transport.CLOSED_BEFORE_GREETING, Cause.IP_BLOCKED),
    (ssl.SSLEOFError(8, "EOF"), True, False, Transport.CLOSED_BEFORE_GREETING, Cause.IP_BLOCKED),
    (TimeoutError("timed out"), True, False, Transport.GREETING_TIMEOUT, Cause.SERVER_BUSY),
    (wrong_name(), True, False, Transport.CERTIFICATE_NAME, Cause.TLS),
    (ssl.SSLCertVerificationError(1, "self-signed"), True, False, Transport.CERTIFICATE, Cause.TLS),
    (ssl.SSLError(1, "wrong version number"), True, False, Transport.TLS_MISMATCH, Cause.TLS),
    (ConnectionResetError(errno.ECONNRESET, "reset"), True, True, Transport.CONNECTION_LOST, Cause.X_STATE),
])
def test_a_broken_connection_has_a_cause(error: OSError, connected: bool, greeted: bool, kind: Transport, cause: Cause) -> None:
    assert transport_kind(error, connected=connected, greeted=greeted) is kind
    assert classify_transport(kind).cause is cause


def test_verification_is_never_retried_by_itself() -> None:
    for kind in (Transport.CERTIFICATE, Transport.CERTIFICATE_NAME, Transport.TLS_MISMATCH):
        assert classify_transport(kind).retry is Retry.STOP
