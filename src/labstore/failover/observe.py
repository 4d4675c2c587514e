"""One look at this node: each aspect for itself, from where it counts, and Missing where it cannot be had."""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from labstore import __version__
from labstore.failover.files import SystemFiles
from labstore.failover.places import Places
from labstore.formats.mountinfo import BadMountinfo, Mount, on_top
from labstore.model.address import Client
from labstore.model.drbd import Generations, ResourceName
from labstore.model.failover import Pair
from labstore.model.names import HostName, VolumeName
from labstore.model.site import Volume
from labstore.ports.clock import Clock
from labstore.ports.export_tree import ExportTree
from labstore.ports.host import CommandFailed, Host
from labstore.ports.last_known_good import LastKnownGood
from labstore.ports.storage_node import (
    EVERYTHING,
    Aspect,
    BarrierFound,
    BindsFound,
    Event,
    ExportsFound,
    FilesFound,
    HandoverFound,
    MountFound,
    MountState,
    NodeFacts,
    RecoveryFound,
    Replicated,
    RunsFound,
    ServerFound,
    UnitsFound,
    VerifiedFound,
)
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reports.sources import SourceFailed
from labstore.system.address import Addresses, AddressFailed
from labstore.system.drbdadm import Drbd, DrbdFailed, StatusUnreadable
from labstore.system.holders import Holders
from labstore.system.journal import Journal
from labstore.system.lock_holder import holder
from labstore.system.lvm import Lvm
from labstore.system.mounts import Device, Mounts, below, of_device
from labstore.system.nfsd import Nfsd, NoAnswer, identity, recorded_clients, recorded_in
from labstore.system.nft import Nft, NftFailed
from labstore.system.units import ABSENT, Units

NFSDCLD, MOUNTD = "nfsdcld.service", "nfs-mountd.service"
HERE = "127.0.0.1"
TROUBLE = (
    OSError,
    ValueError,
    CommandFailed,
    StatusUnreadable,
    DrbdFailed,
    NftFailed,
    AddressFailed,
    BadMountinfo,
    sqlite3.Error,
)
"""What may go wrong when the world is asked; anything else is a defect."""


@dataclass(frozen=True)
class Tools:
    """This node's hands, put together once."""

    host: Host
    clock: Clock
    exports: LastKnownGood
    files: SystemFiles
    tree: ExportTree
    drbd: Drbd
    lvm: Lvm
    mounts: Mounts
    nfsd: Nfsd
    nft: Nft
    addresses: Addresses
    holders: Holders
    units: Units
    boot_id: Path = Path("/proc/sys/kernel/random/boot_id")

    @classmethod
    def of(cls, host: Host, clock: Clock, exports: LastKnownGood, files: SystemFiles, tree: ExportTree) -> Tools:
        mounts = Mounts(host)
        return cls(
            host=host,
            clock=clock,
            exports=exports,
            files=files,
            tree=tree,
            drbd=Drbd(host),
            lvm=Lvm(host),
            mounts=mounts,
            nfsd=Nfsd(host),
            nft=Nft(host),
            addresses=Addresses(),
            holders=Holders(mounts),
            units=Units(host),
        )


@dataclass
class Observer:
    pair: Pair
    places: Places
    tools: Tools
    _replicated: Replicated = field(default_factory=dict, init=False)

    @property
    def name(self) -> HostName:
        return self.pair.node

    def look(self, aspects: frozenset[Aspect] = EVERYTHING) -> NodeFacts:
        """See ports.storage_node.StorageNode."""
        found = {aspect.value: self._asked(aspect) for aspect in aspects}
        return NodeFacts(self.name, self.tools.clock.now(), self.boot(), **found)  # type: ignore[arg-type]

    def _asked(self, aspect: Aspect) -> Answer[object]:
        now = self.tools.clock.now()
        try:
            return Fact(self._questions[aspect](), aspect.value, now)
        except TROUBLE as error:
            reason = str(error) or type(error).__name__
            return Missing(SourceFailed(str(self.name), aspect.value, reason), aspect.value, now)

    @property
    def _questions(self) -> Mapping[Aspect, Callable[[], object]]:
        return {
            Aspect.REPLICATION: self._replication,
            Aspect.GENERATIONS: self._generations,
            Aspect.MOUNTS: self._mounts,
            Aspect.BINDS: self._binds,
            Aspect.SERVER: self._server,
            Aspect.RECOVERY: self._recovery,
            Aspect.EXPORTS: self._exports,
            Aspect.ADDRESSES: self._addresses,
            Aspect.BARRIER: self._barrier,
            Aspect.UNITS: self._units,
            Aspect.HANDOVER: self._handover,
            Aspect.VERIFIED: self._verified,
            Aspect.RUNS: self._runs,
            Aspect.FILES: self._files,
        }

    def boot(self) -> str:
        """The id of this boot, empty where it cannot be had."""
        try:
            return self.tools.boot_id.read_text().strip()
        except OSError:
            return ""

    # --- replication ------------------------------------------------------------------------------------------------

    def _replication(self) -> Replicated:
        ours = {resource.name for resource in self.pair.settings.replication.resources}
        drbd = self.tools.drbd
        self._replicated = (drbd.roles(self._replicated) if self._replicated else None) or drbd.status()
        return {name: status for name, status in self._replicated.items() if name in ours}

    def _generations(self) -> Mapping[ResourceName, Generations]:
        found: dict[ResourceName, Generations] = {}
        for resource in self.pair.settings.replication.resources:
            with contextlib.suppress(DrbdFailed):
                found[resource.name] = self.tools.drbd.generations(resource.name)
        return found

    # --- mounts -----------------------------------------------------------------------------------------------------

    def device(self, volume: VolumeName) -> Device | None:
        """The number of the DRBD device on which the volume lies; None while there is none."""
        return self.tools.mounts.device(self.pair.settings.replication.resource_of(volume).device)

    def _mounts(self) -> Mapping[VolumeName, MountFound]:
        here = self.tools.mounts.here()
        return {volume.name: self._mount(volume, here) for volume in self.pair.volumes}

    def _mount(self, volume: Volume, here: tuple[Mount, ...]) -> MountFound:
        device = self.device(volume.name)
        inside = tuple(mount.point for mount in below(here, volume.mount))
        state = _state(volume, on_top(here, volume.mount), device)
        if device is None or not self.tools.mounts.alive(device):
            return MountFound(state, inside)
        elsewhere = [mount.point for mount in of_device(here, device) if mount.point != volume.mount]
        if state is not MountState.RIGHT:
            for space in self.tools.mounts.elsewhere():
                elsewhere += [f"{mount.point} (of process {space.pid})" for mount in of_device(space.mounts, device)]
        return MountFound(state, inside, tuple(elsewhere), alive=True)

    def _binds(self) -> BindsFound:
        if self.pair.cluster.export_root is None:
            return BindsFound()
        answer = self.tools.tree.found()
        if isinstance(answer, Missing):
            raise ValueError(answer.report.message())
        return answer.value

    def state_mounted(self) -> bool:
        volume = self.pair.cluster.volume(self.pair.settings.state)
        found = on_top(self.tools.mounts.here(), volume.mount)
        return _state(volume, found, self.device(volume.name)) in (MountState.RIGHT, MountState.READ_ONLY)

    # --- NFS --------------------------------------------------------------------------------------------------------

    def _server(self) -> ServerFound:
        nfsd = self.tools.nfsd
        threads = nfsd.threads()
        scope = None
        if threads:
            with contextlib.suppress(NoAnswer):
                scope = identity(HERE, deadline=5.0).scope
        points = [*(volume.mount for volume in self.pair.volumes), *filter(None, (self.pair.cluster.export_root,))]
        pinned = sorted(path for path in nfsd.cached_paths() if any(_inside(path, point) for point in points))
        return ServerFound(
            threads=threads,
            mountd=bool(nfsd.pids(MOUNTD)),
            scope=scope,
            grace=nfsd.in_grace() if threads else None,
            clients=nfsd.count_clients(),
            pinned=tuple(pinned),
        )

    def _recovery(self) -> RecoveryFound:
        pids = self.tools.nfsd.pids(NFSDCLD)
        directory = self.pair.recovery_directory
        right = str(directory) in self.tools.nfsd.open_directories(pids)
        records, aside, kept = None, 0, False
        if self.state_mounted():
            with contextlib.suppress(OSError, sqlite3.Error):
                records = len(recorded_clients(directory))
            with contextlib.suppress(OSError, sqlite3.Error):
                kept = self.places.records.exists()
                aside = len(recorded_in(self.places.records))
        return RecoveryFound(bool(pids), right, records, aside, kept)

    def _exports(self) -> ExportsFound:
        """Without its volume there is nothing in place, whatever the files say."""
        if not self.state_mounted():
            return ExportsFound()
        answer = self.tools.exports.found()
        if isinstance(answer, Missing):
            raise ValueError(answer.report.message())
        return answer.value

    # --- the network ------------------------------------------------------------------------------------------------

    def _addresses(self) -> frozenset[Client]:
        return self.tools.addresses.here() & set(self.pair.cluster.service_addresses)

    def _barrier(self) -> BarrierFound:
        found = self.tools.nft.barrier()
        return BarrierFound(found.addresses, found.whole or not found.addresses)

    # --- the rest ---------------------------------------------------------------------------------------------------

    def _units(self) -> UnitsFound:
        states = self.tools.units.states(self.pair.settings.units)
        return UnitsFound(
            active=frozenset(u for u, state in states.items() if state in ("active", "activating", "reloading")),
            failed=frozenset(unit for unit, state in states.items() if state == "failed"),
            absent=frozenset(unit for unit, state in states.items() if state == ABSENT),
            allowed=self.places.units.exists(),
        )

    def _handover(self) -> HandoverFound:
        """Without its volume only what lies on this node is seen."""
        files, mounted = self.places.handovers, self.state_mounted()
        return HandoverFound(files.fresh(), files.waiting(), mounted)

    def _verified(self) -> VerifiedFound:
        return VerifiedFound(self.places.verified.exists())

    def _runs(self) -> RunsFound:
        running, last = holder(self.places.lock), _read_mark(self.places.last_active)
        entries = Journal(self.places.journal).unfinished()
        if not entries:
            return RunsFound(running=running, last_active=last)
        steps = [entry.step for entry in entries if entry.event is Event.STEP]
        began = next((entry for entry in entries if entry.event is Event.RUN), entries[0])
        return RunsFound(
            running, str(began.data.get("verb", "?")), steps[-1] if steps else "its beginning", began.at, last
        )

    def _files(self) -> FilesFound:
        return FilesFound(self.pair.digest, __version__, self.tools.files.differences())


def _state(volume: Volume, found: Mount | None, device: Device | None) -> MountState:
    if found is None:
        return MountState.ABSENT
    if device is None or found.device != device:
        return MountState.FOREIGN
    if volume.filesystem is not None and found.filesystem != volume.filesystem:
        return MountState.FOREIGN
    return MountState.READ_ONLY if found.read_only else MountState.RIGHT


def _inside(path: str, point: str) -> bool:
    return path == point or path.startswith(point.rstrip("/") + "/")


def _read_mark(path: Path) -> str:
    try:
        return path.read_text().strip()
    except FileNotFoundError:
        return ""
