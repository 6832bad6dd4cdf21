"""The command line: an expert's tool over the same engine that the workers use.

Exit codes: 0 all moved (or equal, or the check passed); 1 internal; 2 usage; 3 moved but something set aside (or not equal);
4 failed with a cause. With --json exactly one JSON object goes to stdout. Secrets come from a file, the environment or a prompt,
never from the arguments.
"""
from __future__ import annotations

import argparse
import getpass
import ipaddress
import json
import os
import signal
import socket
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from engine.causes import Cause, Side, explain
from engine.check import check_account
from engine.endpoint import Account, BadAddress, Endpoint, RelayRoute, Route, Secret, Security, host_name, parse_account_url
from engine.errors import EngineError
from engine.ledger_file import SqliteLedger
from engine.progress import Progress, Silent, Stop
from engine.providers.catalogue import provider
from engine.providers.detect import detect
from engine.redact import redact
from engine.report import CheckResult, CopyOutcome, CopyReport, Step, StepState, VerifyReport
from engine.transfer.copier import copy_mailbox
from engine.verify import verify_mailboxes

OK, INTERNAL, USAGE, NOT_ALL, FAILED = 0, 1, 2, 3, 4
WAITS, LONGEST_WAIT_SECONDS = 20, 900.0  # a server's stated waits that a copy sits out before it gives up
EVERYWHERE = (ipaddress.ip_network("0.0.0.0/0"), ipaddress.ip_network("::/0"))
DEFAULT_CONNECTIONS = 2

_EPILOG = """
Addresses: imaps://user%%40example.com@host:993   TLS from the first byte
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
        return _print_failure(args, error)
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
    verify = commands.add_parser("verify", help="read both sides and compare every byte", epilog=_EPILOG,
                                 formatter_class=argparse.RawDescriptionHelpFormatter)
    for command, run in ((copy, _copy), (verify, _verify)):
        command.add_argument("source", metavar="SOURCE")
        command.add_argument("destination", metavar="DESTINATION")
        command.add_argument("--destination-password-file", type=Path, metavar="FILE")
        command.add_argument("--connections", type=_count, default=DEFAULT_CONNECTIONS, metavar="N",
                             help="connections to each side (default %(default)s)")
        command.set_defaults(run=run)
    copy.add_argument("--ledger", type=Path, metavar="FILE", help="where the place is kept (default: in the user's state directory)")
    copy.add_argument("--retry-set-aside", action="store_true", help="try messages again that an earlier run set aside")
    for command in (check, copy, verify):
        command.add_argument("--source-password-file", type=Path, metavar="FILE")
        command.add_argument("--ca-file", type=Path, metavar="FILE", help="trust these certificates instead of the system's")
        command.add_argument("--via", metavar="URL", help="reach the source through this relay")
        command.add_argument("--via-token-file", type=Path, metavar="FILE")
        command.add_argument("--allow-plaintext", action="store_true", help="allow imap+plain beyond this machine")
        command.add_argument("--json", action="store_true", help="one JSON object on stdout")
    return parser


def _count(text: str) -> int:
    number = int(text)
    if not 1 <= number <= 16:
        raise argparse.ArgumentTypeError("a number from 1 to 16")
    return number


# -- what the arguments name ---------------------------------------------------------------------------------------------------

def _account(args: argparse.Namespace, side: Side) -> Account:
    endpoint, login = parse_account_url(getattr(args, side.value))
    endpoint = replace(endpoint, ca_pem=_text_file(args.ca_file, "--ca-file"), provider=detect(login).provider if "@" in login else None)
    if endpoint.security is Security.PLAIN and not args.allow_plaintext and not _is_loopback(endpoint):
        raise Usage(f"imap+plain://{endpoint}: without protection only this machine is reached; use imaps:// or imap://, "
                    "or say --allow-plaintext")
    return Account(endpoint, login, _secret(args, side, f"{login} @ {endpoint}"))


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
    except (OSError, UnicodeDecodeError) as error:
        raise Usage(f"{option} {path}: {error}") from None


def _routes(args: argparse.Namespace) -> tuple[Route, Route]:
    """Source and destination; what a user of the command line typed may lie in any network."""
    direct = Route(allowed_networks=EVERYWHERE)
    if args.via is None:
        return direct, direct
    parts = urlsplit(args.via)
    if parts.scheme != "https" or not parts.hostname or parts.path not in ("", "/"):
        raise Usage("--via: write https://relay.example:8443")
    token = (_text_file(args.via_token_file, "--via-token-file") or os.environ.get("BANJIA_RELAY_TOKEN", "")).strip()
    if not token:
        raise Usage("--via needs the relay's token: --via-token-file FILE or BANJIA_RELAY_TOKEN")
    relay = RelayRoute(host_name(parts.hostname), parts.port or 8443, Secret(token), _text_file(args.ca_file, "--ca-file"))
    return replace(direct, relay=relay), direct


def _ledger_path(args: argparse.Namespace, pair: str) -> Path:
    if args.ledger is not None:
        return Path(args.ledger)
    import hashlib
    top = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local" / "state") / "banjia"
    top.mkdir(parents=True, exist_ok=True, mode=0o700)
    return top / f"{hashlib.sha256(pair.encode()).hexdigest()[:24]}.ledger"


# -- the commands --------------------------------------------------------------------------------------------------------------

def _check(args: argparse.Namespace) -> int:
    account = _account(args, Side.SOURCE)
    route, _ = _routes(args)
    shown: Callable[[Step, StepState], None] | None = None
    if not args.json:
        def shown(step: Step, state: StepState) -> None:
            if state in (StepState.OK, StepState.FAILED):
                print(f"{'✓' if state is StepState.OK else '!'} {step.value}", file=sys.stderr)
    result = check_account(account, route, on_step=shown)
    if args.json:
        _print_json({**result.to_json(), **_explanation(result.cause, result.provider)})
    else:
        _print_check(result)
    return OK if result.outcome == "ok" else FAILED


def _copy(args: argparse.Namespace) -> int:
    source, destination = _account(args, Side.SOURCE), _account(args, Side.DESTINATION)
    routes = _routes(args)
    pair = f"{source.login} @ {source.endpoint} -> {destination.login} @ {destination.endpoint}"
    stop = Stop()
    signal.signal(signal.SIGTERM, lambda *_: stop.ask())
    signal.signal(signal.SIGINT, lambda *_: stop.ask())
    ledger = SqliteLedger(_ledger_path(args, pair), pair)
    begun = time.monotonic()
    try:
        with _bar(args) as bar:
            report = _copy_through_waits(source, destination, ledger, routes, args, bar, stop)
    finally:
        ledger.close()
    report.seconds = time.monotonic() - begun
    if report.outcome is CopyOutcome.PAUSED:
        report.outcome, report.cause = CopyOutcome.FAILED, report.cause or Cause.INTERRUPTED
    if args.json:
        _print_json({**report.to_json(), **_explanation(report.cause, source.endpoint.provider)})
    else:
        _print_copy(report)
    return {CopyOutcome.COMPLETE: OK, CopyOutcome.PARTIAL: NOT_ALL}.get(report.outcome, FAILED)


def _copy_through_waits(source: Account, destination: Account, ledger: SqliteLedger, routes: tuple[Route, Route],
                        args: argparse.Namespace, bar: _Bar, stop: Stop) -> CopyReport:
    """Sits out what the servers ask for; each part continues where the last one stopped."""
    moved: dict[str, int] = {}
    octets = 0
    for _ in range(WAITS):
        report = copy_mailbox(source, destination, ledger=ledger, source_route=routes[0], destination_route=routes[1],
                              connections=args.connections, progress=bar, stop=stop, retry_set_aside=args.retry_set_aside)
        octets += report.bytes
        for folder in report.folders:
            earlier = moved.get(folder.source, 0)
            moved[folder.source] = earlier + folder.moved
            folder.moved, folder.already_there = earlier + folder.moved, folder.already_there - earlier
        report.bytes = octets
        wait = report.retry_after
        if report.outcome is not CopyOutcome.PAUSED or wait is None or wait > LONGEST_WAIT_SECONDS or stop.asked():
            return report
        print(f"{report.cause}: {redact(report.server_text)} — {wait:.0f} s", file=sys.stderr)
        until = time.monotonic() + wait
        while time.monotonic() < until and not stop.asked():
            time.sleep(0.2)
    return report


def _verify(args: argparse.Namespace) -> int:
    source, destination = _account(args, Side.SOURCE), _account(args, Side.DESTINATION)
    source_route, destination_route = _routes(args)
    report = verify_mailboxes(source, destination, source_route=source_route, destination_route=destination_route,
                              connections=args.connections)
    if args.json:
        _print_json({**report.to_json(), **_explanation(report.cause, source.endpoint.provider)})
    else:
        _print_verify(report)
    if report.cause is not None:
        return FAILED
    return OK if report.equal else NOT_ALL


# -- what is printed -----------------------------------------------------------------------------------------------------------

class _Bar(Silent):
    """Progress on stderr, when it is a terminal."""

    def __init__(self, shown: bool) -> None:
        self._bar: Any = None
        if shown:
            from tqdm import tqdm
            self._bar = tqdm(unit="msg", dynamic_ncols=True, file=sys.stderr, smoothing=0.1)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *_: object) -> None:
        if self._bar is not None:
            self._bar.close()

    def progress(self, at: Progress) -> None:
        if self._bar is not None:
            self._bar.total = at.messages_total
            self._bar.set_description(at.folder[:30], refresh=False)
            self._bar.n = at.moved + at.already_there + at.excluded + at.set_aside
            self._bar.refresh()

    def server_line(self, side: Side, cause: Cause, text: str) -> None:
        if self._bar is not None:
            self._bar.write(f"{side.value}: {cause.value}: {text}", file=sys.stderr)


def _bar(args: argparse.Namespace) -> _Bar:
    return _Bar(sys.stderr.isatty())


def _print_json(value: dict[str, Any]) -> None:
    json.dump(value, sys.stdout, ensure_ascii=False)
    print(flush=True)


def _explanation(cause: Cause | None, provider_key: str | None) -> dict[str, Any]:
    """What the cause means, in both languages; nothing when there is no cause."""
    if cause is None:
        return {}
    words = explain(cause, provider_key)
    return {"explanation": {language: {"title": words.title.in_(language), "meaning": words.meaning.in_(language),
                                       "next_step": words.next_step.in_(language)} for language in ("zh", "en")},
            "who": words.who.value}


def _print_cause(cause: Cause, provider_key: str | None, server_text: str) -> None:
    words = explain(cause, provider_key)
    for language in ("zh", "en"):
        print(f"{words.title.in_(language)}: {words.meaning.in_(language)} {words.next_step.in_(language)}")
    print(f"cause: {cause.value}")
    if server_text:
        print(f"server: {redact(server_text)}")


def _print_failure(args: argparse.Namespace, error: EngineError) -> int:
    if args.json:
        _print_json({"outcome": "failed", "cause": error.cause.value, "server_text": redact(error.server_text),
                     "detail": error.detail, **_explanation(error.cause, None)})
    else:
        _print_cause(error.cause, None, error.server_text)
        if error.detail:
            print(error.detail)
    return FAILED


def _print_check(result: CheckResult) -> None:
    if result.cause is not None:
        _print_cause(result.cause, result.provider, result.server_text)
        if len(result.causes) > 1:
            print("possible: " + ", ".join(c.value for c in result.causes))
        return
    name = provider(result.provider).name if result.provider else None
    print(f"{result.folders} folders, {result.messages} messages, {_size(result.bytes)}, largest {_size(result.largest)}"
          + (f" ({name.zh} / {name.en})" if name else ""))
    for warning in result.warnings:
        print("! " + ", ".join(f"{key}={value}" for key, value in warning.items()))


def _print_copy(report: CopyReport) -> None:
    for f in report.folders:
        note = "".join(f" [{x}]" for x in (f.rule, f.note) if x)
        print(f"{f.source} -> {f.target or '-'}: {f.moved} moved, {f.already_there} already there, {f.excluded} left out, "
              f"{f.set_aside} set aside of {f.total}{note}")
    for s in report.set_aside:
        print(f"! {s.folder} UID {s.uid}: {s.reason}: {s.server_text}")
    totals = report.totals()
    print(f"{report.outcome.value}: {totals['moved']} moved, {totals['already_there']} already there, {totals['excluded']} left out, "
          f"{totals['set_aside']} set aside of {totals['total']}; {_size(report.bytes)} in {report.seconds:.1f} s")
    if report.cause is not None:
        _print_cause(report.cause, None, report.server_text)
        if report.detail:
            print(report.detail)


def _print_verify(report: VerifyReport) -> None:
    if report.cause is not None:
        _print_cause(report.cause, None, report.server_text)
        return
    for f in report.folders:
        if f.missing or f.extra or f.altered_flags or f.altered_date:
            print(f"! {f.folder}: {f.missing} missing, {f.extra} extra, {f.altered_flags} flags, {f.altered_date} dates")
    print("equal" if report.equal else f"not equal: {report.missing} missing, {report.extra} extra, {report.altered_flags} flags, "
                                       f"{report.altered_date} dates")


def _size(octets: int) -> str:
    value = float(octets)
    for unit in ("B", "KiB", "MiB"):
        if value < 1024:
            return f"{value:.0f} {unit}" if unit == "B" else f"{value:.1f} {unit}"
        value /= 1024
    return f"{value:.1f} GiB"
