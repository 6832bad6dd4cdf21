"""`make demo`: everything with sample mail. Says in Chinese and English where to click, how far each person's move is whenever that
changes, and at the end what became of it."""
from __future__ import annotations

import shlex
import shutil
import sys
from typing import TextIO
from urllib.parse import quote

from sqlalchemy import select

from config import Settings
from engine.causes import Cause, Words, explain
from engine.providers.catalogue import provider
from portal.demo.mailservers import forget, mail_directory
from portal.demo.state import HELPDESK, PEOPLE, DemoPerson, has_state
from portal.demo.world import DIRECT, HOST, PROVIDER, RELAYED, DemoWorld, World, demo_settings
from portal.language import state_look
from portal.launcher import Launcher, Plan, only_one
from portal.models import Move, MoveState, Person
from portal.store.db import Database

NAME = "demo"


def show_demo(settings: Settings, *, workers: int, echo: TextIO | None) -> int:
    """Runs until Ctrl-C. A second start finds what the first one did."""
    mine = demo_settings(settings, NAME)
    if has_state(mine.instance_dir):
        print("接着上次的样例 … 想从头再来：先停下，运行 make clean-demo，再 make demo。\n"
              "Going on with the last demo … To start over: stop it, make clean-demo, then make demo.", flush=True)
    else:
        print("正在准备样例 … Preparing the demo …", flush=True)
    beside = DemoWorld()
    with Launcher(Plan(mine, workers, beside, any_port=True), echo=echo) as running:
        assert beside.world is not None
        print(welcome(beside.world), flush=True)
        moves = Moves(running.settings)
        moves.tell_changes()
        while not running.asked_to_stop.wait(0.5):
            running.watch()
            moves.tell_changes()
        print(f"\n到现在为止 · So far:\n{moves.summary()}\n")
        print("正在停止，下次 make demo 接着这里 … Stopping; the next make demo goes on from here …", flush=True)
        moves.close()
    return 0


class Moves:
    """The three people's moves as the database has them; each change is told once."""

    def __init__(self, settings: Settings) -> None:
        self._database = Database(settings.database_url)
        self._told: dict[str, Words] = {}

    def tell_changes(self) -> None:
        for name, words in self._look().items():
            if self._told.get(name) != words:
                print(f"  › {name}：{words.zh} · {words.en}", flush=True)
                self._told[name] = words

    def summary(self) -> str:
        return "\n".join(f"  {name}：{words.zh} · {words.en}" for name, words in self._look().items())

    def close(self) -> None:
        self._database.close()

    def _look(self) -> dict[str, Words]:
        with self._database.reading() as session:
            rows = session.scalars(select(Move).join(Person).order_by(Move.id))
            return {move.person.name or move.person.source_address: how_far(move) for move in rows}


def how_far(move: Move) -> Words:
    """The state, and why somebody must act, or what came of it: a move is done when each of its folders was proved."""
    state: Words = state_look(move.state, move.outcome)["words"]
    if move.state is MoveState.STUCK and move.cause:
        why = explain(Cause(move.cause), move.person.provider or move.person.project.provider).title
        return Words(f"{state.zh}：{why.zh}", f"{state.en}: {why.en}")
    if move.state is MoveState.DONE:
        there, apart = move.moved + move.already_there, move.excluded + move.set_aside
        return Words(f"{state.zh}：{move.messages_total} 封核对过，{there} 封在新邮箱，{apart} 封按规则没搬或没搬成",
                     f"{state.en}: {move.messages_total} messages verified, {there} in the new mailbox, {apart} left out or set aside")
    return state


def welcome(world: World) -> str:
    """What is printed when all is ready."""
    settings, state = world.settings, world.state
    first, relayed, wrong = PEOPLE
    base = settings.base_url
    return f"""
  搬家样例已经就绪 · The demo is ready: {base}   （邮件服务器 · mail servers: {world.mail.kind}）
  三个人要从旧邮箱搬到新邮箱。下面是他们的个人链接；真正使用时，由管理员在「项目」→「名单」里发。
  Three people move from an old mailbox to a new one. Below are their personal links; in real use the admin issues them under
  "Projects", "People".

  1. 员工：在浏览器（或手机大小的窗口）里打开，照着每一页的步骤走；问授权码时填下面这个，检查通过后点「开始搬家」
     Employee: open it in a browser (or a phone-sized window), follow each page's steps, enter the secret below where it is asked for, and
     press "Start moving" when the check has passed
{_person(world, first)}
  2. 服务台：登录后在「今天」里看谁卡住了、为什么；改好以后重新开始。这个账号也是管理员，「项目」里有名单和个人链接
     Helpdesk: sign in; "Today" shows who is stuck and why; relaunch when it is mended. This account is an admin, too: people and links
     are under "Projects"
       {base}/desk
       {HELPDESK}
       密码 password: {state.desk_password}

  3. {wrong.sample.name}的授权码一开始是错的，服务台上能看到。打开这个链接填对；检查通过后，本人点「继续搬家」，或者服务台点「重新开始」
     {wrong.sample.name}'s secret was wrong at first; the desk shows it. Open this link and enter the right one; once the check has
     passed, {wrong.sample.name} presses "Go on moving", or the helpdesk presses "Relaunch"
{_person(world, wrong)}
  4. {relayed.sample.name}的旧邮箱要经过中继 · {relayed.sample.name}'s old mailbox is reached through the relay
{_person(world, relayed)}
  5. 命令行：看{first.sample.name}的旧邮箱里有什么；搬完以后，把新旧两边重新读一遍，逐封比较（密码放在环境变量里，不写进参数）
     Command line: see what is in {first.sample.name}'s old mailbox; after the move, read both sides again and compare every message
     (the secrets are in the environment, never among the arguments)
       {command_line(world, first, "check")}
       {command_line(world, first, "verify")}

  日志 · logs: {settings.instance_dir / 'log'}      Ctrl-C 停止 · stops      make clean-demo 忘掉一切 · forgets everything

  从这里开始，每个人走到哪一步都会写在下面 · From here on, each person's progress is told below
"""


def _person(world: World, person: DemoPerson) -> str:
    secret = provider(PROVIDER[RELAYED if person.through_relay else DIRECT]).secret_name
    return f"""       {person.sample.name} {person.source}
       {world.link(person)}
       {secret.zh} · {secret.en}: {world.state.codes[person.source]}
"""


def command_line(world: World, person: DemoPerson, command: str) -> str:
    """`check` or `verify` of a person's mailboxes for a shell in this directory, ready to be pasted."""
    ends = [("SOURCE", person.source, world.state.codes[person.source], "old")]
    if command != "check":
        ends.append(("DESTINATION", person.destination, world.state.passwords[person.destination], "new"))
    secrets = " ".join(f"BANJIA_{side}_PASSWORD={secret}" for side, _, secret, _ in ends)
    addresses = " ".join(f"imaps://{quote(login, safe='')}@{HOST}:{world.state.ports[port]}" for _, login, _, port in ends)
    return (f"{secrets} {shlex.quote(sys.executable)} -m engine {command} {addresses} "
            f"--ca-file {shlex.quote(str(world.settings.instance_dir / 'ca.pem'))}")


def clean_demo(settings: Settings) -> None:
    """Removes the demo's instance and mail. Refuses while it runs (CannotStart)."""
    instance = demo_settings(settings, NAME).instance_dir
    if instance.exists():
        with only_one(instance):
            forget(mail_directory(instance))
            shutil.rmtree(instance)
