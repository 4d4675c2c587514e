"""The steps of `up` and `down`: their order, what each looks at, and when it is done.

The order is the safety: nothing answers before the exports are loaded, no address without a server, no demotion
before everything is unmounted. Whether a step is done is read from facts, never from a journal.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar

from labstore.model.drbd import DiskState, ResourceName, ResourceStatus
from labstore.model.failover import Pair
from labstore.model.names import VolumeName
from labstore.ports.storage_node import (
    Aspect,
    BarrierFound,
    Do,
    HandoverFound,
    MountState,
    NodeFacts,
    Order,
    RecoveryFound,
    ServerFound,
)
from labstore.reconcile.facts import Answer, Fact, Missing

T = TypeVar("T")


class Met(StrEnum):
    """Whether a step has nothing left to do. UNKNOWN: it cannot be found out."""

    YES = "yes"
    NO = "no"
    UNKNOWN = "unknown"

    @classmethod
    def of(cls, done: bool) -> Met:
        return cls.YES if done else cls.NO


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of step. `seconds` is how long it usually takes where nothing is known from earlier runs."""

    do: Do
    title: str
    aspects: frozenset[Aspect]
    seconds: float
    deadline: Callable[[Pair], float]


def _kind(do: Do, title: str, aspects: tuple[Aspect, ...], seconds: float, deadline: str) -> Kind:
    return Kind(do, title, frozenset(aspects), seconds, lambda pair: float(getattr(pair.settings.deadlines, deadline)))


KINDS: Mapping[Do, Kind] = {
    kind.do: kind
    for kind in (
        _kind(Do.STOP_UNITS, "stop what runs on the active node only", (Aspect.UNITS,), 2.0, "units"),
        _kind(Do.BLOCK, "let clients wait in silence", (Aspect.BARRIER, Aspect.HANDOVER), 0.2, "server"),
        _kind(Do.RECORD, "write down what clients hold", (Aspect.HANDOVER,), 0.2, "server"),
        _kind(Do.STOP_SERVER, "stop the NFS server", (Aspect.SERVER, Aspect.VERIFIED), 1.0, "server"),
        _kind(Do.STOP_RECOVERY, "stop nfsdcld", (Aspect.RECOVERY,), 0.3, "server"),
        _kind(Do.REMOVE_ADDRESSES, "take the service addresses away", (Aspect.ADDRESSES,), 0.1, "server"),
        _kind(Do.UNMOUNT, "unmount", (Aspect.MOUNTS, Aspect.HANDOVER, Aspect.RECOVERY), 0.5, "unmount"),
        _kind(Do.DEMOTE, "demote", (Aspect.REPLICATION,), 0.3, "demote"),
        _kind(Do.ATTACH, "attach and connect", (Aspect.REPLICATION,), 1.0, "promote"),
        _kind(Do.PROMOTE, "promote", (Aspect.REPLICATION,), 0.3, "promote"),
        _kind(Do.MOUNT, "mount", (Aspect.MOUNTS, Aspect.HANDOVER, Aspect.RECOVERY), 0.5, "mount"),
        _kind(Do.BIND, "mount the export tree", (Aspect.BINDS,), 0.5, "mount"),
        _kind(Do.START_RECOVERY, "start nfsdcld", (Aspect.RECOVERY,), 0.5, "server"),
        _kind(Do.PLACE_EXPORTS, "put the last known good exports in place", (Aspect.EXPORTS,), 0.5, "exports"),
        _kind(
            Do.START_SERVER,
            "start the NFS server",
            (Aspect.SERVER, Aspect.VERIFIED, Aspect.RECOVERY),
            1.5,
            "server",
        ),
        _kind(Do.ADD_ADDRESSES, "take the service addresses", (Aspect.ADDRESSES,), 0.3, "server"),
        _kind(Do.UNBLOCK, "let clients in", (Aspect.BARRIER, Aspect.HANDOVER, Aspect.RECOVERY), 0.2, "server"),
        _kind(Do.START_UNITS, "start what runs on the active node only", (Aspect.UNITS,), 3.0, "units"),
        _kind(Do.VERIFY, "mount, write and lock through the service address", (Aspect.VERIFIED,), 3.0, "verify"),
        _kind(Do.OUTDATE, "mark as outdated", (Aspect.REPLICATION,), 0.3, "demote"),
        _kind(Do.EXAMINE, "look for the newest files of", (), 10.0, "verify"),
        _kind(Do.KEEP_SNAPSHOT, "keep a snapshot of", (), 1.0, "mount"),
        _kind(Do.DISCONNECT, "disconnect", (Aspect.REPLICATION,), 0.3, "promote"),
        _kind(Do.CONNECT, "connect", (Aspect.REPLICATION,), 0.3, "promote"),
        _kind(Do.DISCARD, "connect, giving up this side of", (Aspect.REPLICATION,), 0.3, "promote"),
        _kind(Do.CERTIFY, "compare what clients hold with what they held", (Aspect.HANDOVER,), 10.0, "verify"),
    )
}


def key(order: Order) -> str:
    """`mount:tools`, or `block`: what the step is called in plans, journals and messages."""
    return f"{order.do}:{order.subject}" if order.subject else order.do.value


def title(order: Order) -> str:
    words = KINDS[order.do].title
    return f"{words} {order.subject}" if order.subject else words


# --- the order -------------------------------------------------------------------------------------------------------


def down_orders(pair: Pair) -> tuple[Order, ...]:
    """Everything that takes this node out of service, in order."""
    volumes = [volume.name for volume in reversed(pair.volumes)]
    return (
        Order(Do.STOP_UNITS),
        Order(Do.BLOCK),
        Order(Do.RECORD),
        Order(Do.STOP_SERVER),
        Order(Do.STOP_RECOVERY),
        Order(Do.REMOVE_ADDRESSES),
        *(Order(Do.UNMOUNT, volume) for volume in volumes),
        *(Order(Do.DEMOTE, resource.name) for resource in pair.settings.replication.resources),
    )


def up_orders(pair: Pair) -> tuple[Order, ...]:
    """Everything that makes this node serve, in order; what follows UNBLOCK happens while clients work again."""
    resources = pair.settings.replication.resources
    return (
        Order(Do.BLOCK),
        *(Order(Do.ATTACH, resource.name) for resource in resources),
        *(Order(Do.PROMOTE, resource.name) for resource in resources),
        *(Order(Do.MOUNT, volume.name) for volume in pair.volumes),
        *((Order(Do.BIND),) if pair.cluster.export_root is not None else ()),
        Order(Do.START_RECOVERY),
        Order(Do.PLACE_EXPORTS),
        Order(Do.START_SERVER),
        Order(Do.ADD_ADDRESSES),
        Order(Do.UNBLOCK),
        Order(Do.START_UNITS),
        Order(Do.VERIFY),
        Order(Do.CERTIFY),
    )


BEHIND_THE_BARRIER = frozenset(
    {
        Do.ATTACH,
        Do.PROMOTE,
        Do.MOUNT,
        Do.BIND,
        Do.START_RECOVERY,
        Do.PLACE_EXPORTS,
        Do.START_SERVER,
        Do.ADD_ADDRESSES,
    }
)
"""What must not be seen half done by a client."""


# --- when a step is done ---------------------------------------------------------------------------------------------


def met(order: Order, facts: NodeFacts, pair: Pair) -> Met:
    """Whether `order` has nothing left to do on a node of these facts."""
    return _TESTS[order.do](order, facts, pair)


def _judged(answer: Answer[T] | None, judge: Callable[[T], bool]) -> Met:
    if answer is None or isinstance(answer, Missing):
        return Met.UNKNOWN
    return Met.of(judge(answer.value))


def _stop_units(_order: Order, facts: NodeFacts, _pair: Pair) -> Met:
    return _judged(facts.units, lambda found: not found.allowed and not found.active)


def _start_units(_order: Order, facts: NodeFacts, pair: Pair) -> Met:
    """A unit that failed was started; that it failed is said, and clients are served all the same."""
    wanted = frozenset(map(str, pair.settings.units))
    return _judged(facts.units, lambda found: found.allowed and wanted <= found.active | found.failed | found.absent)


def _block(_order: Order, facts: NodeFacts, pair: Pair) -> Met:
    wanted = frozenset(pair.cluster.service_addresses)
    return _judged(facts.barrier, lambda found: found.whole and wanted <= found.addresses)


def _unblock(_order: Order, facts: NodeFacts, _pair: Pair) -> Met:
    """Not where somebody else let clients in: what was kept for them until then would be put back, or handed on, over
    what they hold since."""
    left = value(facts.recovery, RecoveryFound(False)).kept or value(facts.handover, HandoverFound()).recorded
    return _judged(facts.barrier, lambda found: not found.addresses and not left)


def _record(order: Order, facts: NodeFacts, pair: Pair) -> Met:
    """Where no server runs, or there is no place for it, there is nothing to write down. One without threads, which
    somebody ended, knows no clients any more: what nfsdcld has recorded says more than an empty list."""
    if _stop_server(order, facts, pair) is Met.YES or _judged(facts.server, lambda found: not found.threads) is Met.YES:
        return Met.YES
    return _judged(facts.handover, lambda found: found.recorded or not found.possible)


def _certify(_order: Order, facts: NodeFacts, _pair: Pair) -> Met:
    return _judged(facts.handover, lambda found: not found.waiting)


def _stop_server(_order: Order, facts: NodeFacts, _pair: Pair) -> Met:
    return _judged(facts.server, lambda found: found.stopped)


def _start_server(_order: Order, facts: NodeFacts, pair: Pair) -> Met:
    if grace_missed(facts):
        return Met.NO
    return _judged(facts.server, lambda f: f.threads > 0 and f.mountd and f.scope == pair.settings.scope)


def grace_missed(facts: NodeFacts) -> bool:
    """Whether the grace period has passed while clients were kept out: let in now, they could reclaim nothing. A run
    that was killed in between leaves the server so."""
    server, barrier = value(facts.server, ServerFound(0)), value(facts.barrier, BarrierFound())
    kept_out = bool(barrier.addresses) and value(facts.recovery, RecoveryFound(False)).aside > 0
    return server.threads > 0 and server.grace is False and kept_out


def _stop_recovery(_order: Order, facts: NodeFacts, _pair: Pair) -> Met:
    return _judged(facts.recovery, lambda found: not found.running)


def _start_recovery(_order: Order, facts: NodeFacts, _pair: Pair) -> Met:
    return _judged(facts.recovery, lambda found: found.running and found.right)


def _remove_addresses(_order: Order, facts: NodeFacts, pair: Pair) -> Met:
    return _judged(facts.addresses, lambda found: not found & set(pair.cluster.service_addresses))


def _add_addresses(_order: Order, facts: NodeFacts, pair: Pair) -> Met:
    return _judged(facts.addresses, lambda found: found >= set(pair.cluster.service_addresses))


def _mount(order: Order, facts: NodeFacts, _pair: Pair) -> Met:
    name = VolumeName(order.subject)
    return _judged(facts.mounts, lambda found: name in found and found[name].state is MountState.RIGHT)


def _bind(_order: Order, facts: NodeFacts, _pair: Pair) -> Met:
    """It goes with the volumes: the kernel knows nothing of a tree, so that unmounting takes all mounts of a device."""
    return _judged(facts.binds, lambda found: not found.missing)


def _unmount(order: Order, facts: NodeFacts, _pair: Pair) -> Met:
    name = VolumeName(order.subject)
    return _judged(facts.mounts, lambda found: name not in found or found[name].gone)


def _promote(order: Order, facts: NodeFacts, _pair: Pair) -> Met:
    return _judged(facts.replication, lambda found: (status := _of(found, order)) is not None and status.primary)


def _demote(order: Order, facts: NodeFacts, _pair: Pair) -> Met:
    return _judged(facts.replication, lambda found: (status := _of(found, order)) is None or not status.primary)


def _outdate(order: Order, facts: NodeFacts, _pair: Pair) -> Met:
    return _judged(
        facts.replication, lambda found: (s := _of(found, order)) is not None and s.worst_disk is DiskState.OUTDATED
    )


def _attach(order: Order, facts: NodeFacts, _pair: Pair) -> Met:
    """A resource that stands alone is left so: why it does is for a person to see before it is connected again. One
    that serves without a disk of its own does so through the partner, and loses nothing by that."""
    return _judged(facts.replication, lambda found: (s := _of(found, order)) is not None and (s.primary or attached(s)))


def attached(status: ResourceStatus | None) -> bool:
    """Whether the resource is configured in the kernel and has its disk."""
    return status is not None and status.worst_disk not in (
        DiskState.DISKLESS,
        DiskState.ATTACHING,
        DiskState.NEGOTIATING,
        DiskState.FAILED,
        DiskState.DETACHING,
    )


def _of(found: Mapping[ResourceName, ResourceStatus], order: Order) -> ResourceStatus | None:
    return found.get(ResourceName(order.subject))


def _place_exports(_order: Order, facts: NodeFacts, _pair: Pair) -> Met:
    return _judged(facts.exports, lambda found: found.generation is not None and not found.drift and found.canary)


def _verify(_order: Order, facts: NodeFacts, _pair: Pair) -> Met:
    return _judged(facts.verified, lambda found: found.verified)


_TESTS: Mapping[Do, Callable[[Order, NodeFacts, Pair], Met]] = {
    Do.STOP_UNITS: _stop_units,
    Do.BLOCK: _block,
    Do.RECORD: _record,
    Do.STOP_SERVER: _stop_server,
    Do.STOP_RECOVERY: _stop_recovery,
    Do.REMOVE_ADDRESSES: _remove_addresses,
    Do.UNMOUNT: _unmount,
    Do.DEMOTE: _demote,
    Do.OUTDATE: _outdate,
    Do.ATTACH: _attach,
    Do.PROMOTE: _promote,
    Do.MOUNT: _mount,
    Do.BIND: _bind,
    Do.START_RECOVERY: _start_recovery,
    Do.PLACE_EXPORTS: _place_exports,
    Do.START_SERVER: _start_server,
    Do.ADD_ADDRESSES: _add_addresses,
    Do.UNBLOCK: _unblock,
    Do.START_UNITS: _start_units,
    Do.VERIFY: _verify,
    Do.CERTIFY: _certify,
}


def value(answer: Answer[T] | None, default: T) -> T:
    """What was found out, or `default` where nothing was."""
    return answer.value if isinstance(answer, Fact) else default
