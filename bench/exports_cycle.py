"""A cycle of exports against a cloud that takes 20 ms for every answer.

Beside it the same knowledge gathered as the original did: one login and one listing per project, in turn. The baseline
is kept lean: two requests per project, no discovery, nothing parsed beyond the addresses, nothing written.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from bench.children.cloud import INSTANCES
from bench.figures import Figure, compared, counted, growth

SIZES = (100, 1000, 5000)
ROOT = Path(__file__).parents[1]


def figures() -> list[Figure]:
    found: list[Figure] = []
    first: list[float] = []
    for size in SIZES:
        ours, theirs = _child("ours", size), _child("baseline", size)
        said = f"{size} x {INSTANCES}"
        alternative = "one login and one listing per project in turn"
        asked = 50 if size == 1000 else None
        first.append(ours["first"])
        against = (theirs["seconds"], alternative, asked)
        found += [
            compared(f"{said}: first cycle ever, exportfs apart", "s", ours["first"], *against),
            compared(f"{said}: cycle with a whole listing, no change", "s", ours["listed"], *against),
            compared(f"{said}: cycle with changes polled, no change", "s", ours["same"], *against),
            compared(f"{said}: cycle with one change, exportfs apart", "s", ours["one"], *against),
            compared(f"{said}: requests, first cycle", "requests", ours["requests"], theirs["requests"], alternative),
            counted(f"{said}: requests, no-change cycle", "requests", ours["requests_same"]),
            counted(f"{said}: bytes, first cycle", "MB", ours["bytes"] / 1e6),
            counted(f"{said}: bytes, no-change cycle", "MB", ours["bytes_same"] / 1e6),
            counted(f"{said}: exportfs -r itself", "s", ours["exportfs"]),
            counted(f"{said}: bare creation of as many files and links", "s", ours["names"]),
            counted(f"{said}: exportfs calls, first / one-change", "calls", ours["calls"], 2),
            counted(
                f"{said}: exportfs calls and writes, no-change", "calls", ours["calls_same"] + ours["writes_same"], 0
            ),
            counted(f"{said}: peak memory", "MiB", ours["memory"], 150 if size == 1000 else None),
        ]
    found.append(counted("growth exponent of the first cycle", "", growth(SIZES, first)))
    return found


def _child(which: str, size: int) -> dict[str, Any]:
    """Each measurement in a process of its own, so that memory and imports are its own."""
    argv = [sys.executable, "-m", f"bench.children.exports_cycle_{which}", str(size)]
    done = subprocess.run(argv, stdout=subprocess.PIPE, text=True, check=True, timeout=1800, cwd=ROOT)
    return dict(json.loads(done.stdout.splitlines()[-1]))
