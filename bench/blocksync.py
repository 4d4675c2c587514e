"""Block sync beside bdsync in the original's form, rsync and a plain copy, on the same images in the same run.

CPU seconds of both sides are the primary figure, wall beside it. Everything of ours includes fsync and reading every
written block back from the device; none of the others does that.

    BDSYNC_SRC        a directory with bdsync's source, built in a temporary folder; without it bdsync is left out
    BLOCKSYNC_SIZES   sizes in GiB, 2 unless said otherwise (the full table: 2,8,32)
    BLOCKSYNC_WHERE   where the images are made: a folder with twice the largest size free
    BLOCKSYNC_TABLES  how many of the five patterns of change, 5; the first is the one that targets are set for
    BLOCKSYNC_ROUNDS  repetitions, of which the median counts: 3. Of images that the memory does not hold only one, and
                      nothing over ssh: there the disk is what counts
"""

from __future__ import annotations

import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from bench.blocksync_images import BLOCK, Cost, Images, chosen
from bench.blocksync_link import RATE, link, over_ssh, seconds_to_fill
from bench.figures import Figure, compared, counted, growth, keep

GIB = 1 << 30
ROUNDS = int(os.environ.get("BLOCKSYNC_ROUNDS", "3"))
SIZES = [float(size) for size in os.environ.get("BLOCKSYNC_SIZES", "2").split(",")]
FORM = "bdsync as the original runs it (md5, 16 KiB, --remdata, patch)"
TABLES = int(os.environ.get("BLOCKSYNC_TABLES", "5"))
GATE = (0.015, "scattered")
PATTERNS = (GATE, (0.015, "clustered"), (0.0, "none"), (0.001, "scattered"), (0.2, "clustered"))
AT_LEAST = {"both BLAKE3": 3.0, "index BLAKE3": 5.0, "both XXH3": 5.5, "index XXH3": 9.0, "hints BLAKE3": 12.0}
OTHERS = {"bdsync": FORM, "rsync": "rsync --inplace", "copy": "dd with fsync"}
DEFAULT = "index BLAKE3"
FEW = 1966
"""Blocks that change where the size of the device is all that differs: 30.7 MiB."""
HOLLOW = (2, 8, 32)
"""GiB of the devices that this is measured on: nearly all holes, so that any size stays in memory."""
FLAT = 1.2
"""So much more CPU may a device of the largest size take by hints than one of the smallest, for the same changes."""
_FILLING = 256 << 20

Ways = dict[str, Callable[[], Cost]]


Slopes = dict[str, list[float]]
"""CPU seconds of each way by size, a part of the device changed."""


def figures() -> list[Figure]:
    where = Path(os.environ.get("BLOCKSYNC_WHERE", tempfile.gettempdir()))
    folder = Path(tempfile.mkdtemp(prefix="labstore-bench-blocksync-", dir=where))
    try:
        program, slopes = _bdsync(folder), Slopes()
        found = list[Figure]()
        for size in SIZES:
            _size(folder, size, program, slopes, found)
        found += _growth(slopes) + _flat(folder)
        if program is None:
            found.append(counted("bdsync left out: BDSYNC_SRC names no source", "", 1))
        return found
    finally:
        shutil.rmtree(folder)


def _size(folder: Path, size: float, program: Path | None, slopes: Slopes, found: list[Figure]) -> None:
    """Everything on images of one size, put into `found`; all patterns on those of the first."""
    images = Images(folder, int(size * GIB))
    warm = 2.5 * images.bytes < os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    rounds = ROUNDS if warm else 1
    for part, mode in PATTERNS[: TABLES if size == SIZES[0] else min(TABLES, 2)]:
        images.prepare(chosen(images.bytes // BLOCK, part, mode))
        median = _medians(_ways(images, program), rounds)
        gate = (part, mode) == GATE
        said = f"{size:g} GiB{'' if warm else ' from disk'}, {100 * part:g} % {mode}"
        found += _table(said, median, gate and warm)
        keep("blocksync", found)  # what was measured when somebody ends it is worth something
        if gate:
            for name, cost in median.items():
                slopes.setdefault(name, []).append(cost.cpu)
            found += _ssh(images, said, program, slow=size == SIZES[0]) if warm else []
    images.remove()


def _ways(images: Images, program: Path | None) -> Ways:
    ways: Ways = {
        "both BLAKE3": lambda: images.both("blake3"),
        DEFAULT: lambda: images.index("blake3"),
        "both XXH3": lambda: images.both("xxh3"),
        "index XXH3": lambda: images.index("xxh3"),
        "hints BLAKE3": lambda: images.index("blake3", hints=True),
        "rsync": images.rsync,
        "copy": images.copy,
    }
    return ways if program is None else {"bdsync": lambda: images.bdsync(program), **ways}


def _medians(ways: Ways, rounds: int = ROUNDS) -> dict[str, Cost]:
    """Each way so many times, in an order that chance makes anew."""
    costs: dict[str, list[Cost]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name in random.sample(sorted(ways), len(ways)):
            costs[name].append(ways[name]())
            print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    return {name: _median(many) for name, many in costs.items()}


def _median(many: list[Cost]) -> Cost:
    return Cost(
        statistics.median(each.cpu for each in many),
        statistics.median(each.wall for each in many),
        int(statistics.median(each.sent for each in many)),
        max(each.memory for each in many),
    )


def _table(said: str, median: dict[str, Cost], gate: bool) -> list[Figure]:
    """All of ours beside bdsync; what is ours by default beside the others too."""
    found: list[Figure] = []
    ours = {name: cost for name, cost in median.items() if name not in OTHERS}
    for name, cost in ours.items():
        for other, form in OTHERS.items():
            if other in median and (other == "bdsync" or name == DEFAULT):
                at_least = AT_LEAST[name] if gate and other == "bdsync" else None
                found.append(compared(f"{said}: {name}, CPU", "s", cost.cpu, median[other].cpu, form, at_least))
                found.append(compared(f"{said}: {name}, wall", "s", cost.wall, median[other].wall, form))
        found.append(counted(f"{said}: {name}, sent", "MB", cost.sent / 1e6))
    memory = max(cost.memory for cost in ours.values())
    return [*found, counted(f"{said}: peak memory of either side, any of ours", "MiB", memory, 128)]


def _ssh(images: Images, said: str, program: Path | None, slow: bool) -> list[Figure]:
    """Over ssh to this machine and, where that is asked for, over a link of 100 Mbit/s with 20 ms."""
    with link(images.folder) as far:
        found = _ssh_table(images, f"{said}, over ssh", program, far.plain, 3.5)
        if not slow:
            return found
        found += _ssh_table(images, f"{said}, over ssh at 100 Mbit/s and 20 ms", program, far.slow, None)
        ours, plain, sent = seconds_to_fill(images, far, _FILLING)
    mib = f"{_FILLING >> 20} MiB that do not compress, first copy at 100 Mbit/s and 20 ms"
    found.append(compared(f"{mib}: wall", "s", ours, plain, "ssh cat, to nowhere", 0.95))
    return [*found, counted(f"{mib}: the link's rate that is used", "%", 100 * sent * 8 / ours / RATE)]


def _ssh_table(images: Images, said: str, program: Path | None, config: Path, at_least: float | None) -> list[Figure]:
    there = over_ssh(images, config)
    ways: Ways = {
        DEFAULT: lambda: images.index("blake3", *there),
        "both BLAKE3": lambda: images.both("blake3", *there),
        "index XXH3": lambda: images.index("xxh3", *there),
    }
    if program is not None:
        ways["bdsync"] = lambda: images.bdsync(program, f"ssh -F {config} elsewhere")
    median = _medians(ways)
    found = []
    for name, cost in median.items():
        if name != "bdsync" and "bdsync" in median:
            asked = at_least if name == DEFAULT else None
            found.append(compared(f"{said}: {name}, wall", "s", cost.wall, median["bdsync"].wall, FORM, asked))
        if name != "bdsync":
            found.append(counted(f"{said}: {name}, sent", "MB", cost.sent / 1e6))
    return found


def _growth(slopes: Slopes) -> list[Figure]:
    if len(SIZES) < 2:
        return []
    return [counted(f"growth exponent of {name}, CPU", "", growth(SIZES, many)) for name, many in slopes.items()]


def _flat(folder: Path) -> list[Figure]:
    """What always the same changes take by hints on devices of all sizes, which take turns: what the machine does
    beside meets all of them."""
    all_images = [Images(folder / f"hollow-{size}", size * GIB, hollow=True) for size in HOLLOW]
    for images in all_images:
        images.prepare(sorted(random.Random(3).sample(range(images.bytes // BLOCK), FEW)))
    rounds = list[list[float]]()
    for _ in range(3 * ROUNDS):
        taken = {images: images.index("blake3", hints=True).cpu for images in random.sample(all_images, len(HOLLOW))}
        rounds.append([taken[images] for images in all_images])
        print(".", end="", file=sys.stderr, flush=True)
    print(file=sys.stderr)
    said = f"hints, {FEW} blocks changed, all else holes"
    found = [
        counted(f"{said}: {size} GiB, CPU", "s", statistics.median(many))
        for size, many in zip(HOLLOW, zip(*rounds, strict=True), strict=True)
    ]
    times = statistics.median(each[-1] / each[0] for each in rounds)
    return [*found, counted(f"{said}: {HOLLOW[-1]} GiB beside {HOLLOW[0]} GiB, CPU", "times", times, FLAT)]


def _bdsync(folder: Path) -> Path | None:
    """Build bdsync from the source that is named."""
    source = os.environ.get("BDSYNC_SRC")
    if not source or not Path(source, "bdsync.c").exists():
        return None
    build = folder / "bdsync"
    shutil.copytree(source, build, ignore=shutil.ignore_patterns(".git"))
    subprocess.run(["make", "-s", "-B", "bdsync"], cwd=build, check=True, stdout=subprocess.DEVNULL)
    return build / "bdsync"
