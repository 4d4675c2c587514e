"""What a node is doing, seen without labstore: from the kernel alone, in one cheap look."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from labstore.formats.nft_json import TABLE
from tests.lab.lab import Lab
from tests.lab.layout import SERVICE
from tests.lab.machine import Machine
from tests.lab.waiting import wait_until
from tests.scenarios.conftest import NODES

JOURNAL = "/var/lib/labstore-failover/primary.journal"
LOOK = f"""
echo $(cat /proc/drbd 2>/dev/null | grep -c 'ro:Primary')
echo $(grep -cE ' /srv/(state|tools) ' /proc/mounts)
echo $(ip -o address show to {SERVICE} | wc -l)
echo $(nft list table inet {TABLE} 2>/dev/null | grep -c drop)
echo $(sed -n 's/^th \\([0-9]*\\) .*/\\1/p' /proc/net/rpc/nfsd 2>/dev/null || echo 0)
echo $(cat /var/lib/nfs/etab 2>/dev/null | grep -c .)
"""
STATES = "cat /proc/drbd 2>/dev/null | sed -nE 's|.*cs:(\\w+) ro:(\\w+/\\w+) ds:(\\w+/\\w+) .*|\\1 \\2 \\3|p'"


@dataclass(frozen=True)
class Seen:
    """`primary` and `mounted` count resources and volumes, of two each; `blocked` is whether clients are kept out."""

    primary: int
    mounted: int
    address: bool
    blocked: bool
    threads: int
    exports: int

    @property
    def serving(self) -> bool:
        whole = self.primary == 2 and self.mounted == 2 and self.threads > 0 and self.exports > 0
        return whole and self.address and not self.blocked

    @property
    def idle(self) -> bool:
        return not (self.primary or self.mounted or self.address or self.threads)


def seen(node: Machine) -> Seen:
    primary, mounted, address, dropped, threads, exports = map(int, node.out(LOOK, 60).split())
    return Seen(primary, mounted, bool(address), bool(dropped), threads, exports)


def safe(lab: Lab) -> dict[str, Seen]:
    """Look at both nodes; never two writers, never two owners of the address, never an address that clients reach
    without everything behind it."""
    found = {name: seen(lab[name]) for name in NODES if lab[name].running}
    assert sum(bool(each.primary and each.mounted) for each in found.values()) <= 1, found
    assert sum(each.address for each in found.values()) <= 1, found
    for each in found.values():
        assert each.serving or not each.address or each.blocked, found
    return found


def replication(node: Machine) -> set[str]:
    """`Connected Primary/Secondary UpToDate/UpToDate`, of every resource."""
    return set(node.out(STATES, 60).splitlines())


def await_whole(node: Machine, deadline: float = 180) -> None:
    """Until both sides of everything are complete."""

    def whole() -> bool:
        found = replication(node)
        return bool(found) and all(
            each.startswith("Connected ") and each.endswith("UpToDate/UpToDate") for each in found
        )

    wait_until(whole, deadline, f"{node.name} has a complete partner", every=1)


def journal(node: Machine) -> list[dict[str, Any]]:
    """The journal of runs on that node."""
    said = node.run(f"cat {JOURNAL} 2>/dev/null || true", 60).stdout
    return [json.loads(line) for line in said.splitlines() if line.startswith("{") and line.endswith("}")]
