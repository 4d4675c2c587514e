"""`nft --json list table`: which addresses our two sets hold, and whether the rules that use them are there."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import dataclass

from labstore.model.address import Client

TABLE = "labstore_failover"
SETS = {4: "blocked4", 6: "blocked6"}
RULES = 4
"""In and out, for each of two families."""


class BadListing(ValueError):
    """Not nft's JSON, or not our table."""


@dataclass(frozen=True, slots=True)
class Barrier:
    """What stands between clients and this node. `whole` is False where rules of ours were taken out by somebody."""

    addresses: frozenset[Client] = frozenset()
    whole: bool = False
    dropped: int = 0


def barrier(text: str) -> Barrier:
    """Raises BadListing."""
    try:
        parts = json.loads(text)["nftables"]
        addresses = {
            Client(str(element))
            for part in parts
            if "set" in part and part["set"]["name"] in SETS.values()
            for element in part["set"].get("elem", ())
        }
        rules = [part["rule"] for part in parts if "rule" in part]
    except (ValueError, KeyError, TypeError, RecursionError) as error:
        raise BadListing(f"not nft's JSON: {type(error).__name__} {error}"[:200]) from None
    ours = [rule for rule in rules if any("drop" in each for each in rule.get("expr", ()))]
    dropped = sum(
        int(each["counter"]["packets"])
        for rule in ours
        for each in rule.get("expr", ())
        if isinstance(each.get("counter"), dict)
    )
    return Barrier(frozenset(addresses), len(ours) == RULES, dropped)


def raised(addresses: Iterable[Client]) -> str:
    """The text for `nft -f -` that blocks exactly these addresses, whatever was there before, in one transaction.

    Silence in both directions: clients of hard mounts wait. A refused connection, a reset or a closed one would set
    off their back-off of up to 300 s (research: kernel fact 13). What a node says to itself over `lo` is let through,
    so that it can be seen from inside whether all is well.
    """
    by_version: dict[int, list[str]] = {4: [], 6: []}
    for address in sorted(addresses):
        by_version[address.version].append(address)
    lines = [f"table inet {TABLE}", f"delete table inet {TABLE}", f"table inet {TABLE} {{"]
    for version, kind in ((4, "ipv4_addr"), (6, "ipv6_addr")):
        elements = f" elements = {{ {', '.join(by_version[version])} }};" if by_version[version] else ""
        lines.append(f"  set {SETS[version]} {{ type {kind};{elements} }}")
    lines += [
        "  chain in {",
        "    type filter hook input priority -310; policy accept;",
        f'    iifname != "lo" ip daddr @{SETS[4]} tcp dport 2049 counter drop',
        f'    iifname != "lo" ip6 daddr @{SETS[6]} tcp dport 2049 counter drop',
        "  }",
        "  chain out {",
        "    type filter hook output priority -310; policy accept;",
        f'    oifname != "lo" ip saddr @{SETS[4]} tcp sport 2049 counter drop',
        f'    oifname != "lo" ip6 saddr @{SETS[6]} tcp sport 2049 counter drop',
        "  }",
        "}",
        "",
    ]
    return "\n".join(lines)


def lifted() -> str:
    """The text that takes the whole table away, there or not."""
    return f"table inet {TABLE}\ndelete table inet {TABLE}\n"
