"""What the desk calls things: causes, providers, who acts, what happened. Pairs only; templates choose the language.

Must not: decide anything. Always: a stored value that this version does not know is shown as it is, never hidden.
"""
from __future__ import annotations

import datetime as dt
import re

from engine.causes import Cause, Explanation, Side, Who, Words, explain
from engine.providers.catalogue import known, provider
from engine.report_files.words import internal_date_words, reason_words
from portal.desk.overview import known_cause
from portal.language import state_look
from portal.models import Move, MoveState
from portal.services.common import is_over as is_over
from portal.services.credentials import SECRET_CAUSES
from portal.services.days import ZONE
from portal.services.moves import wait_end

WHO = {
    Who.USER: Words("本人", "The person"),
    Who.ADMIN: Words("旧邮箱的管理员", "The old mailbox’s administrator"),
    Who.PORTAL: Words("不用人处理，会自动继续", "Nobody: it goes on by itself"),
    Who.HELPDESK: Words("我们", "We"),
    Who.DESTINATION: Words("新邮箱的管理员", "The new mailbox’s administrator"),
    Who.PROVIDER: Words("旧邮箱的服务商", "The old provider"),
}

SIDES = {Side.SOURCE.value: Words("旧邮箱", "Old mailbox"), Side.DESTINATION.value: Words("新邮箱", "New mailbox"),
         "both": Words("旧邮箱和新邮箱", "Both mailboxes"), "": Words("我们这边", "Our side")}

OUTCOMES = {"complete": Words("全部到齐", "All arrived"), "partial": Words("完成，有邮件没搬成", "Done, some set aside"),
            "failed": Words("没有完成", "Failed"), "paused": Words("暂停", "Paused")}

# verb.object -> what happened. A test holds that every act that is written anywhere stands here.
ACTS = {
    # people and links
    "add.person": Words("加入名单", "Added to the list"),
    "update.person": Words("更新名单资料", "Details updated"),
    "import.people": Words("导入名单", "Sheet of people taken"),
    "issue.link": Words("发放个人链接", "Personal link issued"),
    "export.links": Words("下载一批个人链接", "Personal links downloaded"),
    "begin.link": Words("本人打开了链接", "Link opened by the person"),
    "leave.visit": Words("本人退出了", "Signed out by the person"),
    "revoke.links": Words("停用个人链接", "Personal links withdrawn"),
    "choose.provider": Words("选择旧邮箱服务商", "Old provider chosen"),
    "submit.secrets": Words("填写密码", "Passwords entered"),
    "destroy.credentials": Words("销毁保存的密码", "Stored passwords destroyed"),
    "purge.credentials": Words("销毁到期的密码", "Expired passwords destroyed"),
    "ask.check": Words("检查邮箱", "Mailbox check asked for"),
    # moves
    "start.move": Words("开始搬家", "Move started"),
    "pause.move": Words("暂停搬家", "Move paused"),
    "resume.move": Words("继续搬家", "Move resumed"),
    "relaunch.move": Words("重新开始", "Move relaunched"),
    "stop.move": Words("搬家停下", "Move stopped"),
    "finish.move": Words("搬家完成", "Move finished"),
    "export.report": Words("下载搬家报告", "Report downloaded"),
    "recover.move": Words("失联后重新排队", "Given back after silence"),
    # projects and relays
    "create.project": Words("新建项目", "Project created"),
    "change.window": Words("改项目时间", "Project's window changed"),
    "change.source": Words("改旧邮箱服务器", "Old server changed"),
    "change.destination": Words("改新邮箱服务器", "New server changed"),
    "set.destination_secret": Words("保存统一密码", "Master password stored"),
    "choose.relay": Words("选择中继", "Relay chosen"),
    "test.project": Words("测试服务器", "Server tested"),
    "close.project": Words("结束项目", "Project closed"),
    "create.relay": Words("添加中继", "Relay added"),
    "change.relay": Words("修改中继", "Relay changed"),
    "remove.relay": Words("移除中继", "Relay removed"),
    # staff
    "create.staff": Words("新建工作人员", "Staff created"),
    "invite.staff": Words("发出邀请", "Staff invited"),
    "take.invitation": Words("接受邀请", "Invitation taken"),
    "try.sign_in": Words("尝试登录", "Sign-in tried"),
    "sign_in": Words("登录", "Signed in"),
    "refuse.sign_in": Words("登录被拒", "Sign-in refused"),
    "change.password": Words("更换密码", "Password changed"),
    "choose.language": Words("选择语言", "Language chosen"),
    "end.sessions": Words("退出", "Signed out"),
    "change.role": Words("改权限", "Role changed"),
    "activate.staff": Words("启用账号", "Account activated"),
    "deactivate.staff": Words("停用账号", "Account deactivated"),
    "refuse.page": Words("无权打开页面", "Page refused"),
}


DETAILS = {
    "was": Words("原来", "was"), "cause": Words("原因", "cause"), "attempt": Words("第几次", "attempt"), "count": Words("数量", "count"),
    "reason": Words("理由", "reason"), "host": Words("服务器", "server"), "port": Words("端口", "port"),
    "security": Words("加密", "encryption"),
    "own_ca": Words("自带证书机构", "own authority"), "pinned": Words("只认公钥", "pinned key"), "provider": Words("服务商", "provider"),
    "relay": Words("中继", "relay"), "login": Words("账号", "account"), "login_template": Words("登录名写法", "login template"),
    "side": Words("哪边", "side"), "name": Words("名称", "name"), "closes_at": Words("最后一天", "last day"),
    "expires_at": Words("有效到", "good until"), "source": Words("旧邮箱", "old mailbox"), "destination": Words("新邮箱", "new mailbox"),
    "fields": Words("内容", "fields"), "sha256": Words("文件指纹", "file’s SHA-256"), "person": Words("人的编号", "person no."),
    "link": Words("链接编号", "link no."), "owners": Words("谁的", "whose"),
    "email": Words("邮箱", "address"), "role": Words("权限", "role"), "has": Words("已有权限", "has"),
    "needs": Words("需要权限", "needs"), "page": Words("页面", "page"), "method": Words("方式", "method"), "rows": Words("行数", "rows"),
    "added": Words("新加", "added"), "updated": Words("更新", "updated"), "unchanged": Words("没变", "unchanged"),
    "started": Words("已开始", "started"), "problems": Words("有问题", "problems"), "outcome": Words("结果", "outcome"),
    "stopped": Words("停下", "stopped"), "at_once": Words("立即", "at once"), "language": Words("语言", "language"),
    "format": Words("格式", "format"),
    "owner": Words("进程", "process"), "tries": Words("次数", "tries"), "new_token": Words("新令牌", "new token"),
}


def detail(key: str) -> Words:
    return DETAILS.get(key) or Words(key, key)


# Raw words that stand in details; names, addresses and servers are shown as they are.
VALUES = {
    **{state.value: state_look(state)["words"] for state in MoveState}, **SIDES, **OUTCOMES,
    "source_secret": Words("旧邮箱密码", "old password"), "destination_secret": Words("新邮箱密码", "new password"),
    "token": Words("令牌", "token"), "name": Words("姓名", "name"), "language": Words("语言", "language"),
    "source_login": Words("旧邮箱登录名", "old login"), "destination_login": Words("新邮箱登录名", "new login"),
    "destination_address": Words("新邮箱", "new mailbox"), "zh": Words("中文", "Chinese"), "en": Words("英文", "English"),
    "helpdesk": Words("服务台", "helpdesk"), "admin": Words("管理员", "admin"), "operator": Words("运维", "operator"),
    "tls": Words("TLS", "TLS"), "starttls": Words("STARTTLS", "STARTTLS"), "finished": Words("搬完了", "move done"),
    "closed": Words("项目结束", "project closed"), "other server": Words("换了服务器", "other server"),
    "forgotten": Words("主动忘掉", "forgotten on request"), "ended": Words("检查结束", "check ended"),
    "refused": Words("没有被接受", "refused"), "removed": Words("已移除", "removed"),
}
_AS_WRITTEN = frozenset({"name", "host", "login", "email", "source", "destination", "relay", "page", "login_template"})


def detail_value(value: object, key: str = "") -> Words:
    """A value of an event's detail: yes and no in words, times as pages write them, lists joined, raw words translated."""
    if isinstance(value, bool):
        return Words("是", "yes") if value else Words("否", "no")
    if isinstance(value, list):
        pairs = [detail_value(item, key) for item in value]
        return Words("、".join(pair.zh for pair in pairs), ", ".join(pair.en for pair in pairs))
    text = str(value)
    if key == "cause" and text in set(Cause):
        return explain(Cause(text)).title
    if key == "provider":
        return provider_name(text)
    if key not in _AS_WRITTEN and text in VALUES:
        return VALUES[text]
    if _MOMENT.fullmatch(text):
        text = dt.datetime.fromisoformat(text).astimezone(ZONE).strftime("%Y-%m-%d %H:%M")
        return Words(f"{text}（北京时间）", f"{text} (UTC+8)")
    return Words(text, text)


def internal_moment(text: str) -> Words:
    """An IMAP internal date ("01-Mar-2019 10:22:33 +0800") as reports write it: 2019-03-01 10:22 +08:00; "–" when there is none."""
    shown = internal_date_words(text) or "–"
    return Words(shown, shown)


_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?\+00:00")


def act(action: str) -> Words:
    return ACTS.get(action) or Words(action, action)


def who_acts(who: Who) -> Words:
    return WHO[who]


def side(value: str | None) -> Words:
    return SIDES.get(value or "") or Words(value or "", value or "")


def outcome(value: str | None) -> Words:
    return OUTCOMES.get(value or "") or Words("还没结束", "Not ended")


def provider_name(key: str | None) -> Words:
    if key == "generic":
        return Words("别的", "Another")
    if key and not known(key):
        return Words(key, key)
    return provider(key).name if key else Words("还不知道", "Not known yet")


def explained(cause: str | None, provider_key: str | None = None) -> Explanation | None:
    """The words for a stored cause; None without a cause."""
    return explain(known_cause(cause), provider_key) if cause else None


def wants_secret(cause: str | None) -> bool:
    """Only a new password lets this move go on."""
    return cause in SECRET_CAUSES


def set_aside_reason(reason: str, provider_key: str | None = None) -> Words:
    """Why one message could not be moved; a cause's own words speak of the mailbox."""
    return reason_words(known_cause(reason), provider_key)


def must_wait(move: Move) -> bool:
    """A provider asked for this wait: nobody here can shorten it."""
    return wait_end(move) is not None


def cause_choices() -> list[tuple[str, Words]]:
    return [(cause.value, explain(cause).title) for cause in Cause]


def actor_name(actor: str) -> Words:
    """Who did it, as the timeline names them."""
    kind, _, name = actor.partition(":")
    if kind == "person":
        return Words("本人", "The person")
    if kind == "worker":
        return Words("搬家程序", "The mover")
    return Words("系统", "The system") if kind == "system" else Words(name, name)


def launcher(launched_by: str) -> Words:
    """`Attempt.launched_by`."""
    if launched_by == "import":
        return Words("一键搬家", "Started with the import")
    return actor_name(launched_by)
