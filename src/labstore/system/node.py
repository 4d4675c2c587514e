"""This machine's addresses (netlink) and mounts (/proc)."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from pyroute2 import IPRoute
from pyroute2.netlink.exceptions import NetlinkError

from labstore.formats.mountinfo import BadMountinfo, Mount, on_top, parse
from labstore.model.address import Client
from labstore.model.site import Volume
from labstore.ports.clock import Clock
from labstore.ports.node import VolumeState
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reports.sources import SourceFailed
from labstore.system.files import kernel_text

BY_UUID = Path("/dev/disk/by-uuid")


class LocalNode:
    """See ports.node.Node."""

    def __init__(self, clock: Clock, mountinfo: Path = Path("/proc/self/mountinfo"), by_uuid: Path = BY_UUID) -> None:
        self._clock, self._mountinfo, self._by_uuid = clock, mountinfo, by_uuid

    def holds(self, addresses: Sequence[Client]) -> Answer[bool]:
        if not addresses:
            return Fact(True, "site file", self._clock.now())
        try:
            with IPRoute() as netlink:
                here = {str(message.get_attr("IFA_ADDRESS")) for message in netlink.get_addr()} | {
                    str(message.get_attr("IFA_LOCAL")) for message in netlink.get_addr()
                }
        except (OSError, NetlinkError) as error:
            return self._missing("netlink", "this node's addresses", error)
        return Fact(set(addresses) <= here, "netlink", self._clock.now())

    def volume(self, volume: Volume) -> Answer[VolumeState]:
        try:
            if not volume.mounted:
                return self._fact(VolumeState.FIT if Path(volume.mount).is_dir() else VolumeState.NOT_MOUNTED)
            mount = on_top(parse(kernel_text(self._mountinfo)), volume.mount)
            return self._fact(self._state(volume, mount))
        except (OSError, BadMountinfo) as error:
            return self._missing("mountinfo", f"the state of volume {volume.name}", error)

    def _state(self, volume: Volume, mount: Mount | None) -> VolumeState:
        if mount is None:
            return VolumeState.NOT_MOUNTED
        if volume.filesystem is not None and mount.filesystem != volume.filesystem:
            return VolumeState.WRONG_FILESYSTEM
        if volume.uuid is not None and self._device(volume.uuid) != mount.device:
            return VolumeState.WRONG_FILESYSTEM
        return VolumeState.READ_ONLY if mount.read_only else VolumeState.FIT

    def _device(self, uuid: str) -> tuple[int, int] | None:
        """The device number behind a file system's UUID, as udev links it; None where there is no such link."""
        try:
            number = (self._by_uuid / uuid).stat().st_rdev
        except FileNotFoundError:
            return None
        return os.major(number), os.minor(number)

    def _fact(self, state: VolumeState) -> Fact[VolumeState]:
        return Fact(state, "mountinfo", self._clock.now())

    def _missing(self, source: str, what: str, error: Exception) -> Missing:
        return Missing(SourceFailed(source, what, str(error)), source, self._clock.now())
