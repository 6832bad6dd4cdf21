"""A provider's steps as the pages show them: whose turn it is, the menu path in parts, and the words in the drawing.

Owns how a data file's menu path becomes a drawn settings page. Must not: hold a provider's words itself (engine/providers/*.toml).
"""
from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass

from engine.causes import Who, Words
from engine.providers.catalogue import GENERIC, providers
from engine.providers.provider import Provider, Step
from portal.language import language, say, words

# Shown at once; the others stand under "more". By how many people of Chinese companies have their mail there.
USUAL = ("exmail", "qiye163", "aliqiye", "m263", "coremail", "qq", "netease_personal", "gws", "m365", "exchange")

_QUOTED = re.compile(r"「([^」]+)」")
_SITE = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)+(/[a-z0-9/]+)?")
_CONFIRM = re.compile(r"保存|确定|提交|\b(Save|OK|Submit|Done)\b", re.IGNORECASE)
_PLACE = re.compile(r"网页|后台|网站|服务器|\bweb\b|console|server|website", re.IGNORECASE)  # where one is, not what one presses
_ONLY_VERB = re.compile(r"关闭|打开|开启|启用|停用|启动|on|off|enable|disable|start", re.IGNORECASE)
_WEB_PASSWORDS = frozenset({"密码", "邮箱密码", "登录密码"})


@dataclass(frozen=True)
class Drawing:
    """The words of a drawn settings page; each is cut to the width it has there."""

    kind: str
    site: str
    menu: str
    heading: str
    label: str


@dataclass(frozen=True)
class Guide:
    """`path` are the parts of the menu path in the request's language."""

    step: Step
    path: tuple[str, ...]
    drawing: Drawing | None


def guides(provider: Provider, *, mine: bool) -> list[Guide]:
    """The provider's steps that the person takes (or: that somebody else takes), in order."""
    return [guide(step, provider) for step in provider.steps if (step.who is Who.USER) is mine]


def guide(step: Step, provider: Provider) -> Guide:
    text = words(step.where)
    parts = tuple(part.strip(" 。.") for part in re.split(r"\s*→\s*" if language() == "zh" else r"\s+>\s+", text) if part.strip())
    return Guide(step, parts, _drawing(step, parts, provider) if step.picture else None)


def _drawing(step: Step, parts: tuple[str, ...], provider: Provider) -> Drawing:
    names = [_name(part) for part in parts if not _CONFIRM.search(part) or len(parts) == 1]
    address = _SITE.search(parts[0])
    inner = names[1:] if len(names) > 1 and (address or _PLACE.search(parts[0])) else names
    while len(inner) > 2 and _ONLY_VERB.fullmatch(inner[-1]):
        inner = inner[:-1]
    label = words(provider.code_name) if step.picture == "code" else inner[-1] if len(inner) > 1 else words(step.words)
    heading = inner[-2] if len(inner) > 2 else ""
    return Drawing(step.picture or "", fit(address[0] if address else words(provider.name), 250), fit(inner[0] if inner else "", 92),
                   fit(heading, 226), fit(label, 168))


def _name(part: str) -> str:
    """The provider's own word in a part of a path: what stands in 「」, else the part without a remark in brackets."""
    quoted = _QUOTED.findall(part)
    return str(quoted[0]) if quoted else re.sub(r"（[^）]*）|\([^)]*\)", "", part).strip()


def fit(text: str, width: int) -> str:
    """`text` cut to about `width` units of a 13 unit high letter."""
    used = 0.0
    for at, character in enumerate(text):
        used += 13 if unicodedata.east_asian_width(character) in "WF" else 7.6
        if used > width:
            return text[:max(1, at - 1)].rstrip() + "…"
    return text


def is_web_password(provider: Provider) -> bool:
    """Whether the provider takes the same password as on its web page."""
    return provider.secret_name.zh in _WEB_PASSWORDS


def secret_hint(provider: Provider) -> str:
    if is_web_password(provider):
        return say("一般就是登录旧邮箱网页用的密码。如果旧邮箱开了授权码（专用密码），请填授权码。",
                   "Usually the one you use on the web. If your old mailbox has app passwords, enter such a code instead.")
    return say("请填「{secret}」，不是登录网页用的密码。", "Enter the {secret}, not the one you use on the web.",
               secret=provider.secret_name)


def provider_choices() -> tuple[list[Provider], list[Provider]]:
    """The usual ones, and the others by name."""
    everything = providers()
    usual = [everything[key] for key in USUAL if key in everything]
    others = [one for key, one in everything.items() if key not in USUAL and key != GENERIC]
    return usual, sorted(others, key=lambda one: words(one.name))


def who_acts(who: Who) -> Words:
    return {Who.USER: Words("你来做", "You"), Who.ADMIN: Words("旧邮箱的管理员", "The old mailbox’s administrator"),
            Who.PORTAL: Words("不用做", "Nobody"), Who.HELPDESK: Words("服务台", "The helpdesk"),
            Who.DESTINATION: Words("新邮箱的管理员", "The new mailbox’s administrator"),
            Who.PROVIDER: Words("旧邮箱的服务商", "The old provider")}[who]
