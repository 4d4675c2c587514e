"""Addresses of clients: single addresses and networks, canonical, never the whole world by accident."""

from __future__ import annotations

import ipaddress
import re
from functools import lru_cache
from typing import Self

from labstore.model.names import shown

Network = ipaddress.IPv4Network | ipaddress.IPv6Network

SHORTEST_PREFIX = {4: 8, 6: 32}
"""No network wider than this is ever a client of a private share."""

_PLAIN_IPV4 = re.compile(r"\.".join([r"(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])"] * 4))
_UNUSUAL = frozenset({0, *range(224, 256)})
"""First bytes of IPv4 addresses that are looked at closely: the unspecified one and multicast among them."""


class Client(str):
    """Who may mount: one address (`10.1.2.3`, `2001:db8::1`) or one network (`10.1.2.0/24`), in canonical text.

    Host names, wildcards, netgroups, `/0`, host bits below the prefix, multicast and the unspecified address raise
    ValueError. An IPv4 address in IPv6 clothing becomes the IPv4 address. Any name in the table would make mountd
    resolve every client (research: exportfs), so there are none.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        return super().__new__(cls, _canonical(text))

    @property
    def network(self) -> Network:
        return _network(self)

    @property
    def version(self) -> int:
        return 6 if ":" in self else 4

    @property
    def single(self) -> bool:
        """Whether this is one address."""
        return "/" not in self

    def covers(self, other: Client) -> bool:
        """Whether every address of `other` is an address of this client."""
        mine, theirs = self.network, other.network
        return mine.version == theirs.version and theirs.subnet_of(mine)  # type: ignore[arg-type]


def in_order(clients: set[Client] | frozenset[Client] | list[Client] | tuple[Client, ...]) -> tuple[Client, ...]:
    """Numeric order, IPv4 first: the same set always renders the same line."""
    return tuple(sorted(clients, key=_sort_key))


@lru_cache(maxsize=1 << 17)
def _sort_key(client: Client) -> tuple[int, int, int]:
    numbers = _plain_ipv4(client)
    if numbers is not None:
        return 4, int.from_bytes(numbers, "big"), 32
    network = client.network
    return network.version, int(network.network_address), network.prefixlen


@lru_cache(maxsize=1 << 17)
def _network(text: str) -> Network:
    return ipaddress.ip_network(text)


@lru_cache(maxsize=1 << 17)
def _canonical(text: str) -> str:
    if not isinstance(text, str) or not text.isascii() or "%" in text:
        raise ValueError(f"{shown(text)} is not an address or network")
    numbers = _plain_ipv4(text)
    if numbers is not None and numbers[0] not in _UNUSUAL:
        return text
    try:
        network = ipaddress.ip_network(text)
    except ValueError as error:
        raise ValueError(f"{shown(text)} is not an address or network ({_reason(text, error)})") from None
    if isinstance(network, ipaddress.IPv6Network) and network.prefixlen >= 96:
        mapped = network.network_address.ipv4_mapped
        if mapped is not None:
            network = ipaddress.ip_network((mapped, network.prefixlen - 96))
    if network.prefixlen < SHORTEST_PREFIX[network.version]:
        raise ValueError(f"{shown(text)} is wider than a /{SHORTEST_PREFIX[network.version]}: too wide for a client")
    if network.is_multicast or network.is_unspecified or network.network_address.is_unspecified:
        raise ValueError(f"{shown(text)} is not the address of a client")
    single = network.prefixlen == network.max_prefixlen
    return str(network.network_address) if single else str(network)


def _plain_ipv4(text: str) -> tuple[int, ...] | None:
    """The four numbers of `10.1.2.3`, None for all else: the common case, several times as fast as ipaddress has it."""
    found = _PLAIN_IPV4.fullmatch(text)
    return tuple(map(int, found.groups())) if found else None


def _reason(text: str, error: ValueError) -> str:
    if "host bits" in str(error):
        return f"host bits set; did you mean {ipaddress.ip_network(text, strict=False)}?"
    if any(sign in text for sign in "*?@"):
        return "no wildcards or netgroups"
    return "IPv4, IPv6 or CIDR; names are not resolved"
