"""The fake cloud as a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.support.fake_cloud.answers import USER

__all__ = ["INSTANCES", "PASSWORD", "USER", "cloud"]

INSTANCES = 10
LATENCY = 0.02
PASSWORD = "secret"
ROOT = Path(__file__).parents[2]


@contextmanager
def cloud(size: int) -> Iterator[tuple[str, Callable[[dict[str, Any]], Any]]]:
    """A fake cloud as a process of its own: its address, and a function that tells it deeds."""
    argv = [sys.executable, "-m", "tests.support.fake_cloud", "--projects", str(size), "--instances", str(INSTANCES)]
    process = subprocess.Popen(
        [*argv, "--latency", str(LATENCY)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    assert process.stdin is not None
    assert process.stdout is not None
    stdin, stdout = process.stdin, process.stdout

    def tell(deed: dict[str, Any]) -> Any:
        stdin.write(json.dumps(deed) + "\n")
        stdin.flush()
        return json.loads(stdout.readline())

    try:
        yield json.loads(stdout.readline())["url"], tell
    finally:
        process.kill()
        process.wait(30)
