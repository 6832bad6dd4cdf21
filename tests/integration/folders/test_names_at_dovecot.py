"""Folder names at real servers: what the plan says can be created, and is then listed under exactly that name."""
from __future__ import annotations

from collections.abc import Callable

import pytest

from engine.causes import Side
from engine.endpoint import Account
from engine.folders.mapping import original_component, plan_folders
from engine.imap.session import Session
from engine.transfer.target import TargetFolder
from engine.wire import utf7
from tests.support.dovecot import LOOPBACK, PASSWORD, Pair, account, running_dovecot
from tests.support.provider_simulator import ProviderSimulator

AWKWARD = [
    ("项目资料", "二〇二四年", "华东区（重要）"), ("项目资料", "发票&收据"), ("AT&T",), ('Say "hi"',), ("trailing ",), (" leading",),
    ("100% *star?",), ("back\\slash",), ("back\\slash", "child"), ("{3}",), ("x" * 60,), ("Deep", "1", "2", "3", "4", "5", "6", "7", "8"),
    ("emoji 😀",), ("INBOX", "child of inbox"), ("inbox2",), ("Case",), ("case",), ("a  two spaces",), ("(paren)",), ("日本語ひらがな",),
    ("has #hash",), ("NIL",), ("空文件夹",), ("Sent",), ("Archive", "2024"),
]


def make(where: Account, *names: str) -> None:
    session = Session.open(where, LOOPBACK, side=Side.DESTINATION)
    for name in names:
        session.create(name)
    session.logout()


def carry_over(source: Account, destination: Account, provider: str | None = None) -> dict[str, str]:
    """Creates every planned folder at the destination. Source display name -> the target's display name as the server lists it."""
    old = Session.open(source, LOOPBACK, side=Side.SOURCE)
    new = Session.open(destination, LOOPBACK, side=Side.DESTINATION)
    prefix, separator = new.namespace_prefix()
    plans = plan_folders(old.list_folders(), new.list_folders(), source_prefix=old.namespace_prefix()[0], destination_prefix=prefix,
                         destination_separator=separator or "", provider=provider)
    taken = {plan.source.display: TargetFolder(new, plan, None).ready()[0].target for plan in plans if plan.rule is None}
    listed = {folder.name: folder.display for folder in new.list_folders() if folder.selectable}
    old.logout()
    new.logout()
    return {name: listed[target] for name, target in taken.items()}


@pytest.mark.parametrize("separator", [".", "/"])
def test_every_awkward_name_arrives_under_exactly_its_own(need_dovecot: None, separator: str) -> None:
    users = {"a@example.com": PASSWORD, "b@example.com": PASSWORD}
    with running_dovecot(users, separator=separator, fsync="never") as server:
        names = [separator.join(path) for path in AWKWARD if separator not in "".join(path)]
        make(account(server, "a@example.com"), *(utf7.encode(name) for name in names))
        found = carry_over(account(server, "a@example.com"), account(server, "b@example.com"))
        assert all(target == name for name, target in found.items())
        assert set(names) <= set(found)


def test_between_separators_only_what_holds_the_new_one_is_renamed_and_can_be_read_back(
        dovecot_pair: Pair, fresh_users: Callable[[], str]) -> None:
    login = fresh_users()
    names = [*(".".join(path) for path in AWKWARD), "a/b slash", "50%/x"]
    make(account(dovecot_pair.source, login), *(utf7.encode(name) for name in names))
    found = carry_over(account(dovecot_pair.source, login), account(dovecot_pair.destination, login))
    renamed = {name: target for name, target in found.items() if target != name.replace(".", "/")}
    assert renamed == {"a/b slash": "a%2Fb slash", "50%/x": "50%25%2Fx"}
    assert all(original_component(target) == name for name, target in renamed.items())


def test_tencents_folders_find_the_destinations_role_folders(dovecot_pair: Pair, fresh_users: Callable[[], str]) -> None:
    with ProviderSimulator("exmail") as server:
        found = carry_over(server.login_for(), account(dovecot_pair.destination, fresh_users()), provider="exmail")
    assert found == {"INBOX": "INBOX", "Sent Messages": "Sent", "Drafts": "Drafts", "Deleted Messages": "Trash", "Junk": "Junk",
                     "其他文件夹/项目": "项目"}
