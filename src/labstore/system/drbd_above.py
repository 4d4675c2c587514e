"""What DRBD says of the copy that lies on a device of this machine."""

from __future__ import annotations

import os
from pathlib import Path

from labstore.model.drbd import DiskState, ResourceStatus
from labstore.system.drbdadm import Drbd, StatusUnreadable

SYS = Path("/sys/dev/block")


def replica(path: str, drbd: Drbd, sys: Path = SYS) -> str | None:
    """`UpToDate` where what lies there is complete and the newest; else what is wrong with it, in words. None where
    nothing replicates it. A standby that has lost its partner still calls its own disk up to date: it is not."""
    try:
        minors = _minors(path, sys)
        if not minors:
            return None
        found = drbd.status()
    except (OSError, StatusUnreadable) as error:
        return f"not known: {error}"
    for status in found.values():
        for device in status.devices:
            if device.minor in minors:
                return str(device.disk) if device.disk is not DiskState.UP_TO_DATE else _fresh(status)
    return "not known: DRBD says nothing of it"


def _fresh(status: ResourceStatus) -> str:
    if status.receiving:
        return "being overwritten by its partner's"
    if not status.primary and not status.connected:
        return f"of unknown age: its partner is not connected ({status.connection})"
    return "UpToDate"


def _minors(path: str, sys: Path) -> set[int]:
    """The DRBD devices that are built on a device. Raises OSError."""
    number = os.stat(path).st_rdev  # noqa: PTH116 - a device path is text here
    holders = sys / f"{os.major(number)}:{os.minor(number)}" / "holders"
    names = [each.name for each in holders.iterdir()] if holders.is_dir() else []
    return {int(name[4:]) for name in names if name.startswith("drbd") and name[4:].isdigit()}
