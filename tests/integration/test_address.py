"""Service addresses on real interfaces, between two machines that are network namespaces."""

from __future__ import annotations

import contextlib
import ipaddress
import socket
from collections.abc import Iterator

import pytest

from labstore.formats import packets
from labstore.model.address import Client
from labstore.model.failover import InterfaceName
from labstore.model.nfsd import Connection
from labstore.system.address import Addresses, AddressFailed, Interface
from tests.support.hang import HANGS
from tests.support.net_namespace import Net, give

pytestmark = pytest.mark.root

HERE, THERE, SERVICE = "10.77.0.11", "10.77.0.12", Client("10.77.0.10")
SERVICE6 = Client("2001:db8::10")
ETH = InterfaceName("eth0")
ADDRESSES = Addresses()


class Wire:
    """Two machines on one cable, each with an address of its own; a command runs on the first one."""

    def __init__(self) -> None:
        self.first, self.second = Net(), Net()
        self.first.cable(self.second, "eth0", "eth9")
        self.first.do(lambda: give("eth0", HERE, 24))
        self.first.do(lambda: give("eth0", "2001:db8::11", 64))
        self.second.do(lambda: give("eth9", THERE, 24))

    @property
    def eth(self) -> Interface:
        return self.first.do(lambda: ADDRESSES.interface(ETH))

    def here(self) -> frozenset[Client]:
        return self.first.do(ADDRESSES.here)


@pytest.fixture
def wire() -> Iterator[Wire]:
    found = Wire()
    yield found
    found.first.close()
    found.second.close()


@pytest.mark.parametrize("address", [SERVICE, SERVICE6])
def test_an_address_comes_and_goes_and_doing_it_again_does_nothing(wire: Wire, address: Client) -> None:
    before, eth = wire.here(), wire.eth
    for _ in range(2):
        wire.first.do(lambda: ADDRESSES.add(address, eth))
        assert wire.here() == before | {address}
    for _ in range(2):
        wire.first.do(lambda: ADDRESSES.remove(address))
        assert wire.here() == before


def test_no_other_address_is_mistaken_for_it(wire: Wire) -> None:
    """The original looked for a part of a string (upstream 1.10)."""
    wire.first.do(lambda: give("eth0", "10.77.0.1", 24))
    wire.first.do(lambda: ADDRESSES.remove(Client("10.77.0.1")))
    assert Client(HERE) in wire.here() and Client("10.77.0.1") not in wire.here()
    assert SERVICE not in wire.here()


def test_a_service_address_is_never_where_packets_come_from(wire: Wire) -> None:
    eth = wire.eth
    wire.first.do(lambda: ADDRESSES.add(SERVICE, eth))

    def source() -> str:
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
            probe.connect((THERE, 9))
            return str(probe.getsockname()[0])

    assert wire.first.do(source) == HERE


def test_the_interface_is_found_by_its_network(wire: Wire) -> None:
    assert wire.first.do(lambda: ADDRESSES.interface_for(SERVICE)) == ETH
    assert wire.first.do(lambda: ADDRESSES.interface_for(SERVICE6)) == ETH
    with pytest.raises(AddressFailed, match=r"no interface is in the network of 192\.0\.2\.1"):
        wire.first.do(lambda: ADDRESSES.interface_for(Client("192.0.2.1")))


def test_an_interface_that_is_not_there_or_down_is_said(wire: Wire) -> None:
    with pytest.raises(AddressFailed, match="there is no interface eth7"):
        wire.first.do(lambda: ADDRESSES.interface(InterfaceName("eth7")))
    with pytest.raises(AddressFailed, match="interface lo is down"):
        wire.first.do(lambda: ADDRESSES.interface(InterfaceName("lo")))


@pytest.mark.parametrize(("address", "prefix"), [(SERVICE, 24), (SERVICE6, 64)])
def test_an_address_that_another_machine_has_is_noticed(wire: Wire, address: Client, prefix: int) -> None:
    """Two owners of an address are never made."""
    eth = wire.eth
    assert wire.first.do(lambda: ADDRESSES.taken_by(address, eth)) is None
    wire.second.do(lambda: give("eth9", address, prefix))
    other = wire.second.do(lambda: ADDRESSES.interface(InterfaceName("eth9"))).hardware
    assert wire.first.do(lambda: ADDRESSES.taken_by(address, eth, wait=5.0)) == other.hex(":")


def test_everybody_on_the_cable_hears_where_it_is_now(wire: Wire) -> None:
    eth = wire.eth
    listener = wire.second.do(lambda: socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(0x0806)))
    with contextlib.closing(listener):
        listener.bind(("eth9", 0x0806))
        listener.settimeout(HANGS)
        wire.first.do(lambda: ADDRESSES.announce(SERVICE, eth))
        heard = listener.recv(2048)
    assert heard == packets.announcement(eth.hardware, ipaddress.IPv4Address(SERVICE))
    assert heard[:6] == b"\xff" * 6 and heard[6:12] == eth.hardware


def test_where_nobody_can_be_told_nothing_is_said(wire: Wire) -> None:
    silent = Interface(1, InterfaceName("lo"), b"")
    wire.first.do(lambda: ADDRESSES.announce(SERVICE, silent))
    assert wire.first.do(lambda: ADDRESSES.taken_by(SERVICE, silent)) is None


def test_clients_are_told_that_their_connections_are_gone(wire: Wire) -> None:
    eth = wire.eth
    wire.first.do(lambda: ADDRESSES.add(SERVICE, eth))
    listener = wire.second.do(lambda: socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP))
    connections = [Connection(SERVICE, 2049, THERE, 700), Connection("nonsense", 2049, THERE, 700)]
    with contextlib.closing(listener):
        listener.settimeout(HANGS)
        assert wire.first.do(lambda: ADDRESSES.tickle(connections)) == 1
        segment = listener.recv(2048)[20:]
    assert (int.from_bytes(segment[:2]), int.from_bytes(segment[2:4])) == (2049, 700)


def test_what_libc_says_is_what_the_kernel_has(wire: Wire) -> None:
    eth = wire.eth
    for address in (SERVICE, SERVICE6):
        wire.first.do(lambda address=address: ADDRESSES.add(address, eth))  # type: ignore[misc]
    known = wire.first.do(lambda: frozenset(address for address, _, _ in ADDRESSES._every()))
    assert wire.here() == known >= {SERVICE, SERVICE6, Client(HERE)}
