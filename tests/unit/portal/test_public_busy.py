"""A database that somebody else holds too long: an answer in words, not a fault."""
from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError

from tests.support.portal_app import PortalForTests


@pytest.mark.parametrize(("said", "code", "words"), [
    ("database is locked", 503, "没有保存任何内容"), ("disk I/O error", 500, "我们这边出错了")])
def test_a_locked_database_is_said_in_words(portal: PortalForTests, said: str, code: int, words: str) -> None:
    def refuse() -> str:
        raise OperationalError("BEGIN IMMEDIATE", {}, Exception(said))

    portal.app.config["TESTING"] = False
    portal.app.add_url_rule("/held", view_func=refuse)
    answer = portal.app.test_client().get("/held")
    assert answer.status_code == code and words in answer.text
