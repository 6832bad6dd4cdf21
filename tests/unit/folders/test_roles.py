"""A folder's role: attributes first, then names at the top of the mailbox, in the languages that mail servers speak."""
from __future__ import annotations

import pytest

from engine.folders.roles import FolderRole, names, role_of
from engine.providers.catalogue import providers
from tests.unit.folders.listing import folder


@pytest.mark.parametrize(("attribute", "role"), [
    ("\\Sent", FolderRole.SENT), ("\\Drafts", FolderRole.DRAFTS), ("\\Trash", FolderRole.TRASH), ("\\Junk", FolderRole.JUNK),
    ("\\Spam", FolderRole.JUNK), ("\\Archive", FolderRole.ARCHIVE), ("\\All", FolderRole.ALL), ("\\AllMail", FolderRole.ALL),
    ("\\Starred", FolderRole.FLAGGED), ("\\Flagged", FolderRole.FLAGGED), ("\\Important", FolderRole.IMPORTANT),
])
def test_what_the_server_marks_wins_over_any_name(attribute: str, role: FolderRole) -> None:
    assert role_of(folder("Drafts", attribute), None) is role
    assert role_of(folder("项目/华东区", attribute), None) is role


@pytest.mark.parametrize(("name", "role"), [
    ("Sent", FolderRole.SENT), ("Sent Messages", FolderRole.SENT), ("sent_items", FolderRole.SENT), ("已发送", FolderRole.SENT),
    ("已发送邮件", FolderRole.SENT), ("寄件備份", FolderRole.SENT), ("送信済みアイテム", FolderRole.SENT), ("보낸편지함", FolderRole.SENT),
    ("Gesendete Elemente", FolderRole.SENT), ("Éléments envoyés", FolderRole.SENT), ("Elementos enviados", FolderRole.SENT),
    ("Posta inviata", FolderRole.SENT), ("Itens Enviados", FolderRole.SENT), ("Отправленные", FolderRole.SENT),
    ("Elementy wysłane", FolderRole.SENT),
    ("草稿箱", FolderRole.DRAFTS), ("草稿夹", FolderRole.DRAFTS), ("草稿", FolderRole.DRAFTS), ("下書き", FolderRole.DRAFTS),
    ("已删除", FolderRole.TRASH), ("已刪除的郵件", FolderRole.TRASH), ("Deleted Items", FolderRole.TRASH), ("ゴミ箱", FolderRole.TRASH),
    ("Papierkorb", FolderRole.TRASH), ("Corbeille", FolderRole.TRASH), ("휴지통", FolderRole.TRASH),
    ("垃圾邮件", FolderRole.JUNK), ("垃圾信件匣", FolderRole.JUNK), ("Junk E-mail", FolderRole.JUNK), ("ＳＰＡＭ", FolderRole.JUNK),
    ("归档", FolderRole.ARCHIVE), ("アーカイブ", FolderRole.ARCHIVE),
    ("病毒文件夹", FolderRole.VIRUS), ("病毒邮件", FolderRole.VIRUS), ("Virus Items", FolderRole.VIRUS), ("广告邮件", FolderRole.ADS),
    ("订阅邮件", FolderRole.SUBSCRIPTIONS), ("inbox", FolderRole.INBOX),
    ("项目资料", None), ("inbox2", None), ("Starred", None), ("重要", None), ("Notes", None), ("Calendar", None),
])
def test_a_top_level_name_gives_the_role(name: str, role: FolderRole | None) -> None:
    assert role_of(folder(name), None) is role


def test_a_folder_deep_in_the_tree_stays_a_custom_one() -> None:
    assert role_of(folder("项目/Sent"), None) is None
    assert role_of(folder("INBOX/Trash"), None) is None
    assert role_of(folder("其他文件夹/Sent"), "exmail") is None


def test_directly_under_the_personal_prefix_counts_as_the_top() -> None:
    assert role_of(folder("INBOX.Sent", separator="."), None, prefix="INBOX.") is FolderRole.SENT
    assert role_of(folder("INBOX.Old.Sent", separator="."), None, prefix="INBOX.") is None


def test_gmails_views_are_known_by_name_only_inside_its_container() -> None:
    assert role_of(folder("[Gmail]/重要"), None) is FolderRole.IMPORTANT
    assert role_of(folder("[Gmail]/所有邮件"), None) is FolderRole.ALL
    assert role_of(folder("[Google Mail]/Bin"), None) is FolderRole.TRASH


def test_folders_without_mail_are_known_where_the_provider_shows_such() -> None:
    assert role_of(folder("日历"), "exchange") is FolderRole.NONMAIL
    assert role_of(folder("日历"), None) is None


def test_a_parent_that_cannot_be_opened_has_no_role() -> None:
    assert role_of(folder("Sent", "\\Noselect"), None) is None


def test_what_a_provider_puts_among_a_persons_folders_is_recognised() -> None:
    assert role_of(folder("其他文件夹/QQ邮件订阅"), "qq") is FolderRole.SUBSCRIPTIONS
    assert role_of(folder("其他文件夹/被感染项目"), "qq") is FolderRole.VIRUS


def test_every_role_in_a_providers_file_is_a_role() -> None:
    known = {role.value for role in FolderRole}
    assert {role for one in providers().values() for role in one.folder_names} <= known


def test_no_name_means_two_roles() -> None:
    doubled = {name: [meaning.role for meaning in found] for name, found in names().by_name.items()
               if len({meaning.role for meaning in found if not meaning.inside}) > 1}
    assert doubled == {}


def test_every_rule_says_why_in_both_languages() -> None:
    assert set(names().rules.values()) == set(names().rule_words)
    assert all(words.zh and words.en for words in names().rule_words.values())
