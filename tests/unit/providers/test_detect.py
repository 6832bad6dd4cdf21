"""Which provider: by domain, by MX, by greeting, by host; with evidence, and never as a guess."""
from __future__ import annotations

import time

import pytest

from engine.providers.catalogue import greetings, mentioning, providers
from engine.providers.detect import MX_LIFETIME, MxFailed, by_greeting, by_host, detect, lookup_mx


def mx(*hosts: str):
    asked: list[str] = []

    def lookup(domain: str) -> list[str]:
        asked.append(domain)
        return list(hosts)

    lookup.asked = asked  # type: ignore[attr-defined]
    return lookup


@pytest.mark.parametrize(("address", "key"), [
    ("someone@qq.com", "qq"), ("a@foxmail.com", "qq"), ("a@163.com", "netease_personal"), ("A@GMAIL.COM", "gws"),
    ("a@outlook.com", "outlookcom"), ("a@icloud.com", "icloud"), ("a@139.com", "m139"), ("a@aliyun.com", "aliyun_personal"),
])
def test_a_domain_of_the_provider_needs_no_dns(address: str, key: str) -> None:
    lookup = mx("mx.elsewhere.example")
    found = detect(address, mx_lookup=lookup)
    assert found.provider == key
    assert address.rpartition("@")[2].lower() in found.evidence.zh
    assert lookup.asked == []


@pytest.mark.parametrize(("host", "key"), [
    ("mxbiz1.qq.com", "exmail"), ("MXBIZ2.QQ.COM.", "exmail"), ("mx3.qq.com", "qq"), ("qiye163mx01.mxmail.netease.com", "qiye163"),
    ("hzmx02.mxmail.netease.com", "qiye163"), ("163mx00.mxmail.netease.com", "netease_personal"), ("something.netease.com", "qiye163"),
    ("mxn.mxhichina.com", "aliqiye"), ("mx1.qiye.aliyun.com", "aliqiye"), ("mx1.sg.aliyun.com", "aliqiye_sg"), ("mxw.263.net", "m263"),
    ("aspmx.l.google.com", "gws"), ("alt1.aspmx.l.google.com", "gws"), ("smtp.google.com", "gws"),
    ("corp-example.mail.protection.outlook.com", "m365"), ("x.mail.protection.partner.outlook.cn", "m365_21v"),
    ("outlook-com.olc.protection.outlook.com", "outlookcom"), ("mx1.feishu.cn", "feishu"), ("mta5.am0.yahoodns.net", "yahoo"),
])
def test_a_domain_of_ones_own_is_known_by_its_mx(host: str, key: str) -> None:
    found = detect("li@corp.example", mx_lookup=mx(host))
    assert found.provider == key
    assert host.rstrip(".").lower() in found.evidence.zh and host.rstrip(".").lower() in found.evidence.en


def test_the_most_preferred_mx_decides() -> None:
    assert detect("a@corp.example", mx_lookup=mx("mxbiz1.qq.com", "mxw.263.net")).provider == "exmail"


def test_a_filter_in_front_says_nothing_and_is_named() -> None:
    found = detect("a@corp.example", mx_lookup=mx("mx0a.pphosted.com"))
    assert found.provider is None and "过滤" in found.evidence.zh and "pphosted" in found.evidence.en


def test_a_filter_beside_the_real_host_does_not_hide_it() -> None:
    assert detect("a@corp.example", mx_lookup=mx("mx0a.pphosted.com", "mxbiz1.qq.com")).provider == "exmail"


def test_an_mx_that_is_already_ours_does_not_name_the_old_provider() -> None:
    found = detect("a@corp.example", mx_lookup=mx("mxv.global-mail.cn"))
    assert found.provider is None and found.switched and "新邮箱" in found.evidence.zh


def test_unknown_missing_and_failing_mx_are_told_apart() -> None:
    def failing(domain: str) -> list[str]:
        raise MxFailed("timeout")

    unknown = detect("a@corp.example", mx_lookup=mx("mx.corp.example"))
    none = detect("a@corp.example", mx_lookup=mx())
    failed = detect("a@corp.example", mx_lookup=failing)
    assert [d.provider for d in (unknown, none, failed)] == [None, None, None]
    assert "mx.corp.example" in unknown.evidence.zh and "没有 MX" in none.evidence.zh and "没能查到" in failed.evidence.zh
    assert len({unknown.evidence, none.evidence, failed.evidence}) == 3


@pytest.mark.parametrize("address", ["", "a@", "nobody", "a@localhost", "a@" + "x" * 300 + ".example", "a@..", "a@\u2024"])
def test_what_is_no_address_is_not_looked_up(address: str) -> None:
    lookup = mx("mxbiz1.qq.com")
    assert detect(address, mx_lookup=lookup).provider is None
    assert lookup.asked == []


def test_a_chinese_domain_is_asked_in_its_wire_form() -> None:
    lookup = mx("mxbiz1.qq.com")
    assert detect("张三@公司.cn", mx_lookup=lookup).provider == "exmail"
    assert lookup.asked == ["xn--55qx5d.cn"]


def test_a_lookup_ends_within_its_deadline() -> None:
    """Given a name that no server answers for (RFC 6761), when looked up, then it is over in time, whatever the network."""
    began = time.monotonic()
    try:
        assert lookup_mx("no-such-name.invalid") == []
    except MxFailed as error:
        assert "invalid" not in str(error)
    assert time.monotonic() - began < MX_LIFETIME + 2


@pytest.mark.parametrize(("greeting", "key"), [
    ("* OK Coremail System IMap Server Ready(XT5.0.9[c1])", "coremail"),
    ("* OK Coremail System IMap Server Ready(163com[10774b260cc7a37d26d71b52404dcf5c])", "netease_personal"),
    ("* OK [CAPABILITY IMAP4 IMAP4rev1 ID XLIST] QQMail XMIMAP4Server ready", "exmail"),
    ("* OK AliYun IMAP Server Ready(10.147.42.136)", "aliqiye"),
    ("* OK The Microsoft Exchange IMAP4 service is ready.", "exchange"),
    ("* OK The Microsoft Exchange IMAP4 service is ready. [VABZADIAUABSADAAMQBDAEEAMAAwADEA]", "m365"),
    ("* OK Gimap ready for requests from 192.0.2.1 a1mb", "gws"),
    ("* OK IMAP4 ready", "m35"),
    ("+OK Welcome to coremail Mail Pop3 Server (163coms[x])", "coremail"),
    ("* OK [CAPABILITY IMAP4rev1 LITERAL+] Dovecot ready.", None),
    ("", None),
])
def test_a_greeting_names_its_server(greeting: str, key: str | None) -> None:
    assert by_greeting(greeting) == key


@pytest.mark.parametrize(("host", "key"), [
    ("imap.exmail.qq.com", "exmail"), ("HWIMAP.exmail.qq.com.", "exmail"), ("imap.qq.com", "qq"), ("imaphz.qiye.163.com", "qiye163"),
    ("imap.126.com", "netease_personal"), ("pop.263.net", "m263"), ("imap.corp.example", None), ("imap.{domain}", None), ("", None),
])
def test_a_server_is_known_by_its_name(host: str, key: str | None) -> None:
    assert by_host(host) == key


def test_what_is_read_in_part_is_what_the_whole_files_say() -> None:
    """by_greeting, by_host and domains look at few files; the answers are those of all of them."""
    everything = providers()
    assert greetings() == tuple((key, pattern) for key, one in everything.items() for pattern in one.greetings)
    for key, one in everything.items():
        hosts = [*one.imap_hosts, *([one.overseas_host] if one.overseas_host else [])]
        for host in [h.host for h in hosts if "{" not in h.host] + [*one.pop_hosts, *one.hosts_by_domain.values()]:
            assert key in {found.key for found in mentioning(host)}, host
            assert by_host(host) is not None
        for domain in one.domains:
            assert key in {found.key for found in mentioning(domain)}, domain
    assert by_host("") is None
    assert by_host("localhost") is None
