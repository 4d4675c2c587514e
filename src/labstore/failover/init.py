"""Setting up a new pair, and adjusting one that runs: what is to be done on which node, and why not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from labstore.failover.mover import Moment, Progress
from labstore.failover.states import PairView
from labstore.failover.steps import value
from labstore.model.drbd import ResourceName
from labstore.model.failover import Pair
from labstore.ports.clock import Clock
from labstore.ports.storage_node import Aspect, DiskContent, Do, Order, SetUp, StorageNode, Survey
from labstore.reconcile.runner import StepFailed
from labstore.reports.failover import HoldsData, PartnerServes, StepNotDone
from labstore.reports.report import Report, Severity

CONNECT = 60.0
"""Seconds that the two sides of a new resource get to find each other."""


@dataclass(frozen=True)
class Task:
    """One thing to do on one node. `title` is for people."""

    node: str
    what: SetUp | Do
    subject: str
    title: str

    @property
    def key(self) -> str:
        return f"{self.what}:{self.subject}" if self.subject else self.what.value


class ProgramsMissing(Report):
    node: str
    programs: tuple[str, ...]

    code = "programs-missing"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.node}: not installed: {', '.join(self.programs)}"

    def remedy(self) -> str:
        return "apt install drbd-utils nfs-kernel-server nftables iproute2 openssh-client util-linux e2fsprogs"


class SizesDiffer(Report):
    resource: str
    sizes: str

    code = "sizes-differ"
    severity = Severity.WARNING

    def message(self) -> str:
        return f"resource {self.resource}: the backing devices differ in size ({self.sizes}); the smaller one counts"


class InService(Report):
    resource: str

    code = "already-in-service"
    severity = Severity.NOTICE

    def message(self) -> str:
        return f"resource {self.resource} has data already; it is left as it is"


def unfit(first: Survey, second: Survey) -> tuple[Report, ...]:
    """Why a pair must not be set up, and what is worth knowing: nothing that holds data is ever written over."""
    return tuple(_unfit(first, second))


def _unfit(first: Survey, second: Survey) -> Iterator[Report]:
    for survey in (first, second):
        if survey.missing:
            yield ProgramsMissing(str(survey.node), survey.missing)
        for disk in survey.disks.values():
            if disk.content in (DiskContent.DATA, DiskContent.ABSENT, DiskContent.IN_USE):
                yield HoldsData(str(survey.node), disk.path, disk.words or disk.content.value)
    for name in first.disks:
        here, there = first.disks[name], second.disks[name]
        if here.size and there.size and here.size != there.size:
            yield SizesDiffer(str(name), f"{here.size} and {there.size} bytes")
        if DiskContent.IN_SERVICE in (here.content, there.content):
            yield InService(str(name))


def in_service(view: PairView) -> tuple[Report, ...]:
    """A pair that serves is set up already."""
    return tuple(
        PartnerServes(str(facts.node), "clients are served, or volumes are mounted")
        for facts in view.facts()
        if value(facts.addresses, frozenset()) or any(each.alive for each in value(facts.mounts, {}).values())
    )


def init_tasks(pair: Pair, first: Survey, second: Survey, equal: bool) -> tuple[Task, ...]:
    """Everything that makes a new pair, in order. `first` becomes the source of the first copy. What has data already
    is passed over, so that an interrupted run goes on."""
    nodes, here = (str(first.node), str(second.node)), str(first.node)
    fresh = [name for name in first.disks if not _used(name, first, second)]
    volumes = {resource.name: resource.volume for resource in pair.settings.replication.resources}
    tasks = [Task(node, SetUp.WRITE_FILES, "", "write the files that follow from the site file") for node in nodes]
    tasks += [
        Task(node, SetUp.CREATE_METADATA, name, f"write DRBD's metadata of {name}") for name in fresh for node in nodes
    ]
    tasks += [Task(node, Do.ATTACH, name, f"attach {name}") for name in first.disks for node in nodes]
    if equal:
        tasks += [Task(here, SetUp.DECLARE_EQUAL, name, f"declare both sides of {name} equal") for name in fresh]
    tasks += [Task(here, SetUp.FIRST_PRIMARY, name, f"make this side of {name} the source") for name in first.disks]
    tasks += [
        Task(here, SetUp.MAKE_FILESYSTEM, volumes[name], f"make the file system of {volumes[name]}")
        for name in first.disks
    ]
    tasks += [Task(here, SetUp.FURNISH, volume.name, f"furnish {volume.name}") for volume in pair.volumes]
    tasks += [Task(here, SetUp.RELEASE, name, f"let {name} go") for name in first.disks]
    tasks += [
        Task(node, SetUp.GUARD_MOUNT_POINT, volume.name, f"guard the mount point of {volume.name}")
        for volume in pair.volumes
        for node in nodes
    ]
    tasks += [Task(node, SetUp.ENABLE, "", "start replication at boots, and nothing else of it") for node in nodes]
    return tuple(tasks)


def _used(name: ResourceName, first: Survey, second: Survey) -> bool:
    return DiskContent.IN_SERVICE in (first.disks[name].content, second.disks[name].content)


def adjust_tasks(pair: Pair, surveys: tuple[Survey, ...]) -> tuple[Task, ...]:
    """What brings nodes in line with the site file: their files, then the running resources."""
    tasks: list[Task] = []
    for survey in surveys:
        node = str(survey.node)
        changed = bool(survey.differences)
        if changed:
            tasks.append(Task(node, SetUp.WRITE_FILES, "", "; ".join(survey.differences)))
        for resource in pair.settings.replication.resources:
            found = survey.adjustments.get(resource.name, ())
            if found or any(f"/{resource.name}.res" in words for words in survey.differences):
                tasks.append(Task(node, SetUp.ADJUST, resource.name, f"adjust the running {resource.name}"))
    return tuple(tasks)


@dataclass
class Setter:
    """Carries tasks out, one after the other, and stops at the first that fails."""

    pair: Pair
    nodes: tuple[StorageNode, StorageNode]
    clock: Clock
    tell: Callable[[Progress], None] = lambda _progress: None
    said: list[Report] = field(default_factory=list)

    def surveys(self) -> tuple[Survey, Survey]:
        """Raises StepFailed where a node cannot be asked."""
        return self.nodes[0].survey(), self.nodes[1].survey()

    def run(self, tasks: tuple[Task, ...]) -> None:
        """Raises StepFailed."""
        for task in tasks:
            began = self.clock.monotonic()
            self.tell(Progress(task.node, task.key, task.title, Moment.BEGIN))
            try:
                self._do(task)
            except StepFailed:
                failed = self.clock.monotonic() - began
                self.tell(Progress(task.node, task.key, task.title, Moment.FAILED, failed))
                raise
            self.tell(Progress(task.node, task.key, task.title, Moment.DONE, self.clock.monotonic() - began))

    def _do(self, task: Task) -> None:
        node = next(each for each in self.nodes if str(each.name) == task.node)
        if isinstance(task.what, SetUp):
            if task.what in (SetUp.DECLARE_EQUAL, SetUp.FIRST_PRIMARY):
                self._await_connection(node, ResourceName(task.subject))
            self.said += node.set_up(task.what, task.subject).reports
        else:
            self.said += node.act(Order(task.what, task.subject, wait=False)).reports

    def _await_connection(self, node: StorageNode, name: ResourceName) -> None:
        """A first copy that begins without the partner would be taken for a split brain later."""
        ends = self.clock.monotonic() + CONNECT
        while True:
            found = value(node.look(frozenset({Aspect.REPLICATION})).replication, {}).get(name)
            if found is not None and found.connected:
                return
            if self.clock.monotonic() >= ends:
                state = found.connection.value if found is not None else "not running"
                raise StepFailed(StepNotDone(str(node.name), f"connect {name}", f"it is {state} after {CONNECT:g} s"))
            self.clock.sleep(0.5)
