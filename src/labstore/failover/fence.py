"""Keeping a lost partner from writing or from taking over with old data: what DRBD's handler answers, and proof."""

from __future__ import annotations

import contextlib
import json
import time
from enum import IntEnum

from labstore.failover.observe import Observer
from labstore.model.drbd import DiskState, ResourceName, ResourceStatus
from labstore.model.failover import Fence, Proof
from labstore.model.names import HostName
from labstore.ports.host import Command, CommandFailed, Host
from labstore.ports.storage_node import Aspect, Do, NodeFacts, Order, StorageNode
from labstore.reconcile.facts import Fact
from labstore.reconcile.runner import StepFailed
from labstore.reports.failover import FenceFailed
from labstore.system.files import FileTooLarge, read_limited

PROOF_LASTS = 900.0
"""Seconds for which a proof counts: longer than any `up` takes, too short to be forgotten until the next one."""


class Outcome(IntEnum):
    """What DRBD's kernel part understands (drbd.conf, handlers, fence-peer)."""

    INCONSISTENT = 3
    OUTDATED = 4
    UNREACHABLE = 5
    PRIMARY = 6
    FENCED = 7


def fence_peer(observer: Observer, partner: StorageNode, resource: str) -> Outcome:
    """The handler. A proof that was given for this boot counts; else the partner is told, over the other network, to
    mark its data as outdated."""
    if proven(observer, partner.name):
        return Outcome.FENCED
    name = ResourceName(resource)
    try:
        found = _status(partner, name)
        if found is not None and found.primary:
            return Outcome.PRIMARY
        with contextlib.suppress(StepFailed):
            partner.act(Order(Do.OUTDATE, name))
        found = _status(partner, name)
    except StepFailed:
        return Outcome.UNREACHABLE
    if found is None:
        return Outcome.UNREACHABLE
    if found.primary:
        return Outcome.PRIMARY
    if found.worst_disk is DiskState.OUTDATED:
        return Outcome.OUTDATED
    bad = (DiskState.INCONSISTENT, DiskState.DISKLESS, DiskState.FAILED)
    return Outcome.INCONSISTENT if found.worst_disk in bad else Outcome.UNREACHABLE


def _status(partner: StorageNode, name: ResourceName) -> ResourceStatus | None:
    facts: NodeFacts = partner.look(frozenset({Aspect.REPLICATION}))
    return facts.replication.value.get(name) if isinstance(facts.replication, Fact) else None


def proven(observer: Observer, partner: HostName, now: float | None = None) -> bool:
    """Whether somebody has proven, in this boot and not long ago, that the partner is off."""
    path = observer.places.proof
    try:
        age = (time.time() if now is None else now) - path.stat().st_mtime
        said = json.loads(read_limited(path, 1 << 16))
        return 0 <= age < PROOF_LASTS and said["node"] == str(partner) and said["boot"] == observer.boot()
    except (OSError, FileTooLarge, ValueError, KeyError, TypeError):
        return False


def fenced(host: Host, settings: Fence, partner: HostName, who: str, at: str) -> Proof:
    """Run the fence command. Raises StepFailed where it does not prove anything."""
    command = Command((*settings.command, str(partner)), settings.deadline)
    try:
        host.run(command)
    except CommandFailed as error:
        raise StepFailed(FenceFailed(str(partner), str(error))) from error
    return Proof(partner, f"{settings.command[0]} succeeded", who, at)
