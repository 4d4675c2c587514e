"""A site with accounts, and its cycle, for tests that go through more than one."""

from __future__ import annotations

from pathlib import Path

import pytest

from labstore.dbusers.cycle import DbCycle
from labstore.model.dbusers_settings import HOUR
from tests.support.accounts_world import AccountsWorld


@pytest.fixture
def world(tmp_path: Path) -> AccountsWorld:
    return AccountsWorld(tmp_path)


@pytest.fixture
def daemon(world: AccountsWorld) -> DbCycle:
    """An hour after its first cycle."""
    cycle = world.room().cycle()
    cycle.run()
    world.clock.advance(HOUR)
    return cycle
