"""What setting a pair up and adjusting it does on one node."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from labstore.failover.desired import BOOT_UNIT
from labstore.failover.lineage import JUST_CREATED
from labstore.failover.observe import TROUBLE, Observer, Tools
from labstore.failover.storage import Storage
from labstore.formats.mountinfo import on_top
from labstore.model.drbd import ConnectionState, ResourceName, Role
from labstore.model.failover import Pair, Resource
from labstore.model.names import VolumeName
from labstore.ports.host import Command, CommandFailed
from labstore.ports.storage_node import DiskContent, DiskFound, Do, Order, Said, SetUp, Survey
from labstore.reconcile.runner import StepFailed
from labstore.reports.failover import StandsAlone, StepNotDone
from labstore.reports.report import Report
from labstore.system.blank import Blank
from labstore.system.drbdadm import DrbdFailed
from labstore.system.mounts import MountFailed

PROGRAMS = (
    "drbdadm",
    "drbdsetup",
    "exportfs",
    "rpc.nfsd",
    "nft",
    "ss",
    "ssh",
    "systemctl",
    "unshare",
    "blkid",
    "chattr",
)
DISABLED = ("nfs-server.service", "drbd.service")
"""Units that must not start at a boot: they know nothing of who is to serve."""


@dataclass(frozen=True)
class Builder:
    observer: Observer

    @property
    def pair(self) -> Pair:
        return self.observer.pair

    @property
    def tools(self) -> Tools:
        return self.observer.tools

    @property
    def blank(self) -> Blank:
        return Blank(self.tools.host)

    # --- looking ----------------------------------------------------------------------------------------------------

    def survey(self) -> Survey:
        """See ports.storage_node.StorageNode."""
        try:
            resources = self.pair.settings.replication.resources
            return Survey(
                node=self.pair.node,
                disks={resource.name: self._disk(resource) for resource in resources},
                missing=tuple(program for program in PROGRAMS if shutil.which(program, path=_PATH) is None),
                differences=self.tools.files.differences(),
                adjustments={resource.name: self._adjustments(resource.name) for resource in resources},
            )
        except TROUBLE as error:
            raise self._failed("survey", str(error)) from error

    def _disk(self, resource: Resource) -> DiskFound:
        path = resource.disks[self.pair.node]
        status = self.tools.drbd.status().get(resource.name)
        if status is not None and status.devices:
            return self._running(resource, status.role is Role.PRIMARY)
        found = self.blank.look(path)
        if not found.exists:
            return DiskFound(str(path), DiskContent.ABSENT, "there is no such block device")
        if found.busy:
            return DiskFound(str(path), DiskContent.IN_USE, "something has it open (a mount, LVM, swap)")
        if found.kind == "drbd":
            return DiskFound(str(path), self._generation(resource.name), found.kind, found.size)
        if found.kind or not found.zero:
            words = f"it holds {found.kind}" if found.kind else "its bytes are not all zero"
            return DiskFound(str(path), DiskContent.DATA, words, found.size)
        return DiskFound(str(path), DiskContent.EMPTY, "", found.size)

    def _running(self, resource: Resource, primary: bool) -> DiskFound:
        filesystem = ""
        if primary:
            with contextlib.suppress(CommandFailed):
                filesystem = self.blank.kind(resource.device)
        return DiskFound(str(resource.disks[self.pair.node]), self._generation(resource.name), "", 0, filesystem)

    def _generation(self, name: ResourceName) -> DiskContent:
        """Metadata that was never used has the generation id with which it was made."""
        try:
            current = self.tools.drbd.generations(name).bare[0]
        except DrbdFailed:
            return DiskContent.IN_SERVICE
        return DiskContent.NEW_METADATA if current == JUST_CREATED else DiskContent.IN_SERVICE

    def _adjustments(self, name: ResourceName) -> tuple[str, ...]:
        with contextlib.suppress(DrbdFailed):
            return tuple(line for line in self.tools.drbd.adjustments(name) if "shared-secret" not in line)
        return ()

    # --- doing ------------------------------------------------------------------------------------------------------

    def set_up(self, what: SetUp, subject: str = "") -> Said:
        """See ports.storage_node.StorageNode."""
        try:
            return self._acts[what](subject)
        except (*TROUBLE, MountFailed) as error:
            raise self._failed(f"{what} {subject}".strip(), str(error)) from error

    @property
    def _acts(self) -> Mapping[SetUp, Callable[[str], Said]]:
        return {
            SetUp.WRITE_FILES: self._write_files,
            SetUp.CREATE_METADATA: self._create_metadata,
            SetUp.FIRST_PRIMARY: self._first_primary,
            SetUp.DECLARE_EQUAL: self._declare_equal,
            SetUp.MAKE_FILESYSTEM: self._make_filesystem,
            SetUp.FURNISH: self._furnish,
            SetUp.RELEASE: self._release,
            SetUp.GUARD_MOUNT_POINT: self._guard_mount_point,
            SetUp.ENABLE: self._enable,
            SetUp.ADJUST: self._adjust,
        }

    def _write_files(self, _subject: str) -> Said:
        absent = self.tools.files.handler_missing()
        if absent is not None:
            raise self._failed("write files", f"{absent}, which DRBD would call, is not there")
        written = self.tools.files.write()
        if any(path.suffix in (".service", ".conf") and "systemd" in path.parts for path in written):
            self.tools.units.reload()
        return Said(data={"written": " ".join(map(str, written)) or "nothing"})

    def _create_metadata(self, subject: str) -> Said:
        """Looked at once more: between the survey and now somebody may have used it."""
        resource = self._resource(subject)
        found = self._disk(resource)
        if found.content in (DiskContent.NEW_METADATA, DiskContent.IN_SERVICE):
            return Said()
        if found.content is not DiskContent.EMPTY:
            raise self._failed(f"create metadata of {subject}", f"{found.path}: {found.words}")
        self.tools.drbd.create_metadata(resource.name)
        return Said()

    def _first_primary(self, subject: str) -> Said:
        """Make this side the source of the first copy. Only while there is no data on either side."""
        resource = self._resource(subject)
        status = self.tools.drbd.status().get(resource.name)
        if status is not None and status.primary:
            return Said()
        fresh = self._generation(resource.name) is DiskContent.NEW_METADATA
        self.tools.drbd.primary(resource, force=fresh)
        return Said()

    def _declare_equal(self, subject: str) -> Said:
        resource = self._resource(subject)
        if self._generation(resource.name) is DiskContent.NEW_METADATA:
            self.tools.drbd.declare_equal(resource.name)
        return Said()

    def _make_filesystem(self, subject: str) -> Said:
        volume = self.pair.cluster.volume(subject)
        device = self.pair.settings.replication.resource_of(volume.name).device
        found = self.blank.kind(device)
        wanted = volume.filesystem or "ext4"
        if found and found != wanted:
            raise self._failed(f"make the file system of {subject}", f"{device} holds {found}, not {wanted}")
        if not found:
            self.blank.make_filesystem(device, wanted)
        return Said()

    def _furnish(self, subject: str) -> Said:
        """Mount a volume once, so that what belongs on it is there, and let it go again."""
        storage = Storage(self.observer)
        storage.mount(Order(Do.MOUNT, subject))
        storage.unmount(Order(Do.UNMOUNT, subject))
        return Said()

    def _release(self, subject: str) -> Said:
        Storage(self.observer).demote(Order(Do.DEMOTE, self._resource(subject).name))
        return Said()

    def _guard_mount_point(self, subject: str) -> Said:
        """Nothing can be written into a mount point on which nothing is mounted."""
        point = Path(self.pair.cluster.volume(VolumeName(subject)).mount)
        if on_top(self.tools.mounts.here(), str(point)) is not None:
            return Said()
        point.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(CommandFailed):  # a file system without the attribute is no reason to stop
            if not os.listdir(point):  # noqa: PTH208 - whether there is anything
                self.tools.host.run(Command.of("chattr", "+i", str(point)))
        return Said()

    def _enable(self, _subject: str) -> Said:
        """What knows who is to serve starts at a boot; what does not know does not."""
        self.tools.units.disable(DISABLED)
        self.tools.units.enable([BOOT_UNIT])
        return Said()

    def _adjust(self, subject: str) -> Said:
        """Let the running resource be as its file says; one that stands alone, which that would connect, is left."""
        resource = self._resource(subject)
        status = self.tools.drbd.status().get(resource.name)
        if status is not None and status.connection is ConnectionState.STAND_ALONE:
            return Said((StandsAlone(str(self.pair.node), subject),))
        self.tools.drbd.adjust(resource.name)
        return Said()

    def _resource(self, name: str) -> Resource:
        return next(each for each in self.pair.settings.replication.resources if each.name == name)

    def _failed(self, step: str, reason: str) -> StepFailed:
        report: Report = StepNotDone(str(self.pair.node), step, reason)
        return StepFailed(report)


_PATH = "/usr/sbin:/usr/bin:/sbin:/bin:/usr/local/sbin:/usr/local/bin"
