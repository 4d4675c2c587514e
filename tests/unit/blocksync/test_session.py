"""Two ends, small devices in files: the target always ends as the source, or is not called good."""

from __future__ import annotations

import hashlib
import os
from dataclasses import replace
from pathlib import Path

import pytest

from labstore.blocksync.devices import Device
from labstore.blocksync.index import IndexFolder, target_index
from labstore.blocksync.source import SourceEnd
from labstore.blocksync.target import TargetEnd
from labstore.model.block_sync import Algorithm, Limits, Options, Pass, Permit
from labstore.reports.blocksync_target import (
    ForeignTarget,
    SourceChanged,
    SourceShrunk,
    TargetChanged,
    TargetGone,
    TargetSwapped,
    TargetTooLarge,
)
from tests.support.blocksync import run

BLOCK = 4096
SMALL = Options(block_size=BLOCK, scrub=0.0)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.img"
    path.write_bytes(b"".join(bytes([n % 251]) * BLOCK for n in range(200)) + b"tail")
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target.img"


@pytest.fixture
def state(tmp_path: Path) -> Path:
    return tmp_path / "state"


def change(path: Path, *blocks: int, to: bytes = b"changed") -> None:
    with path.open("r+b") as file:
        for block in blocks:
            file.seek(block * BLOCK)
            file.write(to)


@pytest.mark.parametrize("push", [False, True])
def test_a_new_target_becomes_the_source(source: Path, target: Path, state: Path, push: bool) -> None:
    done = run(source, target, state, SMALL, push=push)
    assert done.good
    assert target.read_bytes() == source.read_bytes()
    assert done.caller.committed.passed is Pass.BOTH


@pytest.mark.parametrize("push", [False, True])
def test_limits_that_change_at_once_are_told_when_the_other_end_listens(
    source: Path, target: Path, state: Path, push: bool
) -> None:
    """Before it has said what it is going to do it knows no limits among the frames that may come."""
    done = run(source, target, state, SMALL, push=push, working=lambda end: end.set_limits(Limits(read=1 << 30), True))
    assert done.report is None
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("algorithm", Algorithm)
def test_only_what_changed_crosses(source: Path, target: Path, state: Path, algorithm: Algorithm) -> None:
    options = Options(algorithm, BLOCK, scrub=0.0)
    run(source, target, state, options)
    change(source, 3, 77)
    done = run(source, target, state, options)
    assert done.good
    assert target.read_bytes() == source.read_bytes()
    assert done.target.complete.changed == 2
    assert done.target.committed.passed is Pass.CACHED
    assert done.received < 2 * BLOCK + 4096


def test_samples_are_whole_blocks_of_the_source(source: Path, target: Path, state: Path) -> None:
    """The source ends with 4 bytes of a block, and a device that is the target may go on behind them."""
    done = run(source, target, state, replace(SMALL, samples=256))
    content = source.read_bytes()
    assert done.target.complete.samples == tuple(
        f"{n} {hashlib.sha256(content[n * BLOCK : (n + 1) * BLOCK]).hexdigest()}" for n in range(200)
    )


def test_a_source_that_lost_its_copy_of_the_index_is_told_it(source: Path, target: Path, state: Path) -> None:
    run(source, target, state, SMALL)
    change(source, 5)
    done = run(source, target, state, Options(block_size=BLOCK, scrub=0.0, cache=False))
    assert done.good
    assert done.target.committed.passed is Pass.INDEX
    assert target.read_bytes() == source.read_bytes()


def test_a_target_written_by_somebody_else_is_read_in_full(source: Path, target: Path, state: Path) -> None:
    run(source, target, state, SMALL)
    change(target, 9, 150)
    done = run(source, target, state, SMALL)
    assert done.good
    assert done.target.committed.passed is Pass.BOTH
    assert "was written" in done.target.committed.why
    assert target.read_bytes() == source.read_bytes()


def test_zeros_become_holes(source: Path, target: Path, state: Path) -> None:
    run(source, target, state, SMALL)
    before = target.stat().st_blocks
    change(source, *range(10, 60), to=bytes(BLOCK))
    done = run(source, target, state, SMALL)
    assert done.good
    assert done.target.complete.zeroed == 50
    assert target.stat().st_blocks < before
    assert target.read_bytes() == source.read_bytes()


def test_zeros_that_were_zeros_are_neither_counted_nor_sent(source: Path, target: Path, state: Path) -> None:
    change(source, *range(10, 60), to=bytes(BLOCK))
    run(source, target, state, SMALL)
    content = source.read_bytes()
    with source.open("r+b") as file:
        file.truncate(0)
        file.truncate(len(content))
        file.write(content[: 10 * BLOCK])
        file.seek(60 * BLOCK)
        file.write(content[60 * BLOCK :])
    done = run(source, target, state, replace(SMALL, cache=False))
    assert done.good
    assert done.target.committed.passed is Pass.INDEX
    assert (done.target.complete.changed, done.target.complete.zeroed) == (0, 0)
    assert done.target.committed.generation == 1


def test_a_first_copy_is_not_stopped_for_what_a_lost_connection_made_it_send_twice(
    source: Path, target: Path, state: Path
) -> None:
    def sent_before(end: SourceEnd | TargetEnd) -> None:
        end.meter.changed = 60

    assert run(source, target, state, SMALL, push=True, working=sent_before).good
    change(source, *range(100))
    assert run(source, target, state, replace(SMALL, max_change=0.5), push=True, working=sent_before).good


def test_a_source_that_grew_is_followed(source: Path, target: Path, state: Path) -> None:
    run(source, target, state, SMALL)
    with source.open("ab") as file:
        file.write(b"more" * 10000)
    done = run(source, target, state, SMALL)
    assert done.good
    assert target.read_bytes() == source.read_bytes()


def test_a_source_that_shrank_is_refused_until_permitted(source: Path, target: Path, state: Path) -> None:
    run(source, target, state, SMALL)
    whole = target.read_bytes()
    with source.open("r+b") as file:
        file.truncate(50 * BLOCK)
    assert isinstance(run(source, target, state, SMALL).report, SourceShrunk)
    assert target.read_bytes() == whole
    permitted = Options(block_size=BLOCK, scrub=0.0, permits=frozenset({Permit.SHRINK}))
    assert run(source, target, state, permitted).good
    assert target.read_bytes() == source.read_bytes()


def test_a_foreign_target_is_refused_untouched(source: Path, target: Path, state: Path) -> None:
    target.write_bytes(b"precious" * 1000)
    assert isinstance(run(source, target, state, SMALL).report, ForeignTarget)
    assert target.read_bytes() == b"precious" * 1000
    permitted = Options(block_size=BLOCK, scrub=0.0, permits=frozenset({Permit.ADOPT_TARGET}))
    assert run(source, target, state, permitted).good
    assert target.read_bytes() == source.read_bytes()


def test_another_file_at_the_path_is_refused_though_it_got_the_same_number(
    source: Path, target: Path, state: Path
) -> None:
    assert run(source, target, state, SMALL).good
    target.unlink()
    target.write_bytes(b"precious" * 1000)  # most file systems give it the number that the other one had
    assert isinstance(run(source, target, state, SMALL).report, TargetSwapped)
    assert target.read_bytes() == b"precious" * 1000
    assert run(source, target, state, replace(SMALL, permits=frozenset({Permit.NEW_TARGET}))).good
    assert target.read_bytes() == source.read_bytes()


def test_a_target_known_by_its_number_alone_is_still_known(source: Path, target: Path, state: Path) -> None:
    assert run(source, target, state, SMALL).good
    folder = IndexFolder(target_index(state, str(target)))
    kept = folder.load()
    assert kept is not None
    folder.save(replace(kept, target=f"file {target.stat().st_ino}"))  # as it was written before births were looked at
    again = run(source, target, state, SMALL)
    assert again.good
    assert again.target.committed.passed is Pass.CACHED
    assert again.target.state.target == kept.target


def test_a_target_larger_than_the_source_is_refused(source: Path, target: Path, state: Path) -> None:
    target.write_bytes(source.read_bytes() + b"more")
    assert isinstance(run(source, target, state, SMALL).report, TargetTooLarge)


def test_a_source_written_while_it_is_read_is_not_called_good(source: Path, target: Path, state: Path) -> None:
    def write(_offset: int, chunk: bytes) -> tuple[bytes, bool]:
        change(source, 199)
        return chunk, True

    done = run(source, target, state, SMALL, to_caller=write)
    assert isinstance(done.report, SourceChanged)
    kept = IndexFolder(target_index(state, str(target))).load()
    assert kept is not None
    assert kept.root is None
    assert run(source, target, state, SMALL).good
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("replaced", [False, True])
def test_a_target_that_is_taken_away_meanwhile_is_not_called_good(
    source: Path, target: Path, state: Path, replaced: bool
) -> None:
    def take_away(_offset: int, chunk: bytes) -> tuple[bytes, bool]:
        if not away.exists() and target.exists() and target.stat().st_size:  # it is open, since it has its size
            target.rename(away)
            if replaced:
                target.write_bytes(b"another")
        return chunk, True

    away = target.with_name("away")
    assert isinstance(run(source, target, state, SMALL, to_caller=take_away).report, TargetGone)
    assert target.exists() == replaced


def test_rot_under_the_index_is_found_by_the_scrub(source: Path, target: Path, state: Path) -> None:
    run(source, target, state, SMALL)
    folder = IndexFolder(target_index(state, str(target)))
    change(target, 20)
    rotten = folder.load()
    assert rotten is not None
    device = Device(str(target))
    folder.save(replace(rotten, witness=device.witness()))  # as if nobody had written: the disk did it
    device.close()
    whole = Options(block_size=BLOCK, scrub=1.0)
    first = run(source, target, state, whole)
    assert isinstance(first.report, TargetChanged)
    assert first.report.offset == 20 * BLOCK
    second = run(source, target, state, whole)
    assert second.good
    assert second.target.committed.passed is Pass.BOTH
    assert target.read_bytes() == source.read_bytes()


def test_hints_that_are_left_aside_are_said(source: Path, target: Path, state: Path, tmp_path: Path) -> None:
    hints = tmp_path / "hints"
    asked = replace(SMALL, hints=str(hints))

    def notes(text: str | None, full: bool = False, cache: bool = True) -> str:
        hints.unlink(missing_ok=True)
        if text is not None:
            hints.write_text(text)
        change(source, 7, to=os.urandom(9))
        done = run(source, target, state, replace(asked, full=full, cache=cache))
        assert done.good
        assert done.target.committed.passed is not Pass.HINTED
        return "; ".join(done.target.complete.notes)

    def moment() -> str:
        kept = IndexFolder(target_index(state, str(target))).load()
        assert kept is not None and kept.token is not None
        return kept.token

    said = "labstore-hints 1\nsince {}\nuntil {}\n0 4096\n"
    assert "there is no index yet" in notes(said.format("a", "b"))
    assert "since another moment" in notes(said.format("a", "b"))
    assert "No such file" in notes(None)
    assert "not believed: the first line" in notes("nonsense")
    assert "they end at another moment" in notes(said.format(moment(), "b"))
    assert "no copy of the target's index" in notes(said.format(moment(), "b"), cache=False)
    assert "a full pass was asked for" in notes(said.format("a", "b"), full=True)
