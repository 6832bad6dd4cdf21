"""The client's half of the relay's preface: one HTTP/1.1 CONNECT with a token, and what its refusals mean.

Wire exchange and status codes: facts, relay §2c. Must not: put the token anywhere but on the (verified TLS) wire, read one octet past
the empty line (the far server's octets follow), follow a redirect.
Always: the answer is at most 8 KiB and has a deadline; `Relay-Error` is kept in the exception's detail.
"""
from __future__ import annotations

import hashlib
import re

from engine.causes import Cause, Side
from engine.endpoint import Secret
from engine.errors import ConnectionBroken, EngineError, Refused, Throttled
from engine.net.stream import Stream

ANSWER_CAP = 8 * 1024
_STATUS = re.compile(rb"HTTP/1\.[01] (\d{3})(?: .*)?\Z")
_TOKEN = re.compile(r"\A[A-Za-z0-9._~+/=-]{1,200}\Z")
_HOST = re.compile(r"\A[A-Za-z0-9_.:-]{1,253}\Z")
_MAX_RETRY_AFTER = 24 * 3600.0


def account_hash(host: str, login: str) -> str:
    """A mailbox's pacing key, 32 hex digits: the same for the same mailbox, and not its name."""
    return hashlib.sha256(f"banjia relay\0{host.lower()}\0{login.lower()}".encode()).hexdigest()[:32]


def request(host: str, port: int, token: Secret, *, account: str = "") -> bytes:
    """The preface's octets. Raises Refused(RELAY_REFUSED) when a part cannot be written safely."""
    text = token.reveal()
    if not _TOKEN.match(text) or not _HOST.match(host) or (account and not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", account)):
        raise Refused(Cause.RELAY_REFUSED, detail="the relay's token, the host or the account key has characters that cannot be sent")
    target = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    lines = [f"CONNECT {target} HTTP/1.1", f"Host: {target}", f"Proxy-Authorization: Bearer {text}", "Relay-Mode: tunnel", "Relay-TTL: 3"]
    if account:
        lines.append(f"Relay-Account: {account}")
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii")


def _read_answer(stream: Stream) -> list[bytes]:
    """Lines up to the empty one, octet by octet so that nothing after it is taken."""
    answer = bytearray()
    while not answer.endswith(b"\r\n\r\n"):
        if len(answer) >= ANSWER_CAP:
            stream.close()
            raise Refused(Cause.RELAY_REFUSED, side=stream.side, detail="the relay's answer is too long")
        answer += stream.take(1)
    return bytes(answer[:-4]).split(b"\r\n")


def connect_through(stream: Stream, host: str, port: int, token: Secret, *, account: str = "") -> None:
    """Asks the relay at the other end of `stream` for `host`:`port`. Returns when the far server is connected.
    Raises Refused, Throttled or ConnectionBroken, and closes the stream, when it is not."""
    try:
        stream.write(request(host, port, token, account=account))
        lines = _read_answer(stream)
    except ConnectionBroken as error:
        raise ConnectionBroken(Cause.RELAY_UNREACHABLE, side=stream.side, detail=f"relay: {error.detail}") from None
    except EngineError:
        stream.close()
        raise
    status = _STATUS.match(lines[0])
    if status is None:
        stream.close()
        raise Refused(Cause.RELAY_REFUSED, side=stream.side, detail="the other end is no relay")
    headers = {name.strip().lower(): value.strip() for name, _, value in (line.partition(b":") for line in lines[1:])}
    if status[1] != b"200":
        stream.close()
        raise refusal(int(status[1]), headers, stream.side)


def refusal(status: int, headers: dict[bytes, bytes], side: Side) -> EngineError:
    """The relay's status and `Relay-Error` as one of our causes."""
    code = headers.get(b"relay-error", b"").decode("ascii", "replace")[:100]
    detail = f"relay: {status} {code}".rstrip()
    wait = headers.get(b"retry-after", b"")
    retry_after = min(float(int(wait)), _MAX_RETRY_AFTER) if wait.isdigit() and len(wait) < 8 else None
    if status == 429:
        return Throttled(Cause.THROTTLED, side=side, detail=detail, retry_after=retry_after)
    if status == 503:
        return ConnectionBroken(Cause.RELAY_UNREACHABLE, side=side, detail=detail, retry_after=retry_after)
    if status == 502 and code.startswith("tls"):
        return Refused(Cause.TLS, side=side, detail=detail)
    if status == 502 and code.startswith("bye"):
        return ConnectionBroken(Cause.SERVER_BUSY, side=side, detail=detail)
    if status in (502, 504):
        return ConnectionBroken(Cause.DNS_CONNECT, side=side, detail=detail)
    if status == 403 and code in ("address-refused", "own-address"):
        return Refused(Cause.ADDRESS_REFUSED, side=side, detail=detail)
    return Refused(Cause.RELAY_REFUSED, side=side, detail=detail)
