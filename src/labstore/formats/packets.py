"""The few packets that moving an address needs: ARP (RFC 826, 5227), neighbour discovery (RFC 4861), and the TCP
segment that makes a client notice at once that its connection is gone."""

from __future__ import annotations

import ipaddress
import struct
from dataclasses import dataclass

BROADCAST = b"\xff" * 6
ETHERTYPE_ARP = 0x0806
_ETHERNET, _IPV4 = 1, 0x0800
_REQUEST, _REPLY = 1, 2
_NEIGHBOUR_SOLICITATION, _NEIGHBOUR_ADVERTISEMENT = 135, 136
_OVERRIDE = 0x20000000
_ACK = 0x10

Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class BadPacket(ValueError):
    """Bytes that are not the packet they should be."""


@dataclass(frozen=True, slots=True)
class Arp:
    """What an ARP packet says: who has which address, who asks."""

    request: bool
    sender: bytes
    sender_address: ipaddress.IPv4Address
    target_address: ipaddress.IPv4Address


def arp(
    request: bool, sender: bytes, sender_address: ipaddress.IPv4Address, target_address: ipaddress.IPv4Address
) -> bytes:
    """An Ethernet frame to everybody. A probe has the sender address 0.0.0.0; an announcement names the same address
    twice."""
    body = struct.pack(">HHBBH", _ETHERNET, _IPV4, 6, 4, _REQUEST if request else _REPLY)
    target = b"\0" * 6 if request else BROADCAST
    body += sender + sender_address.packed + target + target_address.packed
    return BROADCAST + sender + struct.pack(">H", ETHERTYPE_ARP) + body


def announcement(sender: bytes, address: ipaddress.IPv4Address) -> bytes:
    """A gratuitous ARP request: most switches and hosts learn from it."""
    return arp(True, sender, address, address)


def probe(sender: bytes, address: ipaddress.IPv4Address) -> bytes:
    """Who has this address? Nobody's table changes by it (RFC 5227, 2.1.1)."""
    return arp(True, sender, ipaddress.IPv4Address(0), address)


def read_arp(frame: bytes) -> Arp:
    """Raises BadPacket."""
    if len(frame) < 42 or frame[12:14] != struct.pack(">H", ETHERTYPE_ARP):
        raise BadPacket("no ARP frame")
    hardware, protocol, hardware_size, size, operation = struct.unpack(">HHBBH", frame[14:22])
    if (hardware, protocol, hardware_size, size) != (_ETHERNET, _IPV4, 6, 4) or operation not in (_REQUEST, _REPLY):
        raise BadPacket("not ARP for IPv4 on Ethernet")
    return Arp(
        request=operation == _REQUEST,
        sender=frame[22:28],
        sender_address=ipaddress.IPv4Address(frame[28:32]),
        target_address=ipaddress.IPv4Address(frame[38:42]),
    )


def conflicts(frame: bytes, address: ipaddress.IPv4Address, own: bytes) -> bytes | None:
    """The hardware address of somebody else who has this address or is about to take it; None for any other frame."""
    try:
        said = read_arp(frame)
    except BadPacket:
        return None
    claims = said.sender_address == address
    probes = said.request and int(said.sender_address) == 0 and said.target_address == address
    return said.sender if (claims or probes) and said.sender != own else None


# --- IPv6 ------------------------------------------------------------------------------------------------------------


def neighbour_advertisement(sender: bytes, address: ipaddress.IPv6Address) -> bytes:
    """The ICMPv6 message of an unsolicited advertisement to all nodes; the kernel adds the checksum."""
    head = struct.pack(">BBHI", _NEIGHBOUR_ADVERTISEMENT, 0, 0, _OVERRIDE)
    return head + address.packed + struct.pack(">BB", 2, 1) + sender


def neighbour_solicitation(sender: bytes, address: ipaddress.IPv6Address) -> bytes:
    """The ICMPv6 message that asks who has this address. It names who asks: Linux answers nobody else that it does not
    know yet (RFC 4861, 4.3)."""
    return struct.pack(">BBHI", _NEIGHBOUR_SOLICITATION, 0, 0, 0) + address.packed + struct.pack(">BB", 1, 1) + sender


def advertises(message: bytes, address: ipaddress.IPv6Address) -> bool:
    """Whether an ICMPv6 message says that somebody has this address."""
    return len(message) >= 24 and message[0] == _NEIGHBOUR_ADVERTISEMENT and message[8:24] == address.packed


def solicited_node(address: ipaddress.IPv6Address) -> ipaddress.IPv6Address:
    """The multicast group in which a node with this address listens (RFC 4291, 2.7.1)."""
    return ipaddress.IPv6Address(int(ipaddress.IPv6Address("ff02::1:ff00:0")) | int(address) & 0xFFFFFF)


# --- TCP -------------------------------------------------------------------------------------------------------------


def tickle(server: Address, server_port: int, client: Address, client_port: int) -> bytes:
    """A segment that acknowledges nothing. A client with this connection answers it with its true numbers, our kernel
    knows no such connection and resets it, and the client connects anew instead of waiting for its next
    retransmission, which may be as far away as the failover was long."""
    head = struct.pack(">HHIIBBHHH", server_port, client_port, 0, 0, 5 << 4, _ACK, 0, 0, 0)
    if server.version == 4:
        pseudo = server.packed + client.packed + struct.pack(">BBH", 0, 6, len(head))
    else:
        pseudo = server.packed + client.packed + struct.pack(">IHBB", len(head), 0, 0, 6)
    return head[:16] + struct.pack(">H", checksum(pseudo + head)) + head[18:]


def checksum(data: bytes) -> int:
    """The Internet checksum (RFC 1071)."""
    if len(data) % 2:
        data += b"\0"
    total: int = sum(struct.unpack(f">{len(data) // 2}H", data))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return ~total & 0xFFFF
