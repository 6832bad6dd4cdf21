"""The servers that all other integration tests stand on do what those tests take for granted."""
from __future__ import annotations

import datetime as dt
import os
import ssl

import pytest

from tests.support.certificates import stranger
from tests.support.dovecot import (
    ImapSaysNo,
    Pair,
    Sample,
    SmallImap,
    differences,
    read_back,
    running_dovecot,
    seed,
    seed_maildir,
)
from tests.support.redis_server import RedisForTests, running_redis

WHEN = dt.datetime(2023, 2, 28, 23, 59, 59, tzinfo=dt.timezone(dt.timedelta(hours=8)))
TWIN = Sample("Subject: =?utf-8?b?5L2g5aW9?=\r\n\r\n两封一样的信\r\n".encode(), "归档/2024 年", ("\\Seen", "$Label1"), WHEN)


def test_what_is_seeded_is_what_is_read_back(dovecot_pair: Pair, fresh_user: str) -> None:
    seed(dovecot_pair.source, fresh_user, [TWIN, TWIN, Sample(b"a: b\r\n\r\n")])
    seed(dovecot_pair.destination, fresh_user, [TWIN, TWIN, Sample(b"a: b\r\n\r\n")])
    source, destination = read_back(dovecot_pair.source, fresh_user), read_back(dovecot_pair.destination, fresh_user)
    assert [m.content for m in source["归档/2024 年"]] == [TWIN.content] * 2
    assert source["归档/2024 年"][0].flags == {"\\Seen", "$Label1"}
    assert source["归档/2024 年"][0].identity[2] == WHEN.timestamp()
    assert differences(source, destination) == []


@pytest.mark.parametrize(("changed", "told"), [
    ([TWIN], "1 x missing"),
    ([TWIN] * 3, "1 x too many"),
    ([TWIN, Sample(TWIN.content + b"x", TWIN.folder, TWIN.flags, WHEN)], "1 x missing"),
    ([TWIN, Sample(TWIN.content, TWIN.folder, (), WHEN)], "1 x missing"),
    ([TWIN, Sample(TWIN.content, TWIN.folder, TWIN.flags, WHEN + dt.timedelta(seconds=1))], "1 x missing"),
    ([], "the folder is not at the destination"),
])
def test_every_kind_of_difference_is_told(dovecot_pair: Pair, fresh_user: str, changed: list[Sample], told: str) -> None:
    seed(dovecot_pair.source, fresh_user, [TWIN, TWIN])
    seed(dovecot_pair.destination, fresh_user, changed)
    found = differences(read_back(dovecot_pair.source, fresh_user), read_back(dovecot_pair.destination, fresh_user))
    assert any(told in sentence for sentence in found)


def test_many_messages_as_files(dovecot_pair: Pair, fresh_user: str) -> None:
    seed_maildir(dovecot_pair.source, fresh_user, (b"Subject: %d\r\n\r\n" % n for n in range(300)))
    assert len({m.content for m in read_back(dovecot_pair.source, fresh_user)["INBOX"]}) == 300


@pytest.mark.usefixtures("need_dovecot")
def test_a_full_mailbox_refuses_and_the_capability_line_can_be_given() -> None:
    with running_dovecot({"a": "p:w"}, quota="40k", capability="IMAP4rev1 UIDPLUS", separator="/") as server, \
         server.client("a") as client:
        assert client.capabilities & {b"MULTIAPPEND", b"LITERAL+", b"UIDPLUS"} == {b"UIDPLUS"}
        with pytest.raises(ImapSaysNo, match="OVERQUOTA"):
            client.append_all([Sample(b"Subject: x\r\n\r\n" + b"y" * 10_000)] * 6)


@pytest.mark.usefixtures("need_dovecot")
def test_tls_is_the_tests_authority_or_a_strangers() -> None:
    with running_dovecot({"a": "p"}) as server:
        server.client("a", tls=True).close()
    with running_dovecot({"a": "p"}, certificate=stranger().issue()) as server, \
         pytest.raises(ssl.SSLCertVerificationError):
        server.client("a", tls=True)


@pytest.mark.usefixtures("need_dovecot")
def test_a_killed_server_comes_back_on_its_ports_with_its_mail() -> None:
    with running_dovecot({"a": "p"}, fsync="always") as server:
        seed(server, "a", [Sample(b"a: b\r\n\r\nc\r\n")])
        ports, pid = server.ports, server.pid
        server.kill()
        server.start()
        assert (server.ports, server.pid == pid) == (ports, False)
        assert len(read_back(server, "a")["INBOX"]) == 1
        root, last = server.root, server.pid
    assert not root.exists()
    assert last is not None
    with pytest.raises(ProcessLookupError):
        os.kill(last, 0)


def test_a_wrong_password_is_refused(dovecot_pair: Pair, fresh_user: str) -> None:
    assert dovecot_pair.source.ports is not None
    with pytest.raises(ImapSaysNo, match="AUTHENTICATIONFAILED"):
        SmallImap("127.0.0.1", dovecot_pair.source.ports.imap, fresh_user, "no")


def test_redis_keeps_what_was_written_and_is_gone_afterwards(redis_server: RedisForTests) -> None:
    with running_redis() as server:
        client = server.client()
        client.set("k", "canary-in-redis")
        assert client.config_get("port") == {"port": "0"}
        client.close()
        assert b"canary-in-redis" in server.dump()
        assert not server.start()  # reused
    assert not server.answers()
    assert redis_server.answers()
