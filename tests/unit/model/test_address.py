"""Clients: addresses and networks, never the world by accident."""

from __future__ import annotations

import ipaddress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labstore.model.address import Client, in_order


@pytest.mark.parametrize(
    ("text", "canonical"),
    [
        ("10.0.0.1", "10.0.0.1"),
        ("10.0.0.1/32", "10.0.0.1"),
        ("10.1.0.0/16", "10.1.0.0/16"),
        ("2001:DB8::0001", "2001:db8::1"),
        ("2001:db8::/64", "2001:db8::/64"),
        ("::ffff:10.0.0.1", "10.0.0.1"),
        ("::ffff:10.1.0.0/112", "10.1.0.0/16"),
        ("127.77.0.5", "127.77.0.5"),
    ],
)
def test_addresses_have_one_form(text: str, canonical: str) -> None:
    assert Client(text) == canonical


@pytest.mark.parametrize(
    "text",
    [
        "*",
        "0.0.0.0/0",
        "::/0",
        "0.0.0.0",
        "::",
        "10.0.0.0/7",
        "2000::/16",
        "10.0.0.1/24",
        "*.example.org",
        "@hosts",
        "host",
        "10.0.0",
        "10.0.0.256",
        "010.0.0.1",
        "10.0.0.1 *",
        "10.0.0.1(rw)",
        "10.0.0.1\n",
        " 10.0.0.1",
        "224.0.0.1",
        "ff02::1",
        "fe80::1%eth0",
        "",
        "1",
        "0x7f000001",
        "10.0.0.1,10.0.0.2",
        "١٠.0.0.1",
        "::ffff:0.0.0.0/96",
        "10.0.0.0/255.255.0.0x",
    ],
    ids=ascii,
)
def test_nothing_else_is_a_client(text: str) -> None:
    with pytest.raises(ValueError, match=r"address|client|wide"):
        Client(text)


def test_a_network_with_host_bits_says_which_was_meant() -> None:
    with pytest.raises(ValueError, match=r"did you mean 10\.0\.0\.0/24"):
        Client("10.0.0.1/24")


@given(st.ip_addresses())
def test_any_unicast_address_is_itself(address: ipaddress.IPv4Address | ipaddress.IPv6Address) -> None:
    try:
        client = Client(str(address))
    except ValueError:
        assert address.is_multicast or address.is_unspecified or ipaddress.ip_address(address) in _MAPPED_BAD
        return
    mapped = getattr(address, "ipv4_mapped", None)
    assert ipaddress.ip_address(client) == (mapped or address)
    assert Client(client) == client


class _Mapped:
    def __contains__(self, address: object) -> bool:
        mapped = getattr(address, "ipv4_mapped", None)
        return mapped is not None and (mapped.is_multicast or mapped.is_unspecified)


_MAPPED_BAD = _Mapped()


def test_order_is_numeric_and_ipv4_first() -> None:
    shuffled = [Client(text) for text in ("2001:db8::1", "10.0.0.10", "10.0.0.9", "9.0.0.0/8", "10.0.0.0/24")]
    assert in_order(shuffled) == ("9.0.0.0/8", "10.0.0.0/24", "10.0.0.9", "10.0.0.10", "2001:db8::1")


def test_covering() -> None:
    assert Client("10.0.0.0/24").covers(Client("10.0.0.77"))
    assert Client("10.0.0.0/24").covers(Client("10.0.0.0/25"))
    assert not Client("10.0.0.0/25").covers(Client("10.0.0.200"))
    assert not Client("10.0.0.0/24").covers(Client("2001:db8::1"))
