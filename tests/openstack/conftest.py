"""Brings the lab up for the run; a lab that was already up is left as it was found."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.openstack.cloud import Lab


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """The lab, seeded. KEEP_LAB=1 leaves one running that was started here."""
    lab = Lab()
    there = lab.running()
    lab.start()
    yield lab
    lab.fault()
    if not there and not os.environ.get("KEEP_LAB"):
        lab.down()
