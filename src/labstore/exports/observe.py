"""One look at the world: declared shares, inventory, history, the server, this node."""

from __future__ import annotations

from dataclasses import dataclass, replace

from labstore.exports.desired import absent, absent_of
from labstore.exports.facts import ExportFacts
from labstore.exports.grants import GrantTable
from labstore.exports.history import History
from labstore.model.cloud import Presence
from labstore.model.exports import ExportTable
from labstore.model.site import PUBLIC_OWNER, Cluster, Site
from labstore.ports.clock import Clock
from labstore.ports.export_server import ExportServer, Served
from labstore.ports.inventory import Inventory, Snapshot
from labstore.ports.node import Node
from labstore.reconcile.facts import Answer, Missing

TOGETHER = 200
"""Instances that are asked for in one go, which has the deadline of one call."""


@dataclass(frozen=True)
class Observer:
    """Where each part of the facts comes from."""

    cluster: Cluster
    inventory: Inventory
    server: ExportServer
    node: Node
    history: History
    clock: Clock

    def role(self) -> Answer[bool]:
        """Whether this node is the active one: by observation, never by configuration (upstream #25)."""
        return self.node.holds(self.cluster.service_addresses)

    def served(self) -> Answer[Served]:
        return self.server.observe()

    def granted(self) -> GrantTable:
        """The newest generation that was applied."""
        newest = self.history.newest()
        return self.history.table(newest) if newest else GrantTable()

    def facts(
        self,
        site: Site,
        snapshot: Snapshot,
        served: Served,
        active: Answer[bool],
        pinned: GrantTable | None = None,
        ask_all: bool = False,
    ) -> ExportFacts:
        """Everything a decision needs. Instances that were granted something (now, or in a pinned generation) and are
        missing from a complete listing are asked for one by one; more of them than the brake lets go only where a
        person wants it (`ask_all`), since nothing would be done otherwise."""
        wanted = site.wanted(self.cluster.name)
        volumes = dict.fromkeys(each.volume for each in wanted)
        facts = ExportFacts(
            at=self.clock.now(),
            cluster=self.cluster.name,
            wanted=wanted,
            settings=site.exports,
            snapshot=snapshot,
            granted=self.granted(),
            served=served,
            active=active,
            volumes={volume.name: self.node.volume(volume) for volume in volumes},
            doubts=self.history.doubts(),
            identities=self.history.identities(),
        )
        asked = {each.id: each for each in absent(facts)}
        asked |= {each.id: each for each in absent_of(facts, pinned)} if pinned else {}
        missed = tuple(asked.values())
        limit = max(site.exports.brake.absent.count, site.exports.brake.proven.count)
        if not missed:
            return facts
        if len(missed) > limit and not ask_all:
            unknown = {instance.id: Presence.UNKNOWN for instance in missed}
            return replace(facts, presence=unknown, unasked=len(missed))
        presence: dict[str, Presence] = {}
        for at in range(0, len(missed), TOGETHER):
            presence |= self.inventory.confirm(missed[at : at + TOGETHER])
        return replace(facts, presence=presence)


def projects_in(table: ExportTable) -> int:
    """How many projects have an export in a table."""
    return sum(not owner.startswith(PUBLIC_OWNER) for owner in table.by_owner)


def figures(facts: ExportFacts) -> dict[str, object]:
    """What was looked at, in numbers, for the record."""
    missing = facts.snapshot.missing()
    instances = facts.snapshot.instances()
    return {
        "source": facts.snapshot.source,
        "looked": facts.snapshot.at.isoformat(timespec="seconds"),
        "instances": len({instance.id for instance in instances}),
        "declared_exports": len(facts.wanted),
        "served_exports": len(facts.served.stored),
        "served_clients": facts.served.stored.clients,
        "served_projects": projects_in(facts.served.stored),
        "running": facts.served.running,
        "requests": facts.snapshot.requests,
        "bytes": facts.snapshot.bytes,
        "listing_every": facts.settings.listing,
        "missing": [answer.report.message() for answer in missing[:20]],
        "missing_count": len(missing),
        "active": None if isinstance(facts.active, Missing) else facts.active.value,
    }
