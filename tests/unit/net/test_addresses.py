"""Which addresses may be dialled: the table, what wraps what, and what a route may open."""
from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from engine.causes import Cause
from engine.errors import EngineError
from engine.net.addresses import EVERYWHERE, vet

DENIED = [
    "0.1.2.3", "10.1.2.3", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.255.255.254", "169.254.169.254", "172.16.0.1",
    "172.31.255.255",
    "192.0.0.8", "192.0.2.1", "192.168.1.1", "198.18.0.1", "198.51.100.7", "203.0.113.9", "240.0.0.1", "::1", "::2", "::7f00:1",
    "::ffff:127.0.0.1", "::ffff:10.0.0.1", "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::1", "2002:7f00:1::1", "2002:a00:1::",
    "2001:0:53aa:64c:0:fbff:80ff:fffe", "2001:db8::1", "fc00::1", "fd12:3456::1", "fe80::1", "fec0::1", "100::1",
]
NEVER = ["0.0.0.0", "224.0.0.1", "239.255.255.250", "255.255.255.255", "::", "ff02::1", "::ffff:224.0.0.1", "64:ff9b::e000:1",
         "2002:e000:1::"]
PUBLIC = ["8.8.8.8", "123.126.96.1", "1.0.0.1", "223.5.5.5", "2400:3200::1", "2606:4700:4700::1111", "::ffff:8.8.8.8"]
NO_ADDRESS = ["", "localhost", "127.1", "0x7f000001", "2130706433", "0177.0.0.1", "127.0.0.01", "1.2.3.4.5", "1.2.3.4 ",
              "fe80::1%eth0", "a\0"]


def refused(address: str, allowed: tuple[ipaddress.IPv4Network | ipaddress.IPv6Network, ...] = ()) -> bool:
    try:
        vet(address, allowed)
    except EngineError as error:
        assert error.cause is Cause.ADDRESS_REFUSED
        return True
    return False


@pytest.mark.parametrize("address", DENIED + NEVER + NO_ADDRESS)
def test_internal_and_special_addresses_are_refused(address: str) -> None:
    assert refused(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_pass(address: str) -> None:
    assert not refused(address)


@pytest.mark.parametrize("address", NEVER)
def test_multicast_and_unspecified_are_refused_even_where_everything_is_allowed(address: str) -> None:
    assert refused(address, EVERYWHERE)


@pytest.mark.parametrize("address", [a for a in DENIED if a != "0.1.2.3"])
def test_everything_else_may_be_opened(address: str) -> None:
    assert not refused(address, EVERYWHERE)


def test_a_network_opens_itself_and_nothing_else() -> None:
    lab = (ipaddress.ip_network("127.0.0.0/8"),)
    assert not refused("127.0.0.1", lab)
    assert not refused("::ffff:127.0.0.1", lab)
    assert refused("10.0.0.1", lab)
    assert refused("::1", lab)
    assert refused("64:ff9b::7f00:1", lab), "the translator's own prefix is still closed"


@settings(deadline=None)
@given(st.ip_addresses())
def test_every_address_gets_an_answer(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    assert isinstance(refused(str(address)), bool)


@settings(deadline=None)
@given(st.ip_addresses(v=4))
def test_a_mapped_address_is_judged_as_what_it_maps(address: ipaddress.IPv4Address) -> None:
    assert refused(f"::ffff:{address}") == refused(str(address))
