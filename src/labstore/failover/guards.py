"""When the service may not be moved, from facts alone. There is no bare force: each refusal names what would allow
it, and those that would serve garbage or let two nodes write name nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from labstore.failover.facts import Situation, generations
from labstore.failover.lineage import Lineage, compare
from labstore.failover.plan import MovePlan
from labstore.failover.steps import value
from labstore.model.drbd import ConnectionState, DiskState, ResourceName, ResourceStatus, Role
from labstore.model.failover import Resource
from labstore.ports.storage_node import Aspect, MountFound, MountState, NodeFacts
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.guards import guarded
from labstore.reconcile.plan import Refusal
from labstore.reports.failover import (
    DataStale,
    DataUnfit,
    IoSuspended,
    MountForeign,
    NodesDiffer,
    PartnerNotReady,
    PartnerServes,
    PartnerSilent,
    SplitBrain,
    StandsAlone,
)
from labstore.reports.report import Override, Report

NO_OVERRIDES: frozenset[Override] = frozenset()
Guard = Callable[[Situation, MovePlan], Iterator[Refusal]]
_WAIT = "wait until the resync is done; its progress: labstore failover status"


def guard_down(situation: Situation, plan: MovePlan, overrides: frozenset[Override] = NO_OVERRIDES) -> MovePlan:
    """The plan, or the reasons why this node must not let go of the service."""
    return guarded(situation, plan, (_partner_can_take_over, _nobody_holds), overrides)


def guard_up(situation: Situation, plan: MovePlan, overrides: frozenset[Override] = NO_OVERRIDES) -> MovePlan:
    """The plan, or the reasons why this node must not serve."""
    guards = (_partner_does_not_serve, _partner_is_known, _data_is_fit, _data_is_newest, _places_are_free)
    return guarded(situation, plan, guards, overrides)


def guard_switchover(situation: Situation, plan: MovePlan, overrides: frozenset[Override] = NO_OVERRIDES) -> MovePlan:
    """As `guard_up` for the node that is to serve, and both nodes must be alike: there is time to see to it."""
    return guarded(situation, guard_up(situation, plan, overrides), (_nodes_are_alike,), overrides)


def _all(plan: MovePlan, report: Report) -> Refusal:
    """A refusal of everything: the steps of a move have no sense alone."""
    return Refusal(tuple(step.key for step in plan.steps), report)


# --- down ------------------------------------------------------------------------------------------------------------


def _partner_can_take_over(situation: Situation, plan: MovePlan) -> Iterator[Refusal]:
    """After `down` somebody must be able to serve (upstream #20: most outages are found too late)."""
    if not plan.steps:
        return
    partner = str(situation.pair.partner.name)
    for resource in situation.pair.settings.replication.resources:
        status = situation.own_resource(resource.name)
        if status is None or not status.primary:
            continue
        found = _shortcoming(status)
        if found:
            yield _all(plan, PartnerNotReady(partner, str(resource.name), found))


def _shortcoming(status: ResourceStatus) -> str:
    if not status.connected:
        return f"it is not connected ({status.connection})"
    if status.peer_role is Role.PRIMARY:
        return "it is Primary itself"
    if status.sending or status.receiving:
        return "a resync is running"
    if status.verifying:
        return "an online verify is running"
    if not status.peer_up_to_date:
        return f"its data is {', '.join(sorted({device.peer_disk.value for device in status.devices}))}"
    return ""


def _nobody_holds(situation: Situation, plan: MovePlan) -> Iterator[Refusal]:
    if plan.steps and not situation.evict:
        for report in situation.holders:
            yield _all(plan, report)


# --- up --------------------------------------------------------------------------------------------------------------


def _partner_does_not_serve(situation: Situation, plan: MovePlan) -> Iterator[Refusal]:
    """Never two writers, never two owners of an address. In a switchover the partner is just being taken down."""
    if not plan.steps or situation.moving:
        return
    found = _what_partner_has(situation)
    if found:
        yield _all(plan, PartnerServes(str(situation.pair.partner.name), found))


def _what_partner_has(situation: Situation) -> str:
    for resource in situation.pair.settings.replication.resources:
        own, other = situation.own_resource(resource.name), situation.partner_resource(resource.name)
        if (own is not None and own.connected and own.peer_role is Role.PRIMARY) or (other and other.primary):
            return f"it is Primary of {resource.name}"
    facts = situation.partner_facts
    if facts is None:
        return ""
    held = value(facts.addresses, frozenset()) & set(situation.pair.cluster.service_addresses)
    if held:
        return f"it holds {', '.join(sorted(held))}"
    mounted = [name for name, found in value(facts.mounts, {}).items() if _is_mounted(found)]
    return f"it has {', '.join(sorted(mounted))} mounted" if mounted else ""


def _is_mounted(found: MountFound) -> bool:
    return found.state in (MountState.RIGHT, MountState.READ_ONLY) or found.alive


def _partner_is_known(situation: Situation, plan: MovePlan) -> Iterator[Refusal]:
    """A partner that is silent both to DRBD and to us may be alive behind a cut cable. One that answers, but not what
    it has of the service, is as good as silent."""
    if not plan.steps or situation.proof is not None or _already_serving(situation):
        return
    silent = _silent(situation.partner)
    if silent is None:
        return
    connected = [
        (status := situation.own_resource(resource.name)) is not None and status.connected
        for resource in situation.pair.settings.replication.resources
    ]
    if not all(connected):
        yield _all(plan, PartnerSilent(str(situation.pair.partner.name), silent.report.message()))


def _silent(partner: Answer[NodeFacts]) -> Missing | None:
    if isinstance(partner, Missing):
        return partner
    answers = (partner.value.answer(aspect) for aspect in (Aspect.REPLICATION, Aspect.ADDRESSES, Aspect.MOUNTS))
    return next((answer for answer in answers if isinstance(answer, Missing)), None)


def _already_serving(situation: Situation) -> bool:
    """This node is Primary of everything: it had its reasons then, and nobody else can be."""
    statuses = [situation.own_resource(each.name) for each in situation.pair.settings.replication.resources]
    return all(status is not None and status.primary for status in statuses)


def _data_is_fit(situation: Situation, plan: MovePlan) -> Iterator[Refusal]:
    """Research nfs_ha 2.5: what each state of disk and connection allows."""
    if not plan.steps:
        return
    for resource in situation.pair.settings.replication.resources:
        status = situation.own_resource(resource.name)
        if status is None or status.primary:
            continue  # not attached yet: the steps attach it, and promoting refuses what is unfit
        for report in _unfit(situation, resource, status):
            yield _all(plan, report)


def _unfit(situation: Situation, resource: Resource, status: ResourceStatus) -> Iterator[Report]:
    node, name, worst = str(situation.own.node), str(resource.name), status.worst_disk
    if status.suspended:
        yield IoSuspended(node, name, ", ".join(status.suspended))
    if status.receiving:
        yield DataUnfit(node, name, "it is being overwritten by a resync from the partner", _WAIT)
    elif worst is DiskState.INCONSISTENT:
        advice = "connect the partner and let it resync; a half-copied file system must never be mounted"
        yield DataUnfit(node, name, "it is Inconsistent: half of a copy", advice)
    elif worst is DiskState.FAILED:
        yield DataUnfit(node, name, "its disk failed", "serve from the partner; replace the disk")
    elif worst is DiskState.OUTDATED:
        yield DataStale(node, name, "its data is Outdated")
    elif worst is DiskState.CONSISTENT and not status.connected and situation.proof is None:
        yield DataStale(node, name, "it is not known whether its data is the newest (Consistent)")
    if status.connection is ConnectionState.STAND_ALONE and situation.proof is None and not situation.moving:
        yield StandsAlone(node, name)


def _data_is_newest(situation: Situation, plan: MovePlan) -> Iterator[Refusal]:
    """Where DRBD does not connect the two, their generation ids say whose data is newer."""
    if not plan.steps:
        return
    for resource in situation.pair.settings.replication.resources:
        status = situation.own_resource(resource.name)
        if status is not None and (status.connected or status.primary):
            continue
        found = lineage(situation, resource.name)
        node, name = str(situation.own.node), str(resource.name)
        if found is Lineage.OLDER:
            yield _all(plan, DataStale(node, name, "the partner has newer data"))
        elif found is None and situation.proof is None and isinstance(situation.partner, Fact):
            whose = node if generations(situation.own, resource.name) is None else str(situation.pair.partner.name)
            why = f"it cannot be found out whether the partner has newer data: {whose}'s generations cannot be read"
            yield _all(plan, DataStale(node, name, why))
        elif found in (Lineage.DIVERGED, Lineage.UNRELATED):
            yield _all(plan, SplitBrain(str(resource.name), f"this node has {found}"))


def lineage(situation: Situation, name: ResourceName) -> Lineage | None:
    """What this node's data is to the partner's; None where one of the two cannot be read."""
    own, other = generations(situation.own, name), generations(situation.partner_facts, name)
    return compare(own, other) if own is not None and other is not None else None


def _places_are_free(situation: Situation, plan: MovePlan) -> Iterator[Refusal]:
    if not plan.steps:
        return
    for volume, found in value(situation.own.mounts, {}).items():
        if found.state is MountState.FOREIGN:
            yield _all(plan, MountForeign(str(situation.own.node), str(volume), found.state.value))


# --- switchover ------------------------------------------------------------------------------------------------------


def _nodes_are_alike(situation: Situation, plan: MovePlan) -> Iterator[Refusal]:
    facts = situation.partner_facts
    if facts is None or not plan.steps:
        return
    own, other = situation.own.files, facts.files
    if own is None or other is None or isinstance(own, Missing) or isinstance(other, Missing):
        return
    for what in ("config", "version"):
        here, there = getattr(own.value, what), getattr(other.value, what)
        if here != there:
            yield _all(plan, NodesDiffer(_WORDS[what], here, there))


_WORDS = {"config": "what the site file says of the cluster", "version": "the version of labstore"}
