"""bdsync as the engine: the program itself where BDSYNC names it, and its twin everywhere."""

from __future__ import annotations

import os
import random
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labstore.blocksync.bdsync import BLOCK, Bdsync
from labstore.model.block_sync import Limits, Place
from labstore.model.names import HostName
from labstore.ports.block_engine import Order
from labstore.reports.blocksync import Interrupted, ProgramFailed, SyncFailed
from labstore.reports.report import Report
from tests.support import bdsync_twin

REAL = os.environ.get("BDSYNC")
SIZE = 40 * BLOCK + 1000
"""Bytes: the last block is a short one."""


@pytest.fixture(params=["twin", *(["real"] if REAL else [])])
def program(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "real":
        return str(REAL)
    return script(tmp_path / "bdsync", f'exec {sys.executable} -I {bdsync_twin.__file__} "$@"')


@pytest.fixture
def images(tmp_path: Path) -> Iterator[tuple[Path, Path]]:
    chance = random.Random(4)
    source, target = tmp_path / "source", tmp_path / "target"
    content = bytearray(chance.randbytes(SIZE))
    source.write_bytes(content)
    for block in (0, 7, 8, 40):
        content[block * BLOCK] ^= 1
    target.write_bytes(content)
    return source, target


def order(source: Path, target: Path, **more: object) -> Order:
    return Order(Place(str(source)), Place(str(target)), **more)  # type: ignore[arg-type]


def script(path: Path, *lines: str) -> str:
    """A program of the shell, to stand in the way of the real one."""
    path.write_text("\n".join(("#!/bin/sh", *lines, "")))
    path.chmod(0o755)
    return str(path)


def failure(act: Callable[[], object]) -> Report:
    with pytest.raises(SyncFailed) as failed:
        act()
    return failed.value.report


def test_the_target_becomes_the_source_and_is_compared_again(
    program: str, images: tuple[Path, Path], tmp_path: Path
) -> None:
    source, target = images
    engine = Bdsync(tmp_path / "state", program)
    assert engine.complete(str(target)) is None
    assert engine.stranger(str(target)) == "something"
    result = engine.sync(order(source, target))
    assert target.read_bytes() == source.read_bytes()
    assert (result.size, result.changed) == (SIZE, 3)  # 3 whole blocks and a short one
    assert engine.complete(str(target)) == result.root
    assert engine.stranger(str(target)) is None
    again = engine.sync(order(source, target))
    assert (again.changed, engine.complete(str(target))) == (0, again.root)


def test_a_target_that_somebody_wrote_to_is_not_complete(
    program: str, images: tuple[Path, Path], tmp_path: Path
) -> None:
    source, target = images
    engine = Bdsync(tmp_path / "state", program)
    engine.sync(order(source, target))
    with target.open("r+b") as file:
        file.write(b"x")
    assert engine.complete(str(target)) is None


def test_the_other_end_is_called_by_the_words_of_ssh(program: str, images: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = images
    said = tmp_path / "said"
    ssh = script(tmp_path / "ssh", f'echo "$@" >>{said}', "shift 4", 'exec "$@"')
    place = Place(str(source), HostName("nfs1.example"), "backup")
    remote = (ssh, "-o", "BatchMode=yes", "--", "{host}", f"nice -n 10 {program} --server")
    Bdsync(tmp_path / "state", program).sync(Order(place, Place(str(target)), remote=remote))
    assert target.read_bytes() == source.read_bytes()
    assert set(said.read_text().splitlines()) == {
        f"-o BatchMode=yes -- backup@nfs1.example nice -n 10 {program} --server"
    }


@pytest.mark.parametrize("which", ["compare", "patch"])
def test_a_program_that_fails_is_heard(which: str, program: str, images: tuple[Path, Path], tmp_path: Path) -> None:
    """upstream #37: the original took whatever its pipe ended with for success."""
    source, target = images
    words = "*--patch*" if which == "patch" else "*--remdata*"
    fails = f'case "$*" in {words}) echo no such luck >&2; exit 9;; esac'
    engine = Bdsync(tmp_path / "state", script(tmp_path / "broken", fails, f'exec {program} "$@"'))
    report = failure(lambda: engine.sync(order(source, target)))
    assert isinstance(report, ProgramFailed)
    assert "no such luck" in report.message()
    assert "status 9" in report.message()
    assert engine.complete(str(target)) is None


def test_a_comparison_that_ends_in_the_middle_leaves_nothing_that_is_called_good(
    program: str, images: tuple[Path, Path], tmp_path: Path
) -> None:
    source, target = images
    engine = Bdsync(tmp_path / "state", program)
    engine.sync(order(source, target))
    with source.open("r+b") as file:
        file.write(b"something else")
    passes = f'case "$1" in --patch*|--server) exec {program} "$@";; esac'
    cut = script(tmp_path / "cut", passes, f'{program} "$@" | head -c 9000; kill -9 $$')
    report = failure(lambda: Bdsync(tmp_path / "state", cut).sync(order(source, target)))
    assert isinstance(report, ProgramFailed)
    assert engine.complete(str(target)) is None
    engine.sync(order(source, target))
    assert target.read_bytes() == source.read_bytes()


def test_a_copy_that_left_a_difference_is_not_called_good(
    program: str, images: tuple[Path, Path], tmp_path: Path
) -> None:
    source, target = images
    lazy = 'case "$*" in *--patch*) cat >/dev/null; exit 0;; esac'
    engine = Bdsync(tmp_path / "state", script(tmp_path / "lazy", lazy, f'exec {program} "$@"'))
    report = failure(lambda: engine.sync(order(source, target)))
    assert "still differs" in report.message()
    assert engine.complete(str(target)) is None


def test_other_sizes_and_a_source_that_is_not_there_end_in_words(
    program: str, images: tuple[Path, Path], tmp_path: Path
) -> None:
    source, target = images
    engine = Bdsync(tmp_path / "state", program)
    with source.open("ab") as file:
        file.write(b"longer")
    assert "Different sizes" in failure(lambda: engine.sync(order(source, target))).message()
    assert "status" in failure(lambda: engine.sync(order(tmp_path / "nothing", target))).message()


def test_a_program_that_is_not_there_ends_in_words(images: tuple[Path, Path], tmp_path: Path) -> None:
    report = failure(lambda: Bdsync(tmp_path / "state", "/nowhere/bdsync").sync(order(*images)))
    assert "/nowhere/bdsync cannot be started" in report.message()
    assert "both machines" in (report.remedy() or "")


def test_room_is_asked_for_before_it_is_taken(program: str, images: tuple[Path, Path], tmp_path: Path) -> None:
    source, target = images

    def none(_size: int) -> int:
        raise SyncFailed(Interrupted("no room"))

    before = target.read_bytes()
    report = failure(lambda: Bdsync(tmp_path / "state", program).sync(order(source, target, allow=none)))
    assert isinstance(report, Interrupted)
    assert target.read_bytes() == before


def test_an_interrupted_copy_ends_and_begins_no_other(program: str, images: tuple[Path, Path], tmp_path: Path) -> None:
    """A pause holds it in the middle; whoever interrupts it then need not wait."""
    source, target = images
    engine = Bdsync(tmp_path / "state", program)

    def meanwhile(size: int) -> int:
        engine.set_limits(Limits(paused=True))
        engine.interrupt("SIGTERM")
        return size

    report = failure(lambda: engine.sync(order(source, target, allow=meanwhile)))
    assert isinstance(report, Interrupted)
    assert isinstance(failure(lambda: engine.sync(order(source, target))), Interrupted)
    assert engine.complete(str(target)) is None
