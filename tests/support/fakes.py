"""In-memory twins of the Protocols around exports: a cloud, a server, a node."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta

from labstore.model.address import Client
from labstore.model.cloud import AddressKind, Instance, InstanceAddress, Presence, Project
from labstore.model.exports import ExportTable
from labstore.model.names import ExportPath
from labstore.model.site import Volume
from labstore.ports.export_server import PartlyServed, Served
from labstore.ports.inventory import RegionView, Snapshot
from labstore.ports.node import VolumeState
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.exports import ApplyFailed
from labstore.reports.report import Report
from labstore.reports.sources import SourceFailed
from tests.support.fake_clock import FakeClock

REGION = "eqiad1-r"


class Killed(BaseException):
    """Stands for kill -9: nothing may catch it."""


def instance(
    name: str,
    project: str,
    *addresses: str,
    region: str = REGION,
    status: str = "ACTIVE",
    created: datetime | None = None,
    told: bool = True,
) -> Instance:
    """An instance with fixed addresses; `told=False`: the cloud does not say which."""
    known = tuple(InstanceAddress(Client(address), AddressKind.FIXED) for address in addresses)
    return Instance(f"id-{name}", name, project, region, status, known if told else None, created)


class FakeInventory:
    """A small cloud whose parts can fail. Project ids are `p-<name>`.

    `broken` names what gives no answer: `projects`, a region, or `region/project-id`. `hidden` are instances that a
    listing leaves out although they exist. `truthful`: whether `confirm` works.
    """

    def __init__(self, clock: FakeClock) -> None:
        self._clock = clock
        self.projects: dict[str, Project] = {}
        self.instances: dict[str, Instance] = {}
        self.deleted: dict[str, datetime] = {}
        self.regions: list[str] = [REGION]
        self.broken: set[str] = set()
        self.hidden: set[str] = set()
        self.truthful = True
        self.announces = True
        self.listings = 0
        self.calls = 0

    def add_project(self, name: str, enabled: bool = True, id_: str = "") -> str:
        project = Project(id_ or f"p-{name}", name, enabled)
        self.projects[project.id] = project
        return project.id

    def add(self, new: Instance) -> Instance:
        self.instances[new.id] = replace(new, created=new.created or self._clock.now())
        return new

    def delete(self, name: str) -> None:
        """Delete an instance; the cloud says so when asked for changes if it `announces`."""
        self.instances.pop(f"id-{name}")
        if self.announces:
            self.deleted[f"id-{name}"] = self._clock.now()

    def listing(self) -> Snapshot:
        self.listings += 1
        return self._snapshot(self.listings)

    def changes(self, last: Snapshot) -> Snapshot:
        return self._snapshot(next(iter(last.regions.values())).listing if last.regions else self.listings)

    def confirm(self, instances: Collection[Instance]) -> Mapping[str, Presence]:
        self.calls += len(instances)
        if not self.truthful:
            return {each.id: Presence.UNKNOWN for each in instances}
        return {each.id: Presence.PRESENT if each.id in self.instances else Presence.GONE for each in instances}

    def _snapshot(self, listing: int) -> Snapshot:
        now = self._clock.now()
        projects: Answer[Mapping[str, Project]] = Fact(dict(self.projects), "fake", now)
        if "projects" in self.broken:
            projects = self._missing("the projects")
        views = {region: self._view(region, listing) for region in self.regions}
        return Snapshot(now, "fake", projects, views, Fact(tuple(self.regions), "fake", now), 1, 0)

    def _view(self, region: str, listing: int) -> RegionView:
        now = self._clock.now()
        if region in self.broken:
            return RegionView(region, {}, self._missing(f"region {region}"), {}, listing)
        seen: dict[str, list[Instance]] = {}
        for each in self.instances.values():
            if each.region == region and each.id not in self.hidden:
                seen.setdefault(each.project_id, []).append(each)
        answers: dict[str, Answer[tuple[Instance, ...]]] = {
            project: Fact(tuple(found), "fake", now) for project, found in seen.items()
        }
        for name in self.broken:
            where, _, project = name.partition("/")
            if where == region and project:
                answers[project] = self._missing(f"project {project}")
        return RegionView(region, answers, Fact((), "fake", now), dict(self.deleted), listing)

    def _missing(self, what: str) -> Missing:
        return Missing(SourceFailed("fake cloud", what, "401"), "fake", self._clock.now())


@dataclass
class FakeExportServer:
    """The twin of an NFS server. `trouble` is called before each internal step with its name and may raise: StepFailed
    for a refusal, Killed for a kill -9 at that very point."""

    clock: FakeClock
    stored: ExportTable = field(default_factory=ExportTable)
    generation: int | None = None
    live: ExportTable = field(default_factory=ExportTable)
    running: bool = True
    foreign: tuple[Report, ...] = ()
    unreadable: bool = False
    calls: int = 0
    writes: int = 0
    trouble: Callable[[str], None] = field(default=lambda _step: None)

    def observe(self) -> Answer[Served]:
        if self.unreadable:
            return Missing(SourceFailed("fake server", "its table", "unreadable"), "fake", self.clock.now())
        drift = _differing(self.stored, self.live) if self.running else ()
        return Fact(Served(self.stored, self.generation, self.running, drift, self.foreign), "fake", self.clock.now())

    def apply(self, table: ExportTable, generation: int) -> int:
        if table == self.stored and (not self.running or table == self.live):
            return 0
        self.trouble("begin")
        if table != self.stored and generation == self.generation:
            raise StepFailed(ApplyFailed("fake server", f"generation {generation} is in force with another table"))
        before = (self.stored, self.generation)
        if table != self.stored or self.generation is None:
            self.stored, self.generation = table, generation
            self.writes += 1
        try:
            return self._tell(table)
        except PartlyServed:
            raise
        except StepFailed:
            self.stored, self.generation = before
            raise

    def _tell(self, table: ExportTable) -> int:
        self.trouble("stored")
        if not self.running:
            return 0
        self.calls += 1
        self.trouble("tell")
        self.live = table
        self.trouble("told")
        return 1

    def restart(self) -> None:
        """The server itself restarts, with nothing of labstore running: it serves what its files say."""
        self.live, self.running = self.stored, True


def _differing(a: ExportTable, b: ExportTable) -> tuple[ExportPath, ...]:
    paths = {*a.by_path, *b.by_path}
    return tuple(sorted(path for path in paths if a.by_path.get(path) != b.by_path.get(path)))


def refusing(reason: str = "no") -> Callable[[str], None]:
    """A server that refuses whatever it is told."""

    def trouble(step: str) -> None:
        if step == "tell":
            raise StepFailed(ApplyFailed("fake server", reason))

    return trouble


@dataclass
class FakeNode:
    """A node whose role and volumes are set by the test."""

    clock: FakeClock
    active: bool | None = True
    volumes: dict[str, VolumeState] = field(default_factory=dict)

    def holds(self, addresses: Sequence[Client]) -> Answer[bool]:
        if self.active is None:
            return Missing(SourceFailed("netlink", "addresses", "broken"), "fake", self.clock.now())
        return Fact(self.active, "fake", self.clock.now())

    def volume(self, volume: Volume) -> Answer[VolumeState]:
        return Fact(self.volumes.get(volume.name, VolumeState.FIT), "fake", self.clock.now())


def later(clock: FakeClock, seconds: float) -> datetime:
    return clock.now() + timedelta(seconds=seconds)
