"""The operator's commands: start everything on one machine, and the few acts that need no page.

Exit codes: 0 done; 1 it failed, with a sentence in Chinese and English; 2 usage. Must not change state but through services.
"""
from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from typing import TextIO

from config import BadSettings, Settings, load_settings
from portal.first_operator import FirstOperator, first_operator
from portal.launcher import CannotStart, Interrupted, Launcher, Plan, prepare_instance
from portal.models import Role
from portal.private_redis import NoRedis
from portal.security.vault import KeyFiles, VaultError, rotate_keys
from portal.services.common import ServiceError
from portal.services.days import ZONE
from portal.store.db import migrate

FAILED = 1
_ROLES = tuple(role.value for role in Role)


def main(argv: Sequence[str] | None = None) -> int:
    args = _parser().parse_args(argv)
    try:
        return int(args.run(args))
    except (BadSettings, CannotStart, NoRedis, VaultError) as error:
        print(error, file=sys.stderr)
    except ServiceError as error:
        print(f"{error.zh}\n{error.en}", file=sys.stderr)
    except Interrupted:
        print("\n已停止。 Stopped.", file=sys.stderr)
        return 130
    return FAILED


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m portal", description="搬家的启动和管理 / start and operate Banjia")
    commands = parser.add_subparsers(dest="command", required=True)

    up = commands.add_parser("up", help="启动全部进程 / start every process (make run, make demo)")
    up.add_argument("--demo", action="store_true", help="带样例：两台邮件服务器、三个人 / with sample mail servers and people")
    up.add_argument("--workers", type=_workers, default=2, metavar="N",
                    help="搬家进程数，1 到 32 / movers, 1 to 32 (%(default)s)")
    up.add_argument("--logs", action=argparse.BooleanOptionalAction, default=None,
                    help="在屏幕上显示各进程的日志；终端里和样例默认不显示 / show every process's log "
                         "(default: not on a terminal, not with --demo)")
    up.set_defaults(run=_up)

    check = commands.add_parser("demo-check", help="自己走完样例并逐封核对 / walk the demo and compare every message")
    check.add_argument("--mail", choices=("dovecot", "pymap"), help="用哪种邮件服务器 / which mail server")
    check.add_argument("--keep", action="store_true", help="结束后不删除 / keep what it made")
    check.set_defaults(run=_demo_check)

    commands.add_parser("clean-demo", help="删除样例的一切 / forget everything the demo made").set_defaults(run=_clean_demo)
    commands.add_parser("prepare", help="生成钥匙、建表 / make keys and tables").set_defaults(run=_prepare)
    commands.add_parser("migrate", help="更新数据库的表 / bring the tables up to date").set_defaults(run=_migrate)
    commands.add_parser("rotate-keys", help="更换封存密码的钥匙 / a new key for sealing secrets").set_defaults(run=_rotate)

    invite = commands.add_parser("invite", help="邀请工作人员，印出一次性链接 / print a one-time link for a staff member")
    invite.add_argument("email", help="给谁 / whom")
    invite.add_argument("--role", choices=_ROLES, help=f"权限，不写就是 {Role.HELPDESK} / default: {Role.HELPDESK}")
    invite.add_argument("--name", default="", help="姓名 / the person's name")
    invite.set_defaults(run=_invite)

    role = commands.add_parser("change-role", help="改工作人员的权限，结束他的登录 / give a staff member another role, end their sessions")
    role.add_argument("email", help="谁 / who")
    role.add_argument("role", choices=_ROLES)
    role.set_defaults(run=_change_role)
    return parser


def _workers(text: str) -> int:
    try:
        number = int(text)
    except ValueError:
        number = 0
    if not 1 <= number <= 32:
        raise argparse.ArgumentTypeError(f"{text!r}：请写 1 到 32 的数 / write a number from 1 to 32")
    return number


def _up(args: argparse.Namespace) -> int:
    if args.demo:
        from portal.demo.show import show_demo

        return show_demo(load_settings(), workers=args.workers, echo=_echo(args, default=False))
    settings = load_settings()
    echo = _echo(args, default=not sys.stdout.isatty())  # on a terminal the link would be lost among them
    with Launcher(Plan(settings, args.workers), echo=echo) as running:
        operator = first_operator(running.settings)
        print(_welcome(running.settings, operator), flush=True)
        running.run_until_asked()
        print("\n正在停止，进度都已存好 … Stopping; all progress is stored …", flush=True)
    return 0


def _welcome(settings: Settings, operator: FirstOperator) -> str:
    """What is printed when all is ready, in one piece: no log line gets between the words and the link."""
    link = ("  第一位运维的一次性链接，用来设密码 · one-time link for the first operator to set a password:\n\n"
            f"      {operator.link}\n\n" if operator.link else "")
    return (f"\n  搬家已经就绪 · Banjia is ready: {settings.base_url}\n{link}"
            f"  登录 · sign in: {settings.base_url}/login   登录名 · login name: {operator.login}\n"
            f"  日志 · logs: {settings.instance_dir / 'log'}   Ctrl-C 停止 · stops\n")


def _echo(args: argparse.Namespace, *, default: bool) -> TextIO | None:
    return sys.stdout if (default if args.logs is None else args.logs) else None


def _demo_check(args: argparse.Namespace) -> int:
    from portal.demo.check import check_demo

    return check_demo(load_settings(), mail=args.mail, keep=args.keep)


def _clean_demo(args: argparse.Namespace) -> int:
    from portal.demo.show import clean_demo

    clean_demo(load_settings())
    print("样例已删除。 The demo is forgotten.")
    return 0


def _prepare(args: argparse.Namespace) -> int:
    settings = load_settings()
    prepare_instance(settings)
    print(f"钥匙和表都在 · keys and tables are in place: {settings.instance_dir}")
    return 0


def _migrate(args: argparse.Namespace) -> int:
    migrate(load_settings().database_url)
    print("数据库是最新的。 The tables are up to date.")
    return 0


def _rotate(args: argparse.Namespace) -> int:
    settings = load_settings()
    new = rotate_keys(KeyFiles(settings.vault_public_key_file, settings.vault_private_key_file))
    print(f"新钥匙 {new}。先把 {settings.vault_private_key_file} 发到所有搬家机，再发 {settings.vault_public_key_file}。\n"
          f"The new key is {new}. Send {settings.vault_private_key_file} to all movers first, then {settings.vault_public_key_file}.")
    return 0


def _invite(args: argparse.Namespace) -> int:
    """The link alone on stdout, what there is to say about it on stderr."""
    from portal.staff_commands import invitation, migrated_database

    settings: Settings = load_settings()
    with migrated_database(settings.database_url) as database:
        made = invitation(settings, database, args.email, args.name, Role(args.role) if args.role else None)
    whom = f"{made.email} {made.name}".strip()
    account = "新账号 / a new account" if made.is_new else \
        "账号早就有，以前的链接作废 / the account was there, its older links stop working"
    print(f"邀请 / invitation: {whom} ({account})\n权限 / role: {made.role}\n"
          f"链接用一次，有效到 / one-time link, good until: {made.expires_at.astimezone(ZONE):%Y-%m-%d %H:%M %z}", file=sys.stderr)
    if made.name_kept:
        print(f"姓名没有改，还是“{made.name}” / the name was not changed, it is still “{made.name}”", file=sys.stderr)
    sys.stderr.flush()
    print(made.link)
    return 0


def _change_role(args: argparse.Namespace) -> int:
    from portal.staff_commands import migrated_database, new_role

    with migrated_database(load_settings().database_url) as database:
        done = new_role(database, args.email, Role(args.role))
    if done.was is done.role:
        print(f"{done.email} 本来就是 {done.role}。 {done.email} is {done.role} already.")
    else:
        print(f"{done.email}：{done.was} → {done.role}，要重新登录。 {done.email}: {done.was} → {done.role}, has to sign in again.")
    return 0
