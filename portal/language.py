"""The language of a page, and how numbers, sizes and times are written in it.

Owns: which of the two languages a request gets (the person's choice in a cookie, else their row's language, else the browser's wish,
else Chinese), `say`, and the formats. Registers all of it for templates. Must not: know a page.
Always: both texts of a pair stand side by side where they are used; a text is plain, so that the template escapes it; times are
written for the portal's zone, and the page's own script rewrites them to the reader's (data-when), days never.
"""
from __future__ import annotations

import datetime as dt
import re
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, current_app, g, request, session
from flask_login import current_user

from engine.causes import Cause, Words
from engine.report_files.markup import readable
from engine.report_files.words import Counted, folder_words
from engine.report_files.words import number as number
from engine.report_files.words import size as size
from portal.models import MoveState, now
from portal.services.days import ZONE

LANGUAGES = ("zh", "en")
COOKIE = "banjia_language"
COOKIE_SECONDS = 365 * 86_400


# --- which language -------------------------------------------------------------------------------------------------------


def language() -> str:
    """"zh" or "en", decided once per request."""
    if "language" not in g:
        g.language = _chosen() or _account_language() or _wished() or current_app.extensions["banjia"].settings.language
    return str(g.language)


def prefer(wanted: str) -> None:
    """The language of the person whose page this is; counts unless they chose another. Call it before the first `say`."""
    if wanted in LANGUAGES:
        g.account_language = wanted
        g.pop("language", None)


def forget_account_language() -> None:
    """For pages that must not read the database: an error page may be shown because it does not answer."""
    g.language = _chosen() or g.get("account_language") or _wished() or current_app.extensions["banjia"].settings.language


def _chosen() -> str | None:
    wanted = request.cookies.get(COOKIE)
    return wanted if wanted in LANGUAGES else None


def _account_language() -> str | None:
    if "account_language" in g:
        return str(g.account_language)
    if session.get("_user_id") and hasattr(current_app, "login_manager") and current_user.is_authenticated:
        wanted = current_user.staff.language
        return wanted if wanted in LANGUAGES else None
    return None


def _wished() -> str | None:
    """Any kind of Chinese counts as Chinese. Not Werkzeug's best_match: it lets zh-HK lose against en (facts: portal 2.3)."""
    for tag, quality in request.accept_languages:
        if quality > 0 and (short := tag.split("-")[0].lower()) in LANGUAGES:
            return short
    return None


def remember_language(response: Response, wanted: str) -> None:
    response.set_cookie(COOKIE, wanted, max_age=COOKIE_SECONDS, httponly=True, samesite="Lax",
                        secure=current_app.extensions["banjia"].settings.secure_cookies)


# --- texts ----------------------------------------------------------------------------------------------------------------


def say(zh: str, en: str, **values: Any) -> str:
    """The text in the request's language; {name} is replaced by a value. Whole numbers get their thousands separated, and
    {name:message|messages} is the word that fits the number; a pair of words gets its right half; write a year or an id as text."""
    text = zh if language() == "zh" else en
    if not values:
        return text
    filled = text.format(**{name: _shown(value) for name, value in values.items()})
    return _MEETING.sub(" ", filled) if language() == "zh" else filled


# Where a value in Latin letters or digits meets a Chinese character there is a blank; the style sheet makes it narrow.
_MEETING = re.compile(r"(?<=[\u4e00-\u9fff])(?=[A-Za-z0-9])|(?<=[A-Za-z0-9])(?=[\u4e00-\u9fff])")


def words(pair: Words) -> str:
    """A pair that the engine or a service wrote, in the request's language."""
    return pair.in_(language())


def folder(name: str) -> str:
    """A folder as people call it, with what is hidden in its name written out."""
    return readable(words(folder_words(name, name)))


def _shown(value: Any) -> str:
    if isinstance(value, Words):
        return words(value)
    return Counted(value) if isinstance(value, int) and not isinstance(value, bool) else str(value)


def clock(when: dt.datetime) -> str:
    """14:20"""
    return when.astimezone(ZONE).strftime("%H:%M")


def day(when: dt.datetime | dt.date) -> str:
    """11 月 25 日 / 25 Nov; with the year when it is another one."""
    local = when.astimezone(ZONE) if isinstance(when, dt.datetime) else when
    year = "" if local.year == now().astimezone(ZONE).year else str(local.year)
    if language() == "zh":
        return f"{year} 年 {local.month} 月 {local.day} 日" if year else f"{local.month} 月 {local.day} 日"
    return f"{local.day} {local.strftime('%b')} {year}".strip()


def moment(when: dt.datetime) -> str:
    """The time of today, else day and time."""
    today = now().astimezone(ZONE).date()
    return clock(when) if when.astimezone(ZONE).date() == today else f"{day(when)} {clock(when)}"


def iso(when: dt.datetime) -> str:
    return when.astimezone(dt.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def ago(when: dt.datetime) -> str:
    """4 秒前 / 4 s ago"""
    return say("{span}前", "{span} ago", span=span(max(0.0, (now() - when).total_seconds())))


def span(seconds: float) -> str:
    """A length of time in its largest fitting unit."""
    for unit, zh, en in ((86_400, "天", "d"), (3600, "小时", "h"), (60, "分钟", "min")):
        if seconds >= 2 * unit or (unit == 60 and seconds >= unit):
            return f"{round(seconds / unit)} {zh if language() == 'zh' else en}"
    return f"{int(seconds)} {'秒' if language() == 'zh' else 's'}"


_DATE = re.compile(r"(\d{4})-(\d{2})(?:-(\d{2}))?")


def stated_day(text: str) -> str:
    """A date as data files and check results write it ("2026-10-25", "2023-10")."""
    match = _DATE.match(text)
    if not match:
        return readable(text)
    if match[3]:
        return day(dt.date(int(match[1]), int(match[2]), int(match[3])))
    return say("{year} 年 {month} 月", "{year}-{month_en}", year=match[1], month=str(int(match[2])), month_en=match[2])


# --- what states are called -----------------------------------------------------------------------------------------------

_STATES = {
    MoveState.INVITED: ("ring", "quiet", Words("还没开始", "Not begun")),
    MoveState.READY: ("ready", "quiet", Words("可以开始", "Ready to start")),
    MoveState.QUEUED: ("queue", "go", Words("排队中", "Queued")),
    MoveState.MOVING: ("half", "go", Words("搬迁中", "Moving")),
    MoveState.WAITING: ("pause", "wait", Words("等待邮箱放行", "Waiting for the provider")),
    MoveState.PAUSED: ("pause", "quiet", Words("已暂停", "Paused")),
    MoveState.STUCK: ("alert", "stop", Words("需要处理", "Needs action")),
    MoveState.DONE: ("tick", "ok", Words("已完成", "Done")),
}
_PARTIAL = ("tick", "wait", Words("已完成，有邮件没搬成", "Done, some set aside"))


def state_look(state: MoveState | str, outcome: str | None = None) -> dict[str, Any]:
    """How a move's state is shown: the SVG shape, the tone (a class) and the words."""
    shape, tone, pair = _PARTIAL if state == MoveState.DONE and outcome == "partial" else _STATES[MoveState(state)]
    return {"shape": shape, "tone": tone, "words": pair}


# --- who spoke ------------------------------------------------------------------------------------------------------------

# What is kept beside these is our own detail: no server said it.
_OURS = frozenset(cause.value for cause in (
    Cause.TLS, Cause.DNS_CONNECT, Cause.OAUTH_ONLY, Cause.X_STATE, Cause.DESTINATION_TLS, Cause.DESTINATION_CONNECT, Cause.ADDRESS_REFUSED,
    Cause.RELAY_UNREACHABLE, Cause.RELAY_REFUSED, Cause.SECRET_MISSING, Cause.LEDGER_UNWRITABLE, Cause.INCOMPLETE, Cause.WORKER_LOST,
    Cause.WINDOW_CLOSED, Cause.INTERRUPTED, Cause.INTERNAL))


def ours(cause: str | None) -> bool:
    """Whether no server said what this cause says: it is of our side or of the line."""
    return cause in _OURS


def spoken(*causes: str | None) -> str:
    """How the lines beside these causes are headed: as a server's words only where a server spoke."""
    own = [ours(cause) for cause in causes]
    if all(own):
        return say("技术细节", "Technical detail")
    if not any(own):
        return say("服务器的原话", "What the server said")
    return say("服务器的原话和技术细节", "Servers’ words, technical detail")


# --- where a form may send people back to ----------------------------------------------------------------------------------


def own_path(wanted: str | None, instead: str = "/") -> str:
    """`wanted` if it is a path of this site, else `instead`: never another site (CWE-601)."""
    if not wanted or len(wanted) > 2000 or not wanted.startswith("/") or wanted.startswith(("//", "/\\")):
        return instead
    parts = urlsplit(wanted)
    return wanted if not parts.scheme and not parts.netloc and wanted.isprintable() and "\\" not in wanted else instead


def back_path() -> str:
    """Where the language switch returns to: what a page that answers a POST names in g.back, else this page if it can be opened,
    else the front page."""
    if "back" in g:
        return str(g.back)
    if request.method in ("GET", "HEAD"):
        return request.full_path.rstrip("?")
    return request.path if current_app.url_map.bind("").test(request.path, "GET") else "/"


def init_language(app: Flask) -> None:
    app.jinja_env.globals.update(say=say, words=words, language=language, state_look=state_look, now=now, back_path=back_path,
                                 spoken=spoken, ours=ours)
    app.jinja_env.filters.update(number=number, size=size, clock=clock, day=day, moment=moment, iso=iso, ago=ago, span=span,
                                 stated_day=stated_day, visible=readable, folder=folder)
