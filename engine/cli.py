"""The command line: an expert's tool over the same engine that the workers use.

Exit codes: 0 all moved (or equal, or the check passed); 1 internal; 2 usage; 3 moved but something set aside (or not equal);
4 failed with a cause, or a copy that was stopped; 130 interrupted anywhere else, at a prompt for one. With --json exactly one JSON
object goes to stdout. Secrets come from a file, the environment or a prompt, never from the arguments.
"""
from __future__ import annotations

import argparse
import ipaddress
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from engine.causes import Cause, Side
from engine.cli_files import Usage, ca_file, ends_of, is_ledger, ledger_path, may_be_undone, open_ledger, pace_kept_by, secret, text_file
from engine.endpoint import Account, BadAddress, Endpoint, RelayRoute, Route, Secret, Security, host_name, parse_account_url
from engine.errors import EngineError
from engine.ledger_file import SqliteLedger
from engine.net.addresses import EVERYWHERE
from engine.printing import Bar, explanation, print_check, print_copy, print_failure, print_json, print_verify
from engine.progress import Stop
from engine.providers.detect import by_host, detect
from engine.redact import redact
from engine.report.copy import CopyOutcome, CopyReport
from engine.report.steps import Step, StepState

if TYPE_CHECKING:
    from engine.pacing.store import PaceStore

OK, INTERNAL, USAGE, NOT_ALL, FAILED, INTERRUPTED = 0, 1, 2, 3, 4, 130
WAITS, LONGEST_WAIT_SECONDS = 20, 900.0  # a server's stated waits that a copy sits out before it gives up

_EPILOG = """
Addresses: imaps://user%40example.com@host:993   TLS from the first byte
           imap://user@host:143                   STARTTLS, demanded
           imap+plain://user@localhost:143        no protection: loopback only, unless --allow-plaintext
Secrets:   --source-password-file FILE, BANJIA_SOURCE_PASSWORD, or a prompt (--destination-… and BANJIA_DESTINATION_PASSWORD alike)
Relay:     --via https://relay.example:8443 reaches the source through a relay; its token from --via-token-file or BANJIA_RELAY_TOKEN
Exit:      0 all moved, equal, or check passed; 1 internal; 2 usage; 3 something set aside, or not equal; 4 failed with a cause;
           130 interrupted (Ctrl-C), but for a copy under way, which ends with 4
"""


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except BadAddress as error:
        print(f"{args.command}: {error.zh}\n{args.command}: {error.en}", file=sys.stderr)
        return USAGE
    except Usage as error:
        print(f"{args.command}: {error.zh}\n{args.command}: {error.en}", file=sys.stderr)
        if error.failure is not None and args.json:
            print_failure(error.failure, as_json=True)
        return USAGE
    except KeyboardInterrupt:
        return INTERRUPTED
    except EngineError as error:
        print_failure(error, args.json)
        hint(args, error.side, error.detail)
        return FAILED
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return INTERNAL


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m engine", epilog=_EPILOG, formatter_class=argparse.RawDescriptionHelpFormatter,
                                     description="Moves a mailbox from one IMAP server to another. 把一个邮箱搬到另一台 IMAP 服务器。")
    commands = parser.add_subparsers(dest="command", required=True, prog=parser.prog)  # else argparse formats a usage line to find it
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
                             help="connections to each side, 1 to 16 (default: as many as the providers allow; a copy may use more to the "
                                  "destination where they pay)")
        command.set_defaults(run=run)
    copy.add_argument("--ledger", type=Path, metavar="FILE", help="where the place is kept (default: in the user's state directory)")
    copy.add_argument("--recent-days", type=_days, metavar="N", help="of each folder, move the mail of the last N days (1 or more) first")
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
    from engine.cli_report import add_report  # they need what stands here
    from engine.cli_undo import add_undo

    add_report(commands)
    add_undo(commands)
    return parser


def _count(text: str) -> int:
    return int(_number(text, 1, 16, int))


def _days(text: str) -> float:
    return _number(text, 1, 36_500, float)


def _number(text: str, least: int, most: int, kind: type[int] | type[float]) -> float:
    """argparse would name the function that reads it."""
    try:
        number = kind(text)
    except ValueError:
        number = 0
    if not least <= number <= most:
        raise argparse.ArgumentTypeError(f"{text!r}：请写 {least} 到 {most} 的数 / write a number from {least} to {most}")
    return number


# -- what the arguments name ---------------------------------------------------------------------------------------------------

def account_of(args: argparse.Namespace, side: Side) -> Account:
    endpoint, login = parse_account_url(getattr(args, side.value))
    endpoint = replace(endpoint, ca_pem=ca_file(args.ca_file, "--ca-file"), provider=_provider(endpoint, login, side))
    if endpoint.security is Security.PLAIN and not args.allow_plaintext and not _is_loopback(endpoint):
        raise Usage(f"imap+plain://{endpoint} 不加密，只许连本机；请用 imaps:// 或 imap://，或者写 --allow-plaintext",
                    f"imap+plain://{endpoint}: without protection only this machine is reached; use imaps:// or imap://, "
                    "or say --allow-plaintext")
    return Account(endpoint, login, secret(args, side, f"{login} @ {endpoint}"))


def _pair(args: argparse.Namespace) -> str:
    """As the ledger names it. A mailbox beside itself is refused: nothing would be moved, and everything found equal."""
    here, there = ends_of(args)
    if here == there:
        raise Usage(f"旧邮箱和新邮箱是同一个：{here}；请写两个不同的地址",
                    f"source and destination are the same mailbox: {here}; write two that differ")
    return f"{here} -> {there}"


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


def _routes(args: argparse.Namespace) -> tuple[Route, Route]:
    """Source and destination; what a user of the command line typed may lie in any network."""
    direct = Route(allowed_networks=EVERYWHERE)
    if args.via is None:
        for option, path in (("--via-token-file", args.via_token_file), ("--via-ca-file", args.via_ca_file)):
            if path is not None:  # whoever writes it believes that a relay is used
                raise Usage(f"{option} 要和 --via 一起写，否则不经过中继；加上 --via https://relay.example:8443，或者不写 {option}",
                            f"{option} needs --via, no relay is used without it; add --via https://relay.example:8443, or leave it out")
        return direct, direct
    try:
        parts = urlsplit(args.via)
        port = parts.port or 8443
    except ValueError:
        raise _bad_relay() from None
    if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/"):
        raise _bad_relay()
    token = (text_file(args.via_token_file, "--via-token-file") or os.environ.get("BANJIA_RELAY_TOKEN", "")).strip()
    if not token:
        raise Usage("--via 需要中继的令牌；请用 --via-token-file 文件，或设环境变量 BANJIA_RELAY_TOKEN",
                    "--via needs the relay's token; give --via-token-file FILE or set BANJIA_RELAY_TOKEN")
    relay = RelayRoute(host_name(parts.hostname), port, Secret(token),
                       ca_file(args.via_ca_file, "--via-ca-file") or ca_file(args.ca_file, "--ca-file"))
    return replace(direct, relay=relay), direct


def _bad_relay() -> Usage:
    return Usage("--via 的写法是 https://relay.example:8443（中继的主机名和端口）",
                 "--via: write https://relay.example:8443, the relay's host and port")


def hint(args: argparse.Namespace, side: Side | None, detail: str) -> None:
    """What to write instead, on stderr, where a failure of a connection to `side` suggests something."""
    if detail:  # loaded only then: a rerun is to be quick
        from engine.cli_hints import print_hint

        print_hint(args, side, detail)


# -- the commands --------------------------------------------------------------------------------------------------------------

def _check(args: argparse.Namespace) -> int:
    from engine.check import check_account  # each command loads only its own part: a rerun is to be quick

    route, _ = _routes(args)
    account = account_of(args, Side.SOURCE)
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
    hint(args, Side.SOURCE, result.detail)
    return OK if result.outcome == "ok" else FAILED


def _copy(args: argparse.Namespace) -> int:
    pair = _pair(args)
    path = ledger_path(args, pair)
    is_ledger(args, path)  # a file that cannot be one is told before a password is asked for
    routes = _routes(args)
    source, destination = account_of(args, Side.SOURCE), account_of(args, Side.DESTINATION)
    stop, bar = Stop(), Bar(sys.stderr.isatty())

    def asked_to_stop(*_: object) -> None:
        stop.ask()
        bar.stopping()

    signal.signal(signal.SIGTERM, asked_to_stop)
    signal.signal(signal.SIGINT, asked_to_stop)
    begun = time.monotonic()
    mover = threading.Thread(target=_load_mover, name="load-mover", daemon=True)  # while the disk makes the ledger
    mover.start()
    ledger = open_ledger(args, path, pair)
    mover.join()
    try:
        with bar:
            report = _copy_through_waits(source, destination, ledger, routes, args, bar, stop, pace_kept_by(path))
    finally:
        ledger.close()
    report.seconds = time.monotonic() - begun
    if report.outcome is CopyOutcome.PAUSED:
        report.outcome, report.cause = CopyOutcome.FAILED, report.cause or Cause.INTERRUPTED
    if args.json:
        print_json({**report.to_json(), "ledger": str(path), **explanation(report.cause, source.endpoint.provider)})
    else:
        print_copy(report)
        print(f"账本 / ledger: {path}")
    hint(args, report.side, report.detail)
    return {CopyOutcome.COMPLETE: OK, CopyOutcome.PARTIAL: NOT_ALL}.get(report.outcome, FAILED)


def _load_mover() -> None:
    import engine.transfer.copier  # noqa: F401  # what fails here fails again, and is told, where it is used


def _copy_through_waits(source: Account, destination: Account, ledger: SqliteLedger, routes: tuple[Route, Route],
                        args: argparse.Namespace, bar: Bar, stop: Stop, pacing: PaceStore) -> CopyReport:
    """Sits out what the servers ask for; each part continues where the last one stopped."""
    from engine.transfer.copier import copy_mailbox

    moved: dict[str, int] = {}
    octets = out_of_order = 0
    for waits in range(WAITS):
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
        print(f"等 {wait:.0f} 秒，然后接着搬 / waiting {wait:.0f} s, then it goes on: {report.cause}: "
              f"{redact(report.server_text) or report.detail}", file=sys.stderr)
        if not waits:  # a wrong port looks like a busy server: whoever sits it out is to know, once
            hint(args, report.side, report.detail)
        until = time.monotonic() + wait
        while time.monotonic() < until and not stop.asked():
            time.sleep(0.2)
    return report


def _verify(args: argparse.Namespace) -> int:
    from engine.verify import VerifyMode, verify_mailboxes

    pair = _pair(args)
    path = ledger_path(args, pair)
    with_ledger = is_ledger(args, path, must_be=args.ledger is not None)
    source_route, destination_route = _routes(args)
    source, destination = account_of(args, Side.SOURCE), account_of(args, Side.DESTINATION)
    ledger = open_ledger(args, path, pair) if with_ledger else None
    try:
        with Bar(sys.stderr.isatty()) as bar:
            report = verify_mailboxes(source, destination, source_route=source_route, destination_route=destination_route,
                                      connections=args.connections, progress=bar, ledger=ledger,
                                      mode=VerifyMode.QUICK if args.quick else VerifyMode.FULL, pacing=pace_kept_by(path))
        rows = ledger.folders() if ledger is not None else []
    finally:
        if ledger is not None:
            ledger.close()
    if args.json:
        print_json({**report.to_json(), **explanation(report.cause, source.endpoint.provider)})
    else:
        print_verify(report)
    hint(args, report.side, report.detail)
    if report.cause is not None:
        return FAILED
    if not report.equal and not any(row.moved or row.already_there or row.set_aside for row in rows):
        from engine.cli_hints import print_hint_to_copy

        print_hint_to_copy(path, maybe_undone=may_be_undone(rows))
    return OK if report.equal else NOT_ALL
