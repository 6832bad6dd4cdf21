"""What a command says of a cause as it ends, in words and as JSON."""
from __future__ import annotations

import re

import pytest

from engine.causes import Cause
from engine.printing import explanation, print_cause


def lines_of(cause: Cause, capsys: pytest.CaptureFixture[str]) -> tuple[str, str]:
    print_cause(cause, None, "NO [UNAVAILABLE] later")
    zh, en, name, server = capsys.readouterr().out.splitlines()
    assert (name, server) == (f"cause: {cause.value}", "server: NO [UNAVAILABLE] later")
    return zh, en


@pytest.mark.parametrize("cause", [Cause.SERVER_BUSY, Cause.DESTINATION_CONNECT, Cause.TLS])
def test_it_promises_no_retry_and_no_helpdesk(cause: Cause, capsys: pytest.CaptureFixture[str]) -> None:
    """They are the portal's. Who runs a command runs it again, with what the hint says, which must not be contradicted."""
    zh, en = lines_of(cause, capsys)
    told = explanation(cause, None)
    assert told["who"] == "user"
    assert zh.endswith(told["explanation"]["zh"]["next_step"]) and en.endswith(told["explanation"]["en"]["next_step"])
    assert not re.search("我们会|自动|服务台", zh) and not re.search("[Ww]e try|by ourselves|helpdesk", en)


def test_an_authority_of_ones_own_is_told_alike_by_the_cause_and_by_the_hint(capsys: pytest.CaptureFixture[str]) -> None:
    assert all("--ca-file" in line for line in lines_of(Cause.TLS, capsys))


@pytest.mark.parametrize("cause", list(Cause))
def test_the_chinese_line_has_chinese_punctuation(cause: Cause, capsys: pytest.CaptureFixture[str]) -> None:
    zh, en = lines_of(cause, capsys)
    assert re.fullmatch(r"[^：]+：.+。", zh) and not re.search(r"[\u4e00-\u9fff][:,;]|。 ", zh), zh
    assert (re.fullmatch(r"[^:]+: .+\.", en) and en.isascii()) or "“" in en, en
