"""After a boot: replication always, the service only where it is certain that nobody else has it."""

from __future__ import annotations

from labstore.failover.cluster import PairMover, Run
from labstore.failover.states import NodeState, node_state
from labstore.failover.steps import value
from labstore.model.drbd import ResourceStatus, Role
from labstore.ports.storage_node import Aspect, Do, NodeFacts, Order, RunsFound
from labstore.reconcile.facts import Answer, Fact
from labstore.reconcile.runner import StepFailed
from labstore.reports.report import Report, Severity

PATIENCE = 600.0
"""Seconds for which a partner that boots at the same time is waited for."""
PAUSE = 2.0


class NotServedAtBoot(Report):
    node: str
    why: str

    code = "not-served-at-boot"
    severity = Severity.NOTICE

    def message(self) -> str:
        return f"{self.node}: the service is not started at boot: {self.why}"

    def remedy(self) -> str:
        return "labstore failover status says what to do, if anything"


def boot(mover: PairMover, patience: float = PATIENCE) -> tuple[Run | None, tuple[Report, ...]]:
    """Attach and connect every resource; serve if this node served last, sees its partner, and the partner has nothing
    of the service. Raises StepFailed, Locked."""
    reports: list[Report] = []
    with mover.own.hold("labstore failover boot"):
        for resource in mover.pair.settings.replication.resources:
            try:
                mover.own.act(Order(Do.ATTACH, resource.name, wait=False))
            except StepFailed as failure:
                reports.append(failure.report)
    if reports:
        return None, tuple(reports)
    why = _why_not(mover, patience)
    if why:
        return None, (NotServedAtBoot(str(mover.own.name), why),)
    return mover.up(verb="boot"), ()


def _why_not(mover: PairMover, patience: float) -> str:
    """Wait until it is clear whether this node shall serve; why it shall not, empty where it shall."""
    if not mover.pair.settings.serve_at_boot:
        return "serve_at_boot is off"
    ends = mover.clock.monotonic() + patience
    while True:
        why, settled = _judged(mover)
        if settled or mover.clock.monotonic() >= ends:
            return why
        mover.clock.sleep(PAUSE)


def _judged(mover: PairMover) -> tuple[str, bool]:
    """Why not (empty: it shall serve), and whether that is the last word."""
    own = mover.own.look(frozenset({Aspect.REPLICATION, Aspect.RUNS}))
    mine = value(own.runs, RunsFound()).last_active
    statuses = list(value(own.replication, {}).values())
    if any(status.primary or status.peer_role is Role.PRIMARY for status in statuses):
        return "the service is there already", True
    if not mine:
        return "this node was not the one that served last", True
    if not statuses or not all(map(_ready, statuses)):
        return "the partner is not connected, or has newer data", False
    partner = _partner(mover)
    if not isinstance(partner, Fact):
        return "the partner cannot be asked", False
    if node_state(partner.value, mover.pair) is not NodeState.IDLE:
        return "the partner has part of the service", True
    theirs = value(partner.value.runs, RunsFound()).last_active
    return ("", True) if mine > theirs else ("the partner served last", True)


def _ready(status: ResourceStatus) -> bool:
    """Once the two have met, DRBD knows whose data is newer. That the partner's copy is whole is not waited for: it is
    made whole while this node serves."""
    return status.connected and status.up_to_date and not status.receiving


def _partner(mover: PairMover) -> Answer[NodeFacts] | None:
    try:
        facts = mover.partner.look()
    except StepFailed:
        return None
    return Fact(facts, str(mover.partner.name), facts.at)
