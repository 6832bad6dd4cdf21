"""A corpus is the same each time, and a real server serves exactly what was written for it."""
from __future__ import annotations

import hashlib
import os
from itertools import pairwise
from pathlib import Path

import pytest

from bench.corpora import CORPORA
from bench.judge import compare, read_account
from bench.maildir import Maildir, change, clone, give_away
from tests.support.dovecot import running_dovecot


@pytest.mark.parametrize("name", sorted(set(CORPORA) - {"large", "nasty"}))
def test_the_same_octets_each_time_and_no_two_messages_alike(name: str) -> None:
    first, again = (list(CORPORA[name].mails(0.002)) for _ in range(2))
    assert first == again
    assert len({mail.content for _, mail in first}) == len(first) == max(1, round(CORPORA[name].messages * 0.002))
    assert all(b"\n" not in mail.content.replace(b"\r\n", b"") for _, mail in first)
    assert all(earlier.date <= later.date for (_, earlier), (_, later) in pairwise(first))


def test_sizes_are_what_the_corpus_says() -> None:
    sizes = [len(mail.content) for _, mail in CORPORA["large"].mails(0.05)]
    assert sizes and all(10 << 20 <= size + 4096 and size <= 31 << 20 for size in sizes)


@pytest.mark.usefixtures("need_dovecot")
@pytest.mark.parametrize("name", ["small", "nasty"])
def test_a_server_serves_what_was_written_and_what_a_day_changed(name: str, tmp_path: Path) -> None:
    pristine = Maildir(tmp_path / "pristine")
    pristine.folder(("INBOX",))
    mails = list(CORPORA[name].mails(0.02))
    for folder, mail in mails:
        pristine.add(folder, mail)
    pristine.finish()
    with running_dovecot({"u": "secret"}, roles=()) as server:
        assert server.ports
        home = server.maildir("u")
        home.parent.mkdir(parents=True)
        give_away(tmp_path, like=server.root / "mail")
        clone(pristine.home, home)
        give_away(home.parent, like=server.root / "mail")
        before = read_account(server.ports.imap, "u", "secret")
        wanted = sorted((hashlib.sha256(m.content).hexdigest(), m.date, sorted(f.lower() for f in m.flags)) for _, m in mails)
        assert sorted((m.digest, m.date, sorted(m.flags)) for folder in before.values() for m in folder) == wanted
        inbox = [hashlib.sha256(mail.content).hexdigest() for folder, mail in mails if folder == ("INBOX",)]
        assert [m.digest for m in before["INBOX"]] == inbox

        changed = change(home, 0.1, "seed")
        after = read_account(server.ports.imap, "u", "secret")
        assert str(compare(before, after)) == f"{changed:,} extra, {changed:,} with other flags"
    assert sum(len(names) for place, _, names in os.walk(pristine.home) if place.endswith("cur")) == len(mails), "the pristine one changed"
