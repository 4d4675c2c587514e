"""The acts on replication and mounts: attach, promote, mount, and the way back, where most of what goes wrong does."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from pathlib import Path

from labstore.failover.observe import TROUBLE, Observer, Tools
from labstore.failover.places import Places
from labstore.failover.steps import title
from labstore.formats.lvm_report import LogicalVolume
from labstore.formats.mountinfo import on_top
from labstore.model.drbd import ConnectionState, DiskState, ResourceName, ResourceStatus
from labstore.model.failover import Pair, Resource
from labstore.model.names import VolumeName
from labstore.model.site import Volume
from labstore.ports.host import Command, CommandFailed
from labstore.ports.storage_node import Order, Said
from labstore.reconcile.runner import StepFailed
from labstore.reports.failover import Evicted, MountBusy, NotJournaled, SnapshotHere, StepNotDone
from labstore.reports.report import Report
from labstore.system.drbdadm import DrbdFailed, Refused
from labstore.system.files import staged, write_atomic
from labstore.system.holders import Holder, HolderKind
from labstore.system.lvm import LvmFailed, LvmName
from labstore.system.mounts import Device, MountFailed, below, of_device

RETRY = 0.5
BRIEF = 2.0
"""Seconds in which somebody who only looked at a volume has gone again."""
KEPT_BY_US = ("nfsdcld.service", "nfs-mountd.service", "nfs-server.service", "nfs-idmapd.service")
"""Whose files on a volume are not in the way: they are stopped before it is unmounted."""
EXAMINE = 120.0
"""Seconds for which the newest files are looked for."""
_NEWEST = """
where="$1"
if [ -b "$1" ]; then
    mount --make-rprivate /
    mount -t tmpfs none /mnt
    mkdir /mnt/side
    mount -t "$2" -o rw "$1" /mnt/side
    where=/mnt/side
fi
find "$where" -xdev -type f -printf '%TY-%Tm-%Td %TH:%TM:%.2TS %P\\n' | sort -r | head -n 3
[ "$where" = "$1" ] || umount /mnt/side
"""
SNAPSHOT_PART = 0.2
"""How much room, as a part of the origin, a snapshot gets that is taken before data is given up."""


@dataclass(frozen=True)
class Storage:
    observer: Observer

    @property
    def pair(self) -> Pair:
        return self.observer.pair

    @property
    def places(self) -> Places:
        return self.observer.places

    @property
    def tools(self) -> Tools:
        return self.observer.tools

    def _failed(self, order: Order, reason: str) -> StepFailed:
        return StepFailed(StepNotDone(str(self.pair.node), title(order), reason))

    def _status(self, name: ResourceName) -> ResourceStatus | None:
        return self.tools.drbd.status().get(name)

    # --- DRBD -------------------------------------------------------------------------------------------------------

    def attach(self, order: Order) -> Said:
        """Bring the resource up and give it time to find its partner; a resource that stands alone is left so."""
        name = ResourceName(order.subject)
        status = self._status(name)
        if status is None or not status.devices:
            if status is not None:
                self.tools.drbd.down(name)  # half up, as after a start without metadata
            self.tools.drbd.up(name)
        elif status.worst_disk is DiskState.DISKLESS:
            self.tools.drbd.attach(name)
        alone = order.proof is not None or not order.wait
        self._await_partner(name, 0.0 if alone else self.pair.settings.replication.connect_wait)
        return Said()

    def _await_partner(self, name: ResourceName, wait: float) -> None:
        """Until it is connected, or stands alone, or has waited enough."""
        clock = self.tools.clock
        ends = clock.monotonic() + wait
        while clock.monotonic() < ends:
            status = self._status(name)
            settled = status is not None and (status.connected or status.connection is ConnectionState.STAND_ALONE)
            if settled and status is not None and status.worst_disk is not DiskState.NEGOTIATING:
                return
            clock.sleep(RETRY)

    def outdate(self, order: Order) -> Said:
        """DRBD does not do it while it still believes in the connection: that takes it some seconds to notice."""
        clock = self.tools.clock
        ends = clock.monotonic() + self.pair.settings.deadlines.demote
        while True:
            try:
                self.tools.drbd.outdate(ResourceName(order.subject))
                return Said()
            except DrbdFailed as error:
                if error.why is not Refused.STATE or clock.monotonic() >= ends:
                    raise
            clock.sleep(RETRY)

    def promote(self, order: Order) -> Said:
        """With proof the fence handler, which DRBD asks, answers that the partner is gone. Only data loss that a
        person accepted is forced, and then a snapshot of what there is comes first."""
        resource = self._resource(ResourceName(order.subject))
        if order.proof is not None:
            proof = json.dumps({**asdict(order.proof), "boot": self.observer.boot()})
            write_atomic(self.places.proof, proof.encode(), mode=0o600)
        said: tuple[Report, ...] = self._keep_snapshot(resource.name) if order.force else ()
        clock = self.tools.clock
        ends = clock.monotonic() + self.pair.settings.deadlines.promote
        while True:
            try:
                self.tools.drbd.primary(resource, order.force, self.pair.settings.deadlines.promote)
                return Said(said)
            except DrbdFailed as error:
                # a partner that has just died is taken for Primary until its time is out
                passing = error.why in (Refused.TWO_PRIMARIES, Refused.STATE, Refused.OTHER, Refused.TIMEOUT)
                if not passing or clock.monotonic() >= ends:
                    raise
            clock.sleep(RETRY)

    def _keep_snapshot(self, name: ResourceName) -> tuple[Report, ...]:
        """Of the backing volume, where it is LVM's and there is room; where not, it is said."""
        disk = str(self._resource(name).disks[self.pair.node])
        try:
            found = self._backing(name)
            if found is None:
                return (SnapshotHere(str(self.pair.node), "(none)", disk, "it is not on LVM"),)
            label = LvmName(f"{found.name}-before-{self.tools.clock.now():%Y%m%dT%H%M%S}")
            self.tools.lvm.snapshot(LvmName(found.group), LvmName(found.name), label, _room(found.size), ("labstore",))
            return (SnapshotHere(str(self.pair.node), f"{found.group}/{label}", disk, "0 %"),)
        except LvmFailed as error:
            return (SnapshotHere(str(self.pair.node), "(none)", disk, f"it could not be taken: {error}"),)

    def demote(self, order: Order) -> Said:
        """Nothing is flushed before: whoever has a device open last has the kernel do it, and while somebody has it
        open DRBD refuses."""
        resource = self._resource(ResourceName(order.subject))
        clock = self.tools.clock
        ends = clock.monotonic() + self.pair.settings.deadlines.demote
        while True:
            try:
                self.tools.drbd.secondary(resource, self.pair.settings.deadlines.demote)
                return Said()
            except DrbdFailed as error:
                # udev, LVM's scan or multipathd may have it open for a moment
                if clock.monotonic() >= ends or error.why not in (Refused.HELD_OPEN, Refused.STATE, Refused.OTHER):
                    raise self._failed(order, self._who_has_it_open(error, resource.volume)) from error
            clock.sleep(RETRY)

    def _who_has_it_open(self, error: DrbdFailed, volume: VolumeName) -> str:
        device = self.observer.device(volume)
        held = self._holders(volume, device) if device is not None else ()
        return f"{error}" + "".join(f"; {holder.text()}" for holder in held)

    # --- a split brain ----------------------------------------------------------------------------------------------

    def examine(self, order: Order) -> Said:
        """The newest files of this side: on the mounted volume, else on a snapshot of what lies below DRBD, which is
        mounted for a moment where nobody else sees it and then removed."""
        name = ResourceName(order.subject)
        resource = self._resource(name)
        volume = self.pair.cluster.volume(resource.volume)
        if on_top(self.tools.mounts.here(), volume.mount) is not None:
            return Said(data={"newest": self._newest(volume.mount, "")})
        found = self._backing(name)
        if found is None:
            return Said(data={"newest": "not to be had: the volume is not mounted, and its disk is not on LVM"})
        label = LvmName(f"{found.name}-look")
        group = LvmName(found.group)
        try:
            self.tools.lvm.snapshot(group, LvmName(found.name), label, _room(found.size), ("labstore",))
            try:
                return Said(data={"newest": self._newest(f"/dev/{group}/{label}", volume.filesystem or "ext4")})
            finally:
                self.tools.lvm.remove_snapshot(group, label)
        except LvmFailed as error:
            return Said(data={"newest": f"not to be had: {error}"})

    def _newest(self, what: str, filesystem: str) -> str:
        """Time and name of the newest files; `what` is a directory, or a device with a file system of this type."""
        command = Command(("unshare", "--mount", "/bin/sh", "-ec", _NEWEST, "sh", what, filesystem), EXAMINE)
        try:
            said = self.tools.host.run(command).stdout.splitlines()
        except CommandFailed as error:
            return f"not to be had: {error}"
        return "; ".join(line.strip() for line in said[:3]) or "there is no file"

    def keep_snapshot(self, order: Order) -> Said:
        """What is given up stays to be read, where it is on LVM and there is room."""
        return Said(self._keep_snapshot(ResourceName(order.subject)))

    def disconnect(self, order: Order) -> Said:
        name = ResourceName(order.subject)
        status = self._status(name)
        if status is not None and status.connection is not ConnectionState.STAND_ALONE:
            self.tools.drbd.disconnect(name)
        return Said()

    def connect(self, order: Order) -> Said:
        """Try to connect again; one that does so already is left."""
        name = ResourceName(order.subject)
        status = self._status(name)
        if status is not None and status.connection is ConnectionState.STAND_ALONE:
            self.tools.drbd.connect(name)
        return Said()

    def discard(self, order: Order) -> Said:
        """Connect and take over the partner's data. Never on a side that is Primary or mounted."""
        name = ResourceName(order.subject)
        status = self._status(name)
        if status is None or status.primary:
            raise self._failed(order, "this side is in use (Primary): `labstore failover down --allow-outage` first")
        if status.connection is not ConnectionState.STAND_ALONE:
            self.tools.drbd.disconnect(name)
        self.tools.drbd.connect(name, discard_my_data=True)
        return Said()

    def _resource(self, name: ResourceName) -> Resource:
        return next(each for each in self.pair.settings.replication.resources if each.name == name)

    def _backing(self, name: ResourceName) -> LogicalVolume | None:
        disk = str(self._resource(name).disks[self.pair.node])
        return next((lv for lv in self.tools.lvm.logical_volumes() if disk in _names(lv.path)), None)

    # --- mounting ---------------------------------------------------------------------------------------------------

    def mount(self, order: Order) -> Said:
        volume = self.pair.cluster.volume(order.subject)
        resource = self.pair.settings.replication.resource_of(volume.name)
        found = on_top(self.tools.mounts.here(), volume.mount)
        if found is not None and found.device != self.observer.device(volume.name):
            raise self._failed(order, f"{found.filesystem} of {found.source} is mounted at {volume.mount}")
        if found is None:
            Path(volume.mount).mkdir(parents=True, exist_ok=True)
            deadline, options = self.pair.settings.deadlines.mount, self.pair.settings.mount_options
            self.tools.mounts.mount(resource.device, volume.mount, volume.filesystem, options, deadline)
        elif found.read_only:
            raise self._failed(order, f"{volume.mount} is mounted read-only: the file system found an error")
        if volume.name == self.pair.settings.state:
            self._make_directories()
        return Said()

    def _make_directories(self) -> None:
        for path, mode in (
            (self.places.shared, 0o755),
            (self.pair.recovery_directory, 0o700),
            (self.places.certificates, 0o700),
            (self.places.journals, 0o700),
            (Path(self.pair.canary), 0o755),
        ):
            path.mkdir(mode=mode, exist_ok=True)

    def unmount(self, order: Order) -> Said:
        """What is mounted inside first, then everywhere else, then the volume. Plain unmounts only; if it is busy:
        drain our own, with permission end others, and else say who and stop."""
        volume = self.pair.cluster.volume(order.subject)
        device = self.observer.device(volume.name)
        said: list[Report] = list(self._keep_journal(volume))
        clock = self.tools.clock
        began = clock.monotonic()
        ends = began + self.pair.settings.deadlines.unmount
        while True:
            busy = self._try_unmount(volume, device)
            if not busy:
                return Said(tuple(said))
            holders = self._holders(volume.name, device) if device is not None else ()
            now = clock.monotonic()
            hopeless = now >= began + BRIEF and holders and not order.evict and not any(map(_ours, holders))
            if now >= ends or hopeless:
                raise StepFailed(self._busy(volume, holders, busy))
            gently = now < began + (ends - began) / 2
            said += self._drain(holders, gently, order.evict)
            clock.sleep(RETRY)

    def _keep_journal(self, volume: Volume) -> tuple[Report, ...]:
        """A copy of this node's journal goes with the service; unmounting writes it to the disk."""
        if volume.name != self.pair.settings.state or not self.observer.state_mounted():
            return ()
        try:
            content = self.places.journal.read_bytes()
            with staged(self.places.journals / f"{self.pair.node}.journal") as new:
                new.touch(mode=0o600)
                new.write_bytes(content)
        except FileNotFoundError:
            return ()
        except OSError as error:
            return (NotJournaled(str(self.pair.node), str(error)),)
        return ()

    def _try_unmount(self, volume: Volume, device: Device | None) -> str:
        """Unmount everything once; what stood in the way, empty where nothing is left."""
        busy = ""
        here = self.tools.mounts.here()
        points = [mount.point for mount in below(here, volume.mount)]
        points += [mount.point for mount in reversed(here) if device is not None and mount.device == device]
        for point in dict.fromkeys(points):
            try:
                self.tools.mounts.unmount(point)
            except MountFailed as error:
                busy = str(error)
        if device is None or busy or not self.tools.mounts.alive(device):
            return busy
        return self._unmount_elsewhere(device)

    def _unmount_elsewhere(self, device: Device) -> str:
        """In every other mount namespace, last made first."""
        busy = "its file system is still active though it is mounted nowhere"
        for space in self.tools.mounts.elsewhere():
            for mount in reversed(of_device(space.mounts, device)):
                try:
                    self.tools.mounts.unmount_in(space.pid, mount.point)
                except MountFailed as error:
                    busy = f"in the mount namespace of process {space.pid}: {error}"
        return busy if self.tools.mounts.alive(device) else ""

    def _busy(self, volume: Volume, holders: Iterable[Holder], said: str) -> Report:
        words = "; ".join(holder.text() for holder in holders) or said
        return MountBusy(str(self.pair.node), str(volume.name), words)

    # --- who holds it -----------------------------------------------------------------------------------------------

    def holders(self) -> tuple[Report, ...]:
        """Who would keep volumes from being unmounted, without those that `down` stops anyway."""
        node, stopped = str(self.pair.node), {*map(str, self.pair.settings.units), *KEPT_BY_US}
        try:
            found = [
                MountBusy(node, str(volume.name), holder.text())
                for volume in self.pair.volumes
                for holder in self._of_living(volume.name)
                if holder.unit not in stopped and not self._goes_along(holder)
            ]
        except TROUBLE as error:
            raise StepFailed(StepNotDone(node, "look for who holds the volumes", str(error))) from error
        return tuple(dict.fromkeys(found))

    def _goes_along(self, holder: Holder) -> bool:
        """A mount of the export tree comes away with its volume."""
        root = self.pair.cluster.export_root
        return root is not None and holder.kind is HolderKind.MOUNT and holder.what.startswith(f"{root}/")

    def _of_living(self, volume: VolumeName) -> tuple[Holder, ...]:
        device = self.observer.device(volume)
        return self._holders(volume, device) if device is not None and self.tools.mounts.alive(device) else ()

    def _holders(self, volume: VolumeName, device: Device | None) -> tuple[Holder, ...]:
        if device is None:
            return ()
        return self.tools.holders.of(device, self.pair.cluster.volume(volume).mount)

    def _drain(self, holders: Iterable[Holder], gently: bool, evict: bool) -> list[Report]:
        """Stop labstore's own units; with permission, end processes: TERM first, KILL in the second half."""
        said: list[Report] = []
        for unit in sorted({holder.unit for holder in holders if _ours(holder)}):
            with contextlib.suppress(CommandFailed):
                self.tools.units.stop([unit], 10.0)
                said.append(Evicted(str(self.pair.node), unit))
        if evict:
            for holder in holders:
                if holder.kind is HolderKind.PROCESS and holder.pid not in (0, 1, os.getpid()):
                    with contextlib.suppress(ProcessLookupError, PermissionError):
                        os.kill(holder.pid, signal.SIGTERM if gently else signal.SIGKILL)
                        said.append(Evicted(str(self.pair.node), holder.text()))
        return said


def _room(size: int) -> int:
    """For a snapshot of so many bytes, in whole extents of 4 MiB."""
    return int(size * SNAPSHOT_PART) // (4 << 20) * (4 << 20) + (4 << 20)


def _ours(holder: Holder) -> bool:
    return holder.unit.startswith("labstore-")


def _names(path: str) -> frozenset[str]:
    """The names under which a logical volume may be meant: /dev/vg/lv and /dev/mapper/vg-lv."""
    parts = path.split("/")
    if len(parts) != 4:
        return frozenset({path})
    group, name = (part.replace("-", "--") for part in parts[2:])
    return frozenset({path, f"/dev/mapper/{group}-{name}"})
