"""All that a decision about moving the service is made from: one look at both nodes."""

from __future__ import annotations

from dataclasses import dataclass

from labstore.model.drbd import Generations, ResourceName, ResourceStatus
from labstore.model.failover import Pair, Proof
from labstore.ports.storage_node import NodeFacts, Replicated
from labstore.reconcile.facts import Answer, Fact
from labstore.reports.report import Report


@dataclass(frozen=True)
class Situation:
    """A pair as seen for one decision about `own`.

    `partner` is Missing where that node cannot be asked; it may be dead, or just cut off. `proof` says that it cannot
    write any more. `holders` says who keeps volumes of `own` busy. `evict` and `force` are what a person allows: ending
    processes that hold a volume, losing newer data of the partner. `moving`: the partner is being taken down in the
    same run, so what it still has is not held against the plan.
    """

    pair: Pair
    own: NodeFacts
    partner: Answer[NodeFacts]
    proof: Proof | None = None
    holders: tuple[Report, ...] = ()
    evict: bool = False
    force: bool = False
    moving: bool = False
    run: str = ""

    @property
    def partner_facts(self) -> NodeFacts | None:
        return self.partner.value if isinstance(self.partner, Fact) else None

    def own_resource(self, name: ResourceName) -> ResourceStatus | None:
        return resource(self.own, name)

    def partner_resource(self, name: ResourceName) -> ResourceStatus | None:
        facts = self.partner_facts
        return resource(facts, name) if facts is not None else None


def resource(facts: NodeFacts, name: ResourceName) -> ResourceStatus | None:
    """What a node says about one resource, None where it says nothing."""
    found: Answer[Replicated] | None = facts.replication
    return found.value.get(name) if isinstance(found, Fact) else None


def generations(facts: NodeFacts | None, name: ResourceName) -> Generations | None:
    if facts is None or not isinstance(facts.generations, Fact):
        return None
    return facts.generations.value.get(name)
