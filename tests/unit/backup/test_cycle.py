"""Whole cycles with fakes: what is called a generation is one, whatever fails on the way."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from pathlib import Path
from threading import Barrier

import pytest

from labstore.backup.apply import MOUNT, PURPOSE, RESTORE, Applier, order_for
from labstore.backup.cycle import BackupCycle
from labstore.backup.manifest import Manifests
from labstore.backup.mounting import RestoreMounts
from labstore.backup.observe import Observer
from labstore.model.backup import GenerationName, RestoreMount, SourceStatus, Standing, Verdict, snapshot_name
from labstore.model.backup_settings import BackupSettings, Job, JobName, Keep, ProofSettings
from labstore.model.block_sync import DevicePath, Limits, Pass, SyncResult
from labstore.model.names import HostName
from labstore.ports.block_engine import Order
from labstore.ports.snapshots import Snapshot
from labstore.reconcile.facts import Answer, Fact
from labstore.reconcile.record import Outcome, Record, State
from labstore.reports import backup as said
from labstore.reports.blocksync import PeerLost, SyncFailed
from labstore.reports.report import Override
from labstore.system import locks
from tests.support.fake_clock import START, FakeClock
from tests.support.fake_host import FakeHost
from tests.support.fake_snapshots import FakeSnapshots
from tests.support.hang import HANGS
from tests.unit.backup.strategies import NODES, job, missing

TOOLS = JobName("tools")


@dataclass
class FakeEngine:
    """See ports.block_engine.BlockEngine. Each copy writes something new."""

    target: Path
    fails: SyncFailed | None = None
    meddles: bool = False
    copies: int = 0
    orders: list[Order] = field(default_factory=list)
    root: str | None = None
    foreign: str | None = None

    def sync(self, order: Order) -> SyncResult:
        self.orders.append(order)
        self.root = None
        if self.fails is not None:
            self.target.write_bytes(b"half of it")
            raise self.fails
        self.copies += 1
        self.target.write_bytes(b"copy %d" % self.copies)
        self.root = f"{self.copies:064x}"
        samples = ("5 " + "ab" * 32,)
        return SyncResult(
            self.copies, self.root, Pass.CACHED, "", 6, 6, 1, 0, 0, 0, 0, 1.0, "t", "direct", 16384, samples
        )

    def complete(self, target: str) -> str | None:
        return None if self.meddles else self.root

    def stranger(self, target: str) -> str | None:
        return self.foreign

    def set_limits(self, limits: Limits) -> None:
        pass


@dataclass
class FakeProver:
    """See ports.proving.Prover."""

    failed: Mapping[str, str] = field(default_factory=dict)
    proved: list[bytes] = field(default_factory=list)
    asked: list[tuple[Mapping[int, str], int]] = field(default_factory=list)
    cleared: list[str] = field(default_factory=list)

    def clear(self, name: str) -> None:
        self.cleared.append(name)

    def prove(
        self, device: str, settings: ProofSettings, moment: datetime, samples: Mapping[int, str], block_size: int
    ) -> tuple[Mapping[str, str], Mapping[str, str]]:
        self.proved.append(Path(device).read_bytes())
        Path(device).write_bytes(b"scribbled over by a journal replay")
        self.asked.append((samples, block_size))
        return {"file system check": "ext4 is clean"}, self.failed


@dataclass
class FakeNodes:
    """See ports.source_nodes.SourceNodes."""

    silent: bool = False
    together: Barrier | None = None
    """Where all have to be asked before one answers."""

    def status(self, job: Job, node: HostName) -> Answer[SourceStatus]:
        if self.together is not None:
            self.together.wait(HANGS)
        if self.silent:
            return missing(str(node))
        standing = Standing.ACTIVE if node == NODES[0] else Standing.STANDBY
        return Fact(SourceStatus(node, standing, 6, "UpToDate"), str(node), START)


class World:
    """A backup host with one job, and everything it needs."""

    def __init__(self, folder: Path, **more: object) -> None:
        target = folder / "target.img"
        target.write_bytes(b"")
        self.clock = FakeClock()
        plain = {"target": DevicePath(str(target)), "every": 3600.0, "keep": Keep(3, 0, 0, 0, 1)}
        self.job = job(**plain | more)
        self.settings = BackupSettings({TOOLS: self.job}, folder / "mounts")
        self.snapshots = FakeSnapshots(target, self.clock)
        self.engine, self.prover, self.nodes = FakeEngine(target), FakeProver(), FakeNodes()
        self.manifests = Manifests(folder / "manifests")
        self.host = FakeHost()
        jobs = self.settings.jobs
        mounts = RestoreMounts(
            folder / "mounts.json", folder / "mounts", self.host, self.clock, lambda _: self.snapshots,
            lambda name: jobs[name].target if name in jobs else None, snapshot_name,
        )  # fmt: skip
        self.mounts = mounts
        observer = Observer(self.settings, self.nodes, lambda _: self.snapshots, self.engine, mounts.found, self.clock)
        applier = Applier(
            self.settings, lambda _: self.snapshots, self.engine, self.prover, mounts, self.manifests,
            lambda job, node: order_for(job, node, ("ssh", "{host}")), self.clock,
        )  # fmt: skip
        self.cycle = BackupCycle(self.settings, observer, applier, folder / "locks")

    def run(self, hours: float = 0, **how: object) -> Record:
        self.clock.advance(hours * 3600)
        return self.cycle.run(**how)  # type: ignore[arg-type]

    def names(self) -> list[str]:
        return sorted(self.snapshots.there)

    def content(self) -> list[bytes]:
        return [Path(self.snapshots.there[name].path).read_bytes() for name in self.names()]


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


def test_a_generation_is_copied_from_the_standby_kept_and_proven(world: World) -> None:
    record = world.run()
    assert record.state is State.CONVERGED
    assert [result.outcome for result in record.results] == [Outcome.DONE]
    (order,) = world.engine.orders
    assert str(order.source) == "root@beta:/dev/vg/tools"
    assert order.options.samples == 64
    assert world.content() == [b"copy 1"], "the proof scribbled on a copy, not on the generation"
    assert world.prover.proved == [b"copy 1"]
    assert world.prover.asked == [({5: "ab" * 32}, 16384)]
    (snapshot,) = world.snapshots.there.values()
    assert snapshot.tags["proof"] == "proven"
    assert world.snapshots.copies == set()
    assert record.facts["tools"]["proven_age"] == 0.0
    assert world.run().results == (), "nothing is left to do"


def test_generations_come_and_go_by_policy(world: World) -> None:
    for _ in range(6):
        assert world.run(1).state is State.CONVERGED
    assert world.content() == [b"copy 4", b"copy 5", b"copy 6"]


def test_a_failed_copy_leaves_the_generations_whole_and_removes_nothing(world: World) -> None:
    """upstream #37: the original reported success whatever its copy returned."""
    for _ in range(3):
        world.run(1)
    before = world.content()
    world.engine.fails = SyncFailed(PeerLost("it ended"))
    record = world.run(1)
    assert record.state is State.FAILED
    assert isinstance(record.results[0].report, said.RunFailed)
    assert {result.outcome for result in record.results[1:]} <= {Outcome.SKIPPED}
    assert world.content() == before
    world.engine.fails = None
    assert world.run(1).state is State.CONVERGED
    assert world.content()[-1] == b"copy 4"


def test_a_generation_that_does_not_restore_is_kept_as_such_and_costs_no_other(world: World) -> None:
    for _ in range(3):
        world.run(1)
    world.prover.failed = {"mount": "wrong fs type"}
    record = world.run(1)
    assert record.state is State.FAILED
    assert isinstance(record.results[0].report, said.ProofFailed)
    assert len(world.names()) == 4
    assert world.snapshots.there[world.names()[-1]].tags["proof"] == "failed"
    assert world.snapshots.copies == set()
    facts = world.cycle.observer.facts((world.job,), ask_nodes=False)
    newest_proven = max(g.name for g in facts.jobs[0].generations.value if g.verdict is Verdict.PROVEN)  # type: ignore[union-attr]
    assert newest_proven.endswith("1454" + "00Z")


def test_a_target_written_between_copy_and_snapshot_is_no_generation(world: World) -> None:
    world.engine.meddles = True
    record = world.run()
    assert record.state is State.FAILED
    assert "between the copy and its snapshot" in record.results[0].report.message()  # type: ignore[union-attr]
    assert world.names() == []


@pytest.mark.parametrize("verb", ["take", "open_copy", "tag", "close_copy"])
def test_storage_that_refuses_anywhere_is_a_failure_and_the_next_run_recovers(world: World, verb: str) -> None:
    world.snapshots.refuses.add(verb)
    assert world.run().state is State.FAILED
    world.snapshots.refuses.clear()
    assert world.run(1).state is State.CONVERGED
    assert world.content()[-1] == b"copy 2"
    tags = [world.snapshots.there[name].tags for name in world.names()]
    assert {each["proof"] for each in tags} == {"proven"}, "what was not proven before is proven now"


@pytest.mark.parametrize("purpose", [PURPOSE, RESTORE, MOUNT])
def test_what_was_killed_and_left_a_copy_of_a_generation_does_not_keep_it(world: World, purpose: str) -> None:
    world.run()
    (oldest,) = world.names()
    world.snapshots.open_copy(oldest, purpose)
    while oldest in world.names():
        assert world.run(1).state is State.CONVERGED
    assert world.snapshots.copies == set()
    assert world.prover.cleared.count(oldest) == 2, "before its proof and before it went"


def test_what_was_not_looked_at_twice_is_no_generation(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """Somebody writes just before the snapshot, and then it cannot be removed."""
    take = world.snapshots.take

    def meddled(name: str, tags: Mapping[str, str], room: int | None = None) -> Snapshot:
        world.engine.meddles = True
        world.engine.target.write_bytes(b"meddled")
        return take(name, tags, room)

    monkeypatch.setattr(world.snapshots, "take", meddled)
    world.snapshots.refuses.add("remove")
    assert world.run().state is State.FAILED
    assert world.content() == [b"meddled"]
    monkeypatch.undo()
    world.engine.meddles = False
    world.snapshots.refuses.clear()
    assert world.run(1).state is State.CONVERGED
    assert world.prover.proved == [b"copy 2"]
    assert world.content() == [b"copy 2"], "what is not a generation is tidied away"


def test_a_foreign_target_is_refused_before_anything_is_done(world: World) -> None:
    world.engine.foreign = "ext4 of somebody else"
    record = world.run()
    assert record.state is State.REFUSED
    assert world.engine.orders == []
    assert "never written as this backup" in record.reports[0].message()
    assert "--permit adopt-target" in (record.reports[0].remedy() or "")
    world.engine.foreign = "something"
    assert world.run().state is State.CONVERGED, "neither is known: the engine compares their beginnings"


def test_a_held_target_is_refused_before_anything_is_done(world: World) -> None:
    """upstream #39."""
    world.snapshots.holder = "mounted at /mnt"
    record = world.run()
    assert record.state is State.REFUSED
    assert world.engine.orders == []
    assert "mounted at /mnt" in record.reports[0].message()


def test_a_node_that_does_not_answer_is_not_waited_for_before_the_other_is_asked(world: World) -> None:
    world.nodes.together = Barrier(len(NODES))
    assert world.run().state is State.CONVERGED


def test_nobody_who_answers_is_nothing_done_and_said(world: World) -> None:
    world.nodes.silent = True
    record = world.run()
    assert record.state is State.FAILED
    assert isinstance(record.reports[0], said.NoSource)
    assert world.engine.orders == []


def test_storage_that_does_not_answer_has_nothing_removed(world: World) -> None:
    for _ in range(3):
        world.run(1)
    world.snapshots.silent = True
    record = world.run(50)
    assert record.state is not State.CONVERGED
    assert record.results == ()
    assert len(world.names()) == 3


def test_two_runs_at_once_are_one(world: World) -> None:
    """upstream #38."""
    world.cycle.locks_at.mkdir()
    with locks.exclusive(world.cycle.locks_at / "tools.lock", "the other one"):
        record = world.run()
    assert record.state is State.HOLDING
    assert isinstance(record.reports[0], said.Waiting)
    assert world.engine.orders == []


def test_what_is_asked_for_is_made_now(world: World) -> None:
    world.run()
    world.clock.advance(5)
    assert world.cycle.propose(asked=False).plan.empty
    assert not world.cycle.propose(asked=True).plan.empty
    world.run(asked=True)
    assert world.content() == [b"copy 2"], "of one hour the newest is kept"


def test_the_brake_is_released_by_name(world: World) -> None:
    for _ in range(3):
        world.run(1)
    held = replace(world.cycle.settings, brake=0)
    world.cycle.observer = replace(world.cycle.observer, settings=held)
    assert world.run(1).state is State.REFUSED
    assert len(world.names()) == 4
    world.run(0, overrides=frozenset({Override.ALLOW_MASS_REMOVAL}))
    assert len(world.names()) == 3


def test_an_unreadable_manifest_costs_the_samples_only(world: World, tmp_path: Path) -> None:
    world.run()
    (name,) = world.names()
    generation = GenerationName(world.snapshots.there[name].tags["at"])
    (tmp_path / "manifests/tools" / f"{generation}.json").write_text("{")
    assert world.manifests.samples(TOOLS, generation) == ({}, 0)
    world.cycle.applier.prove(world.job, generation)
    assert world.prover.asked[-1] == ({}, 0)


def test_a_mount_whose_time_is_over_is_taken_away(world: World, tmp_path: Path) -> None:
    world.run()
    generation = GenerationName(next(iter(world.snapshots.there.values())).tags["at"])
    point = str(tmp_path / "mounts/tools" / generation)
    mount = RestoreMount(TOOLS, generation, point, START + timedelta(hours=2))
    with world.mounts._book() as standing:
        standing.append(mount)
        world.mounts._write(standing)
    assert world.mounts.all() == (mount,)
    assert world.run(1).state is State.CONVERGED
    assert world.mounts.all() == (mount,)
    assert world.run(1).state is State.CONVERGED
    assert world.mounts.all() == ()
