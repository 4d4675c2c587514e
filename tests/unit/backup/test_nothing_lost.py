"""Whatever becomes of a new generation: what the policy keeps of those that are really there is not removed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from datetime import timedelta
from pathlib import Path
from tempfile import TemporaryDirectory

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labstore.backup import image_files
from labstore.backup.desired import kept
from labstore.backup.guards import guard
from labstore.backup.image_files import ImageSnapshots
from labstore.backup.observe import KIND
from labstore.backup.plan import plan_backups
from labstore.model.backup import Generation, GenerationName, RestoreMount, Verdict, snapshot_name
from labstore.model.backup_settings import Keep, LogicalVolume
from labstore.ports.snapshots import Room, VolumeFound
from labstore.reconcile.facts import Answer, Fact
from labstore.reconcile.plan import Verb
from labstore.reconcile.record import Outcome
from labstore.reconcile.runner import StepFailed
from labstore.reports import backup as said
from labstore.reports.blocksync import PeerLost, SyncFailed
from labstore.system import locks
from tests.support.fake_clock import START, FakeClock
from tests.support.fake_snapshots import FakeSnapshots
from tests.unit.backup.strategies import NODES, facts, generation, job, job_facts, missing, status, target
from tests.unit.backup.test_cycle import World

VOLUME = LogicalVolume.parse("backup/tools")


@dataclass
class Blind(FakeSnapshots):
    """The volume cannot be looked at, its snapshots can."""

    def volume(self) -> Answer[VolumeFound]:
        return missing("the volume")


def held(world: World) -> None:
    world.snapshots.holder = "mounted at /mnt"


def blind(world: World) -> None:
    world.snapshots.__class__ = Blind


def foreign(world: World) -> None:
    world.engine.foreign = "ext4 of somebody else"


def fine(_: World) -> None:
    """Also a target that is too short, where it is a volume."""


def no_room(world: World) -> None:
    world.snapshots.room = Room(100, 0, needs_size=True)


def nobody_answers(world: World) -> None:
    world.nodes.silent = True


def copy_fails(world: World) -> None:
    world.engine.fails = SyncFailed(PeerLost("it was interrupted"))


def meddled_with(world: World) -> None:
    world.engine.meddles = True


def does_not_restore(world: World) -> None:
    world.prover.failed = {"mount": "wrong fs type"}


def refusing(verb: str) -> Callable[[World], None]:
    def refuse(world: World) -> None:
        world.snapshots.refuses.add(verb)

    return refuse


OUTCOMES = (
    *(fine, held, blind, foreign, no_room, nobody_answers, copy_fails, meddled_with, does_not_restore),
    *map(refusing, ("take", "tag", "open_copy", "close_copy", "remove")),
)


@st.composite
def before(draw: st.DrawFn) -> tuple[Generation, ...]:
    ages = draw(st.lists(st.integers(1, 60), max_size=8, unique=True))
    takes = st.integers(0, 40)
    return tuple(generation(age, draw(st.sampled_from(Verdict)), draw(takes)) for age in sorted(ages, reverse=True))


policies = st.builds(
    Keep,
    hourly=st.integers(0, 3),
    daily=st.integers(0, 2),
    weekly=st.integers(0, 1),
    least=st.integers(1, 3),
    budget=st.sampled_from((None, None, 50)),
)


def lay(world: World, there: tuple[Generation, ...]) -> None:
    for each in there:
        name = snapshot_name(world.job.name, each.name)
        tags = {"job": str(world.job.name), "kind": KIND, "at": str(each.name), "root": "a" * 64}
        tags |= {"proof": each.verdict.value}
        world.snapshots.take(name, tags)
        world.snapshots.there[name] = replace(world.snapshots.there[name], takes=each.takes)


def found(world: World) -> Mapping[GenerationName, Generation]:
    answer = world.cycle.observer.generations(world.job)
    assert isinstance(answer, Fact)
    return {each.name: each for each in answer.value}


@given(before(), policies, st.sampled_from(OUTCOMES), st.booleans(), st.booleans(), st.integers(1, 3))
def test_what_the_policy_keeps_of_what_is_really_there_stays(
    there: tuple[Generation, ...],
    keep: Keep,
    outcome: Callable[[World], None],
    asked: bool,
    short: bool,
    runs: int,
) -> None:
    with TemporaryDirectory() as folder:
        world = World(Path(folder), keep=keep, **({"target": VOLUME} if short else {}))
        lay(world, there)
        outcome(world)
        for _ in range(runs):
            old = found(world)
            world.run(asked=asked)
            _nothing_lost(old, found(world), keep)
            world.clock.advance(1800)


def _nothing_lost(
    old: Mapping[GenerationName, Generation], now: Mapping[GenerationName, Generation], keep: Keep
) -> None:
    lost = old.keys() - now.keys()
    proven = {each.name for each in old.values() if each.verdict is Verdict.PROVEN}
    newly = {each.name for each in now.values() if each.verdict is Verdict.PROVEN} - proven
    new_unproven = {each.name for each in now.values() if each.name not in old and each.name not in newly}
    real = [each for each in (old | now).values() if each.name not in new_unproven]
    assert not lost & kept(real, keep).keys()
    assert len(proven - lost | newly) >= min(len(proven), keep.least)
    if not newly and all(old[name].verdict == now[name].verdict for name in old.keys() - lost):
        assert not lost & kept(old.values(), keep).keys(), (
            "without a new one that is proven nothing goes on its account"
        )


@pytest.mark.parametrize(
    ("refused", "report"),
    [
        ({"target": target(holder="mounted at /mnt")}, said.TargetHeld),
        ({"target": missing()}, said.TargetMissing),
        ({"stranger": "ext4 of somebody else"}, said.TargetForeign),
        ({"target": target(size=1 << 30)}, said.TargetShort),
        ({"target": target(room=Room(1 << 40, 1 << 20, needs_size=True))}, said.NoRoom),
        ({"nodes": {NODES[1]: status("beta", free=1 << 20)}}, said.NoRoom),
    ],
)
def test_a_refused_run_plans_no_removal_that_stands_on_it(refused: dict[str, object], report: type) -> None:
    only = generation(0.2)
    least = Keep(hourly=1, daily=0, weekly=0, least=1)
    world = facts(job_facts(only, asked=True, job=job(keep=least), **refused))
    plan = guard(world, plan_backups(world))
    assert plan.steps == ()
    assert [type(each.report) for each in plan.refusals] == [report]
    assert plan.untouched == {f"tools/{only.name}": "it stays: one of the newest 1"}


def test_a_refused_run_still_lets_go_what_nobody_keeps() -> None:
    old, new = generation(40), generation(30)
    keep = Keep(hourly=1, daily=0, weekly=0, least=1)
    world = facts(job_facts(old, new, job=job(keep=keep), target=target(holder="mounted at /mnt")))
    plan = guard(world, plan_backups(world))
    assert [(step.verb, step.key) for step in plan.steps] == [(Verb.REMOVE, f"tools/{old.name}")]


def test_runs_that_fail_their_proof_wear_no_proven_generation_away() -> None:
    """Not by being the newest so many, however often."""
    failed = [generation(hours, Verdict.FAILED) for hours in range(5)]
    proven = [generation(hours) for hours in (10, 20, 30)]
    stay = kept([*failed, *proven], Keep(hourly=0, daily=0, weekly=0, least=2))
    assert stay.keys() == {each.name for each in (*failed[:2], *proven[:2])}


def test_a_generation_that_stays_after_all_says_why(tmp_path: Path) -> None:
    world = World(tmp_path, keep=Keep(hourly=1, daily=0, weekly=0, least=1))
    world.run()
    copy_fails(world)
    record = world.run(1)
    assert [result.outcome for result in record.results] == [Outcome.FAILED, Outcome.SKIPPED]
    assert record.results[1].report is not None
    assert "stays after all: one of the newest 1" in record.results[1].report.message()
    assert len(world.names()) == 1


def test_a_run_that_waits_for_another_removes_nothing(tmp_path: Path) -> None:
    world = World(tmp_path, keep=Keep(hourly=1, daily=0, weekly=0, least=1))
    lay(world, (generation(50), generation(40)))
    world.cycle.locks_at.mkdir()
    with locks.exclusive(world.cycle.locks_at / "tools.lock", "the other one"):
        world.run(asked=True)
    assert len(world.names()) == 2


def test_a_mount_that_was_made_while_the_copy_ran_keeps_what_it_shows(tmp_path: Path) -> None:
    world = World(tmp_path, keep=Keep(hourly=1, daily=0, weekly=0, least=1))
    world.run()
    (first,) = found(world)
    plan = world.cycle.propose(asked=True).plan
    world.clock.advance(60)
    point = str(tmp_path / "mounts/tools" / first)
    with world.mounts._book() as standing:
        standing.append(RestoreMount(world.job.name, first, point, START + timedelta(hours=2)))
        world.mounts._write(standing)
    results = world.cycle.applier.carry_out(plan)
    assert first in found(world), results


def test_what_a_killed_take_left_of_an_image_goes_with_the_next(tmp_path: Path) -> None:
    """Its name holds a moment, so that no later one would ever overwrite it."""
    image = tmp_path / "tools.img"
    image.write_bytes(b"x" * 4096)
    snapshots = ImageSnapshots(image, FakeClock())
    snapshots.take("one", {})
    left = tmp_path / "tools.img.generations/killed.new"
    left.write_bytes(b"half")
    snapshots.take("two", {})
    assert not left.exists()


def test_a_take_that_is_at_work_is_left_alone_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Two jobs, or two backup hosts, may read one image; to copy it may take hours."""
    image = tmp_path / "tools.img"
    image.write_bytes(b"x" * 4096)
    snapshots, copy, others = ImageSnapshots(image, FakeClock()), image_files._copy_data, ["two"]

    def copied(read: int, written: int) -> None:
        if others:
            snapshots.take(others.pop(), {})
        copy(read, written)

    monkeypatch.setattr(image_files, "_cloned", lambda _written, _read: False)
    monkeypatch.setattr(image_files, "_copy_data", copied)
    snapshots.take("one", {})
    listed = snapshots.snapshots()
    assert isinstance(listed, Fact)
    assert [each.name for each in listed.value] == ["one", "two"]


@pytest.mark.parametrize(
    "tags",
    [b"{", b'{"tags": null}', b'{"tags": 5}', b"[" * 60_000, b'{"tags": {"a": "%s"}}' % (b"b" * 70_000), b"\xff"],
)
def test_tags_that_somebody_touched_make_a_snapshot_nobodys(tmp_path: Path, tags: bytes) -> None:
    image = tmp_path / "tools.img"
    image.write_bytes(b"x" * 4096)
    snapshots = ImageSnapshots(image, FakeClock())
    snapshots.take("one", {"job": "tools"})
    snapshots.take("two", {"job": "tools"})
    (tmp_path / "tools.img.generations/one.json").write_bytes(tags)
    listed = snapshots.snapshots()
    assert isinstance(listed, Fact)
    assert {each.name: dict(each.tags) for each in listed.value} == {"one": {}, "two": {"job": "tools"}}
    with pytest.raises(StepFailed) as refused:
        snapshots.remove("one")
    assert isinstance(refused.value.report, said.NotOurs)
