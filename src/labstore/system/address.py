"""Service addresses on this machine: put there, taken away, announced, and never where another machine has them."""

from __future__ import annotations

import contextlib
import errno
import ipaddress
import select
import socket
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labstore.formats import packets
from labstore.model.address import Client
from labstore.model.failover import InterfaceName
from labstore.model.nfsd import Connection
from labstore.system.own_addresses import own_addresses

_NO_DAD = 0x02
ETHERNET = 1


class AddressFailed(Exception):
    """An address could not be put, taken or announced."""


@dataclass(frozen=True, slots=True)
class Interface:
    """`hardware` is its Ethernet address; empty for one that has none (loopback, tunnels)."""

    index: int
    name: InterfaceName
    hardware: bytes


@dataclass(frozen=True)
class Addresses:
    """`sys_net` is /sys/class/net; tests have their own."""

    sys_net: Path = Path("/sys/class/net")

    def here(self) -> frozenset[Client]:
        """Every address of every interface. Raises AddressFailed."""
        try:
            return own_addresses()
        except (OSError, ValueError) as error:
            raise AddressFailed(f"this node's addresses: {error}") from error

    def prepare(self) -> None:
        """Load what takes long to load, before clients are made to wait."""
        with contextlib.suppress(AddressFailed), _netlink():
            pass

    def _every(self) -> list[tuple[Client, int, int]]:
        """(address, interface index, prefix length)."""
        with _netlink() as netlink:
            found: list[tuple[Client, int, int]] = []
            for message in netlink.get_addr():
                text = message.get_attr("IFA_LOCAL") or message.get_attr("IFA_ADDRESS")
                with contextlib.suppress(ValueError):
                    found.append((Client(str(text)), int(message["index"]), int(message["prefixlen"])))
            return found

    def interface(self, name: InterfaceName) -> Interface:
        """Raises AddressFailed where there is none of this name, or where it is down."""
        with _netlink() as netlink:
            found = netlink.link_lookup(ifname=name)
            if not found:
                raise AddressFailed(f"there is no interface {name}")
            link = netlink.get_links(found[0])[0]
            if not link["flags"] & 1:
                raise AddressFailed(f"interface {name} is down")
            hardware = link.get_attr("IFLA_ADDRESS") if int(link["ifi_type"]) == ETHERNET else None
        return Interface(int(found[0]), name, bytes.fromhex(hardware.replace(":", "")) if hardware else b"")

    def interface_for(self, address: Client) -> InterfaceName:
        """The interface in whose network the address lies: the one that has an address of the same network.
        Raises AddressFailed."""
        for own, index, prefix in self._every():
            if own != address and own.version == address.version and prefix < (32 if own.version == 4 else 128):
                network = ipaddress.ip_network((own, prefix), strict=False)
                if ipaddress.ip_address(address) in network:
                    with _netlink() as netlink:
                        return InterfaceName(netlink.get_links(index)[0].get_attr("IFLA_IFNAME"))
        raise AddressFailed(f"no interface is in the network of {address}; name it in the site file")

    def add(self, address: Client, interface: Interface) -> None:
        """Put the address on the interface, alone in its network (/32, /128), so that it never becomes the source of
        anything else. One that is there already is fine. Raises AddressFailed."""
        with _netlink(f"{address} on {interface.name}", passing=(errno.EEXIST,)) as netlink:
            netlink.addr("add", **_request(address, interface.index))

    def remove(self, address: Client) -> None:
        """Take the address away from every interface that has it. Raises AddressFailed."""
        for found, index, prefix in self._every():
            if found != address:
                continue
            with _netlink(str(address), passing=(errno.EADDRNOTAVAIL, errno.ENODEV)) as netlink:
                netlink.addr("del", index=index, address=str(address), prefixlen=prefix)

    # --- the others -------------------------------------------------------------------------------------------------

    def announce(self, address: Client, interface: Interface) -> None:
        """Tell everybody on the link that the address is here now (gratuitous ARP, unsolicited advertisement). Where
        the link has no such thing, nothing is said. Raises AddressFailed."""
        if not interface.hardware:
            return
        numeric = ipaddress.ip_address(address)
        try:
            if isinstance(numeric, ipaddress.IPv4Address):
                with _packet_socket(interface) as link:
                    link.send(packets.announcement(interface.hardware, numeric))
            else:
                with _icmp6(interface, str(numeric)) as everybody:
                    message = packets.neighbour_advertisement(interface.hardware, numeric)
                    everybody.sendto(message, ("ff02::1", 0, 0, interface.index))
        except OSError as error:
            raise AddressFailed(f"{address} cannot be announced on {interface.name}: {error}") from error

    def taken_by(self, address: Client, interface: Interface, wait: float = 0.6, probes: int = 3) -> str | None:
        """The hardware address of another machine that has this address, None if nobody says so within `wait`
        seconds. Raises AddressFailed."""
        if not interface.hardware:
            return None
        numeric = ipaddress.ip_address(address)
        try:
            if isinstance(numeric, ipaddress.IPv4Address):
                return _probed4(numeric, interface, wait, probes)
            return _probed6(numeric, interface, wait, probes)
        except OSError as error:
            raise AddressFailed(f"nobody can be asked for {address} on {interface.name}: {error}") from error

    def tickle(self, connections: Iterable[Connection]) -> int:
        """Let clients notice that their old connections are gone; returns how many were told. A client that cannot be
        reached finds out by itself."""
        told = 0
        for connection in connections:
            with contextlib.suppress(OSError, ValueError):
                server, client = ipaddress.ip_address(connection.server), ipaddress.ip_address(connection.client)
                family = socket.AF_INET if server.version == 4 else socket.AF_INET6
                with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
                    raw.bind((str(server), 0))
                    segment = packets.tickle(server, connection.server_port, client, connection.client_port)
                    raw.sendto(segment, (str(client), 0))
                told += 1
        return told


def _request(address: Client, index: int) -> dict[str, Any]:
    request: dict[str, Any] = {"index": index, "address": str(address)}
    if address.version == 4:
        return {**request, "prefixlen": 32}
    return {**request, "prefixlen": 128, "flags": _NO_DAD}  # we have asked ourselves, and may not wait for the kernel


@contextlib.contextmanager
def _netlink(what: str = "netlink", passing: tuple[int, ...] = ()) -> Iterator[Any]:
    """An open netlink; errors of these numbers mean that it is so already."""
    from pyroute2 import IPRoute  # noqa: PLC0415 - a fifth of the time of a whole command, and few need it
    from pyroute2.netlink.exceptions import NetlinkError  # noqa: PLC0415 - as above

    try:
        with IPRoute() as netlink:
            yield netlink
    except NetlinkError as error:
        if error.code not in passing:
            raise AddressFailed(f"{what}: {error}") from error
    except OSError as error:
        raise AddressFailed(f"{what}: {error}") from error


def _packet_socket(interface: Interface) -> socket.socket:
    link = socket.socket(socket.AF_PACKET, socket.SOCK_RAW, socket.htons(packets.ETHERTYPE_ARP))
    link.bind((str(interface.name), packets.ETHERTYPE_ARP))
    return link


def _icmp6(interface: Interface, source: str | None = None) -> socket.socket:
    found = socket.socket(socket.AF_INET6, socket.SOCK_RAW, socket.IPPROTO_ICMPV6)
    found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_HOPS, 255)
    found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_UNICAST_HOPS, 255)
    found.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_MULTICAST_IF, interface.index)
    if source is not None:
        with contextlib.suppress(OSError):  # not ours yet or no more: the link's own address speaks
            found.bind((source, 0, 0, interface.index))
    return found


def _probed4(address: ipaddress.IPv4Address, interface: Interface, wait: float, probes: int) -> str | None:
    with _packet_socket(interface) as link:
        for _ in range(probes):
            link.send(packets.probe(interface.hardware, address))
            for frame in _heard(link, wait / probes):
                other = packets.conflicts(frame, address, interface.hardware)
                if other is not None:
                    return other.hex(":")
    return None


def _probed6(address: ipaddress.IPv6Address, interface: Interface, wait: float, probes: int) -> str | None:
    group = str(packets.solicited_node(address))
    with _icmp6(interface) as link:
        for _ in range(probes):
            link.sendto(packets.neighbour_solicitation(interface.hardware, address), (group, 0, 0, interface.index))
            for message in _heard(link, wait / probes):
                if packets.advertises(message, address):
                    return message[26:32].hex(":") if len(message) >= 32 else "somebody"
    return None


def _heard(link: socket.socket, wait: float) -> Iterator[bytes]:
    ends = time.monotonic() + wait
    while (left := ends - time.monotonic()) > 0:
        if select.select([link], [], [], left)[0]:
            yield link.recv(2048)
