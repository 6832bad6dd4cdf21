"""Servers without mail behave as servers with mail, as far as a mover can see."""
from __future__ import annotations

import datetime as dt
import zlib

import pytest

from bench.imaginary import Imaginary, Sum, numbers
from bench.memory import _moved, measure_memory
from bench.rule import Rule, mark
from portal.demo.imap import ImapSaysNo, Sample, SmallImap

RULE = Rule(40, 700)


def test_a_message_has_its_size_and_is_like_no_other() -> None:
    for rule in (RULE, Rule(3, 256), Rule(2, 1_500_000)):
        contents = [b"".join(rule.chunks(uid)) for uid in range(1, rule.messages + 1)]
        assert {len(content) for content in contents} == {rule.octets} and len(set(contents)) == rule.messages
        assert all(content.endswith(b"\r\n") and not content.endswith(b"\r\r\n") for content in contents)
        assert rule.checksum() == sum(mark(zlib.crc32(content), rule.flags(uid), rule.date(uid)) for uid, content in enumerate(contents, 1))


def test_a_source_serves_its_rule() -> None:
    with Imaginary(RULE) as server, SmallImap("127.0.0.1", server.port, "anybody", "any") as client:
        found = client.read_folder("INBOX")
        assert [m.content for m in found] == [b"".join(RULE.chunks(uid)) for uid in range(1, 41)]
        assert [m.flags for m in found] == [frozenset(RULE.flags(uid).decode().split()) for uid in range(1, 41)]
        assert server.sum() == Sum(40, 40 * 700, RULE.checksum())


def test_a_change_shows_in_flags_count_and_modification_sequence() -> None:
    rule = Rule(250, 300)
    with Imaginary(rule) as server, SmallImap("127.0.0.1", server.port, "anybody", "any") as client:
        client.command(b"EXAMINE INBOX")
        before = {line.text for line in client.command(b"UID FETCH 1:* (FLAGS)")}
        server.change(2)
        after = {line.text for line in client.command(b"UID FETCH 1:* (FLAGS)")}
        changed = client.command(b"UID FETCH 1:* (FLAGS) (CHANGEDSINCE 1)")
        assert len(after) == 252 and len(after - before) == 4  # two new, UIDs 100 and 200 with other flags
        assert sorted(int(line.text.split()[1]) for line in changed) == [100, 200, 251, 252]


def test_a_destination_counts_what_it_lets_go() -> None:
    samples = [Sample(b"Subject: %d\r\n\r\nbody\r\n" % n, flags=("\\Seen",) * (n % 2), date=dt.datetime(2024, 1, 1, n, tzinfo=dt.UTC))
               for n in range(5)]
    with Imaginary(None) as server, SmallImap("127.0.0.1", server.port, "anybody", "any") as client:
        client.append_all(samples)
        dates = [b"01-Jan-2024 %02d:00:00 +0000" % n for n in range(5)]
        assert server.sum() == Sum(5, sum(len(s.content) for s in samples), sum(
            mark(zlib.crc32(s.content), " ".join(s.flags).encode(), date) for s, date in zip(samples, dates, strict=True)))
        before = server.sum()
        client.command(b"SELECT INBOX")
        client.command(b"UID STORE 2:3 -FLAGS.SILENT (\\Seen)")
        client.command(b"UID STORE 5 +FLAGS (\\Flagged)")
        assert server.sum().checksum != before.checksum
        told = [line.text for line in client.command(b"UID FETCH 1:* (UID RFC822.SIZE FLAGS INTERNALDATE)")]
        assert told[4] == b'* 5 FETCH (UID 5 RFC822.SIZE %d FLAGS (\\Flagged) INTERNALDATE "01-Jan-2024 04:00:00 +0000")' % len(
            samples[4].content)
        assert [b"\\Seen" in line for line in told] == [False, False, False, True, False]
        with pytest.raises(ImapSaysNo):
            client.command(b"UID FETCH 1 (BODY.PEEK[])")


@pytest.mark.parametrize(("text", "last", "found"), [
    (b"1:3,5", 9, [1, 2, 3, 5]), (b"7:*", 9, [7, 8, 9]), (b"*", 9, [9]), (b"12:*", 9, [9]), (b"4:2", 9, [2, 3, 4]), (b"8:20", 9, [8, 9]),
    (b"11", 9, []), (b"1:*", 0, [])])
def test_sets_of_numbers(text: bytes, last: int, found: list[int]) -> None:
    assert list(numbers(text, last)) == found


def test_the_engine_copies_from_one_to_the_other_exactly() -> None:
    steps = measure_memory(Rule(300, 400), connections=2, cap=100)
    assert [(step.moved, step.exact) for step in steps] == [(300, True), (0, True), (3, True)]
    assert all(step.measured.peak > 10 << 20 for step in steps)


@pytest.mark.parametrize("output", [b'{"totals": {"moved": 7}}\n', b'copy: 3 of 7 messages\ncopy: 6 of 7\n{\n "totals": {"moved": 7}\n}\n'])
def test_what_was_moved_is_read_behind_the_lines_of_progress(output: bytes) -> None:
    assert _moved(output) == 7
    assert _moved(b"nothing of the kind\n") == -1
