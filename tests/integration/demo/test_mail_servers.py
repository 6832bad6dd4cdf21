"""The demo's two kinds of mail server keep the sample mail exactly, over a restart too."""
from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from portal.demo.dovecot import Dovecot, DovecotOptions
from portal.demo.imap import SmallImap, parse_date
from portal.demo.mail import EMPTY_FOLDER, SamplePerson, mailbox
from portal.demo.mailservers import SOURCE_ROLES
from portal.demo.pymap import Pymap
from tests.support.certificates import authority

PERSON = SamplePerson("王小明", "xiaoming", 40)
LOGIN = "xiaoming@old.example"
SAMPLES = mailbox(PERSON, "old.example")


def holds_the_samples(client: SmallImap) -> None:
    with client:
        there = client.read_all()
    for folder in {sample.folder for sample in SAMPLES}:
        wanted = Counter((s.content, frozenset(f.lower() for f in s.flags), s.date.timestamp())
                         for s in SAMPLES if s.folder == folder)
        assert Counter(m.identity for m in there[folder]) == wanted
    assert there[EMPTY_FOLDER] == []


def fill(client: SmallImap) -> None:
    with client:
        assert client.append_all(SAMPLES) == len(SAMPLES)
        client.create(client.wire_name(EMPTY_FOLDER))


def test_pymap_keeps_the_sample_mail_over_a_restart(tmp_path: Path) -> None:
    users = {LOGIN: "abcd efgh", "other@old.example": "x"}
    with Pymap(users, tmp_path, authority()) as server:
        fill(server.client(LOGIN))
        holds_the_samples(server.client(LOGIN))
        with server.client(LOGIN) as client:
            before = [(m.uid, m.content) for m in client.read_folder("INBOX")]
    with Pymap(users, tmp_path, authority(), server.port) as again:
        holds_the_samples(again.client(LOGIN))
        with again.client(LOGIN) as client:
            assert [(m.uid, m.content) for m in client.read_folder("INBOX")] == before
        with again.client("other@old.example") as other:
            assert other.read_all() == {"INBOX": []}


@pytest.mark.usefixtures("need_dovecot")
def test_dovecot_keeps_the_sample_mail_and_names_its_roles() -> None:
    with Dovecot({LOGIN: "abcd efgh"}, DovecotOptions(roles=SOURCE_ROLES), authority()) as server:
        fill(server.client(LOGIN, tls=True))
        holds_the_samples(server.client(LOGIN, tls=True))
        with server.client(LOGIN) as client:
            listed = b" ".join(line.text for line in client.command(b'LIST "" "*" RETURN (SPECIAL-USE)'))
        for _, attribute in SOURCE_ROLES:
            assert attribute.encode() in listed


def test_the_samples_are_what_they_promise() -> None:
    contents = Counter(s.content for s in SAMPLES)
    assert max(contents.values()) == 3
    assert any(b"Message-ID" not in s.content for s in SAMPLES)
    assert any(not s.content.endswith(b"\n") for s in SAMPLES)
    assert any(len(s.content) > 1_000_000 for s in SAMPLES)
    assert all(b"\n" not in s.content.replace(b"\r\n", b"") for s in SAMPLES)
    assert mailbox(PERSON, "old.example") == SAMPLES
    assert parse_date("03-Feb-2019 04:05:06 +0800").year == 2019
