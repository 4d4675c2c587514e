"""Programs in memory before somebody waits for them."""

from __future__ import annotations

import contextlib
import shutil
from collections.abc import Iterable
from pathlib import Path

from labstore.system.run import ENVIRONMENT


def read_ahead(programs: Iterable[str], path: str = ENVIRONMENT["PATH"]) -> int:
    """Have the kernel keep these programs' files at hand; returns how many there are."""
    found = 0
    for program in programs:
        file = shutil.which(program, path=path)
        if file is not None:
            with contextlib.suppress(OSError):
                Path(file).read_bytes()
                found += 1
    return found
