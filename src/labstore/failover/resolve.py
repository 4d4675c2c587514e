"""A pair whose sides do not connect any more: finding out why, and ending a split brain as a person decides.

Nothing is ever given up by itself. Both sides are compared, what each choice would lose is shown, the side that is
given up stays as a snapshot where that can be, and the other side ends its connection first, so that DRBD cannot take
the wrong one for the source.
"""

from __future__ import annotations

from dataclasses import dataclass

from labstore.failover.cluster import PairMover
from labstore.failover.facts import resource
from labstore.failover.lineage import Lineage
from labstore.failover.states import NodeState, PairView, node_state, split
from labstore.failover.steps import value
from labstore.model.drbd import ConnectionState, ResourceName
from labstore.model.names import HostName
from labstore.ports.storage_node import Aspect, Do, NodeFacts, Order, RunsFound, StorageNode
from labstore.reconcile.facts import Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.failover import NotDecided, PartnerServes, StepNotDone
from labstore.reports.report import Report

MEETING = 60.0
"""Seconds that the two sides get to meet after they were told to."""


@dataclass(frozen=True)
class Side:
    """One side of a parted resource. `written` is in KiB: what this side wrote since they parted, and would lose."""

    node: str
    role: str
    disk: str
    serves: bool
    last_served: str
    written: int | None
    newest: str = ""


@dataclass(frozen=True)
class Parting:
    """One resource whose sides do not see each other, and what the first one's data is to the second's."""

    resource: ResourceName
    lineage: Lineage | None
    sides: tuple[Side, Side]

    @property
    def split(self) -> bool:
        return self.lineage in (Lineage.DIVERGED, Lineage.UNRELATED)

    @property
    def words(self) -> str:
        first = self.sides[0].node
        if self.lineage is None:
            return "the generations of the two sides could not be compared"
        return f"{first} has {self.lineage}"


@dataclass(frozen=True)
class Findings:
    """Everything that is parted; empty where the sides see each other."""

    partings: tuple[Parting, ...]

    @property
    def split(self) -> tuple[Parting, ...]:
        return tuple(parting for parting in self.partings if parting.split)


def find(mover: PairMover, closely: bool = True) -> Findings:
    """Compare both sides; `closely` also looks for the newest files of a split brain. Raises StepFailed where one side
    cannot be asked: what is not known of it is not weighed."""
    view = mover.view()
    for _, answer in view.nodes:
        if isinstance(answer, Missing):
            raise StepFailed(answer.report)
    return Findings(
        tuple(
            _parting(mover, view, each.name, closely)
            for each in mover.pair.settings.replication.resources
            if _is_parted(view, each.name)
        )
    )


def _is_parted(view: PairView, name: ResourceName) -> bool:
    found = [resource(facts, name) for facts in view.facts()]
    return any(status is None or not status.connected for status in found)


def _parting(mover: PairMover, view: PairView, name: ResourceName, closely: bool) -> Parting:
    lineage = split(view, name)
    first, second = view.facts()
    look = closely and lineage in (Lineage.DIVERGED, Lineage.UNRELATED)
    return Parting(name, lineage, (_side(mover, first, name, look), _side(mover, second, name, look)))


def _side(mover: PairMover, facts: NodeFacts, name: ResourceName, closely: bool) -> Side:
    status = resource(facts, name)
    node = _node(mover, facts.node)
    newest = node.act(Order(Do.EXAMINE, name)).data.get("newest", "") if closely else ""
    written = [device.out_of_sync for device in status.devices if device.out_of_sync is not None] if status else []
    return Side(
        node=str(facts.node),
        role=status.role.value if status else "not running",
        disk=status.worst_disk.value if status else "",
        serves=node_state(facts, mover.pair) is NodeState.SERVING,
        last_served=value(facts.runs, RunsFound()).last_active,
        written=sum(written) if written else None,
        newest=newest,
    )


def _node(mover: PairMover, name: HostName) -> StorageNode:
    return mover.own if mover.own.name == name else mover.partner


# --- ending it -------------------------------------------------------------------------------------------------------


def reconnect(mover: PairMover, found: Findings) -> tuple[Report, ...]:
    """Connect sides of which neither was written without the other: DRBD brings the older one up to date. Raises
    StepFailed; a split brain is refused."""
    if found.split:
        raise StepFailed(_undecided(found))
    said: list[Report] = []
    for parting in found.partings:
        for node in (mover.own, mover.partner):
            said += node.act(Order(Do.CONNECT, parting.resource)).reports
        _await_meeting(mover, parting.resource)
    return tuple(said)


def discard(mover: PairMover, found: Findings, victim: HostName) -> tuple[Report, ...]:
    """Give up what `victim` wrote since they parted. It must not serve. Raises StepFailed."""
    loser = _node(mover, victim)
    winner = mover.partner if loser is mover.own else mover.own
    serving = [side for parting in found.split for side in parting.sides if side.node == victim and _in_use(side)]
    if serving:
        raise StepFailed(PartnerServes(str(victim), f"it is Primary of {', '.join(_names(found, victim))}"))
    said: list[Report] = []
    for parting in found.split:
        name = parting.resource
        said += loser.act(Order(Do.KEEP_SNAPSHOT, name)).reports
        winner.act(Order(Do.DISCONNECT, name))
        loser.act(Order(Do.DISCARD, name))
        winner.act(Order(Do.CONNECT, name))
        _await_meeting(mover, name)
    rest = Findings(tuple(parting for parting in found.partings if not parting.split))
    return (*said, *reconnect(mover, rest))


def _in_use(side: Side) -> bool:
    return side.role == "Primary" or side.serves


def _names(found: Findings, victim: str) -> list[str]:
    return [str(p.resource) for p in found.split if any(s.node == victim and _in_use(s) for s in p.sides)]


def _undecided(found: Findings) -> Report:
    names = ", ".join(str(parting.resource) for parting in found.split)
    sides = " or ".join(side.node for side in found.split[0].sides)
    return NotDecided(
        f"both sides of {names} were written since they parted; one side has to be given up",
        f"labstore failover resolve --discard NODE (NODE: {sides}; what it wrote since is lost, but for a snapshot)",
    )


def _await_meeting(mover: PairMover, name: ResourceName) -> None:
    """Until they see each other. Raises StepFailed where they do not, or part again."""
    ends = mover.clock.monotonic() + MEETING
    while True:
        statuses = [resource(node.look(frozenset({Aspect.REPLICATION})), name) for node in (mover.own, mover.partner)]
        if all(status is not None and status.connected for status in statuses):
            return
        alone = [status is not None and status.connection is ConnectionState.STAND_ALONE for status in statuses]
        if mover.clock.monotonic() >= ends:
            states = ", ".join(status.connection.value if status else "not running" for status in statuses)
            reason = f"after {MEETING:g} s: {states}" + ("; DRBD refused them to each other" if any(alone) else "")
            raise StepFailed(StepNotDone(str(mover.own.name), f"connect {name}", reason))
        mover.clock.sleep(0.5)
