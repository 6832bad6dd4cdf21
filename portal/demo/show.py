"""`make demo`: everything with sample mail, and what a person needs to try it, in Chinese and English."""
from __future__ import annotations

import shlex
import shutil
import sys
from typing import TextIO
from urllib.parse import quote

from config import Settings
from engine.providers.catalogue import provider
from portal.demo.mailservers import forget, mail_directory
from portal.demo.state import HELPDESK, PEOPLE, DemoPerson, has_state
from portal.demo.world import DIRECT, HOST, PROVIDER, RELAYED, DemoWorld, World, demo_settings
from portal.launcher import Launcher, Plan, only_one

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
        running.run_until_asked()
        print("\n正在停止，下次 make demo 接着这里 … Stopping; the next make demo goes on from here …", flush=True)
    return 0


def welcome(world: World) -> str:
    """What is printed when all is ready."""
    settings, state = world.settings, world.state
    first, relayed, wrong = PEOPLE
    base = settings.base_url
    return f"""
  搬家样例已经就绪 · The demo is ready: {base}   （邮件服务器 · mail servers: {world.mail.kind}）

  1. 员工：在浏览器（或手机大小的窗口）里打开，照着走；要填的密码在下面
     Employee: open it in a browser (or a phone-sized window) and follow the steps; the secret to type is below
{_person(world, first)}
  2. 客服：看谁卡住了、为什么；改好以后重新开始
     Helpdesk: who is stuck and why; relaunch when it is mended
       {base}/desk
       {HELPDESK}
       密码 password: {state.desk_password}

  3. {wrong.sample.name}的密码一开始是错的，服务台上能看到。打开这个链接填对；检查通过后，本人点「继续搬家」，或者客服在服务台点「重新开始」
     {wrong.sample.name}'s secret was wrong at first; the desk shows it. Open this link and enter the right one; once the check has
     passed, {wrong.sample.name} presses "Go on moving", or the helpdesk presses "Relaunch" at the desk
{_person(world, wrong)}
  4. {relayed.sample.name}的旧邮箱要经过中继 · {relayed.sample.name}'s old mailbox is reached through the relay
{_person(world, relayed)}
  5. 命令行：检查一个邮箱（密码放在环境变量里，不写进参数）
     Command line: check a mailbox (the secret in the environment, never among the arguments)
       {_check_line(world, first)}

  日志 · logs: {settings.instance_dir / 'log'}      Ctrl-C 停止 · stops      make clean-demo 忘掉一切 · forgets everything
"""


def _person(world: World, person: DemoPerson) -> str:
    secret = provider(PROVIDER[RELAYED if person.through_relay else DIRECT]).secret_name
    return f"""       {person.sample.name} {person.source}
       {world.link(person)}
       {secret.zh} · {secret.en}: {world.state.codes[person.source]}
"""


def _check_line(world: World, person: DemoPerson) -> str:
    """For a shell in this directory, ready to be pasted."""
    address = f"imaps://{quote(person.source, safe='')}@{HOST}:{world.state.ports['old']}"
    return (f"BANJIA_SOURCE_PASSWORD={world.state.codes[person.source]} {shlex.quote(sys.executable)} -m engine check {address} "
            f"--ca-file {shlex.quote(str(world.settings.instance_dir / 'ca.pem'))}")


def clean_demo(settings: Settings) -> None:
    """Removes the demo's instance and mail. Refuses while it runs (CannotStart)."""
    instance = demo_settings(settings, NAME).instance_dir
    if instance.exists():
        with only_one(instance):
            forget(mail_directory(instance))
            shutil.rmtree(instance)
