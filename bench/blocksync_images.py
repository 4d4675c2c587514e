"""A source and a target that differ in known blocks, and what it costs to make them equal in each way."""

from __future__ import annotations

import json
import os
import random
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labstore.blocksync.devices import Device
from labstore.formats.change_hints import render
from labstore.model.block_sync import Pass
from labstore.model.change_hints import Hints

BLOCK = 16384
ROOT = Path(__file__).parents[1]
OURS = (sys.executable, "-m", "labstore", "blocksync")


@dataclass(frozen=True)
class Cost:
    """CPU seconds of all processes, seconds, bytes on the way, and the peak memory of the largest process in MiB."""

    cpu: float
    wall: float
    sent: int = 0
    memory: float = 0.0


class Images:
    """Both images are at the old state or at the new one; the blocks in which these differ lie beside them. What each
    way is given is put there before, and the page cache is warm. `hollow`: holes but for what changed, so that any
    size stays in memory; not for ways that read everything."""

    def __init__(self, folder: Path, size: int, hollow: bool = False) -> None:
        self.folder, self.bytes, self._hollow = folder, size, hollow
        self.source, self.target, self.state = folder / "source.img", folder / "target.img", folder / "state"
        self.hints, self.changed = folder / "hints", list[int]()
        folder.mkdir(exist_ok=True)
        self._old, self._new = folder / "old.blocks", folder / "new.blocks"
        fill(self.source, min(size, 1 << 20) if hollow else size)
        os.truncate(self.source, size)
        if size:
            subprocess.run(["cp", "--sparse=always", self.source, self.target], check=True)

    def remove(self) -> None:
        for path in (self.source, self.target, self._old, self._new):
            path.unlink(missing_ok=True)
        shutil.rmtree(self.state, ignore_errors=True)

    def prepare(self, changed: Sequence[int]) -> None:
        """From now on the two states differ in these blocks."""
        self.put(self.source, new=False)
        self.put(self.target, new=False)
        self.changed = list(changed)
        chance = random.Random(7)
        with self.source.open("rb") as file, self._old.open("wb") as old, self._new.open("wb") as new:
            for block in self.changed:
                file.seek(block * BLOCK)
                old.write(file.read(BLOCK))
                new.write(chance.randbytes(BLOCK))

    def put(self, path: Path, new: bool) -> None:
        """Bring an image to one of the two states."""
        if not self.changed:
            return
        with (self._new if new else self._old).open("rb") as blocks, path.open("r+b") as file:
            for block in self.changed:
                file.seek(block * BLOCK)
                file.write(blocks.read(BLOCK))
            os.fsync(file.fileno())

    def apart(self) -> None:
        """The source is new, the target old, and both are in the page cache."""
        self.put(self.source, new=True)
        self.put(self.target, new=False)
        self._warm()

    def _warm(self) -> None:
        """What was just written is in the page cache; of what was not there is nothing where all else is holes."""
        if not self._hollow:
            warm(self.source, self.target)

    # --- the ways ---------------------------------------------------------------------------------------------------

    def both(self, algorithm: str, *more: str) -> Cost:
        """Nothing is known of the target."""
        shutil.rmtree(self.state, ignore_errors=True)
        self.apart()
        return self.ours(algorithm, *more)

    def index(self, algorithm: str, *more: str, hints: bool = False) -> Cost:
        """The target was brought to the old state by us, and nobody has written to it since."""
        shutil.rmtree(self.state, ignore_errors=True)
        self.put(self.source, new=False)
        self.put(self.target, new=False)
        before = token(self.source)
        self.ours(algorithm, *more)
        self.put(self.source, new=True)
        if hints:
            ranges = ((block * BLOCK, BLOCK) for block in self.changed)
            self.hints.write_text("".join(render(Hints.of(before, token(self.source), ranges))))
        self._warm()
        if hints:
            return self.ours(algorithm, *more, "--hints", str(self.hints), passed=Pass.HINTED)
        return self.ours(algorithm, *more, passed=Pass.CACHED)

    def ours(self, algorithm: str, *more: str, passed: Pass = Pass.BOTH) -> Cost:
        """`more` may name the source otherwise: over ssh. What did not look at as much as was meant is not measured."""
        places = [*more] if more and ":" in more[-1] else [*more, str(self.source)]
        chosen = ("--xxh3",) if algorithm == "xxh3" else ()
        argv = [*OURS, "run", "--json", "--state", str(self.state), *chosen, *places, str(self.target)]
        cost, said = measured(argv)
        result: dict[str, Any] = json.loads(said)
        assert self.same(), "the target is not the source"
        assert result["passed"] == passed, f"{result['passed']}, not {passed}: {result['why']} {result['notes']}"
        return Cost(cost.cpu, cost.wall, result["sent"] + result["received"], cost.memory)

    def bdsync(self, program: Path, remote: str = "") -> Cost:
        """In the original's form: the server under nice, what differs through a pipe, written by another process."""
        self.apart()
        server = f"{remote} nice -n 10 {program} --server".strip()
        compare = f'{program} --blocksize=16384 --remdata "{server}" {self.target} {self.source}'
        cost, _ = measured(["bash", "-o", "pipefail", "-c", f"{compare} | cat | {program} --patch={self.target}"])
        assert self.same(), "bdsync's target is not the source"
        return cost

    def rsync(self) -> Cost:
        self.apart()
        how = ("-I", "--inplace", "--no-whole-file", "-B", str(BLOCK))
        return measured(["rsync", *how, str(self.source), str(self.target)])[0]

    def copy(self) -> Cost:
        self.apart()
        where = (f"if={self.source}", f"of={self.target}")
        return measured(["dd", *where, "bs=4M", "conv=notrunc,fsync", "status=none"])[0]

    def same(self) -> bool:
        if self._hollow:  # to read the holes would push what counts out of the page cache
            return self.source.stat().st_size == self.target.stat().st_size and all(
                one == other for one, other in zip(self._written(self.source), self._written(self.target), strict=True)
            )
        return subprocess.run(["cmp", "-s", self.source, self.target], check=False).returncode == 0

    def _written(self, path: Path) -> Iterator[bytes]:
        with path.open("rb") as file:
            for block in self.changed:
                file.seek(block * BLOCK)
                yield file.read(BLOCK)


def fill(path: Path, size: int) -> None:
    """A quarter zeros, most of the rest random, some text."""
    chance = random.Random(5)
    words = [chance.randbytes(chance.randint(2, 9)).hex().encode() for _ in range(3000)]
    text = b" ".join(chance.choices(words, k=300_000))
    with path.open("wb") as file:
        for at in range(0, size, 1 << 20):
            roll = chance.random()
            file.seek(at)
            if roll >= 0.7:
                start = chance.randrange(len(text) - (1 << 20))
                file.write(text[start : start + (1 << 20)])
            elif roll >= 0.25:
                file.write(os.urandom(1 << 20))
        file.truncate(size)


def chosen(blocks: int, part: float, mode: str) -> list[int]:
    """Which blocks change: by chance, or in eight runs."""
    chance, count = random.Random(3), int(blocks * part)
    if mode == "scattered":
        return sorted(chance.sample(range(blocks), count))
    runs = [chance.randrange(blocks - count // 8) for _ in range(8)] if count else []
    return sorted({block for start in runs for block in range(start, start + count // 8)})


def warm(*paths: Path) -> None:
    buffer = bytearray(1 << 22)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def token(path: Path) -> str:
    """What names the moment of an image."""
    device = Device(str(path))
    try:
        return device.witness() or ""
    finally:
        device.close()


def measured(argv: Sequence[str]) -> tuple[Cost, str]:
    """Run it; CPU and memory are those of the process and of all that it waited for, and of nothing else."""
    started = time.monotonic()
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True, cwd=ROOT) as process:
        assert process.stdout is not None
        said = process.stdout.read()
        _, status, used = os.wait4(process.pid, 0)
        process.returncode = os.waitstatus_to_exitcode(status)
    wall = time.monotonic() - started
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, argv, said)
    return Cost(used.ru_utime + used.ru_stime, wall, 0, used.ru_maxrss / 1024), said
