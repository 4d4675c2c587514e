"""kill -9 at random points of 200 cycles with random changes: always one whole generation, and the next converges.

The files, the links, the symbolic link of the generation and mountd's table are the real ones, exportfs is the real
one; the worker is killed by SIGKILL wherever it happens to be.
"""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from labstore.exports.history import GenerationState, History
from labstore.formats.exports5 import read, read_etab
from labstore.model.exports import Owner
from labstore.system.files import write_atomic
from tests.integration.test_knfsd import ETAB, EXPORTS_D, KnfsdLab, lab

__all__ = ["lab"]
pytestmark = [pytest.mark.root, pytest.mark.slow]

CYCLES = 200
SEED = int(os.environ.get("LABSTORE_SEED", "20190529"))
Clients = Mapping[str, frozenset[str]]


class Worker:
    """The killable process, and the world it follows."""

    def __init__(self, directory: Path) -> None:
        self._files = (directory / "world.json", directory / "store", directory / "history.sqlite")
        self.version = 0
        self._process: subprocess.Popen[str] | None = None

    def show(self, projects: Clients) -> None:
        self.version += 1
        world = {"version": self.version, "projects": {name: sorted(found) for name, found in projects.items()}}
        write_atomic(self._files[0], json.dumps(world).encode())

    def start(self) -> None:
        argv = [sys.executable, "-m", "tests.integration.kill_worker", *map(str, self._files)]
        self._process = subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=Path(__file__).parents[2])

    def kill(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGKILL)
        self._process.communicate(timeout=30)

    def wait_converged(self, deadline: float = 60.0) -> None:
        """Until a cycle that began with the present version ends converged."""
        assert self._process is not None
        assert self._process.stdout is not None
        end = time.monotonic() + deadline
        for line in self._process.stdout:
            version, state = line.split()
            if int(version) == self.version and state == "converged":
                return
            assert time.monotonic() < end, f"not converged within {deadline} s: {line}"
        pytest.fail("the worker ended by itself")


@pytest.fixture
def worker(tmp_path: Path) -> Iterator[Worker]:
    made = Worker(tmp_path)
    yield made
    if made._process is not None:
        made.kill()


def random_world(chance: random.Random) -> Clients:
    names = chance.sample([f"project-{n}" for n in range(12)], chance.randint(3, 12))
    return {
        name: frozenset(f"10.{int(name[8:])}.0.{n}" for n in chance.sample(range(1, 20), chance.randint(1, 8)))
        for name in names
    }


def on_file() -> Clients:
    """What the files in exports.d say, read as exportfs reads them: dangling links are passed over."""
    found: dict[str, frozenset[str]] = {}
    for path in EXPORTS_D.glob("*.exports"):
        if path.exists():
            owner = path.name.removesuffix(".exports")
            found[owner] = frozenset(c for export in read(path.read_text(), Owner(owner)) for c in export.clients)
    return found


def in_table() -> Clients:
    table = read_etab(ETAB.read_text())
    return {path.rpartition("/")[2]: frozenset(clients) for path, clients in table.items()}


def test_a_killed_daemon_leaves_one_whole_generation_and_the_next_cycle_converges(
    lab: KnfsdLab, worker: Worker, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    world = random_world(chance)
    worker.show(world)
    worker.start()
    worker.wait_converged()
    killed_midway = 0
    for _ in range(CYCLES):
        before, world = world, random_world(chance)
        worker.show(world)
        time.sleep(chance.random() * 0.08)
        worker.kill()
        assert on_file() in (before, world), f"seed {SEED}: the files are no whole generation"
        assert in_table() in (before, world), f"seed {SEED}: the table is no whole generation"
        killed_midway += on_file() == before
        worker.start()
        worker.wait_converged()
        assert on_file() == in_table() == world
    assert killed_midway, "the kills must also hit before the switch, or this proves little"
    history = History(tmp_path / "history.sqlite", read_only=True)
    states = [generation.state for generation in history.generations(10_000)]
    assert GenerationState.PENDING not in states
    newest = history.newest()
    assert newest is not None
    table = history.table(newest).table
    assert {export.owner: frozenset(export.clients) for export in table} == world
