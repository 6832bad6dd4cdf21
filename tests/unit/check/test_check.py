"""The live check against simulated providers: what it finds, what it warns of, and what it says when it cannot get in."""
from __future__ import annotations

import socket
import time
from dataclasses import replace

import pytest

from engine.causes import Cause, Side
from engine.check import WARNINGS, check_account
from engine.report.check import CheckResult
from engine.report.steps import Step, StepState
from tests.support.certificates import stranger
from tests.support.provider_simulator import (
    LOOPBACK,
    PROFILES,
    Action,
    BodyFault,
    Fault,
    ProviderSimulator,
    message,
    with_capabilities,
)

DAY = 86_400


def checked(server: ProviderSimulator, **options: object) -> CheckResult:
    account = server.login_for(secret=options.pop("secret", None), security=options.pop("security", None))  # type: ignore[arg-type]
    account = replace(account, endpoint=replace(account.endpoint, host="localhost", provider=options.pop("provider", None)))  # type: ignore[arg-type]
    return check_account(account, LOOPBACK, **options)  # type: ignore[arg-type]


def days_ago(days: float) -> str:
    return time.strftime("%d-%b-%Y %H:%M:%S +0000", time.gmtime(time.time() - days * DAY))


def codes(result: CheckResult) -> list[str]:
    return [row["code"] for row in result.warnings]


# -- what it finds -----------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_every_provider_is_counted_without_changing_or_opening_anything(profile: str) -> None:
    with ProviderSimulator(profile, tls=True) as server:
        box = server.account()
        box["INBOX"].put(message("one"), message("two"), message("three", "x" * 5000))
        result = checked(server)
        assert (result.outcome, result.cause, result.server_text) == ("ok", None, "")
        assert (result.messages, result.step) == (3, Step.FOLDERS)
        assert result.largest >= len(message("three", "x" * 5000))
        assert server.count("LOGIN") == 1 and server.connections == 1
        assert not server.source_changes()
        assert server.bodies_opened == 0
        assert server.count("SEARCH") == server.count("UID SEARCH") == 0
        assert not (server.profile.id_before_select and server.count("ENABLE"))


def test_sizes_come_from_status_where_it_tells_them_and_are_exact() -> None:
    with ProviderSimulator("dovecot") as server:
        server.account()["INBOX"].put(*(message(f"m{n}") for n in range(20)))
        server.account()["Sent"].put(message("sent", "y" * 3000))
        result = checked(server)
        assert result.bytes == server.account().used()
        assert not result.bytes_estimated
        assert result.largest == len(message("sent", "y" * 3000))
        assert [(row.name, row.role, row.messages) for row in result.found][:2] == [("INBOX", "inbox", 20), ("Sent", "sent", 1)]


def test_without_status_size_the_sizes_are_read_in_ranges() -> None:
    with ProviderSimulator("netease") as server:
        server.account()["INBOX"].put(*(message(f"m{n}") for n in range(30)))
        result = checked(server)
        assert result.bytes == server.account()["INBOX"].size() and not result.bytes_estimated


def test_a_result_is_plain_json() -> None:
    import json

    with ProviderSimulator("exmail") as server:
        server.account()["INBOX"].put(message("one"))
        assert json.loads(json.dumps(checked(server).to_json()))["found"][0]["name"] == "INBOX"


def test_the_steps_are_told_as_they_happen() -> None:
    told: list[tuple[Step, StepState]] = []
    with ProviderSimulator("plain", tls=True) as server:
        checked(server, on_step=lambda step, state: told.append((step, state)))
    assert told == [(step, state) for step in Step for state in (StepState.RUNNING, StepState.OK)]


def test_folders_left_out_are_named_and_not_counted() -> None:
    with ProviderSimulator("netease") as server:
        box = server.account()
        box["INBOX"].put(message("one"))
        box["&dcVr0mWHTvZZOQ-"].put(message("virus"), message("worm"))
        result = checked(server)
        assert result.messages == 1
        assert next(row.excluded_by for row in result.found if row.name == "病毒文件夹") == "virus"
        row = next(row for row in result.warnings if row["code"] == "excluded_folders")
        assert (row["folders"], row["messages"]) == (["病毒文件夹"], 2)


# -- what it warns of --------------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("oldest", "warned"), [(29.5, True), (5, False), (40, False)])
def test_mail_that_ends_thirty_days_ago_is_warned_of(oldest: float, warned: bool) -> None:
    with ProviderSimulator("exmail") as server:
        inbox = server.account()["INBOX"]
        inbox.put(message("old"), internal_date=days_ago(oldest))
        inbox.put(message("new"), internal_date=days_ago(1))
        result = checked(server)
        assert ("only_30_days" in codes(result)) is warned
        if warned:
            oldest_day = time.strftime("%Y-%m-%d", time.gmtime(time.time() - oldest * DAY))
            assert next(row for row in result.warnings if row["code"] == "only_30_days")["oldest"] == oldest_day


def test_a_trash_emptied_after_thirty_days_is_no_sign_of_anything() -> None:
    with ProviderSimulator("exmail") as server:
        server.account()["INBOX"].put(message("new"), internal_date=days_ago(1))
        server.account()["Deleted Messages"].put(message("old"), internal_date=days_ago(29.5))
        assert "only_30_days" not in codes(checked(server))


def test_hidden_user_folders_are_warned_of_at_tencent() -> None:
    with ProviderSimulator("exmail") as server:
        assert "system_folders_only" not in codes(checked(server))
        del server.account().folders["&UXZO1mWHTvZZOQ-/&mHl27g-"]
        assert "system_folders_only" in codes(checked(server))


def test_mail_that_only_all_mail_shows_is_warned_of() -> None:
    with ProviderSimulator("gmail") as server:
        server.account()["INBOX"].put(message("one"))
        server.account()["[Gmail]/All Mail"].put(message("one"), message("archived"))
        row = next(row for row in checked(server).warnings if row["code"] == "all_mail_only")
        assert row["messages"] == 1


def test_a_source_that_serves_headers_only_is_found_out() -> None:
    with ProviderSimulator("m263_headers") as server:
        server.account()["INBOX"].put(message("one", "x" * 5000))
        assert "header_only" in codes(checked(server, provider="m263"))
    with ProviderSimulator(replace(PROFILES["m263_headers"], header_only=False)) as server:
        server.account()["INBOX"].put(message("one", "x" * 5000))
        assert "header_only" not in codes(checked(server, provider="m263"))


def test_a_locked_folder_is_named_and_the_rest_is_counted() -> None:
    with ProviderSimulator("coremail") as server:
        server.account()["INBOX"].put(message("one"))
        server.account()["Sent Items"].put(message("two"))
        server.faults.append(Fault("EXAMINE", Action.REPLY, b"NO [NONEXISTENT] Mailbox doesn't exist", contains=b"Sent Items"))
        result = checked(server)
        assert result.outcome == "ok" and result.messages == 2
        assert [row["folder"] for row in result.warnings if row["code"] == "folder_unreadable"] == ["Sent Items"]


def test_a_destination_too_small_is_warned_of_before_anything_is_moved() -> None:
    with ProviderSimulator("plain") as source:
        source.account()["INBOX"].put(message("big", "x" * 50_000))
        found = checked(source)
    with ProviderSimulator(with_capabilities(PROFILES["dovecot"], "APPENDLIMIT=40000")) as server:
        server.account().quota = 10 * 1024
        result = checked(server, side=Side.DESTINATION, compare=found)
        assert result.outcome == "ok"
        assert (result.quota_free, result.append_limit) == (10 * 1024, 40_000)
        assert {row["code"]: row for row in result.warnings}["quota_too_small"]["needed"] == found.bytes
        assert {row["code"]: row for row in result.warnings}["largest_over_limit"]["largest"] == found.largest
        assert not server.source_changes()


def test_a_switched_mx_is_warned_of() -> None:
    with ProviderSimulator("exmail", accounts={"li@corp.example": "secret"}) as server:
        assert "mx_switched" in codes(checked(server, mx_lookup=lambda domain: ["mxv.global-mail.cn"]))
        assert "mx_switched" not in codes(checked(server, mx_lookup=lambda domain: ["mxbiz1.qq.com"]))


def test_every_warning_speaks_both_languages() -> None:
    assert all(words.zh and words.en for words in WARNINGS.values())


# -- what it says when it cannot get in -----------------------------------------------------------------------------------------------

@pytest.mark.parametrize(("profile", "causes"), [
    ("dovecot", [Cause.BAD_SECRET]),
    ("netease", [Cause.NEEDS_AUTH_CODE, Cause.BAD_SECRET]),
    ("qiye163", [Cause.BAD_SECRET, Cause.NEEDS_AUTH_CODE]),
])
def test_a_wrong_password_is_one_login_on_the_wire(profile: str, causes: list[Cause]) -> None:
    with ProviderSimulator(profile, tls=True) as server:
        result = checked(server, secret="canary-wrong-secret", provider="qiye163" if profile == "qiye163" else None)
        assert (result.outcome, result.step) == ("failed", Step.LOGIN)
        assert (result.cause, result.causes) == (causes[0], causes)
        assert server.count("LOGIN") == 1 and server.count("AUTHENTICATE") == 0 and server.connections == 1
        assert "canary" not in repr(result) + str(result.to_json())


def test_tencents_one_text_for_everything_gives_all_its_causes() -> None:
    with ProviderSimulator("exmail") as server:
        result = checked(server, secret="wrong", provider="exmail")
        assert {Cause.NEEDS_AUTH_CODE, Cause.IMAP_DISABLED, Cause.BAD_SECRET} <= set(result.causes)
        assert server.count("LOGIN") == 1


def test_a_refusal_in_gbk_is_understood() -> None:
    with ProviderSimulator("qq") as server:
        server.faults.append(Fault("LOGIN", Action.REPLY, "NO 请使用授权码登录".encode("gb18030")))
        result = checked(server, provider="qq")
        assert result.cause is Cause.NEEDS_AUTH_CODE
        assert "请使用授权码登录" in result.server_text


def test_a_certificate_for_another_name_is_refused_before_any_secret_is_sent() -> None:
    with ProviderSimulator("dovecot", tls=True, certificate_names=("mail.example.com",)) as server:
        result = checked(server)
        assert (result.cause, result.step) == (Cause.TLS, Step.TLS)
        assert server.counts() == {}


def test_a_certificate_of_an_unknown_authority_is_refused() -> None:
    with ProviderSimulator("dovecot", tls=True, signed_by=stranger()) as server:
        result = checked(server)
        assert (result.cause, result.step) == (Cause.TLS, Step.TLS)
        assert server.counts() == {}


def test_a_closed_port_is_a_matter_of_connecting() -> None:
    with ProviderSimulator("dovecot") as server, socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        account = server.login_for()
        account = replace(account, endpoint=replace(account.endpoint, port=closed.getsockname()[1]))
        result = check_account(account, LOOPBACK)
    assert (result.outcome, result.cause, result.step) == ("failed", Cause.DNS_CONNECT, Step.CONNECT)


def test_a_name_that_does_not_resolve_fails_at_the_first_step() -> None:
    with ProviderSimulator("dovecot") as server:
        account = server.login_for()
        result = check_account(replace(account, endpoint=replace(account.endpoint, host="no-such-host.invalid")), LOOPBACK)
    assert (result.cause, result.step) == (Cause.DNS_CONNECT, Step.NAME)


def test_a_server_that_says_bye_at_once_is_busy_and_hears_no_secret() -> None:
    with ProviderSimulator("dovecot") as server:
        server.faults.append(Fault("GREETING", Action.REPLY, b"* BYE Server is shutting down, try again later"))
        result = checked(server)
        assert result.outcome == "failed" and result.cause in (Cause.SERVER_BUSY, Cause.IP_BLOCKED, Cause.TOO_MANY_CONNECTIONS)
        assert server.counts() == {}


def test_a_pop3_port_is_told_from_an_imap_one() -> None:
    with ProviderSimulator("dovecot") as server:
        server.faults.append(Fault("GREETING", Action.REPLY, b"+OK XMail POP3 Server v1.0 Service Ready(XMail v1.0)"))
        result = checked(server)
        assert result.cause is Cause.DNS_CONNECT and "POP3" in result.detail


def test_a_stated_back_off_is_reported_with_its_seconds() -> None:
    with ProviderSimulator("exchange") as server:
        server.faults.append(Fault("LIST", Action.REPLY, b"BAD Request is throttled. Suggested Backoff Time: 92415 milliseconds",
                                   times=None))
        result = checked(server)
        assert (result.cause, result.step) == (Cause.THROTTLED, Step.FOLDERS)
        assert result.retry_after == pytest.approx(92.415)


def test_a_connection_cut_while_counting_is_a_failure_with_a_cause_not_an_exception() -> None:
    with ProviderSimulator("netease") as server:
        server.account()["INBOX"].put(message("one"))
        server.faults.append(Fault("UID FETCH", Action.CUT_ANSWER, at=20))
        result = checked(server)
        assert result.outcome == "failed" and result.cause is not None and result.step is Step.FOLDERS


def test_a_broken_body_does_not_matter_to_a_check() -> None:
    with ProviderSimulator("dovecot") as server:
        server.account()["INBOX"].put(message("one"), fault=BodyFault.CUT)
        assert checked(server).outcome == "ok"


def test_at_the_destination_the_causes_are_those_of_our_side() -> None:
    with ProviderSimulator("dovecot") as server:
        assert checked(server, secret="wrong", side=Side.DESTINATION).cause is Cause.DESTINATION_LOGIN
