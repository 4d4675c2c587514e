"""drbdadm and drbdsetup, for DRBD 8.4 and 9: one function per use, what they refuse as a class with fields.

Exit statuses of a state change (drbdsetup 8.4): 17 no UpToDate disk, 11 refused by the state (held open, two
primaries), 16 no local disk, 10 configuration, 5 lower than outdated.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

from labstore.formats import drbd_events, drbd_status, proc_drbd
from labstore.formats.drbd_events import BadEvents
from labstore.formats.drbd_status import BadStatus
from labstore.formats.proc_drbd import BadProcDrbd, ProcDevice
from labstore.model.drbd import DeviceStatus, Generations, ResourceName, ResourceStatus
from labstore.model.failover import Resource
from labstore.ports.host import Command, CommandFailed, Host

DEADLINE = 30.0
RUNNING = "r---"
"""The flags in /proc/drbd of a device whose I/O and resync nothing suspends."""


class Refused(StrEnum):
    """Why DRBD did not do it."""

    NO_UP_TO_DATE_DISK = "there is no UpToDate disk to work with"
    HELD_OPEN = "something has the device open"
    TWO_PRIMARIES = "the partner is Primary"
    PARTNER_NOT_OUTDATED = "the partner's data is not known to be outdated"
    NO_LOCAL_DISK = "there is no local disk"
    NOT_OUTDATABLE = "the data is worse than outdated"
    CONFIGURATION = "the configuration was not taken"
    STATE = "the state does not allow it"
    TIMEOUT = "it did not end in time"
    OTHER = "it failed"


_BY_STATUS = {17: Refused.NO_UP_TO_DATE_DISK, 16: Refused.NO_LOCAL_DISK, 5: Refused.NOT_OUTDATABLE, 11: Refused.STATE}
_BY_WORDS = {
    "held open": Refused.HELD_OPEN,
    "Multiple primaries": Refused.TWO_PRIMARIES,
    "Need access to UpToDate": Refused.NO_UP_TO_DATE_DISK,
    "peer is not outdated": Refused.PARTNER_NOT_OUTDATED,
    "without local disk": Refused.NO_LOCAL_DISK,
    "lower than outdated": Refused.NOT_OUTDATABLE,
}


class DrbdFailed(Exception):
    """`verb` on `resource` failed for `why`; `said` is DRBD's last line."""

    def __init__(self, verb: str, resource: str, why: Refused, said: str) -> None:
        super().__init__(f"DRBD: {verb} {resource}: {why}" + (f" ({said})" if said else ""))
        self.verb, self.resource, self.why, self.said = verb, resource, why, said


class StatusUnreadable(Exception):
    """DRBD did not answer, or not in a form that is known."""


@dataclass(frozen=True)
class Drbd:
    """`proc` is there with 8.4 and with 9 while the module is loaded; its first line tells which it is."""

    host: Host
    proc: Path = Path("/proc/drbd")

    # --- looking ----------------------------------------------------------------------------------------------------

    def version(self) -> tuple[int, ...] | None:
        """Of the loaded module, None where none is."""
        try:
            found = re.match(r"version: (\d+(?:\.\d+)*)", self.proc.read_text())
        except OSError:
            return None
        return tuple(int(part) for part in found[1].split(".")) if found else None

    def status(self) -> Mapping[ResourceName, ResourceStatus]:
        """Every configured resource; empty where the module is not loaded. Raises StatusUnreadable."""
        version = self.version()
        if version is None:
            return {}
        try:
            if version >= (9,):
                return drbd_status.parse_json(self._ask("drbdsetup", "status", "--json"))
            found = drbd_events.present(drbd_events.events(self._ask("drbdsetup", "events2", "--now", "--statistics")))
            return self._with_counts(found)
        except (CommandFailed, BadEvents, BadStatus, BadProcDrbd, OSError) as error:
            raise StatusUnreadable(str(error)) from error

    def roles(self, before: Mapping[ResourceName, ResourceStatus]) -> Mapping[ResourceName, ResourceStatus] | None:
        """What `status` said before, with the roles of now: read from 8.4's /proc/drbd, no program is started. None
        where more than a role may have changed since; then `status` has to be asked. Raises StatusUnreadable."""
        version = self.version()
        if version is None or version >= (9,):
            return None
        try:
            now: dict[int | None, ProcDevice] = {
                device.minor: device for device in proc_drbd.parse(self.proc.read_text()).devices
            }
        except (BadProcDrbd, OSError) as error:
            raise StatusUnreadable(str(error)) from error
        if now.keys() != {device.minor for status in before.values() for device in status.devices}:
            return None
        found = {name: _with_roles(status, now) for name, status in before.items()}
        return {name: status for name, status in found.items() if status is not None} if all(found.values()) else None

    def _ask(self, *argv: str) -> str:
        return self.host.run(Command.of(*argv, deadline=DEADLINE)).stdout

    def _with_counts(self, found: Mapping[ResourceName, ResourceStatus]) -> Mapping[ResourceName, ResourceStatus]:
        """8.4 says only in /proc/drbd how fast a resync is, and what differs where nothing is connected."""
        by_minor: dict[int | None, ProcDevice] = {
            device.minor: device for device in proc_drbd.parse(self.proc.read_text()).devices
        }
        return {
            name: replace(status, devices=tuple(_counted(device, by_minor) for device in status.devices))
            for name, status in found.items()
        }

    def generations(self, resource: ResourceName) -> Generations:
        """The data generation ids of the resource's volume, attached or not. Raises DrbdFailed."""
        text = self._run("get-gi", resource).strip().splitlines()[-1:]
        found = _GENERATIONS.search(text[0] if text else "")
        if found is None:
            raise DrbdFailed("get-gi", resource, Refused.OTHER, (text or ["said nothing"])[0][:200])
        flags = [flag == "1" for flag in found[5].split(":")]
        return Generations(found[1], found[2], (found[3], found[4]), *flags[:4])

    # --- acting -----------------------------------------------------------------------------------------------------

    def up(self, resource: ResourceName) -> None:
        """Attach the disk and start connecting, as configured. Raises DrbdFailed, as everything below."""
        self._run("up", resource)

    def attach(self, resource: ResourceName) -> None:
        self._run("attach", resource)

    def connect(self, resource: ResourceName, discard_my_data: bool = False) -> None:
        self._run("connect", resource, *(("--discard-my-data",) if discard_my_data else ()))

    def disconnect(self, resource: ResourceName) -> None:
        self._run("disconnect", resource)

    def down(self, resource: ResourceName) -> None:
        self._run("down", resource)

    def primary(self, resource: Resource, force: bool = False, deadline: float = DEADLINE) -> None:
        """Promote. `force` makes a primary of data that is not known to be the newest: never without proof."""
        self._set_role("primary", resource, *(("--force",) if force else ()), deadline=deadline)

    def secondary(self, resource: Resource, deadline: float = DEADLINE) -> None:
        self._set_role("secondary", resource, deadline=deadline)

    def _set_role(self, verb: str, resource: Resource, *options: str, deadline: float) -> None:
        """What drbdadm would run, without its reading of all configuration: clients are waiting. 8.4 knows minors."""
        version = self.version()
        what = str(resource.minor) if version is not None and version < (9,) else resource.name
        self._run_command(Command(("drbdsetup", verb, what, *options), deadline), verb, resource.name)

    def outdate(self, resource: ResourceName) -> None:
        """Mark our own data as not the newest, so that it is not promoted."""
        self._run("outdate", resource)

    def create_metadata(self, resource: ResourceName, deadline: float = 300.0) -> None:
        """Write DRBD's own blocks onto the backing device. Only ever after it was found to hold nothing."""
        self._run("create-md", resource, "--force", deadline=deadline, env={"DRBD_DONT_WARN_ON_VERSION_MISMATCH": "1"})

    def declare_equal(self, resource: ResourceName) -> None:
        """Say that both sides hold the same bytes already, so that nothing is copied. Only for devices that are known
        to be all zeros, connected, and without data so far."""
        self._run("new-current-uuid", resource, "--clear-bitmap", volume="/0")

    def adjust(self, resource: ResourceName) -> None:
        """Let the running resource be as its file says."""
        self._run("adjust", resource)

    def adjustments(self, resource: ResourceName) -> tuple[str, ...]:
        """The commands that `adjust` would run."""
        return tuple(line for line in self._run("adjust", resource, before=("--dry-run",)).splitlines() if line.strip())

    def dump(self, config: Path | None = None) -> str:
        """What drbdadm reads in its configuration files, joined; it complains about what it cannot take."""
        options = ("-c", str(config)) if config else ()
        return self._run("dump", ResourceName("all"), before=options)

    def _run(
        self,
        verb: str,
        resource: ResourceName,
        *options: str,
        before: Sequence[str] = (),
        deadline: float = DEADLINE,
        env: Mapping[str, str] | None = None,
        volume: str = "",
    ) -> str:
        command = Command(("drbdadm", *before, verb, *options, resource + volume), deadline, env=env or {})
        return self._run_command(command, verb, resource)

    def _run_command(self, command: Command, verb: str, resource: ResourceName) -> str:
        try:
            return self.host.run(command).stdout
        except CommandFailed as error:
            raise DrbdFailed(verb, resource, _why(error), _last_line(error.stderr) or error.reason) from error


_GENERATIONS = re.compile(
    r"([0-9A-F]{16}):([0-9A-F]{16}):([0-9A-F]{16}):([0-9A-F]{16}):((?:[01]:){6}[01])", re.IGNORECASE
)


def _why(error: CommandFailed) -> Refused:
    for words, why in _BY_WORDS.items():
        if words in error.stderr:
            return why
    if error.status is None:
        return Refused.TIMEOUT
    return _BY_STATUS.get(error.status, Refused.OTHER)


def _last_line(text: str) -> str:
    """The line that says what was wrong: drbdadm's own line about the exit status comes after it."""
    lines = [line.strip() for line in text.splitlines() if line.strip() and not line.startswith("Command '")]
    return lines[-1][:300] if lines else ""


def _with_roles(status: ResourceStatus, now: Mapping[int | None, ProcDevice]) -> ResourceStatus | None:
    """None where it is told apart in anything else, or where /proc/drbd does not tell."""
    found = [now[device.minor] for device in status.devices]
    roles = {(each.role, each.peer_role) for each in found}
    same = all(_alike(status, device, now[device.minor]) for device in status.devices)
    if status.suspended or not same or len(roles) != 1:
        return None
    ((role, peer_role),) = roles
    devices = tuple(_counted(replace(device, out_of_sync=None), now) for device in status.devices)
    return replace(status, role=role, peer_role=peer_role, devices=devices)


def _alike(status: ResourceStatus, device: DeviceStatus, now: ProcDevice) -> bool:
    before = (status.connection, device.replication, device.disk, device.peer_disk)
    return before == (now.connection, now.replication, now.disk, now.peer_disk) and now.flags.startswith(RUNNING)


def _counted(device: DeviceStatus, by_minor: Mapping[int | None, ProcDevice]) -> DeviceStatus:
    found = by_minor.get(device.minor)
    if found is None:
        return device
    known = device.out_of_sync if device.out_of_sync is not None else found.out_of_sync
    return replace(device, out_of_sync=known, progress=found.progress or device.progress)
