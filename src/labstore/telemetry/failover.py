"""How a node of a pair is, as monitoring asks for it: four judgements, each from one look at this node alone.

What a node shall be is not configured anywhere: whoever is Primary serves, and whoever is not does not. The original
had each host's role in its configuration, and every failover needed a commit (upstream 1.4).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from labstore.failover.states import progress_words
from labstore.failover.steps import value
from labstore.model.drbd import ConnectionState, DeviceStatus, DiskState, ResourceStatus, Role
from labstore.model.failover import Pair
from labstore.ports.storage_node import (
    Aspect,
    BarrierFound,
    ExportsFound,
    MountState,
    NodeFacts,
    RecoveryFound,
    RunsFound,
    ServerFound,
    UnitsFound,
)
from labstore.reconcile.facts import Fact, Missing
from labstore.telemetry.status import Health
from labstore.telemetry.words import plural

Said = Iterator[tuple[Health, str]]


@dataclass(frozen=True)
class Judged:
    """One line for monitoring: the worst that was found, all of it in words, and figures."""

    health: Health
    text: str
    figures: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Check:
    """What one check looks at, and how it judges. `calm` is what is said where nothing is wrong."""

    aspects: frozenset[Aspect]
    found: Callable[[NodeFacts, Pair], Said]
    calm: Callable[[NodeFacts, Pair], str]
    figures: Callable[[NodeFacts, Pair], Mapping[str, str]]


def judge(check: Check, facts: NodeFacts, pair: Pair) -> Judged:
    """What could not be found out is UNKNOWN and hides nothing worse. While the service is being moved, what is half
    done is a warning."""
    unknown = [
        f"{aspect.value} cannot be seen: {answer.report.message()}"
        for aspect in sorted(check.aspects)
        if isinstance(answer := facts.answer(aspect), Missing)
    ]
    running = value(facts.runs, RunsFound()).running
    found = dict.fromkeys(check.found(facts, pair))
    said = [(_milder(health) if running else health, words) for health, words in found]
    worst = max((health for health, _ in said), default=Health.OK)
    if unknown and worst is not Health.CRITICAL:
        worst = Health.UNKNOWN
    texts = [words for _, words in sorted(said, key=lambda each: -each[0])] + unknown
    if running:
        texts.append(f"under way: {running}")
    return Judged(worst, "; ".join(texts) or check.calm(facts, pair), check.figures(facts, pair))


def _milder(health: Health) -> Health:
    return min(health, Health.WARNING)


def _statuses(facts: NodeFacts, pair: Pair) -> Iterator[tuple[str, ResourceStatus | None]]:
    if isinstance(facts.replication, Fact):
        for resource in pair.settings.replication.resources:
            yield str(resource.name), facts.replication.value.get(resource.name)


def _running(facts: NodeFacts, pair: Pair) -> list[ResourceStatus]:
    return [status for _, status in _statuses(facts, pair) if status is not None]


# --- drbd ------------------------------------------------------------------------------------------------------------


def _drbd(facts: NodeFacts, pair: Pair) -> Said:
    for name, status in _statuses(facts, pair):
        if status is None or not status.devices:
            yield Health.CRITICAL, f"{name} is not running"
            continue
        yield from ((health, f"{name} {words}") for health, words in _of_resource(status))


def _of_resource(status: ResourceStatus) -> Said:
    if status.suspended:
        yield Health.CRITICAL, f"has its writes suspended ({', '.join(status.suspended)})"
    if status.primary and status.connected and status.peer_role is Role.PRIMARY:
        yield Health.CRITICAL, "is Primary on both nodes"
    if status.connection is ConnectionState.STAND_ALONE:
        yield Health.CRITICAL, "stands alone: labstore failover resolve"
    elif not status.connected:
        yield Health.WARNING, f"is not connected ({status.connection}): there is no second copy"
    for device in status.devices:
        yield from _of_device(status, device)


def _of_device(status: ResourceStatus, device: DeviceStatus) -> Said:
    if device.replication.receiving or device.replication.sending:
        yield Health.WARNING, f"resyncs: {progress_words(device)}"
    elif device.disk is not DiskState.UP_TO_DATE:
        lost = device.disk in (DiskState.DISKLESS, DiskState.FAILED, DiskState.INCONSISTENT)
        yield (Health.CRITICAL if lost else Health.WARNING), f"is {device.disk}"
    elif status.connected and device.peer_disk is not DiskState.UP_TO_DATE:
        yield Health.WARNING, f"is {device.peer_disk} at the partner"


def _drbd_calm(facts: NodeFacts, pair: Pair) -> str:
    verifying = [str(status.name) for status in _running(facts, pair) if status.verifying]
    return f"{plural(len(_running(facts, pair)), 'resource')} connected, UpToDate on both nodes" + (
        f"; verifying {', '.join(verifying)}" if verifying else ""
    )


def _drbd_figures(facts: NodeFacts, pair: Pair) -> Mapping[str, str]:
    found = {}
    for status in _running(facts, pair):
        for device in status.devices:
            label = f"{status.name}" + (f"/{device.volume}" if len(status.devices) > 1 else "")
            if device.out_of_sync is not None:
                found[f"{label}_out_of_sync"] = f"{device.out_of_sync}KB"
            if device.progress is not None and device.progress.rate is not None:
                found[f"{label}_rate"] = f"{device.progress.rate}KB"
    return found


# --- role ------------------------------------------------------------------------------------------------------------


def _role(facts: NodeFacts, pair: Pair) -> Said:
    statuses = _running(facts, pair)
    roles = {status.role for status in statuses}
    if isinstance(facts.replication, Fact) and len(statuses) < len(pair.settings.replication.resources):
        yield Health.CRITICAL, "not every resource is running"
    if any(status.primary and status.peer_role is Role.PRIMARY for status in statuses):
        yield Health.CRITICAL, "both nodes are Primary"
    if len(roles) > 1:
        words = ", ".join(f"{status.name} {status.role}" for status in statuses)
        yield Health.CRITICAL, f"the roles differ: {words}"
    elif roles == {Role.SECONDARY}:
        yield from _secondary(facts, pair, statuses)


def _secondary(facts: NodeFacts, pair: Pair, statuses: list[ResourceStatus]) -> Said:
    held = _held(facts, pair)
    if held:
        yield Health.CRITICAL, f"it is Secondary and holds {', '.join(held)}"
    if all(status.connected and status.peer_role is Role.SECONDARY for status in statuses):
        yield Health.CRITICAL, "neither node is Primary: nobody serves"
    elif not any(status.connected for status in statuses):
        yield Health.WARNING, "it is Secondary and does not see its partner"


def _role_calm(facts: NodeFacts, pair: Pair) -> str:
    return "Primary: this node is the active one" if _primary(facts, pair) else "Secondary: the partner is Primary"


def _role_figures(facts: NodeFacts, pair: Pair) -> Mapping[str, str]:
    return {"primary": str(sum(status.primary for status in _running(facts, pair)))}


def _primary(facts: NodeFacts, pair: Pair) -> bool:
    return any(status.primary for status in _running(facts, pair))


# --- address ---------------------------------------------------------------------------------------------------------


def _held(facts: NodeFacts, pair: Pair) -> list[str]:
    return sorted(value(facts.addresses, frozenset()) & set(pair.cluster.service_addresses))


def _address(facts: NodeFacts, pair: Pair) -> Said:
    held, wanted = _held(facts, pair), pair.cluster.service_addresses
    lacking = sorted(set(wanted) - set(held))
    if held:
        if lacking:
            yield Health.CRITICAL, f"only {', '.join(held)} is here, {', '.join(lacking)} is not"
        yield from ((Health.CRITICAL, f"{', '.join(held)} is here, but {words}") for words in _without(facts, pair))
    elif isinstance(facts.addresses, Fact) and _primary(facts, pair):
        yield Health.CRITICAL, f"this node is Primary and does not hold {', '.join(lacking)}"


def _without(facts: NodeFacts, pair: Pair) -> Iterator[str]:
    """What an address must never be without."""
    mounts = value(facts.mounts, {})
    if isinstance(facts.mounts, Fact):
        right = {name for name, found in mounts.items() if found.state is MountState.RIGHT}
        away = [str(volume.name) for volume in pair.volumes if volume.name not in right]
        if away:
            yield f"{', '.join(away)} is not mounted as it should be"
    if isinstance(facts.server, Fact) and not facts.server.value.threads:
        yield "no NFS server runs"
    if value(facts.barrier, BarrierFound()).addresses:
        yield "clients are kept out"


def _address_calm(facts: NodeFacts, pair: Pair) -> str:
    held = _held(facts, pair)
    return f"{', '.join(held)} is here" if held else "standby: the service address is not here"


def _address_figures(facts: NodeFacts, pair: Pair) -> Mapping[str, str]:
    return {"held": str(len(_held(facts, pair))), "wanted": str(len(pair.cluster.service_addresses))}


# --- nfs -------------------------------------------------------------------------------------------------------------


def _nfs(facts: NodeFacts, pair: Pair) -> Said:
    server = value(facts.server, ServerFound(0))
    if not _active(facts, pair):
        if server.threads:
            yield Health.CRITICAL, "the NFS server runs on a node that is not the active one"
        return
    if isinstance(facts.server, Fact):
        yield from _of_server(server, pair)
    recovery, exports = value(facts.recovery, RecoveryFound(False)), value(facts.exports, ExportsFound())
    if isinstance(facts.recovery, Fact) and not (recovery.running and recovery.right):
        yield Health.WARNING, "clients' records are not on the state volume: a move would cost their locks"
    if isinstance(facts.exports, Fact):
        if exports.generation is None:
            yield Health.CRITICAL, "no exports are in place"
        elif exports.drift:
            yield Health.WARNING, f"{plural(exports.drift, 'path')} exported otherwise than was applied"
    if value(facts.barrier, BarrierFound()).addresses:
        yield Health.CRITICAL, "clients are kept out"
    for unit in sorted(value(facts.units, UnitsFound()).failed):
        yield Health.WARNING, f"{unit} failed"


def _of_server(server: ServerFound, pair: Pair) -> Said:
    if not server.threads:
        yield Health.CRITICAL, "no NFS server runs on the active node"
    elif not server.mountd:
        yield Health.CRITICAL, "mountd does not run: no new client is answered"
    elif server.scope is None:
        yield Health.CRITICAL, "the NFS server does not answer"
    elif server.scope != pair.settings.scope:
        yield Health.WARNING, f"the NFS server calls itself {server.scope}, not {pair.settings.scope}: locks are lost"


def _active(facts: NodeFacts, pair: Pair) -> bool:
    return _primary(facts, pair) or bool(_held(facts, pair))


def _nfs_calm(facts: NodeFacts, pair: Pair) -> str:
    if not _active(facts, pair):
        return "standby: not served from here"
    server, exports = value(facts.server, ServerFound(0)), value(facts.exports, ExportsFound())
    grace = ", in grace" if server.grace else ""
    return f"{server.threads} threads{grace}, {plural(server.clients, 'client')}, generation {exports.generation}"


def _nfs_figures(facts: NodeFacts, _pair: Pair) -> Mapping[str, str]:
    server, exports = value(facts.server, ServerFound(0)), value(facts.exports, ExportsFound())
    return {
        "threads": str(server.threads),
        "clients": str(server.clients),
        "paths": str(exports.paths),
        "drift": str(exports.drift),
    }


_ROLE = (Aspect.REPLICATION, Aspect.ADDRESSES, Aspect.RUNS)
_ADDRESS = (*_ROLE, Aspect.MOUNTS, Aspect.SERVER, Aspect.BARRIER)
_NFS = (*_ROLE, Aspect.SERVER, Aspect.RECOVERY, Aspect.EXPORTS, Aspect.BARRIER, Aspect.UNITS)
CHECKS: Mapping[str, Check] = {
    "drbd": Check(frozenset({Aspect.REPLICATION, Aspect.RUNS}), _drbd, _drbd_calm, _drbd_figures),
    "role": Check(frozenset(_ROLE), _role, _role_calm, _role_figures),
    "address": Check(frozenset(_ADDRESS), _address, _address_calm, _address_figures),
    "nfs": Check(frozenset(_NFS), _nfs, _nfs_calm, _nfs_figures),
}
