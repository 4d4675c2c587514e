"""Block sync beside bdsync in the original's form, rsync and a plain copy, on the same images in the same run.

CPU seconds of both sides are the primary figure, wall beside it. Everything of ours includes fsync and reading every
written block back from the device; none of the others does that.

    BDSYNC_SRC        a directory with bdsync's source; it is built in a temporary folder. Without it bdsync is left
out.
    BLOCKSYNC_SIZES   sizes in GiB, 2 unless said otherwise (the full table: 2,8,32)
    BLOCKSYNC_WHERE   where the images are made: a folder with three times the largest size free
    BLOCKSYNC_ROUNDS  repetitions, of which the median counts: 3
"""

from __future__ import annotations

import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from bench.figures import Figure, compared, counted, growth
from labstore.blocksync.devices import Device
from labstore.formats.change_hints import render
from labstore.model.change_hints import Hints

GIB = 1 << 30
BLOCK = 16384
ROUNDS = int(os.environ.get("BLOCKSYNC_ROUNDS", "3"))
SIZES = [float(size) for size in os.environ.get("BLOCKSYNC_SIZES", "2").split(",")]
FORM = "bdsync as the original runs it (md5, 16 KiB, --remdata, patch)"


@dataclass(frozen=True)
class Cost:
    """CPU seconds of all processes, seconds, bytes on the way, and the peak memory of the largest in MiB."""

    cpu: float
    wall: float
    sent: int = 0
    memory: float = 0.0


def figures() -> list[Figure]:
    where = Path(os.environ.get("BLOCKSYNC_WHERE", tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix="labstore-bench-blocksync-", dir=where))
    try:
        bdsync = _bdsync(folder)
        found: list[Figure] = []
        slopes: dict[str, list[float]] = {}
        for size in SIZES:
            found += _size(folder, size, bdsync, slopes)
        found += _growth(slopes)
        if bdsync is None:
            found.append(counted("bdsync left out: BDSYNC_SRC names no source", "", 1))
        return found
    finally:
        shutil.rmtree(folder)


def _size(folder: Path, size: float, bdsync: Path | None, slopes: dict[str, list[float]]) -> list[Figure]:
    found: list[Figure] = []
    images = Images(folder, size)
    for part, mode in (
        (0.015, "scattered"),
        (0.015, "clustered"),
        (0.0, "none"),
        (0.001, "scattered"),
        (0.2, "clustered"),
    ):
        if part != 0.015 and size != SIZES[0]:
            continue
        images.prepare(part, mode)
        found += _pattern(images, f"{size:g} GiB, {100 * part:g} % {mode}", part, mode, bdsync, slopes)
    images.remove()
    return found


def _pattern(
    images: Images, said: str, part: float, mode: str, bdsync: Path | None, slopes: dict[str, list[float]]
) -> list[Figure]:
    """One table: every way on the same images."""
    costs: dict[str, Cost] = {}
    gate = part == 0.015 and mode == "scattered"
    ways: dict[str, Callable[[], Cost]] = {}
    if bdsync is not None:
        ways["bdsync"] = lambda: images.bdsync(bdsync)
    ways["both BLAKE3"] = lambda: images.both("blake3")
    ways["index BLAKE3"] = lambda: images.index("blake3")
    ways["both XXH3"] = lambda: images.both("xxh3")
    ways["index XXH3"] = lambda: images.index("xxh3")
    ways["hints BLAKE3"] = lambda: images.index("blake3", hints=True)
    ways["rsync"], ways["copy"] = images.rsync, images.copy
    for _ in range(ROUNDS):
        for name, way in random.sample(sorted(ways.items()), len(ways)):
            costs.setdefault(name, []).append(way())  # type: ignore[attr-defined, arg-type]
    median = {name: _median(many) for name, many in costs.items()}  # type: ignore[arg-type]
    for name, cost in median.items():
        if gate:
            slopes.setdefault(name, []).append(cost.cpu)
    asked = {"both BLAKE3": 3.0, "index BLAKE3": 5.0, "both XXH3": 5.5, "index XXH3": 9.0, "hints BLAKE3": 12.0}
    found: list[Figure] = []
    for name, cost in median.items():
        if name in ("bdsync", "rsync", "copy"):
            continue
        for other, form in (("bdsync", FORM), ("rsync", "rsync --inplace"), ("copy", "dd with fsync")):
            if other in median:
                at_least = asked[name] if gate and other == "bdsync" else None
                found.append(compared(f"{said}: {name}, CPU", "s", cost.cpu, median[other].cpu, form, at_least))
                found.append(compared(f"{said}: {name}, wall", "s", cost.wall, median[other].wall, form))
        found.append(counted(f"{said}: {name}, sent", "MB", cost.sent / 1e6))
        found.append(counted(f"{said}: {name}, peak memory", "MiB", cost.memory, 128))
    return found


def _growth(slopes: dict[str, list[float]]) -> list[Figure]:
    if len(SIZES) < 2:
        return []
    return [counted(f"growth exponent of {name}, CPU", "", growth(SIZES, many)) for name, many in slopes.items()]


def _median(many: list[Cost]) -> Cost:
    return Cost(
        statistics.median(each.cpu for each in many),
        statistics.median(each.wall for each in many),
        int(statistics.median(each.sent for each in many)),
        max(each.memory for each in many),
    )


# --- images ----------------------------------------------------------------------------------------------------------


class Images:
    """A source, the target as it was before the change, and the target that is worked on; page cache warm."""

    def __init__(self, folder: Path, size: float) -> None:
        self.folder, self.bytes = folder, int(size * GIB)
        self.source, self.old, self.target = folder / "source.img", folder / "old.img", folder / "target.img"
        self.state = {name: folder / f"state-{name}" for name in ("blake3", "xxh3")}
        self.hints, self.changed = folder / "hints", list[int]()
        _fill(self.old, self.bytes)

    def remove(self) -> None:
        for path in (self.source, self.old, self.target):
            path.unlink(missing_ok=True)

    def prepare(self, part: float, mode: str) -> None:
        """The source is the old image with these changes."""
        _copy(self.old, self.source)
        self.changed = _chosen(self.bytes // BLOCK, part, mode)
        chance = random.Random(7)
        with self.source.open("r+b") as file:
            for block in self.changed:
                file.seek(block * BLOCK)
                file.write(chance.randbytes(BLOCK))
            os.fsync(file.fileno())

    def both(self, algorithm: str) -> Cost:
        """Nothing is known of the target."""
        shutil.rmtree(self.state[algorithm], ignore_errors=True)
        self._reset()
        return self._ours(algorithm)

    def index(self, algorithm: str, hints: bool = False) -> Cost:
        """The target was brought to the old state by us, and nobody has written to it since."""
        state = self.state[algorithm]
        shutil.rmtree(state, ignore_errors=True)
        self._reset()
        work = self.folder / "work.img"
        self.source.rename(work)
        _copy(self.old, self.source)
        before = _token(self.source)
        self._ours(algorithm)
        with work.open("rb") as read, self.source.open("r+b") as file:
            for block in self.changed:
                read.seek(block * BLOCK)
                file.seek(block * BLOCK)
                file.write(read.read(BLOCK))
            os.fsync(file.fileno())
        if hints:
            ranges = ((block * BLOCK, BLOCK) for block in self.changed)
            self.hints.write_text("".join(render(Hints.of(before, _token(self.source), ranges))))
        _warm(self.source, self.target)
        cost = self._ours(algorithm, *(("--hints", str(self.hints)) if hints else ()))
        work.unlink()
        return cost

    def _ours(self, algorithm: str, *more: str) -> Cost:
        argv = [
            sys.executable,
            "-m",
            "bench.children.blocksync",
            "--json",
            "--state",
            str(self.state[algorithm]),
            *more,
        ]
        argv += ["--xxh3"] if algorithm == "xxh3" else []
        cost, said = _measured([*argv, str(self.source), str(self.target)])
        result = json.loads(said)
        assert _same(self.source, self.target), "the target is not the source"
        return Cost(cost.cpu, cost.wall, result["sent"] + result["received"], cost.memory)

    def bdsync(self, program: Path) -> Cost:
        self._reset()
        remote = f"nice -n 10 {program} --server"
        line = f'{program} --blocksize=16384 --remdata "{remote}" {self.target} {self.source} | cat | {program} --patch={self.target}'  # noqa: E501
        cost, _ = _measured(["bash", "-o", "pipefail", "-c", line])
        assert _same(self.source, self.target), "bdsync's target is not the source"
        return cost

    def rsync(self) -> Cost:
        self._reset()
        argv = ["rsync", "-I", "--inplace", "--no-whole-file", "-B", "16384", str(self.source), str(self.target)]
        return _measured(argv)[0]

    def copy(self) -> Cost:
        self._reset()
        argv = ["dd", f"if={self.source}", f"of={self.target}", "bs=4M", "conv=notrunc,fsync", "status=none"]
        return _measured(argv)[0]

    def _reset(self) -> None:
        _copy(self.old, self.target)
        _warm(self.source, self.target)


def _fill(path: Path, size: int) -> None:
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


def _chosen(blocks: int, part: float, mode: str) -> list[int]:
    chance, count = random.Random(3), int(blocks * part)
    if mode == "scattered":
        return sorted(chance.sample(range(blocks), count))
    runs = [chance.randrange(blocks - count // 8) for _ in range(8)] if count else []
    return sorted({block for start in runs for block in range(start, start + count // 8)})


def _copy(source: Path, target: Path) -> None:
    subprocess.run(["cp", "--sparse=always", source, target], check=True)
    subprocess.run(["sync", target], check=True)


def _warm(*paths: Path) -> None:
    for path in paths:
        with path.open("rb") as file:
            while file.read(1 << 22):
                pass


def _same(one: Path, other: Path) -> bool:
    return subprocess.run(["cmp", "-s", one, other], check=False).returncode == 0


def _token(path: Path) -> str:
    device = Device(str(path))
    try:
        return device.witness() or ""
    finally:
        device.close()


def _measured(argv: list[str]) -> tuple[Cost, str]:
    """Run it; the CPU is that of the process and of all it waited for."""
    with _waited() as used:
        done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, cwd=Path(__file__).parents[1])
    return Cost(used[0], used[1], 0, used[2]), done.stdout


@contextmanager
def _waited() -> Iterator[list[float]]:
    used: list[float] = []
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    yield used
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    used += [cpu, time.monotonic() - started, after.ru_maxrss / 1024]


def _bdsync(folder: Path) -> Path | None:
    """Build bdsync from the source that is named."""
    source = os.environ.get("BDSYNC_SRC")
    if not source or not Path(source, "bdsync.c").exists():
        return None
    build = folder / "bdsync"
    shutil.copytree(source, build, ignore=shutil.ignore_patterns(".git"))
    subprocess.run(["make", "-s", "-B", "bdsync"], cwd=build, check=True, stdout=subprocess.DEVNULL)
    return build / "bdsync"
