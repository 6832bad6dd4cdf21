"""The relay's command line: serve, token, check-config. The edge of the process: exit codes, signals, what is printed."""
from __future__ import annotations

import argparse
import asyncio
import json
import logging
import signal
import sys
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path

from relay.config import BadConfig, RelayConfig, warnings
from relay.config_file import load_config
from relay.journal import Journal, LibraryWords, unhandled
from relay.process import no_core_dumps
from relay.server import Relay, tls_context
from relay.tokens import new_token, token_sha256

OK, INTERNAL, USAGE = 0, 1, 2


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m relay", description="搬家的中继 / Banjia's relay (docs/relay.md)")
    commands = parser.add_subparsers(dest="command", required=True)
    serve = commands.add_parser("serve", help="运行 / run")
    serve.add_argument("--config", type=Path, required=True, help="TOML 配置文件 / TOML file")
    token = commands.add_parser("token", help="生成一个新令牌，只显示一次 / make a new token, shown once")
    token.add_argument("client", help="客户端 id / the client's id")
    token.add_argument("--json", action="store_true", help="输出一个 JSON 对象 / print one JSON object")
    check = commands.add_parser("check-config", help="检查配置 / check the configuration")
    check.add_argument("--config", type=Path, required=True, help="TOML 配置文件 / TOML file")
    check.add_argument("--json", action="store_true", help="输出一个 JSON 对象 / print one JSON object")
    return parser


def make_token(client: str, as_json: bool) -> int:
    try:
        token = new_token(client)
    except ValueError as error:
        print(f"客户端 id 不对 / not a client id: {error}", file=sys.stderr)
        return USAGE
    if as_json:
        print(json.dumps({"client": client, "token": token.reveal(), "token_sha256": token_sha256(token)}))
        return OK
    print(f"令牌，只显示这一次，交给搬家程序 / the token, shown only now, for the mover:\n\n    {token.reveal()}\n\n"
          f"写进中继的配置 / for the relay's configuration:\n\n    [[clients]]\n    id = \"{client}\"\n"
          f"    token_sha256 = \"{token_sha256(token)}\"\n    upstreams = [\"…\"]")
    return OK


def check_config(path: Path, as_json: bool) -> int:
    """Everything that `serve` would refuse, but for the listening itself."""
    try:
        config = load_config(path)
        tls_context(config)
    except BadConfig as bad:
        if as_json:
            print(json.dumps({"ok": False, "problems": [asdict(one) for one in bad.problems], "warnings": []}, ensure_ascii=False))
        else:
            print(bad, file=sys.stderr)
        return USAGE
    found = warnings(config, datetime.now(UTC))
    if as_json:
        print(json.dumps({"ok": True, "problems": [], "warnings": [asdict(one) for one in found]}, ensure_ascii=False))
        return OK
    for one in found:
        print(f"注意 / note: {one}", file=sys.stderr)
    print(f"{path}: 可以使用 / good: {len(config.clients)} 个客户端 / clients, {len(config.upstreams)} 个上游 / upstreams")
    return OK


def serve(path: Path) -> int:
    no_core_dumps()
    try:
        config = load_config(path)
        journal = Journal(config.log_format)
        with asyncio.Runner(debug=False) as runner:
            runner.run(run(config, journal))
    except BadConfig as bad:
        print(bad, file=sys.stderr)
        return USAGE
    return OK


async def run(config: RelayConfig, journal: Journal) -> None:
    """From listening to drained."""
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: unhandled(journal, context))
    library = logging.getLogger("asyncio")
    library.propagate = False
    library.addHandler(LibraryWords(journal))
    relay = Relay(config, journal)
    stop, cut = asyncio.Event(), asyncio.Event()

    def stopping() -> None:
        (cut if stop.is_set() else stop).set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopping)
    loop.add_signal_handler(signal.SIGHUP, relay.reload)
    listening = relay.open()
    for one in warnings(config, datetime.now(UTC)):
        journal.event("note", text=str(one))
    journal.event("ready", listen=listening, clients=len(config.clients), upstreams=len(config.upstreams))
    await stop.wait()
    await relay.drain(cut)
    journal.event("stopped")


def main(argv: list[str] | None = None) -> int:
    chosen = arguments().parse_args(argv)
    if chosen.command == "token":
        return make_token(chosen.client, chosen.json)
    if chosen.command == "check-config":
        return check_config(chosen.config, chosen.json)
    return serve(chosen.config)


if __name__ == "__main__":
    sys.exit(main())
