"""Where folders go: own names to the byte where possible, roles merged where the destination has them, renamed reversibly where not."""
from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from engine.folders.mapping import explain_note, explain_rule, ignores_case, next_name_after_refusal, original_component
from engine.folders.roles import FolderRole
from engine.imap.session import RemoteFolder
from engine.wire import utf7
from tests.unit.folders.listing import folder, listed, planned, targets

NASTY = ["INBOX", "项目资料.二〇二四年.华东区（重要）", "项目资料.发票&收据", "AT&T", 'Say "hi"', "trailing ", " leading", "a/b slash",
         "100% *star?", "back\\slash", "back\\slash.child", "~tilde", "{3}", "x" * 60, "Deep.1.2.3.4.5.6.7.8", "emoji 😀",
         "INBOX.child of inbox", "inbox2", "Case", "case", "a  two spaces", "(paren)", "日本語ひらがな", "has #hash", "NIL", "Empty",
         "空文件夹", "Empty parent", "Empty parent.empty child", "Sent", "Junk", "Drafts", "Archive", "Archive.2024"]


def test_every_awkward_name_arrives_as_it_is_under_the_same_separator() -> None:
    source = listed(*NASTY, separator=".")
    plans = planned(source, listed("INBOX", separator="."), separator=".")
    assert {p.source.name: p.target for p in plans.values()} == {f.name: f.name for f in source}
    assert not any(p.note or p.rule for p in plans.values())


def test_and_again_when_a_first_run_has_made_the_folders_and_the_server_gave_them_roles() -> None:
    source = listed(*NASTY, separator=".")
    destination = [folder(name, *{"Sent": ["\\Sent"], "Junk": ["\\Junk"], "Drafts": ["\\Drafts"]}.get(name, []), separator=".")
                   for name in NASTY]
    plans = planned(source, destination, separator=".")
    assert all(p.target == p.source.name and p.exists for p in plans.values())


def test_separators_are_translated_and_only_a_name_holding_the_new_one_is_renamed() -> None:
    plans = planned(listed(*NASTY, separator="."), listed("INBOX"), separator="/")
    assert plans["项目资料.二〇二四年.华东区（重要）"].target_display == "项目资料/二〇二四年/华东区（重要）"
    assert plans["INBOX.child of inbox"].target == "INBOX/child of inbox"
    assert plans["a/b slash"].target == "a%2Fb slash"
    assert plans["a/b slash"].note == "renamed:a/b slash"
    assert original_component(plans["a/b slash"].target) == "a/b slash"
    assert plans["100% *star?"].target == "100% *star?"
    assert [name for name, p in plans.items() if p.note] == ["a/b slash"]


def test_a_percent_sign_in_a_renamed_name_is_encoded_too() -> None:
    plan = planned(listed("50%/a%2Fb", separator="."))["50%/a%2Fb"]
    assert plan.target == "50%25%2Fa%252Fb"
    assert original_component(plan.target) == "50%/a%2Fb"


def test_a_name_that_is_not_valid_modified_utf7_is_carried_over_byte_for_byte() -> None:
    odd = RemoteFolder("Tom & Jerry.&XfJ", "Tom & Jerry.&XfJ", ".", frozenset())
    assert planned([odd], separator="/")["Tom & Jerry.&XfJ"].target == "Tom & Jerry/&XfJ"


def test_raw_octets_on_the_wire_are_encoded_for_the_destination() -> None:
    raw = "项目".encode().decode("latin-1")
    assert planned([RemoteFolder(raw, "项目", "/", frozenset())])["项目"].target == utf7.encode("项目")


def test_the_personal_prefix_is_exchanged() -> None:
    source = listed("INBOX", "INBOX.Sent", "INBOX.项目.一", separator=".")
    assert targets(source, source_prefix="INBOX.") == {"INBOX": "INBOX", "INBOX.Sent": "Sent", "INBOX.项目.一": "项目/一"}
    back = targets(listed("INBOX", "Sent", "项目/一", "INBOX/child"), destination_prefix="INBOX.", separator=".")
    assert back == {"INBOX": "INBOX", "Sent": "INBOX.Sent", "项目/一": "INBOX.项目.一", "INBOX/child": "INBOX.child"}


def test_a_child_of_inbox_makes_way_where_inbox_takes_no_children() -> None:
    plan = planned(listed("INBOX", "INBOX/child"), [folder("INBOX", "\\Noinferiors")])["INBOX/child"]
    assert (plan.target, plan.note) == ("child", "renamed:INBOX/child")


def test_sent_mail_merges_into_the_destinations_sent_folder() -> None:
    destination = listed("INBOX", "已发送 \\Sent", "草稿箱 \\Drafts", "已删除 \\Trash", "垃圾邮件 \\Junk")
    source = listed("INBOX", "Sent Messages", "Drafts", "Deleted Messages", "Junk")
    assert targets(source, destination, provider="exmail") == {
        "INBOX": "INBOX", "Sent Messages": "已发送", "Drafts": "草稿箱", "Deleted Messages": "已删除", "Junk": "垃圾邮件"}
    assert planned(source, destination)["Sent Messages"].exists


def test_without_a_role_folder_at_the_destination_the_name_stays() -> None:
    assert targets(listed("INBOX", "已发送 \\Sent", "Sent Messages"), listed("INBOX")) == {
        "INBOX": "INBOX", "已发送": "已发送", "Sent Messages": "Sent Messages"}


def test_where_the_source_marks_its_sent_folder_another_of_that_name_is_a_custom_one() -> None:
    plans = planned(listed("INBOX", "已发送 \\Sent", "Sent Items"), listed("INBOX", "Sent \\Sent"))
    assert (plans["已发送"].target, plans["已发送"].role) == ("Sent", FolderRole.SENT)
    assert (plans["Sent Items"].target, plans["Sent Items"].role) == ("Sent Items", None)


def test_two_folders_with_one_role_merge_and_say_so() -> None:
    plans = planned(listed("INBOX", "Sent Messages", "已发送"), listed("INBOX", "Sent \\Sent"))
    assert {plans["Sent Messages"].target, plans["已发送"].target} == {"Sent"}
    notes = [plans[name].note for name in ("Sent Messages", "已发送") if plans[name].note]
    assert len(notes) == 1 and notes[0].startswith("merged:")
    assert "合并" in explain_note(notes[0]).zh and "Merged" in explain_note(notes[0]).en


def test_the_destinations_role_folder_is_the_marked_one_else_the_usual_name() -> None:
    assert targets(listed("已发送"), listed("Sent", "Versendet \\Sent"))["已发送"] == "Versendet"
    assert targets(listed("已发送"), listed("Sent Items", "Sent"))["已发送"] == "Sent"


def test_children_follow_a_merged_parent() -> None:
    plans = targets(listed("Sent Messages", "Sent Messages/2023", "Sent Messages/2023/一月"), listed("INBOX", "Sent \\Sent"))
    assert plans == {"Sent Messages": "Sent", "Sent Messages/2023": "Sent/2023", "Sent Messages/2023/一月": "Sent/2023/一月"}


def test_tencents_container_is_left_away() -> None:
    source = [folder("INBOX"), folder("其他文件夹", "\\NoSelect", "\\HasChildren"), folder("其他文件夹/项目"), folder("其他文件夹/项目/一")]
    assert targets(source, provider="exmail") == {"INBOX": "INBOX", "其他文件夹/项目": "项目", "其他文件夹/项目/一": "项目/一"}
    assert targets(source, provider=None)["其他文件夹/项目"] == "其他文件夹/项目"


def test_a_persons_folder_from_the_container_never_mixes_with_a_role_folder() -> None:
    source = [folder("INBOX"), folder("Sent Messages"), folder("其他文件夹", "\\NoSelect"), folder("其他文件夹/Sent"),
              folder("其他文件夹/INBOX")]
    plans = planned(source, listed("INBOX", "Sent \\Sent"), provider="qq")
    assert len({p.target for p in plans.values()}) == 4
    assert plans["其他文件夹/INBOX"].target == "INBOX (2)"
    assert plans["其他文件夹/INBOX"].note == "renamed:其他文件夹/INBOX"


def test_virus_and_advertising_folders_are_left_out_by_a_named_rule() -> None:
    plans = planned(listed("INBOX", "病毒文件夹", "广告邮件", "订阅邮件"), provider="qiye163")
    assert {name: p.rule for name, p in plans.items()} == {"INBOX": None, "病毒文件夹": "virus", "广告邮件": "ads", "订阅邮件": None}
    assert plans["病毒文件夹"].target == "" and explain_rule("virus").zh


def test_gmails_views_are_left_out_and_its_container_too() -> None:
    source = [folder("INBOX"), folder("[Gmail]", "\\Noselect"), folder("[Gmail]/所有邮件", "\\All"), folder("[Gmail]/重要", "\\Important"),
              folder("[Gmail]/已加星标", "\\Flagged"), folder("[Gmail]/已发邮件", "\\Sent"), folder("客户")]
    plans = planned(source, provider="gws")
    assert {name: p.rule for name, p in plans.items() if p.rule} == {
        "[Gmail]/所有邮件": "all_mail", "[Gmail]/重要": "view", "[Gmail]/已加星标": "view"}
    assert plans["[Gmail]/已发邮件"].target_display == "已发邮件"


def test_all_mail_is_moved_where_no_label_folder_shows_its_mail() -> None:
    plans = planned([folder("INBOX"), folder("[Gmail]/All Mail", "\\All")], provider="gws")
    assert list(plans) == ["INBOX", "[Gmail]/All Mail"] and plans["[Gmail]/All Mail"].rule is None


def test_exchange_folders_without_mail_are_left_out() -> None:
    plans = planned(listed("INBOX", "Calendar", "联系人", "项目"), provider="exchange")
    assert [name for name, p in plans.items() if p.rule == "not_mail"] == ["Calendar", "联系人"]


def test_inbox_comes_first_and_parents_that_cannot_be_opened_are_not_planned() -> None:
    plans = planned([folder("A"), folder("P", "\\Noselect"), folder("P/child"), folder("Inbox")])
    assert list(plans) == ["Inbox", "A", "P/child"]
    assert plans["Inbox"].target == "INBOX"


def test_names_that_differ_in_case_only_get_a_number_where_case_does_not_count() -> None:
    assert targets(listed("Case", "case")) == {"Case": "Case", "case": "case"}
    plans = planned(listed("Case", "case"), case_insensitive=True)
    assert sorted(p.target for p in plans.values()) == ["Case", "case (2)"]
    assert plans["case"].note == "renamed:case"
    existing = planned(listed("PROJECTS"), listed("Projects"), case_insensitive=True)["PROJECTS"]
    assert (existing.target, existing.exists) == ("Projects", True)


def test_which_destinations_take_both_cases_for_one_name_is_known() -> None:
    assert [key for key in ("exchange", "m365", "gws", "coremail", "exmail", "generic", None) if ignores_case(key)] == [
        "exchange", "m365", "gws"]


def test_targets_of_an_earlier_run_stay() -> None:
    plans = planned(listed("INBOX", "Sent Messages"), listed("INBOX", "Sent Messages", "Sent \\Sent"), kept={"Sent Messages": "Sent"})
    assert plans["Sent Messages"].target == "Sent"


def test_a_destination_without_hierarchy_gets_one_level() -> None:
    plan = planned(listed("a/b"), separator="")["a/b"]
    assert (plan.target, plan.note) == ("a_b", "renamed:a/b")


@pytest.mark.parametrize(("name", "first"), [("a*b", "a%2Ab"), ("AT&T", "AT%26T"), ("tail ", "tail%20"), ("a.b", "a%2Eb")])
def test_a_refused_name_is_tried_again_with_its_awkward_characters_encoded(name: str, first: str) -> None:
    plan = next_name_after_refusal(planned(listed(name))[name], "NO [CANNOT] Invalid mailbox name")
    assert plan is not None
    assert (plan.target, plan.note) == (first, f"renamed:{name}")
    assert original_component(plan.target) == utf7.encode(name)


def test_the_ladder_shortens_then_flattens_then_takes_a_plain_name_then_gives_up() -> None:
    name = "/".join(["很长的文件夹名字" * 8, "b", "c"])
    plan, seen = planned(listed(name))[name], []
    while (better := next_name_after_refusal(plan, "NO too deep")) is not None:
        seen.append(better.target_display)
        plan = better
    assert len(seen) == len(set(seen)) == 3
    assert all(len(part) <= 40 for part in seen[0].split("/"))
    assert "/" not in seen[1] and seen[2].startswith("folder-") and seen[2].isascii()


def test_a_refusal_that_no_name_escapes_gives_up_at_once() -> None:
    assert next_name_after_refusal(planned(listed("a*b"))["a*b"], "NO [OVERQUOTA] Quota exceeded (number of mailboxes exceeded)") is None


def test_already_exists_for_an_unlisted_name_gets_a_number() -> None:
    plan = next_name_after_refusal(planned(listed("Case"))["Case"], "NO [ALREADYEXISTS] Mailbox already exists")
    assert plan is not None and plan.target == "Case (2)"
    again = next_name_after_refusal(plan, "NO [ALREADYEXISTS] Mailbox already exists")
    assert again is not None and again.target == "Case (3)"


NAME = st.text(st.characters(blacklist_categories=("Cs",)), min_size=1, max_size=12)
PATH = st.lists(NAME.filter(lambda n: "." not in n), min_size=1, max_size=3).map(".".join)


@given(st.lists(PATH, unique=True, min_size=1, max_size=12), st.sampled_from(["/", ".", "\\"]), st.booleans())
def test_whatever_the_names_every_folder_has_its_own_target_and_the_plan_is_stable(names: list[str], separator: str, merged: bool) -> None:
    source = [folder(name, separator=".") for name in names]
    destination = listed("INBOX", "Sent \\Sent", "Trash", separator=separator) if merged else []
    first = planned(source, destination, separator=separator)
    moved = [p for p in first.values() if p.rule is None]
    by_target: dict[str, list[FolderRole | None]] = {}
    for plan in moved:
        by_target.setdefault(plan.target, []).append(plan.role)
        assert plan.target.isascii() and plan.target.isprintable()
    assert all(len(roles) == 1 or (roles[0] and len(set(roles)) == 1) for roles in by_target.values())
    made = [folder("x", separator=separator)._replace(name=p.target, display=p.target_display) for p in moved]
    again = planned(source, [*destination, *made], separator=separator)
    assert {n: p.target for n, p in again.items()} == {n: p.target for n, p in first.items()}
