"""Error pages: what happened, what to do, and a number that the helpdesk can find in the log.

Must not: show what went wrong inside, or need the database (it may be what is broken).
Always: an answer to a browser is a page in its language with a way back; every page of a fault has a reference that the log has too.
"""
from __future__ import annotations

import logging
import secrets
from dataclasses import dataclass

from flask import Flask, g, render_template, request
from flask_login import AnonymousUserMixin
from flask_wtf.csrf import CSRFError
from sqlalchemy.exc import OperationalError
from werkzeug.exceptions import HTTPException, InternalServerError

from engine.causes import Words
from portal.employee.visit import forget_visit
from portal.language import forget_account_language

log = logging.getLogger(__name__)

_ALPHABET = "23456789ABCDEFGHJKMNPQRSTUVWXYZ"  # no letters or digits that are confused on the phone


@dataclass(frozen=True)
class _Page:
    title: Words
    what: Words
    next: Words


_PAGES = {
    400: _Page(Words("这次提交没有成功", "That could not be sent"),
               Words("页面可能开得太久，或者浏览器没有保存 Cookie。什么都没有改变。",
                     "The page was open too long, or your browser keeps no cookies. Nothing has changed."),
               Words("返回上一页，刷新后再试一次。",
                     "Go back, reload the page and try again.")),
    403: _Page(Words("你不能打开这一页", "You may not open this page"),
               Words("你的账号没有这个权限，或者请求来自别的网站。",
                     "Your account does not have the right to, or the request came from another site."),
               Words("需要权限时，请联系你们的管理员。",
                     "Ask your administrator if you need it.")),
    404: _Page(Words("没有这个页面", "There is no such page"),
               Words("地址可能没有复制完整，或者页面已经不在了。",
                     "The address may be incomplete, or the page is gone."),
               Words("请从收到的链接重新打开；完整复制整个链接。",
                     "Open the link that you were sent again; copy all of it.")),
    405: _Page(Words("这一页不能这样打开", "This page cannot be opened like that"),
               Words("什么都没有改变。", "Nothing has changed."),
               Words("返回上一页，用页面上的按钮。",
                     "Go back and use the button on the page.")),
    410: _Page(Words("这个页面已经结束", "This page is over"),
               Words("它曾经有效，现在已经过期。",
                     "It was good once and has expired."),
               Words("需要时，请联系发给你链接的人。",
                     "If you need it, ask whoever sent you the link.")),
    413: _Page(Words("文件太大", "The file is too large"),
               Words("上传的内容超过了上限，没有保存。",
                     "What you sent is over the limit and was not kept."),
               Words("把名单拆成几份再上传。",
                     "Split the sheet and send the parts.")),
    429: _Page(Words("操作太快了", "Too many requests"),
               Words("为了保护账号，我们限制了次数。什么都没有改变。",
                     "To protect accounts we limit how often this can be done. Nothing has changed."),
               Words("等几分钟再试。", "Wait a few minutes and try again.")),
    500: _Page(Words("我们这边出错了", "Something went wrong on our side"),
               Words("不是你的操作有问题。正在搬的邮件不受影响。",
                     "You did nothing wrong. Mail that is being moved is not affected."),
               Words("等一分钟再试；还是不行，就把下面的编号告诉服务台。",
                     "Try again in a minute; if it stays, tell the helpdesk the reference below.")),
    503: _Page(Words("系统正忙", "We are busy right now"),
               Words("别的操作正在保存数据，这一次没有保存任何内容。",
                     "Something else is being saved; nothing of this was saved."),
               Words("请稍后再试。如果是上传名单，把同一份表再传一次，不会重复。",
                     "Try again in a moment. If you uploaded a sheet, upload the same one again; nobody is doubled.")),
}


def new_reference() -> str:
    """Short enough to be read out on the phone, e.g. K7Q-2MD."""
    text = "".join(secrets.choice(_ALPHABET) for _ in range(6))
    return f"{text[:3]}-{text[3:]}"


def init_errors(app: Flask) -> None:
    @app.errorhandler(HTTPException)
    def refused(error: HTTPException) -> tuple[str, int] | HTTPException:
        code = error.code or 500
        if code < 400:
            return error
        if isinstance(error, CSRFError):
            log.info("a form without a good token: %s %s (%s)", request.method, request.endpoint, error.description)
        return _answer(code, error)

    @app.errorhandler(Exception)
    def failed(error: Exception) -> tuple[str, int] | HTTPException:
        return _answer(503 if isinstance(error, OperationalError) and "locked" in str(error.orig) else 500, error)


def _answer(code: int, error: Exception) -> tuple[str, int]:
    reference = new_reference()
    page = _PAGES.get(code) or (_PAGES[500] if code >= 500 else _PAGES[400])
    if code >= 500:
        cause = error.original_exception if isinstance(error, InternalServerError) else error
        log.error("reference %s: %s %s", reference, request.method, request.endpoint, exc_info=cause)
        g._login_user = AnonymousUserMixin()  # Flask-Login would ask the database, which may be what is broken
    else:
        log.info("reference %s: %d for %s %s", reference, code, request.method, request.endpoint)
    forget_account_language()
    forget_visit()
    return render_template("errors/error.html", code=code, page=page, reference=reference), code
