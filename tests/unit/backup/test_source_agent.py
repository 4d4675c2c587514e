"""The source's side: a snapshot to read, gone on with after an interruption, watched, and taken away."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from labstore.backup.source_agent import SourceAgent, room_for
from labstore.backup.source_nodes import status_of, status_text
from labstore.model.backup import GenerationName, Standing, snapshot_name
from labstore.model.change_hints import Hints
from labstore.model.names import HostName
from labstore.ports.snapshots import Room
from labstore.reconcile.facts import Fact, Missing
from labstore.reports.backup import LostStep, SnapshotFull
from labstore.reports.blocksync import SyncFailed
from tests.support.fake_clock import FakeClock
from tests.support.fake_snapshots import FakeSnapshots
from tests.unit.backup.strategies import job, missing

ALPHA = HostName("alpha")


@pytest.fixture
def snapshots(tmp_path: Path) -> FakeSnapshots:
    path = tmp_path / "volume"
    path.write_bytes(b"bytes" * 1000)
    return FakeSnapshots(path, room=Room(1 << 40, 1 << 39, needs_size=True))


@pytest.fixture
def agent(snapshots: FakeSnapshots) -> SourceAgent:
    return SourceAgent(job(), ALPHA, snapshots, snapshots.clock, lambda: Standing.STANDBY, lambda: "UpToDate")


def test_a_snapshot_is_made_read_and_removed(agent: SourceAgent, snapshots: FakeSnapshots) -> None:
    with agent.provide() as given:
        assert Path(given.path).read_bytes() == snapshots.path.read_bytes()
        assert given.token == "fake labstore-tools-source-20260529T115400Z"
        given.check()
    assert snapshots.there == {}


def test_after_a_failure_the_next_run_goes_on_with_the_same_snapshot(
    agent: SourceAgent, snapshots: FakeSnapshots
) -> None:
    with pytest.raises(RuntimeError), agent.provide() as first:
        raise RuntimeError
    snapshots.clock.advance(600)
    with agent.provide() as second:
        assert second.token == first.token
    assert snapshots.there == {}


def test_a_generation_dated_by_a_snapshot_never_has_its_name(agent: SourceAgent, snapshots: FakeSnapshots) -> None:
    """Source and target may be in one volume group."""
    with pytest.raises(RuntimeError), agent.provide():
        raise RuntimeError
    (name,) = snapshots.there
    assert name != snapshot_name(job().name, GenerationName(name.rpartition("-")[2]))


def test_what_could_not_be_removed_is_never_read_again(agent: SourceAgent, snapshots: FakeSnapshots) -> None:
    """A program that looks into it while the run ends keeps it: the next copy is of the next moment all the same."""
    snapshots.refuses.add("remove")
    tokens = set()
    for _ in range(3):
        with agent.provide() as given:
            tokens.add(given.token)
        snapshots.clock.advance(600)
    assert len(tokens) == 3
    snapshots.refuses.clear()
    with agent.provide():
        assert len(snapshots.there) == 1
    assert snapshots.there == {}


@pytest.mark.parametrize("why", ["too old", "overflowed", "too full"])
def test_a_snapshot_that_cannot_be_gone_on_with_is_replaced(
    agent: SourceAgent, snapshots: FakeSnapshots, why: str
) -> None:
    with pytest.raises(RuntimeError), agent.provide() as first:
        raise RuntimeError
    (name,) = snapshots.there
    snapshots.clock.advance(86401 if why == "too old" else 60)
    if why != "too old":
        harm = {"valid": False} if why == "overflowed" else {"full": 0.95}
        snapshots.there[name] = replace(snapshots.there[name], **harm)  # type: ignore[arg-type]
    with agent.provide() as second:
        assert second.token != first.token
        assert list(snapshots.there) != [name]
    assert snapshots.there == {}


def test_snapshots_of_others_are_left_alone(agent: SourceAgent, snapshots: FakeSnapshots) -> None:
    snapshots.take("theirs", {})
    snapshots.take("another-job", {"job": "misc", "kind": "source", "state": "open"})
    snapshots.take("a-generation", {"job": "tools", "kind": "generation"})
    with agent.provide():
        pass
    assert set(snapshots.there) == {"theirs", "another-job", "a-generation"}


def test_storage_that_can_compare_keeps_the_last_one_for_the_next(agent: SourceAgent, snapshots: FakeSnapshots) -> None:
    thin = replace(agent, job=job(room=None))
    snapshots.room = Room(1 << 40, 1 << 39, needs_size=False)
    snapshots.said = Hints("x", "y")
    with thin.provide() as first:
        assert first.hints is None
    (base,) = snapshots.there
    assert snapshots.there[base].tags["state"] == "base"
    snapshots.clock.advance(3600)
    with thin.provide() as second:
        assert second.hints is not None
        assert len(snapshots.there) == 2
    (newer,) = snapshots.there
    assert newer != base


def test_a_snapshot_that_fills_gets_more_room_and_one_that_is_full_ends_the_run(
    agent: SourceAgent, snapshots: FakeSnapshots
) -> None:
    """upstream #41."""
    with pytest.raises(SyncFailed) as ended, agent.provide() as given:
        (name,) = snapshots.there
        snapshots.there[name] = replace(snapshots.there[name], full=0.75)
        given.check()
        assert snapshots.there[name].room == int(1.5 * (1 << 30))
        snapshots.there[name] = replace(snapshots.there[name], full=0.93)
        given.check()
    assert ended.value.report == SnapshotFull(name, 93)


def test_a_disk_that_falls_out_of_step_ends_the_run(agent: SourceAgent) -> None:
    states = iter(["UpToDate", "UpToDate", "Inconsistent"])
    with pytest.raises(SyncFailed) as ended, replace(agent, replica=lambda: next(states)).provide() as given:
        given.check()
        given.check()
    assert isinstance(ended.value.report, LostStep)


def test_a_disk_out_of_step_is_not_even_snapshotted(agent: SourceAgent, snapshots: FakeSnapshots) -> None:
    with pytest.raises(SyncFailed), replace(agent, replica=lambda: "Outdated").provide():
        pass
    assert snapshots.there == {}


@pytest.mark.parametrize("verb", ["take", "remove"])
def test_storage_that_refuses_is_said(agent: SourceAgent, snapshots: FakeSnapshots, verb: str) -> None:
    snapshots.refuses.add(verb)
    if verb == "take":
        with pytest.raises(SyncFailed), agent.provide():
            pass
    else:
        with agent.provide():
            pass
        assert len(snapshots.there) == 1, "the copy is good all the same; what is left is tidied the next time"


def test_the_status_travels_as_text(agent: SourceAgent, snapshots: FakeSnapshots) -> None:
    snapshots.room = Room(100, 50, needs_size=True)
    status = agent.status()
    assert isinstance(status, Fact)
    assert status.value.free == 50
    assert status_of(status_text(status), ALPHA) == status.value
    with pytest.raises(ValueError, match="does not know"):
        status_of(status_text(missing()), ALPHA)
    snapshots.silent = True
    assert isinstance(agent.status(), Missing)


@pytest.mark.parametrize("text", ["", "null", "[]", "{}", '{"standing": 5}', "Last login: today", "[" * 5000])
def test_any_other_answer_is_none(text: str) -> None:
    with pytest.raises(ValueError):
        status_of(text, ALPHA)


def test_an_answer_cannot_pretend_to_be_another_machine(agent: SourceAgent) -> None:
    text = status_text(replace(agent, node=HostName("mallory")).status())
    assert status_of(text, ALPHA).node == ALPHA
    assert FakeClock().now() is not None


def test_the_room_of_a_snapshot_is_a_fifth_where_nobody_says_otherwise(snapshots: FakeSnapshots) -> None:
    assert room_for(snapshots, 77) == 77
    assert room_for(snapshots, None) == 4 << 20
    snapshots.room = Room(1, 1, needs_size=False)
    assert room_for(snapshots, 77) is None
