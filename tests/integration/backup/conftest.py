"""A site for all tests of the room."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.backup.site import Site


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    if os.geteuid() != 0:
        pytest.skip("mounting wants root")
    made = Site(tmp_path)
    yield made
    made.do("unmount", "tools")
