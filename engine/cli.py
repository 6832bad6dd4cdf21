"""The command line: an expert's tool over the same engine that the workers use.

Exit codes: 0 all moved (or equal, or the check passed); 1 internal; 2 usage; 3 moved but something set aside (or not equal);
4 failed with a cause. With --json exactly one JSON object goes to stdout. Secrets come from a file, the environment or a prompt,
never from the arguments.
"""
from __future__ import annotations

import argparse
import getpass
import hashlib
import ipaddress
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from engine.causes import Cause, Side
from engine.endpoint import Account, BadAddress, Endpoint, RelayRoute, Route, Secret, Security, host_name, parse_account_url
from engine.errors import EngineError
from engine.ledger_file import SqliteLedger
from engine.net.addresses import EVERYWHERE
from engine.printing import Bar, explanation, print_check, print_copy, print_failure, print_json, print_verify
from engine.progress import Stop
from engine.providers.detect import by_host, detect
from engine.redact import redact
from engine.report import CopyOutcome, CopyReport, Step, StepState

if TYPE_CHECKING:
    from engine.pacing.store import PaceStore

OK, INTERNAL, USAGE, NOT_ALL, FAILED = 0, 1, 2, 3, 4
WAITS, LONGEST_WAIT_SECONDS = 20, 900.0  # a server's stated waits that a copy sits out before it gives up

_EPILOG = """
Addresses: imaps://user%40example.com@host:993   TLS from the first byte
           imap://user@host:143                   STARTTLS, demanded
           imap+plain://user@localhost:143        no protection: loopback only, unless --allow-plaintext
Secrets:   --source-password-file FILE, BANJIA_SOURCE_PASSWORD, or a prompt (--destination-… and BANJIA_DESTINATION_PASSWORD alike)
Relay:     --via https://relay.example:8443 reaches the source through a relay; its token from --via-token-file or BANJIA_RELAY_TOKEN
Exit:      0 all moved, equal, or check passed; 1 internal; 2 usage; 3 something set aside, or not equal; 4 failed with a cause
"""


class Usage(Exception):
    """What the caller wrote cannot be done; the text says what to write instead."""


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except (Usage, BadAddress) as error:
        print(f"{args.command}: {error}", file=sys.stderr)
        return USAGE
    except KeyboardInterrupt:
        return 130
    except EngineError as error:
        print_failure(error, args.json)
        return FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERNAL


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engine", epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     description="Moves a mailbox from one IMAP server to another. 把一个邮箱搬到另一台 IMAP 服务器。")
    commands = parser.add_subparsers(dest="command", required=True)
    check = commands.add_parser("check", help="log in and count what would be moved", epilog=_EPILOG,
                                formatter_class=argparse.RawDescriptionHelpFormatter)
    check.add_argument("source", metavar="URL")
    check.set_defaults(run=_check)
    copy = commands.add_parser("copy", help="move everything that is not there yet", epilog=_EPILOG,
                               formatter_class=argparse.RawDescriptionHelpFormatter)
    verify = commands.add_parser("verify", help="read both sides and compare", epilog=_EPILOG,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    for command, run in ((copy, _copy), (verify, _verify)):
        command.add_argument("source", metavar="SOURCE")
        command.add_argument("destination", metavar="DESTINATION")
        command.add_argument("--destination-password-file", type=Path, metavar="FILE", help="the new mailbox's secret")
        command.add_argument("--connections", type=_count, metavar="N",
                             help="connections to each side (default: as many as the providers allow)")
        command.set_defaults(run=run)
    copy.add_argument("--ledger", type=Path, metavar="FILE", help="where the place is kept (default: in the user's state directory)")
    copy.add_argument("--recent-days", type=_days, metavar="N", help="of each folder, move the mail of the last N days first")
    copy.add_argument("--retry-set-aside", action="store_true", help="try messages again that an earlier run set aside")
    depth = verify.add_mutually_exclusive_group()
    depth.add_argument("--quick", action="store_true", help="compare UIDs, sizes, flags and dates; no octets are read")
    depth.add_argument("--full", action="store_true", help="compare every octet, too (default)")
    verify.add_argument("--ledger", type=Path, metavar="FILE", help="compare pair by pair what it says was moved (default: copy's, if any)")
    for command in (check, copy, verify):
        command.add_argument("--source-password-file", type=Path, metavar="FILE", help="the old mailbox's secret, one line")
        command.add_argument("--ca-file", type=Path, metavar="FILE", help="trust these certificates instead of the system's")
        command.add_argument("--via", metavar="URL", help="reach the source through this relay")
        command.add_argument("--via-token-file", type=Path, metavar="FILE", help="the relay's token")
        command.add_argument("--via-ca-file", type=Path, metavar="FILE", help="trust these for the relay (default: --ca-file)")
        command.add_argument("--allow-plaintext", action="store_true", help="allow imap+plain beyond this machine")
        command.add_argument("--json", action="store_true", help="one JSON object on stdout")
    from engine.cli_report import add_report, add_undo  # it needs what stands here

    add_report(commands)
    add_undo(commands)
    return parser


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 16:
        raise argparse.ArgumentTypeError("a number from 1 to 16")
    return number


def _days(text: str) -> float:
    number = float(text)
    if not 0 < number <= 36_500:
        raise argparse.ArgumentTypeError("a number of days")
    return number


# -- what the arguments name ---------------------------------------------------------------------------------------------------

def account_of(args: argparse.Namespace, side: Side) -> Account:
    endpoint, login = parse_account_url(getattr(args, side.value))
    endpoint = replace(endpoint, ca_pem=_text_file(args.ca_file, "--ca-file"), provider=_provider(endpoint, login, side))
    if endpoint.security is Security.PLAIN and not args.allow_plaintext and not _is_loopback(endpoint):
        raise Usage(f"imap+plain://{endpoint}: without protection only this machine is reached; use imaps:// or imap://, "
                    "or say --allow-plaintext")
    return Account(endpoint, login, _secret(args, side, f"{login} @ {endpoint}"))


def _provider(endpoint: Endpoint, login: str, side: Side) -> str | None:
    """By the server's own name, else (a source) by the address. A destination's address says nothing: its domain may still point at the old
    provider. DNS is asked only then; loading its module costs as much as a look at a mailbox."""
    found = by_host(endpoint.host)
    if found is None and side is Side.SOURCE and "@" in login:
        found = detect(login).provider
    return found


def _is_loopback(endpoint: Endpoint) -> bool:
    try:
        found = {item[4][0] for item in socket.getaddrinfo(endpoint.host, endpoint.port, type=socket.SOCK_STREAM)}
    except OSError:
        return True  # the check or the copy will say that the name does not resolve
    return all(ipaddress.ip_address(str(address)).is_loopback for address in found)


def _secret(args: argparse.Namespace, side: Side, whose: str) -> Secret:
    path = getattr(args, f"{side.value}_password_file")
    if path is not None:
        text = _text_file(path, f"--{side.value}-password-file") or ""
        text = text.removesuffix("\n").removesuffix("\r")
    elif (name := f"BANJIA_{side.value.upper()}_PASSWORD") in os.environ:
        text = os.environ[name]
    elif sys.stdin.isatty():
        text = getpass.getpass(f"{whose}: ", stream=sys.stderr)
    else:
        raise Usage(f"no secret for {whose}: give --{side.value}-password-file FILE or set {name}")
    if not text or any(c in text for c in "\r\n\0"):
        raise Usage(f"the secret for {whose} is empty or holds a line end; a password file holds one line")
    return Secret(text)


def _text_file(path: Path | None, option: str) -> str | None:
    if path is None:
        return None
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError:  # its words hold an octet of what may be a secret
        raise Usage(f"{option} {path}: is not UTF-8 text") from None
    except OSError as error:
        raise Usage(f"{option} {path}: {error}") from None


def _routes(args: argparse.Namespace) -> tuple[Route, Route]:
    """Source and destination; what a user of the command line typed may lie in any network."""
    direct = Route(allowed_networks=EVERYWHERE)
    if args.via is None:
        return direct, direct
    try:
        parts = urlsplit(args.via)
    except ValueError:
        raise Usage("--via: write https://relay.example:8443") from None
    if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/"):
        raise Usage("--via: write https://relay.example:8443")
    token = (_text_file(args.via_token_file, "--via-token-file") or os.environ.get("BANJIA_RELAY_TOKEN", "")).strip()
    if not token:
        raise Usage("--via needs the relay's token: --via-token-file FILE or BANJIA_RELAY_TOKEN")
    relay = RelayRoute(host_name(parts.hostname), parts.port or 8443, Secret(token),
                       _text_file(args.via_ca_file, "--via-ca-file") or _text_file(args.ca_file, "--ca-file"))
    return replace(direct, relay=relay), direct


def ledger_path(args: argparse.Namespace, pair: str) -> Path:
    if args.ledger is not None:
        return Path(args.ledger)
    top = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "banjia"
    try:
        top.mkdir(parents=True, exist_ok=True, mode=0o700)
    except OSError as error:
        raise Usage(f"no place for the ledger: {top}: {error.strerror}; name one with --ledger FILE") from None
    return top / f"{hashlib.sha256(pair.encode()).hexdigest()[:24]}.ledger"


def pace_kept_by(ledger: Path) -> PaceStore:
    """What the servers asked of the last commands with this ledger, in a file beside it."""
    from engine.pacing.store import FilePaceStore

    return FilePaceStore(ledger.with_name(f"{ledger.name}.pace"))


# -- the commands --------------------------------------------------------------------------------------------------------------

def _check(args: argparse.Namespace) -> int:
    from engine.check import check_account  # each command loads only its own part: a rerun is to be quick

    account = account_of(args, Side.SOURCE)
    route, _ = _routes(args)
    shown: Callable[[Step, StepState], None] | None = None
    if not args.json:
        def shown(step: Step, state: StepState) -> None:
            if state in (StepState.OK, StepState.FAILED):
                print(f"{'✓' if state is StepState.OK else '!'} {step.value}", file=sys.stderr)
    result = check_account(account, route, on_step=shown)
    if args.json:
        print_json({**result.to_json(), **explanation(result.cause, result.provider)})
    else:
        print_check(result)
    return OK if result.outcome == "ok" else FAILED


def _copy(args: argparse.Namespace) -> int:
    source, destination = account_of(args, Side.SOURCE), account_of(args, Side.DESTINATION)
    routes = _routes(args)
    pair = f"{source.login} @ {source.endpoint} -> {destination.login} @ {destination.endpoint}"
    here, there = ((one.login, one.endpoint.host, one.endpoint.port) for one in (source, destination))
    if here == there:
        raise Usage(f"source and destination are the same mailbox: {source.login} @ {source.endpoint}")
    stop = Stop()
    signal.signal(signal.SIGTERM, lambda *_: stop.ask())
    signal.signal(signal.SIGINT, lambda *_: stop.ask())
    path = ledger_path(args, pair)
    ledger = SqliteLedger(path, pair)
    begun = time.monotonic()
    try:
        with Bar(sys.stderr.isatty()) as bar:
            report = _copy_through_waits(source, destination, ledger, routes, args, bar, stop, pace_kept_by(path))
    finally:
        ledger.close()
    report.seconds = time.monotonic() - begun
    if report.outcome is CopyOutcome.PAUSED:
        report.outcome, report.cause = CopyOutcome.FAILED, report.cause or Cause.INTERRUPTED
    if args.json:
        print_json({**report.to_json(), **explanation(report.cause, source.endpoint.provider)})
    else:
        print_copy(report)
        print(f"账本 / ledger: {path}")
    return {CopyOutcome.COMPLETE: OK, CopyOutcome.PARTIAL: NOT_ALL}.get(report.outcome, FAILED)


def _copy_through_waits(source: Account, destination: Account, ledger: SqliteLedger, routes: tuple[Route, Route],
                        args: argparse.Namespace, bar: Bar, stop: Stop, pacing: PaceStore) -> CopyReport:
    """Sits out what the servers ask for; each part continues where the last one stopped."""
    from engine.transfer.copier import copy_mailbox

    moved: dict[str, int] = {}
    octets = out_of_order = 0
    for _ in range(WAITS):
        report = copy_mailbox(source, destination, ledger=ledger, source_route=routes[0], destination_route=routes[1],
                              connections=args.connections, progress=bar, stop=stop, retry_set_aside=args.retry_set_aside,
                              recent_days=args.recent_days, pacing=pacing)
        octets += report.bytes
        for folder in report.folders:
            earlier = moved.get(folder.source, 0)
            moved[folder.source] = earlier + folder.moved
            folder.moved, folder.already_there = earlier + folder.moved, folder.already_there - earlier
        out_of_order += report.out_of_order
        report.bytes, report.out_of_order = octets, out_of_order
        wait = report.retry_after
        if report.outcome is not CopyOutcome.PAUSED or wait is None or wait > LONGEST_WAIT_SECONDS or stop.asked():
            return report
        print(f"{report.cause}: {redact(report.server_text) or report.detail} — {wait:.0f} s", file=sys.stderr)
        until = time.monotonic() + wait
        while time.monotonic() < until and not stop.asked():
            time.sleep(0.2)
    return report


def _verify(args: argparse.Namespace) -> int:
    from engine.verify import VerifyMode, verify_mailboxes

    source, destination = account_of(args, Side.SOURCE), account_of(args, Side.DESTINATION)
    source_route, destination_route = _routes(args)
    pair = f"{source.login} @ {source.endpoint} -> {destination.login} @ {destination.endpoint}"
    path = ledger_path(args, pair)
    if args.ledger is not None and not path.exists():
        raise Usage(f"--ledger {path}: there is no such file")
    ledger = SqliteLedger(path, pair) if path.exists() else None
    try:
        with Bar(sys.stderr.isatty()) as bar:
            report = verify_mailboxes(source, destination, source_route=source_route, destination_route=destination_route,
                                      connections=args.connections, progress=bar, ledger=ledger,
                                      mode=VerifyMode.QUICK if args.quick else VerifyMode.FULL, pacing=pace_kept_by(path))
    finally:
        if ledger is not None:
            ledger.close()
    if args.json:
        print_json({**report.to_json(), **explanation(report.cause, source.endpoint.provider)})
    else:
        print_verify(report)
    if report.cause is not None:
        return FAILED
    return OK if report.equal else NOT_ALL
