"""The provider files: all can be read, show nothing unconfirmed, and a wrong one says what is wrong."""
from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

from engine.causes import Who
from engine.folders.roles import FolderRole
from engine.providers.catalogue import keys, load, provider, providers, step
from engine.providers.provider import Provider, Quirk, Status
from engine.providers.reading import BadData

GUIDED = ("exmail", "qiye163", "coremail", "m263", "aliqiye", "gws", "exchange")
HALF_WIDTH = re.compile(r"[\u4e00-\u9fff][,;!?()]|[,;!?()][\u4e00-\u9fff]|[\u4e00-\u9fff]:\s")


def steps_of(one: Provider) -> list:
    return [*one.steps, *one.occasional]


def test_the_providers_of_the_first_move_are_there() -> None:
    assert {*GUIDED, "qq", "netease_personal", "m365", "generic"} <= set(keys())


@pytest.mark.parametrize("key", keys())
def test_every_provider_can_be_read_and_shown(key: str) -> None:
    one = load(key)
    assert one.key == key and one.steps
    for words in (one.name, one.secret_name, one.code_name, *one.warnings):
        assert words.zh and words.en
        assert not HALF_WIDTH.search(words.zh), words.zh
    for shown in steps_of(one):
        assert shown.status in (Status.VERIFIED, Status.LIKELY), shown.id
        for words in (shown.words, shown.why, shown.where, *((shown.note,) if shown.note else ())):
            assert words.zh and words.en
            assert not HALF_WIDTH.search(words.zh), words.zh
            assert "您" not in words.zh
        assert "IMAP" not in shown.zh or "邮件收取服务" in shown.zh, shown.id
        assert shown.picture
    assert len({shown.id for shown in steps_of(one)}) == len(steps_of(one))
    assert set(one.folder_names) <= set(FolderRole)
    assert one.quirks <= set(Quirk)


@pytest.mark.parametrize("key", GUIDED)
def test_the_guided_providers_tell_the_whole_way(key: str) -> None:
    """Given an employee of that provider, when she opens the guidance, then it leads from the switch to the secret."""
    one = load(key)
    ids = " ".join(shown.id for shown in one.steps)
    assert len(one.steps) >= 2
    assert any(word in ids for word in ("pw", "authcode", "name")), "where the secret comes from"
    assert any(shown.who is Who.USER for shown in one.steps)
    for shown in one.steps:
        assert "→" in shown.where.zh, shown.id


@pytest.mark.parametrize("key", ["exmail", "qq", "netease_personal", "qiye163", "m263"])
def test_where_only_30_days_are_given_the_range_is_a_step(key: str) -> None:
    assert any(shown.picture == "range" and "全部" in shown.zh + shown.where.zh for shown in load(key).steps)


def test_google_is_never_asked_to_switch_two_step_verification_off() -> None:
    for shown in steps_of(load("gws")):
        assert not re.search("(关闭|停用|关掉)「?两步验证", shown.zh + shown.where.zh)


def test_an_unknown_provider_is_the_generic_one() -> None:
    assert provider(None) is provider("no-such") is provider("generic")
    assert provider("../replies") is provider("generic")
    assert "generic" in providers() and "replies" not in providers()


def test_hosts_are_made_for_the_domain() -> None:
    assert [h.host for h in provider("coremail").hosts_for("corp.example")] == ["imap.corp.example", "mail.corp.example"]
    assert provider("netease_personal").hosts_for("126.com")[0].host == "imap.126.com"
    assert provider("zoho").hosts_for("x.example")
    assert "imap.zoho.com.cn" not in [h.host for h in provider("zoho").imap_hosts], "an unverified host is not tried"
    assert provider("ce_quanqiuyou").imap_hosts == ()


def test_netease_wants_id_before_select() -> None:
    assert all(provider(key).id_before_select for key in ("netease_personal", "qiye163", "coremail"))
    assert not provider("exmail").id_before_select


def test_a_step_is_found_at_its_provider_or_anywhere() -> None:
    found = step("ali.secpw")
    assert found is not None and found is step("ali.secpw", "aliqiye")
    assert step("common.webcheck", "exmail") is not None
    assert step("no.such") is None and step(None) is None


def test_providers_are_read_only_when_asked_for() -> None:
    code = ("import sys, engine.causes, engine.providers.catalogue as c, engine.providers.classify, engine.providers.detect\n"
            "assert c.load.cache_info().currsize == 0 and c.providers.cache_info().currsize == 0\n"
            "engine.causes.explain(engine.causes.Cause.TLS)\n"
            "assert c.load.cache_info().currsize == 1 and c.providers.cache_info().currsize == 0\n"
            "assert 'dns' not in sys.modules\n")
    done = subprocess.run([sys.executable, "-c", code], check=False, timeout=60, cwd=Path(__file__).parents[3], capture_output=True)
    assert (done.returncode, done.stderr) == (0, b"")


FILE = """
name = {{ zh = "某邮箱", en = "Some mail" }}
secret_name = {{ zh = "密码", en = "password" }}
guidance = ["a.on"]
{top}

[[imap]]
host = "imap.a.example"

[[step]]
id = "a.on"
who = "user"
zh = "打开"
en = "On"
why = {{ zh = "因为", en = "because" }}
where = {{ zh = "这里", en = "here" }}
checked = "2026-11-23"
status = "{status}"
{more}
"""


def written(folder: Path, *, top: str = "", status: str = "V", more: str = "") -> Path:
    (folder / "a.toml").write_text(FILE.format(top=top, status=status, more=more), "utf-8")
    return folder


def test_a_new_file_is_a_new_provider(tmp_path: Path) -> None:
    folder = written(tmp_path, more='[mend.imap_disabled]\nstep = "a.on"\n')
    one = load("a", folder)
    assert one.name.en == "Some mail" and one.steps[0].words.zh == "打开" and one.imap_hosts[0].port == 993


def test_an_unverified_step_cannot_be_named(tmp_path: Path) -> None:
    with pytest.raises(BadData, match=r"a.toml: guidance: 'a.on' is no confirmed step"):
        load("a", written(tmp_path, status="U"))


@pytest.mark.parametrize(("top", "more", "named"), [
    ('colour = "red"', "", r"a.toml: colour: not a known key"),
    ('domains = "x"', "", r"a.toml: domains: must be a list of texts"),
    ('quirks = ["no_such"]', "", r"a.toml: quirks: 'no_such' is none of"),
    ("greetings = ['(']", "", r"a.toml: greetings: not a regular expression"),
    ('steps_from = ["b"]', "", r"a.toml: steps_from: there is no b.toml"),
    ('login_form = "upn"', "", r"a.toml: login_form: 'upn' is none of"),
    ("", 'picture = "cat"', r"a.toml: step\[a.on\].picture: 'cat' is none of"),
    ("", "url = 3", r"a.toml: step\[a.on\].url: must be a text"),
    ("", '[mend.no_such]\nstep = "a.on"', r"a.toml: mend.no_such: not a cause"),
    ("", '[mend.tls]\nstep = "a.off"', r"a.toml: mend.tls.step: 'a.off' stands in neither"),
    ("", '[mend.tls]\nzh = "只有中文"', r"a.toml: mend.tls.en: missing"),
    ("", "[limits]\nconnections = 0", r"a.toml: limits.connections: must be at least 1"),
    ("", "[limits]\nconnections = true", r"a.toml: limits.connections: must be a whole number"),
])
def test_a_wrong_file_is_named_with_its_key(top: str, more: str, named: str, tmp_path: Path) -> None:
    with pytest.raises(BadData, match=named):
        load("a", written(tmp_path, top=top, more=more))


def test_a_date_that_is_none_is_refused(tmp_path: Path) -> None:
    file = written(tmp_path) / "a.toml"
    file.write_text(file.read_text("utf-8").replace("2026-11-23", "last year"), "utf-8")
    with pytest.raises(BadData, match=r"a.toml: step\[a.on\].checked: 'last year' is not a date"):
        load("a", tmp_path)
