"""All folders with their counts in as few round trips as the server allows, and never another answer than the single questions give."""
from __future__ import annotations

import pytest

from engine.causes import Side
from engine.errors import Throttled
from engine.imap.session import FolderStatus, Session
from tests.support.provider_simulator import PROFILES, ProviderSimulator
from tests.unit.imap.scripted import LOOPBACK, QUICK, Peer, Scripted
from tests.unit.imap.talks import BACKOFF, after_login


@pytest.mark.parametrize("profile", sorted(PROFILES))
def test_a_survey_tells_what_the_single_questions_tell(profile: str) -> None:
    with ProviderSimulator(profile) as server:
        server.account()["INBOX"].put(b"a: b\r\n\r\nc\r\n")
        session = Session.open(server.login_for(), LOOPBACK, side=Side.SOURCE, timeouts=QUICK)
        survey = session.survey()
        found = session.list_folders()
        assert (survey.prefix, survey.separator) == session.namespace_prefix()
        assert survey.folders == found
        assert survey.statuses == session.statuses([f.name for f in found if f.selectable])
        assert survey.statuses["INBOX"].messages == 1
        assert (survey.statuses["INBOX"].highestmodseq > 1) == (profile == "gmail"), "only Gmail of these counts changes"
        assert (survey.statuses["INBOX"].uidnext == 0) == (not server.profile.status_uidnext)
        session.logout()


def test_a_survey_is_one_flight_where_list_brings_the_counts() -> None:
    def talk(peer: Peer) -> None:
        place, listing = peer.expect(b"NAMESPACE"), peer.expect(
            b'LIST "" "*" RETURN (SPECIAL-USE STATUS (MESSAGES UIDNEXT UIDVALIDITY SIZE HIGHESTMODSEQ))')
        peer.send(b'* NAMESPACE (("INBOX." ".")) NIL NIL\r\n' + place + b' OK\r\n* LIST (\\Sent) "." INBOX.Sent\r\n'
                  b"* STATUS INBOX.Sent (MESSAGES 3 UIDNEXT 9 UIDVALIDITY 5 SIZE 77 HIGHESTMODSEQ 12345678901234)\r\n"
                  b'* LIST () "." inbox\r\n* STATUS Inbox (MESSAGES 0 UIDNEXT 1 UIDVALIDITY 4 HIGHESTMODSEQ 0)\r\n'
                  b'* LIST (\\Noselect) "." x\r\n' + listing + b" OK\r\n")

    offered = b"IMAP4rev1 NAMESPACE SPECIAL-USE LIST-EXTENDED LIST-STATUS STATUS=SIZE CONDSTORE"
    with Scripted(after_login(talk), capabilities=offered) as server, server.session() as session:
        survey = session.survey()
    assert (survey.prefix, survey.separator, [f.name for f in survey.folders]) == ("INBOX.", ".", ["INBOX.Sent", "INBOX", "x"])
    assert survey.statuses == {"INBOX.Sent": FolderStatus(3, 9, 5, 77, 12345678901234), "INBOX": FolderStatus(0, 1, 4)}
    assert b"ENABLE" not in server.heard


def test_a_survey_is_two_flights_elsewhere_and_leaves_out_what_is_refused() -> None:
    def talk(peer: Peer) -> None:
        tags = [peer.expect(start) for start in (b'LIST "" ""', b'LIST "" "*"', b'XLIST "" "*"')]
        peer.send(b'* LIST (\\Noselect) "/" ""\r\n' + tags[0] + b' OK\r\n* LIST () "/" INBOX\r\n* LIST () "/" a\r\n' + tags[1] +
                  b' OK\r\n* XLIST (\\Sent) "/" a\r\n' + tags[2] + b" OK\r\n")
        tags = [peer.expect(b"STATUS") for _ in range(2)]
        peer.send(b"* STATUS INBOX (MESSAGES 1 UIDVALIDITY 3)\r\n" + tags[0] + b" OK\r\n" + tags[1] + b" NO [NONEXISTENT] gone\r\n")

    with Scripted(after_login(talk), capabilities=b"IMAP4rev1 XLIST") as server, server.session() as session:
        survey = session.survey()
    assert (survey.prefix, survey.separator) == ("", "/")
    assert [sorted(f.attributes) for f in survey.folders] == [[], ["\\sent"]]
    assert survey.statuses == {"INBOX": FolderStatus(1, 0, 3)}


def test_a_survey_that_is_offered_and_refused_is_taken_the_plain_way() -> None:
    def talk(peer: Peer) -> None:
        place, listing = peer.expect(b"NAMESPACE"), peer.expect(b'LIST "" "*" RETURN')
        peer.send(place + b" NO no namespaces today\r\n" + listing + b" BAD what is RETURN\r\n")
        peer.answer(b'LIST "" "*"', b'LIST () "/" a')
        peer.answer(b"NAMESPACE", b'NAMESPACE NIL NIL NIL')
        peer.answer(b'LIST "" ""', b'LIST (\\Noselect) "/" ""')
        peer.answer(b'STATUS "a" (MESSAGES UIDNEXT UIDVALIDITY)', b"STATUS a (MESSAGES 7 UIDNEXT 8 UIDVALIDITY 9)")

    with Scripted(after_login(talk), capabilities=b"IMAP4rev1 NAMESPACE LIST-EXTENDED LIST-STATUS CONDSTORE") as server, \
         server.session() as session:
        survey = session.survey()
    assert (survey.prefix, survey.separator, survey.statuses) == ("", "/", {"a": FolderStatus(7, 8, 9)})


@pytest.mark.parametrize("verb", [b"LIST", b"STATUS"])
def test_a_survey_that_is_throttled_says_so(verb: bytes) -> None:
    def talk(peer: Peer) -> None:
        tags = [peer.expect(b"LIST"), peer.expect(b"LIST")]
        refused = b" NO " + BACKOFF if verb == b"LIST" else b" OK"
        peer.send(tags[0] + b' OK\r\n* LIST () "/" a\r\n' + tags[1] + refused + b"\r\n")
        if verb == b"STATUS":
            peer.answer(b"STATUS", status=b"NO " + BACKOFF)

    with Scripted(after_login(talk)) as server, server.session() as session, pytest.raises(Throttled) as caught:
        session.survey()
    assert caught.value.retry_after == 300
