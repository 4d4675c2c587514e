"""What the tests of the room share: small devices in memory, so that hundreds of sessions take seconds; a crew."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labstore.blocksync.crew import Crew

MEMORY = Path("/dev/shm")


@pytest.fixture
def memory() -> Iterator[Path]:
    """A folder that costs no disk, where there is one."""
    path = Path(tempfile.mkdtemp(prefix="labstore-blocksync-", dir=MEMORY if MEMORY.is_dir() else None))
    yield path
    shutil.rmtree(path)


@pytest.fixture
def crew() -> Iterator[Crew]:
    """Ends with the test."""
    made = Crew()
    yield made
    made.stop()
    made.wait()
