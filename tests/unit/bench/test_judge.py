"""The judge of the bench finds what is wrong with a copy, and nothing where it is exact."""
from __future__ import annotations

import hashlib

import pytest

from bench.judge import Account, Seen, compare, read_account
from tests.support.dovecot import PASSWORD, Pair, Sample, fresh_login, seed


def seen(text: str, date: int = 1, *flags: str, mark: str = "") -> Seen:
    digest, unmarked = (hashlib.sha256(content.encode()).hexdigest() for content in (text, mark))
    return Seen(digest, date, frozenset(flags), unmarked if mark else "")


SOURCE: Account = {"INBOX": [seen("a"), seen("b", 2, "\\seen"), seen("a")], "Empty": []}


@pytest.mark.parametrize(("inbox", "said"), [
    ([seen("a"), seen("b", 2, "\\seen"), seen("a")], "exact"),
    ([seen("a"), seen("a"), seen("b", 2, "\\seen")], "exact"),
    ([seen("a"), seen("b", 2, "\\seen")], "1 missing"),
    ([seen("a"), seen("b", 2, "\\seen"), seen("a"), seen("a")], "1 extra"),
    ([seen("a"), seen("b", 2, "\\seen"), seen("c")], "1 extra, 1 missing"),
    ([seen("a"), seen("b", 2), seen("a")], "1 with other flags"),
    ([seen("a"), seen("b", 3, "\\seen"), seen("a", 9)], "2 with another date"),
    ([seen("a"), seen("x", 2, "\\seen", mark="b"), seen("a")], "1 with a header added"),
    ([seen("a"), seen("x", 2, mark="b"), seen("a")], "1 with a header added, 1 with other flags"),
])
def test_each_difference_is_named(inbox: list[Seen], said: str) -> None:
    verdict = compare(SOURCE, {"INBOX": inbox, "Empty": []})
    assert (str(verdict), verdict.exact) == (said, said == "exact")


def test_folders_count_also_empty_ones_and_those_that_nobody_asked_for() -> None:
    assert str(compare(SOURCE, {"INBOX": SOURCE["INBOX"]})) == "1 folders missing"
    assert str(compare(SOURCE, {**SOURCE, "Other": [seen("z")]})) == "1 extra"
    assert str(compare(SOURCE, {**SOURCE, "Other": []})) == "exact"


def test_order_is_told_and_not_judged() -> None:
    verdict = compare(SOURCE, {**SOURCE, "INBOX": [seen("b", 2, "\\seen"), seen("a"), seen("a")]})
    assert verdict.exact and verdict.order == 1


def test_it_reads_real_accounts_whole(dovecot_pair: Pair) -> None:
    """Large, marked and empty-bodied messages, a folder with a separator in it, on servers with different separators."""
    login = fresh_login()
    plain = [Sample(b"Subject: a\r\n\r\nx\r\n", "INBOX", ("\\Seen", "$Forwarded")), Sample(b"\r\n", "客户/北京"),
             Sample(b"Subject: big\r\n\r\n" + b"y" * 700_000, "INBOX")]
    marked = [Sample(b"Subject: a\r\nX-TUID: abc\r\n\r\nx\r\n", "INBOX", ("\\Seen",)), *plain[1:]]
    for server, samples in ((dovecot_pair.source, plain), (dovecot_pair.destination, marked)):
        seed(server, login, samples)
    old, new = (read_account(server.ports.imap, login, PASSWORD) for server in (dovecot_pair.source, dovecot_pair.destination)
                if server.ports)
    assert [m.digest for m in old["INBOX"]] == [hashlib.sha256(sample.content).hexdigest() for sample in (plain[0], plain[2])]
    assert compare(old, old).exact
    assert str(compare(old, new)) == "1 with a header added, 1 with other flags"
