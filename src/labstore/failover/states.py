"""The name of the state that a pair is in, what is wrong with it, and the next command: from one look at both nodes."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import StrEnum

from labstore.failover.facts import generations, resource
from labstore.failover.lineage import Lineage, compare
from labstore.failover.steps import value
from labstore.model.address import Client
from labstore.model.drbd import ConnectionState, DeviceStatus, DiskState, Progress, ResourceName, ResourceStatus, Role
from labstore.model.failover import Pair
from labstore.ports.storage_node import (
    Aspect,
    BarrierFound,
    ExportsFound,
    FilesFound,
    MountFound,
    MountState,
    NodeFacts,
    RecoveryFound,
    RunsFound,
    ServerFound,
    UnitsFound,
)
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reports.failover import (
    AddressWithoutService,
    DataUnfit,
    FilesDiffer,
    IoSuspended,
    LeftBlocked,
    MountForeign,
    NodesDiffer,
    NotKnown,
    RecoveryMisplaced,
    Resyncing,
    RunUnfinished,
    ScopeWrong,
    SplitBrain,
    StandsAlone,
    TwoAddresses,
    TwoPrimaries,
    UnitAbsent,
    UnitFailed,
    WithoutRedundancy,
)
from labstore.reports.report import Report

SWITCHOVER = "switchover to "
"""The verb of a switchover in journals, before the node that is to serve."""

PARTED = (Lineage.DIVERGED, Lineage.UNRELATED)


class PairState(StrEnum):
    """From best to worst, as far as that can be said."""

    HEALTHY = "healthy"
    VERIFYING = "healthy, verifying"
    RESYNCING = "serving, resyncing"
    SERVING_ALONE = "serving without a partner"
    DOWN = "down: both secondary"
    HALF_UP = "half up"
    HALF_DOWN = "half down"
    PARTNER_UNKNOWN = "partner unknown"
    STAND_ALONE = "standing alone"
    SUSPENDED = "writes suspended"
    SPLIT_BRAIN = "split brain"
    TWO_ADDRESSES = "service address on both"
    TWO_PRIMARIES = "both primary"
    NOT_SET_UP = "not set up"
    UNKNOWN = "unknown"


class NodeState(StrEnum):
    """SERVING: clients get answers. IDLE: nothing of the service is here. PARTIAL: some of it is."""

    SERVING = "serving"
    IDLE = "idle"
    PARTIAL = "partly up"
    UNREACHABLE = "not reachable"


@dataclass(frozen=True)
class PairView:
    """One look at both nodes, in the order of the site file."""

    pair: Pair
    nodes: tuple[tuple[str, Answer[NodeFacts]], ...]

    def facts(self) -> tuple[NodeFacts, ...]:
        return tuple(answer.value for _, answer in self.nodes if isinstance(answer, Fact))


@dataclass(frozen=True)
class Named:
    """The state, which node serves (None: none does), what is wrong, and what to do next."""

    state: PairState
    active: str | None
    reports: tuple[Report, ...]
    next: str


def name_state(view: PairView) -> Named:
    """Name what was seen. The worst finding names the state."""
    facts = view.facts()
    reports = tuple(dict.fromkeys(_reports(view)))
    serving = [str(each.node) for each in facts if node_state(each, view.pair) is NodeState.SERVING]
    active = serving[0] if len(serving) == 1 else None
    state = _state(view, facts, active)
    return Named(state, active, reports, _next(state, view, active))


# --- one node --------------------------------------------------------------------------------------------------------


def node_state(facts: NodeFacts, pair: Pair) -> NodeState:
    has = [_addresses(facts, pair), _mounted(facts), _primary(facts), value(facts.server, ServerFound(0)).threads > 0]
    if all(has) and not value(facts.barrier, BarrierFound()).addresses:
        return NodeState.SERVING
    return NodeState.PARTIAL if any(has) else NodeState.IDLE


def _addresses(facts: NodeFacts, pair: Pair) -> bool:
    wanted = set(pair.cluster.service_addresses)
    return bool(wanted) and bool(value(facts.addresses, frozenset()) & wanted)


def _mounted(facts: NodeFacts) -> bool:
    found = value(facts.mounts, {})
    return bool(found) and any(_is_there(each) for each in found.values())


def _is_there(found: MountFound) -> bool:
    return found.state in (MountState.RIGHT, MountState.READ_ONLY) or found.alive


def _primary(facts: NodeFacts) -> bool:
    return any(status.primary for status in value(facts.replication, {}).values())


# --- the pair --------------------------------------------------------------------------------------------------------


def _state(view: PairView, facts: tuple[NodeFacts, ...], active: str | None) -> PairState:
    if not facts:
        return PairState.UNKNOWN
    statuses = list(_statuses(view, facts))
    for found, name in (
        (any(_two_primaries(view, name) for name in _names(view)), PairState.TWO_PRIMARIES),
        (bool(_shared_addresses(view)), PairState.TWO_ADDRESSES),
        (any(split(view, name) in PARTED for name in _names(view)), PairState.SPLIT_BRAIN),
        (not any(status.devices for _, status in statuses), PairState.NOT_SET_UP),
        (any(status.suspended for _, status in statuses), PairState.SUSPENDED),
        (any(status.connection is ConnectionState.STAND_ALONE for _, status in statuses), PairState.STAND_ALONE),
    ):
        if found:
            return name
    partial = _partial(view, facts, active)
    if partial is not None:
        return partial
    if active is None:
        return PairState.DOWN if len(facts) == len(view.nodes) else PairState.PARTNER_UNKNOWN
    own = [status for node, status in statuses if node == active]
    if all(status.redundant for status in own):
        return PairState.HEALTHY
    if any(status.sending or status.receiving for status in own):
        return PairState.RESYNCING
    if all(status.connected and status.up_to_date and status.peer_up_to_date for status in own):
        return PairState.VERIFYING
    return PairState.SERVING_ALONE


def _partial(view: PairView, facts: tuple[NodeFacts, ...], active: str | None) -> PairState | None:
    """Half up or half down: told apart by what the last run on that node wanted."""
    for each in facts:
        if node_state(each, view.pair) is not NodeState.PARTIAL:
            continue
        verb = value(each.runs, RunsFound()).abandoned
        if verb.startswith(("up", "abort")) or _taking(each):
            return PairState.HALF_UP
        if verb or active is not None:
            return PairState.HALF_DOWN
        return PairState.HALF_UP
    return None


def _statuses(view: PairView, facts: tuple[NodeFacts, ...]) -> Iterator[tuple[str, ResourceStatus]]:
    ours = set(_names(view))
    for each in facts:
        for name, status in value(each.replication, {}).items():
            if name in ours:
                yield str(each.node), status


def _names(view: PairView) -> tuple[ResourceName, ...]:
    return tuple(resource.name for resource in view.pair.settings.replication.resources)


def _two_primaries(view: PairView, name: ResourceName) -> bool:
    """As both nodes say, or as one says of itself and its partner."""
    found = [status for each in view.facts() if (status := resource(each, name)) is not None]
    return sum(status.primary for status in found) > 1 or any(
        status.primary and status.connected and status.peer_role is Role.PRIMARY for status in found
    )


def _shared_addresses(view: PairView) -> frozenset[Client]:
    held = [value(each.addresses, frozenset()) for each in view.facts()]
    return held[0] & held[1] & frozenset(view.pair.cluster.service_addresses) if len(held) == 2 else frozenset()


def split(view: PairView, name: ResourceName) -> Lineage | None:
    """What the first node's data is to the second's, where the two do not see each other and both were asked."""
    facts = view.facts()
    if len(facts) != 2:
        return None
    statuses = [resource(each, name) for each in facts]
    if any(status is not None and status.connected for status in statuses):
        return None
    first, second = generations(facts[0], name), generations(facts[1], name)
    return compare(first, second) if first is not None and second is not None else None


# --- what is wrong ---------------------------------------------------------------------------------------------------


def _reports(view: PairView) -> Iterator[Report]:
    for _, answer in view.nodes:
        if isinstance(answer, Missing):
            yield answer.report
    for name in _names(view):
        if _two_primaries(view, name):
            yield TwoPrimaries(str(name))
        if split(view, name) in PARTED:
            yield SplitBrain(str(name), "neither side's data is in the other's past")
    for address in sorted(_shared_addresses(view)):
        yield TwoAddresses(str(address))
    for facts in view.facts():
        yield from _unknown(facts)
        yield from _of_replication(facts, view)
        yield from _of_service(facts, view.pair)
        yield from _of_runs(facts)
    yield from _of_files(view)


def _unknown(facts: NodeFacts) -> Iterator[Report]:
    for aspect in Aspect:
        answer = facts.answer(aspect)
        if isinstance(answer, Missing):
            yield NotKnown(str(facts.node), aspect.value, answer.report.message())


def _of_replication(facts: NodeFacts, view: PairView) -> Iterator[Report]:
    node = str(facts.node)
    for name in _names(view):
        status = resource(facts, name)
        if status is None:
            if isinstance(facts.replication, Fact):
                advice = "`labstore failover boot` attaches it; a new pair: `labstore failover init`"
                yield DataUnfit(node, str(name), "DRBD has no such resource running", advice)
            continue
        if status.suspended:
            yield IoSuspended(node, str(name), ", ".join(status.suspended))
        if status.connection is ConnectionState.STAND_ALONE:
            yield StandsAlone(node, str(name))
        for device in status.devices:
            yield from _of_device(node, status, device)


def _of_device(node: str, status: ResourceStatus, device: DeviceStatus) -> Iterator[Report]:
    name = str(status.name)
    if device.replication.receiving:
        yield Resyncing(node, name, progress_words(device))
    elif device.disk in (DiskState.DISKLESS, DiskState.FAILED, DiskState.INCONSISTENT):
        advice = "replace the disk, or let it resync from the partner; serve from the partner meanwhile"
        yield DataUnfit(node, name, f"its disk is {device.disk}", advice)
    if status.primary and not status.redundant and not device.replication.receiving:
        found = f"{status.connection}, partner {device.peer_disk}, {device.replication}"
        yield WithoutRedundancy(node, name, found)


def progress_words(device: DeviceStatus) -> str:
    """`63.4 % done, 120 MiB left, 2.9 MiB/s, 41 s to go`, as far as it is known."""
    found = device.progress or Progress()
    left = found.left if found.left is not None else device.out_of_sync
    parts = [
        f"{found.done:.1f} % done" if found.done is not None else "",
        f"{left / 1024:.1f} MiB left" if left is not None else "",
        f"{found.rate / 1024:.1f} MiB/s" if found.rate is not None else "",
        f"{found.seconds} s to go" if found.seconds is not None else "",
    ]
    return ", ".join(part for part in parts if part) or device.replication.value


def _of_service(facts: NodeFacts, pair: Pair) -> Iterator[Report]:
    node = str(facts.node)
    server = value(facts.server, ServerFound(0))
    held = sorted(value(facts.addresses, frozenset()) & set(pair.cluster.service_addresses))
    if held:
        lacks = list(_lacks(facts, pair, server))
        if lacks:
            yield AddressWithoutService(node, ", ".join(held), " and ".join(lacks))
    blocked = value(facts.barrier, BarrierFound()).addresses
    if blocked and held and server.threads:
        yield LeftBlocked(node, ", ".join(sorted(blocked)))
    if server.threads and server.scope is not None and server.scope != pair.settings.scope:
        yield ScopeWrong(node, server.scope, str(pair.settings.scope))
    recovery = value(facts.recovery, RecoveryFound(False))
    if server.threads and not (recovery.running and recovery.right):
        yield RecoveryMisplaced(node)
    for volume, found in value(facts.mounts, {}).items():
        if found.state in (MountState.FOREIGN, MountState.READ_ONLY):
            yield MountForeign(node, str(volume), found.state.value)
    units = value(facts.units, UnitsFound())
    for unit in sorted(units.failed):
        yield UnitFailed(node, unit, "it is in systemd's state failed")
    for unit in sorted(units.absent):
        yield UnitAbsent(node, unit, str(pair.cluster.name))


def _lacks(facts: NodeFacts, pair: Pair, server: ServerFound) -> Iterator[str]:
    """What an address must never be without."""
    mounts = value(facts.mounts, {})
    missing = [str(v.name) for v in pair.volumes if v.name not in mounts or mounts[v.name].state is MountState.ABSENT]
    if missing:
        yield f"{', '.join(missing)} is not mounted"
    if isinstance(facts.server, Fact) and not server.threads:
        yield "no NFS server runs"
    exports = value(facts.exports, ExportsFound())
    if isinstance(facts.exports, Fact) and not missing and exports.generation is None:
        yield "no exports are in place"


def _of_runs(facts: NodeFacts) -> Iterator[Report]:
    runs = value(facts.runs, RunsFound())
    if runs.abandoned:
        yield RunUnfinished(str(facts.node), runs.unfinished, runs.at_step, runs.began)


def _of_files(view: PairView) -> Iterator[Report]:
    found = [(str(each.node), value(each.files, FilesFound())) for each in view.facts()]
    for node, files in found:
        for what in files.differences:
            yield FilesDiffer(node, what)
    if len(found) == 2 and all(files.config for _, files in found):
        (_, first), (_, second) = found
        if first.config != second.config:
            yield NodesDiffer("what the site file says of the cluster", first.config, second.config)
        if first.version != second.version:
            yield NodesDiffer("the version of labstore", first.version, second.version)


# --- what to do ------------------------------------------------------------------------------------------------------


def _taking(facts: NodeFacts) -> bool:
    """Whether the switchover that is not finished goes to this node."""
    return value(facts.runs, RunsFound()).abandoned == SWITCHOVER + facts.node


def _next(state: PairState, view: PairView, active: str | None) -> str:
    half = [each for each in view.facts() if node_state(each, view.pair) is NodeState.PARTIAL]
    on = f"on {half[0].node}: " if half else ""
    verbs = [value(each.runs, RunsFound()).abandoned for each in half]
    to = next((verb.removeprefix(SWITCHOVER) for verb in verbs if verb.startswith(SWITCHOVER)), None)
    if to is not None and state in (PairState.HALF_UP, PairState.HALF_DOWN):
        source = next(str(node.name) for node in view.pair.cluster.nodes if node.name != to)
        return f"`labstore failover switchover` goes on; `labstore failover abort` on {source} goes back to serving"
    silent = [name for name, answer in view.nodes if isinstance(answer, Missing)]
    alone = "bring the partner back; it resyncs by itself"
    return {
        PairState.HEALTHY: "nothing to do",
        PairState.VERIFYING: "nothing to do",
        PairState.RESYNCING: "wait for the resync",
        PairState.SERVING_ALONE: alone,
        PairState.DOWN: "`labstore failover up` on the node that shall serve",
        PairState.HALF_UP: f"{on}`labstore failover up` goes on; `labstore failover down` goes back",
        PairState.HALF_DOWN: f"{on}`labstore failover down` goes on; `labstore failover abort` goes back to serving",
        PairState.PARTNER_UNKNOWN: (
            f"look at {', '.join(silent) or 'the partner'}; if it is off for certain: "
            f"`labstore failover up --partner-is-off {silent[0] if silent else 'NODE'}` on the other"
        ),
        PairState.STAND_ALONE: "`labstore failover resolve` finds out why, and reconnects",
        PairState.SUSPENDED: "`journalctl -k -g fence-peer` says why; mend that, then `drbdadm resume-io RESOURCE`",
        PairState.SPLIT_BRAIN: "`labstore failover resolve` shows what each choice loses",
        PairState.TWO_ADDRESSES: "`labstore failover down` on the node that is not Primary, at once",
        PairState.TWO_PRIMARIES: "`labstore failover down --allow-outage` on the node that clients do not use, at once",
        PairState.NOT_SET_UP: "`labstore failover init` for a new pair; `labstore failover boot` after a reboot",
        PairState.UNKNOWN: "run it on one of the nodes; see the reasons above",
    }[state] + ("" if active is None or state is not PairState.HEALTHY else f"; {active} serves")
