"""Given what was sent and what the destination shows, which messages are unlike and how."""
from __future__ import annotations

from engine.imap.fetch import Metadata
from engine.transfer.proof import Difference, Proof

DATE, SAME_INSTANT = "06-May-2024 07:08:09 +0800", "05-May-2024 23:08:09 +0000"


def proof() -> Proof:
    one = Proof()
    for uid in (1, 2, 3):
        one.add(Metadata(uid, 100 * uid, ("\\Seen", "NonJunk"), DATE), 10 + uid)
    return one


def there(uid: int, octets: int, date: str = SAME_INSTANT, flags: tuple[str, ...] = ("NonJunk", "\\seen")) -> Metadata:
    return Metadata(uid, octets, flags, date)


def test_another_zone_another_order_and_other_mail_are_no_difference() -> None:
    assert list(proof().unlike([there(13, 300), there(11, 100), there(99, 1), there(12, 200)])) == []


def test_each_kind_of_difference_is_told() -> None:
    found = {u.source_uid: u for u in proof().unlike([there(11, 101), there(12, 200, "06-May-2024 07:08:10 +0800", ())])}
    assert (found[1].octets, found[1].date, found[1].flags) == (True, False, False)
    assert (found[2].octets, found[2].date, found[2].flags) == (False, True, True)
    assert found[3].there is None


def test_a_line_that_comes_twice_counts_once() -> None:
    assert [u.source_uid for u in proof().unlike([there(11, 100), there(11, 7), there(12, 200), there(13, 300)])] == []


def test_a_date_left_to_the_server_is_no_difference() -> None:
    one = Proof()
    one.add(Metadata(1, 5, (), ""), 11)
    assert list(one.unlike([there(11, 5, flags=())])) == []


def test_only_headers_with_raw_octets_are_read_back() -> None:
    one = Proof()
    raw = "Subject: 原始\r\n\r\n".encode() + b"body"
    one.note_header(1, 11, raw)
    one.note_header(2, 12, b"Subject: plain\r\n\r\nb\xff")
    assert list(one.raw_headers) == [11]
    header = raw[:-4]
    assert one.altered_headers([(11, header)]) == []
    assert one.altered_headers([(11, b"Subject: XXXXXX\r\n\r\n"), (12, b"other")]) == [(1, 11)]


def test_a_difference_says_what_was_sent_and_what_is_there() -> None:
    one = Proof()
    sent = {uid: Metadata(uid, 100 + uid, ("\\Seen",), DATE) for uid in range(1, 7)}
    places = {1: 40, 2: 10, 3: 30, 4: 20, 5: 60, 6: 50}
    for uid, message in sent.items():
        one.add(message._replace(uid=uid), places[uid])
    assert (len(one), one.span) == (6, (10, 60))
    larger, other_date, other_flags = there(10, 7, flags=("\\Seen",)), there(20, 104, "", ("\\Seen",)), there(30, 103, flags=())
    assert list(one.unlike([other_flags, larger, there(40, 101, flags=("\\Seen",)), other_date])) == [
        Difference(3, 30, sent[3], other_flags, octets=False, date=False, flags=True),
        Difference(2, 10, sent[2], larger, octets=True, date=False, flags=False),
        Difference(4, 20, sent[4], other_date, octets=False, date=True, flags=False),
        Difference(6, 50, sent[6], None), Difference(5, 60, sent[5], None)]


def test_the_header_that_is_kept_ends_at_the_first_blank_line() -> None:
    one = Proof()
    two_blank_lines, no_end = "Subject: 原\r\n\r\nbody\r\n\r\n".encode(), "Subject: 原 and no end\r\n".encode()
    one.note_header(1, 11, two_blank_lines)
    one.note_header(2, 12, no_end)
    one.note_header(3, 13, b"\r\n\r\n" + no_end)
    assert list(one.raw_headers) == [11, 12]
    assert one.altered_headers([(11, two_blank_lines[:-8]), (12, no_end)]) == []
    assert one.altered_headers([(11, two_blank_lines), (12, no_end[:-1])]) == [(1, 11), (2, 12)]
