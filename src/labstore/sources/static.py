"""The inventory in a file: read again when it changes, believed when it is whole."""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from labstore.formats import inventory_file
from labstore.formats.inventory_file import InventoryFile
from labstore.formats.strict_yaml import DATA_LIMIT
from labstore.model.cloud import Instance, Presence
from labstore.ports.clock import Clock
from labstore.ports.inventory import RegionView, Snapshot
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reports.in_file import BadFile
from labstore.reports.sources import SourceFailed
from labstore.system.files import FileTooLarge, read_limited

SETTLED = 2.0
"""Seconds for which a file must have stayed as it is before what it lacks counts as gone: an editor that writes in
place leaves half a file, and half an inventory can be valid YAML."""

Signature = tuple[int, int, int]


@dataclass(frozen=True)
class _Reading:
    """What was read; `since` (monotonic) is when this content was first seen, `size` is in bytes."""

    file: InventoryFile
    digest: bytes
    signature: Signature
    since: float
    size: int


class FileInventory:
    """See ports.inventory.Inventory."""

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock
        self._source = str(path)
        self._reading: _Reading | None = None
        self._shown: tuple[Snapshot, bytes] | None = None
        self._regions: tuple[str, ...] = ()
        self._number = 0

    def listing(self) -> Snapshot:
        reading = self._read()
        if isinstance(reading, Missing):
            return self._nothing(reading)
        if self._settled(reading):
            self._number = max(self._number + 1, int(self._clock.now().timestamp()))
        return self._snapshot(reading)

    def changes(self, last: Snapshot) -> Snapshot:
        """See ports.inventory.Inventory. A file that was not touched since `last` is not read."""
        known, shown = self._reading, self._shown
        if known is None or shown is None or shown[0] is not last or shown[1] != known.digest:
            return self.listing()
        if known.signature != self._signature():
            return self.listing()
        return self._show(replace(last, at=self._clock.now(), requests=0, bytes=0), known)

    def confirm(self, instances: Collection[Instance]) -> Mapping[str, Presence]:
        """PRESENT is what the file names. It never says that something is gone: what it lacks is absent, and for an
        absence it must be read twice. UNKNOWN while it cannot be read or has not settled."""
        reading = self._read()
        if isinstance(reading, Missing):
            return {instance.id: Presence.UNKNOWN for instance in instances}
        there = {instance.id for instance in reading.file.instances}
        told = {instance.id: Presence.PRESENT for instance in instances if instance.id in there}
        if self._settled(reading):
            return told
        return {instance.id: Presence.UNKNOWN for instance in instances} | told

    # --- reading ----------------------------------------------------------------------------------------------------

    def _read(self) -> _Reading | Missing:
        """The file as it is now; parsed again only where its content is another."""
        try:
            signature = self._signature()
            text = read_limited(self._path, DATA_LIMIT)
            digest = hashlib.blake2b(text, digest_size=16).digest()
            if self._reading is None or digest != self._reading.digest:
                parsed = inventory_file.parse(text, self._source)
                self._reading = _Reading(parsed, digest, signature, self._clock.monotonic(), len(text))
                self._regions = parsed.regions
        except FileTooLarge as error:
            return self._missing(str(error))
        except OSError as error:
            return self._missing(error.strerror or str(error))
        except BadFile as error:
            self._reading = None
            return self._missing(str(error))
        self._reading = replace(self._reading, signature=signature)
        return self._reading

    def _signature(self) -> Signature:
        """Changes when the file does; raises nothing, so that a vanished file differs too."""
        try:
            status = self._path.stat()
        except OSError:
            return (0, 0, 0)
        return (status.st_ino, status.st_size, status.st_mtime_ns)

    def _settled(self, reading: _Reading) -> bool:
        """Whether this content has been there for a while: since we saw it first, or by the file's own time."""
        watched = self._clock.monotonic() - reading.since
        untouched = self._clock.now().timestamp() - reading.signature[2] / 1e9
        return watched >= SETTLED or untouched >= SETTLED

    # --- answers ----------------------------------------------------------------------------------------------------

    def _snapshot(self, reading: _Reading) -> Snapshot:
        now = self._clock.now()
        regions = {name: self._view(name, reading) for name in reading.file.regions}
        known = Fact(tuple(regions), self._source, now)
        projects = Fact(reading.file.projects, self._source, now)
        return self._show(Snapshot(now, self._source, projects, regions, known, 1, reading.size), reading)

    def _show(self, snapshot: Snapshot, reading: _Reading) -> Snapshot:
        self._shown = (snapshot, reading.digest)
        return snapshot

    def _view(self, region: str, reading: _Reading) -> RegionView:
        now = self._clock.now()
        seen: dict[str, list[Instance]] = {project: [] for project in reading.file.projects}
        for instance in reading.file.instances:
            if instance.region == region:
                seen[instance.project_id].append(instance)
        answers: dict[str, Answer[tuple[Instance, ...]]] = {
            project: Fact(tuple(instances), self._source, now) for project, instances in seen.items()
        }
        return RegionView(region, answers, Fact((), self._source, now), {}, self._number)

    def _nothing(self, why: Missing) -> Snapshot:
        regions = {name: RegionView(name, {}, why, {}, self._number) for name in self._regions}
        return Snapshot(why.at, self._source, why, regions, why)

    def _missing(self, reason: str) -> Missing:
        return Missing(SourceFailed(self._source, "projects and instances", reason), self._source, self._clock.now())
