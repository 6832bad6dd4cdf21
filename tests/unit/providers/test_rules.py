"""The reply rules: every sample finds its own rule, every named step exists, no pattern can be made slow."""
from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from engine.causes import Cause, Retry, Who
from engine.providers import catalogue
from engine.providers.catalogue import keys, provider
from engine.providers.classify import MAX_LOOKED_AT, Classified, classify
from engine.providers.provider import Status
from engine.providers.reading import BadData
from engine.providers.rules import ANY, Phase, Rule, Spoken, Transport, Verdict, read_rules, rules, transport_rules

FAMILIES = {one.family for one in map(provider, keys()) if one.family}


def servers(rule: Rule) -> list[str | None]:
    """Every provider for which the rule may be asked: those it names, those of a family it names, or none known."""
    if ANY in rule.providers:
        return [None]
    return sorted(key for key in keys() if key in rule.providers or provider(key).family in rule.providers)


def verdict_at(rule: Rule, key: str | None) -> Verdict:
    names = (key, provider(key).family) if key else ()
    return next((rule.at[name] for name in names if name in rule.at), rule.verdict)


def asked(rule: Rule, key: str | None, phase: Phase) -> Classified:
    return classify(rule.sample, phase=phase, provider=key, protocol="imap" if rule.protocol is Spoken.ANY else rule.protocol)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.id)
def test_every_sample_finds_its_own_rule_at_every_provider(rule: Rule) -> None:
    assert servers(rule), "no provider has this key or family"
    for key in servers(rule):
        for phase in rule.phases:
            found, expected = asked(rule, key, phase), verdict_at(rule, key)
            assert (found.rule, found.causes, found.retry, found.who) == (
                rule.id, expected.causes, expected.retry, expected.who), (key, phase)


@pytest.mark.parametrize("rule", rules(), ids=lambda rule: rule.id)
def test_a_sample_is_known_by_its_family_alone(rule: Rule) -> None:
    """A server whose greeting shows the family, on a host that we do not know."""
    for family in rule.providers & FAMILIES:
        protocol = "imap" if rule.protocol is Spoken.ANY else rule.protocol
        assert classify(rule.sample, phase=min(rule.phases), provider=None, family=family, protocol=protocol).rule == rule.id


def test_rules_speak_of_what_there_is() -> None:
    for rule in rules():
        for name in (*rule.providers, *rule.at):
            assert name == ANY or name in keys() or name in FAMILIES, (rule.id, name)
        for verdict in (rule.verdict, *rule.at.values(), *((rule.after_id,) if rule.after_id else ())):
            assert verdict.step is None or catalogue.step(verdict.step), (rule.id, verdict.step)
            assert (verdict.seconds is not None) is (verdict.retry is Retry.WAIT), rule.id


def test_nobody_is_sent_to_the_settings_page_of_another_provider() -> None:
    for rule in rules():
        for key in servers(rule):
            step = asked(rule, key, min(rule.phases)).step
            if key and step and not step.startswith("common."):
                assert provider(key).step(step), (rule.id, key, step)


def test_where_a_rule_names_a_step_of_another_provider_the_own_one_is_told() -> None:
    found = classify("526 Authentication failure[0]", phase="auth", provider="ali_trade", protocol="smtp")
    assert (found.rule, found.step) == ("A02", None)
    found = classify("UC_LOGIN_SOURCE_NOT_ALLOWED", phase="auth", provider="ali_trade")
    assert (found.rule, found.step) == ("A03", "ali_trade.enable")


def test_waiting_is_never_asked_after_a_wrong_secret() -> None:
    for rule in rules():
        if rule.verdict.causes[0] in (Cause.BAD_SECRET, Cause.NEEDS_AUTH_CODE):
            assert rule.verdict.retry is Retry.STOP, rule.id


def test_unverified_rules_are_not_used() -> None:
    assert all(rule.status is not Status.UNVERIFIED for rule in rules())
    assert "N20" not in [rule.id for rule in rules()]
    assert classify("FA_UNAUTHORIZED", phase="auth", provider="coremail").rule is None


@pytest.mark.parametrize(("text", "phase", "key", "causes", "rule"), [
    ("NO [AUTHENTICATIONFAILED] Authentication failed.", "auth", None, (Cause.BAD_SECRET,), "X06"),
    ("A3 NO [AUTHENTICATIONFAILED] Authentication failed.", "auth", None, (Cause.BAD_SECRET,), "X06"),
    ("[AUTHENTICATIONFAILED] Authentication failed.", "auth", None, (Cause.BAD_SECRET,), "X06"),
    ("* BYE Server shutting down.", "any", None, (Cause.SERVER_BUSY,), "X13"),
    ("Disconnected: Shutting down", "any", None, (Cause.SERVER_BUSY,), "X13"),
    ("Disconnected for inactivity.", "any", None, (Cause.X_STATE,), "X12"),
    ("NO [UNAVAILABLE] Temporary authentication failure.", "auth", None, (Cause.SERVER_BUSY,), "X05"),
    ("NO Too many login failures", "auth", None, (Cause.THROTTLED,), "X10"),
    ("* BYE [OVERQUOTA] Account exceeded command or bandwidth limits.", "append", "gws", (Cause.THROTTLED,), "G08"),
    ("NO [OVERQUOTA] Quota exceeded", "append", None, (Cause.QUOTA,), "D01"),
    ("NO LOGIN Login error password error", "auth", "qiye163", (Cause.NEEDS_AUTH_CODE, Cause.BAD_SECRET), "N03"),
    ("NO LOGIN failed.", "auth", "m365", (Cause.OAUTH_ONLY, Cause.BAD_SECRET, Cause.IMAP_DISABLED, Cause.THROTTLED), "M19"),
    ("NO LOGIN failed.", "auth", "exchange", (Cause.BAD_SECRET, Cause.IMAP_DISABLED, Cause.OAUTH_ONLY, Cause.THROTTLED), "M19"),
    ("+OK Welcome to coremail Mail Pop3 Server (x)", "greeting", "coremail", (Cause.DNS_CONNECT,), "X14"),
    ("NO Unsafe Login. Please contact kefu@188.com for help", "select", "qiye163", (Cause.NEEDS_ID,), "N01"),
])
def test_what_servers_say(text: str, phase: str, key: str | None, causes: tuple[Cause, ...], rule: str) -> None:
    found = classify(text, phase=phase, provider=key)
    assert (found.causes, found.rule) == (causes, rule)
    assert found.cause is causes[0]


def test_the_same_refusal_names_the_step_of_the_provider_at_hand() -> None:
    text = "NO LOGIN Login error or password error"
    steps = {key: classify(text, phase="auth", provider=key).step for key in ("netease_personal", "qiye163", "coremail")}
    assert steps == {"netease_personal": "n163.authcode", "qiye163": "qiye163.clientpw", "coremail": "coremail.clientpw"}
    assert classify(text, phase="auth", provider=None, family="coremail").step == "coremail.clientpw"
    catch_all = next(rule.sample for rule in rules() if rule.id == "T05")
    assert {key: classify(catch_all, phase="auth", provider=key).step for key in ("qq", "exmail")} == {
        "qq": "qq.authcode", "exmail": "exmail.client_pw"}


def test_asking_for_id_after_id_was_sent_means_a_locked_account() -> None:
    text = "NO SELECT Unsafe Login. Please contact kefu@188.com for help"
    before = classify(text, phase="select", provider="netease_personal")
    after = classify(text, phase="select", provider="netease_personal", id_sent=True)
    assert (before.cause, before.retry) == (Cause.NEEDS_ID, Retry.ID)
    assert (after.cause, after.retry, after.step) == (Cause.ACCOUNT_EXPIRED_LOCKED, Retry.STOP, "n163.unlock")


def test_a_stated_back_off_is_taken_in_seconds_and_bounded() -> None:
    found = classify("BAD Request is throttled. Suggested Backoff Time: 92415 milliseconds", phase="fetch", provider="m365")
    assert (found.retry, found.retry_after) == (Retry.HINT, 92.415)
    long = classify(f"BAD Request is throttled. Suggested Backoff Time: {'9' * 400} milliseconds", phase="fetch", provider="exchange")
    assert long.retry_after == 6 * 3600


def test_unknown_words_are_not_guessed() -> None:
    for phase in Phase:
        found = classify("NO The moon is in the wrong house", phase=phase, provider=None)
        assert (found.causes, found.rule, found.who) == ((Cause.UNKNOWN,), None, Who.HELPDESK)
        assert found.retry is (Retry.SKIP if phase in (Phase.SELECT, Phase.FETCH, Phase.APPEND) else Retry.STOP)


@pytest.mark.parametrize("text", ["NO", "", "NO Login denied.", "-ERR authentication failure", "NO [X-CODE 7] AUTHENTICATE rejected"])
def test_a_bare_refusal_of_the_login_is_a_bad_secret_and_perhaps_something_else(text: str) -> None:
    assert classify(text, phase="auth", provider=None).causes == (Cause.BAD_SECRET, Cause.UNKNOWN)
    assert classify(text, phase="select", provider=None).causes == (Cause.UNKNOWN,)


def test_another_protocol_or_phase_does_not_borrow_a_rule() -> None:
    assert classify("NO 526 Authentication failure[0]", phase="auth", provider="aliqiye", protocol="imap").rule is None
    assert classify("NO message too large", phase="append", provider=None).rule == "D02"
    assert classify("NO message too large", phase="fetch", provider=None).rule is None
    assert classify("NO message too large", phase="any", provider=None).rule == "D02"


def unbounded_inside_unbounded(tree: object, inside: bool = False) -> bool:
    """(x+)* and the like: the shape that takes exponential time."""
    from re import _constants, _parser  # type: ignore[attr-defined]

    if isinstance(tree, _parser.SubPattern):
        return any(unbounded_inside_unbounded(node, inside) for node in tree)
    if isinstance(tree, tuple) and len(tree) == 2 and tree[0] in (_constants.MAX_REPEAT, _constants.MIN_REPEAT):
        _, highest, body = tree[1]
        unbounded = highest is _constants.MAXREPEAT
        return (unbounded and inside) or unbounded_inside_unbounded(body, inside or unbounded)
    if isinstance(tree, tuple | list):
        return any(unbounded_inside_unbounded(node, inside) for node in tree)
    return False


def all_patterns() -> list[re.Pattern[str]]:
    found = [rule.pattern for rule in rules()]
    for one in map(provider, keys()):
        found += [*one.greetings, *(mx.pattern for mx in one.mx), *((one.secret_shape,) if one.secret_shape else ())]
    return found


def test_the_check_for_dangerous_patterns_can_fail() -> None:
    from re import _parser  # type: ignore[attr-defined]

    assert unbounded_inside_unbounded(_parser.parse(r"^(a+)*$"))
    assert unbounded_inside_unbounded(_parser.parse(r"(?:(?:x|y)* )+"))
    assert not unbounded_inside_unbounded(_parser.parse(r"a+b*(c|d)?"))


def test_no_pattern_has_a_dangerous_shape() -> None:
    from re import _parser  # type: ignore[attr-defined]

    for pattern in all_patterns():
        assert not unbounded_inside_unbounded(_parser.parse(pattern.pattern)), pattern.pattern


def test_no_text_makes_a_pattern_slow() -> None:
    """Long texts made of each pattern's own words, so that as much as possible matches before it fails."""
    slowest = 0.0
    for pattern in all_patterns():
        words = [*re.findall(r"[A-Za-z.\[ ]{2,}", pattern.pattern), "must use ", "x", " ", "1", "BYE ", "login "]
        for word in words:
            text = ((word + " ") * MAX_LOOKED_AT)[:MAX_LOOKED_AT]
            began = time.process_time()
            pattern.search(text)
            slowest = max(slowest, time.process_time() - began)
    assert slowest < 0.1


def test_a_whole_classification_of_a_long_text_is_quick() -> None:
    classify("warm", phase="any", provider="exmail")
    for text in ("NO " + "must issue " * 5000, "NO " + "[" * 50_000, "BAD " + "maximum " * 9000, "NO" * 30_000, "* BYE " + "a" * 60_000):
        began = time.process_time()
        classify(text, phase="any", provider="exmail")
        assert time.process_time() - began < 0.5


GOOD = """
[[rule]]
id = "R1"
providers = ["any"]
protocol = "imap"
phase = ["auth"]
re = 'no way'
sample = "NO no way"
causes = ["bad_secret"]
retry = "stop"
who = "user"
status = "V"
"""


@pytest.mark.parametrize(("before", "after", "named"), [
    ('causes = ["bad_secret"]', 'causes = ["bad_luck"]', r"replies.toml: rule\[R1\].causes: 'bad_luck' is none of"),
    ('causes = ["bad_secret"]', "causes = []", r"rule\[R1\].causes: at least one cause"),
    ('retry = "stop"', 'retry = "later"', r"rule\[R1\].retry: 'later'"),
    ('retry = "stop"', 'retry = "hint"', r"rule\[R1\].re: retry = hint needs a group"),
    ("re = 'no way'", "re = 'no (way'", r"rule\[R1\].re: not a regular expression"),
    ("re = 'no way'", "re = '(no way)?'", r"rule\[R1\].re: fits an empty text"),
    ('phase = ["auth"]', 'phase = "auth"', r"rule\[R1\].phase: must be a list of texts"),
    ('who = "user"', "", r"rule\[R1\].who: missing"),
    ('who = "user"', 'who = "user"\ncolour = "red"', r"rule\[R1\].colour: not a known key"),
    ('status = "V"', 'status = "V"\n' + GOOD, r"R1 stands twice"),
    ("[[rule]]", "[[rule", r"replies.toml: not TOML"),
])
def test_a_wrong_rule_is_named_with_file_and_key(before: str, after: str, named: str, tmp_path: Path) -> None:
    file = tmp_path / "replies.toml"
    file.write_text(GOOD, "utf-8")
    assert len(read_rules(file)) == 1
    file.write_text(GOOD.replace(before, after, 1), "utf-8")
    with pytest.raises(BadData, match=named):
        read_rules(file)


def test_every_broken_connection_has_words() -> None:
    told = transport_rules()
    assert set(told) == set(Transport)
    for rule in told.values():
        assert rule.say.zh.endswith("。") and rule.advice.zh.endswith("。")
