"""Small devices in memory, so that hundreds of sessions take seconds."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder that costs no disk, where there is one."""
    path = Path(tempfile.mkdtemp(prefix="labstore-blocksync-", dir=MEMORY if MEMORY.is_dir() else None))
    yield path
    shutil.rmtree(path)
