"""When an account may be dropped: the waiting time is counted from when what ends it was first so."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from labstore.dbusers.cycle import DbCycle
from labstore.model.accounts import DbUser
from labstore.model.dbusers_settings import DAY, HOUR
from labstore.model.ledger import AccountRow
from tests.support.accounts_world import AccountsWorld

WIKIBUGS = DbUser("s52788")


@pytest.fixture
def world(tmp_path: Path) -> AccountsWorld:
    return AccountsWorld(tmp_path)


@pytest.fixture
def daemon(world: AccountsWorld) -> DbCycle:
    """After its first cycle."""
    cycle = world.room().cycle()
    cycle.run()
    world.clock.advance(HOUR)
    return cycle


def row(daemon: DbCycle) -> AccountRow | None:
    return daemon.observer.ledger.read().accounts.get(WIKIBUGS)


def disable(world: AccountsWorld) -> None:
    world.directory.entries[WIKIBUGS] = replace(world.directory.entries[WIKIBUGS], locked=True)


def is_kept(world: AccountsWorld, daemon: DbCycle) -> bool:
    return (
        row(daemon) is not None
        and WIKIBUGS in world.files.files
        and WIKIBUGS in world.replica("db1.example.org").accounts
    )


def run_after(world: AccountsWorld, daemon: DbCycle, seconds: float) -> None:
    world.clock.advance(seconds)
    daemon.run()


def test_what_was_disabled_for_long_and_is_removed_by_hand_is_kept_for_the_waiting_time(
    world: AccountsWorld, daemon: DbCycle
) -> None:
    """The command says so, and --restore gives it back until then."""
    disable(world)
    daemon.run()
    run_after(world, daemon, 60 * DAY)
    assert "dropped after 40d unless restored" in world.run("dbusers", "remove", "wikibugs", "--yes").stdout
    run_after(world, daemon, 60)
    run_after(world, daemon, 39 * DAY)
    assert is_kept(world, daemon)
    run_after(world, daemon, DAY)
    assert row(daemon) is None


def test_a_second_word_of_a_person_does_not_begin_the_waiting_time_again(world: AccountsWorld, daemon: DbCycle) -> None:
    world.run("dbusers", "remove", "wikibugs", "--yes")
    daemon.run()
    run_after(world, daemon, 39 * DAY)
    world.run("dbusers", "remove", "wikibugs", "--yes")
    daemon.run()
    run_after(world, daemon, DAY)
    assert row(daemon) is None


def test_what_was_disabled_for_long_and_cannot_be_seen_is_kept_for_the_waiting_time(
    world: AccountsWorld, daemon: DbCycle
) -> None:
    """A part of the directory that is hidden for an hour takes nothing from those in it."""
    disable(world)
    daemon.run()
    run_after(world, daemon, 60 * DAY)
    entry = world.directory.entries.pop(WIKIBUGS)
    daemon.run()
    run_after(world, daemon, HOUR + 1)
    assert is_kept(world, daemon)
    world.directory.add(replace(entry, locked=False))
    daemon.run()
    found = row(daemon)
    assert found is not None and not found.suspended
    del world.directory.entries[WIKIBUGS]
    daemon.run()
    run_after(world, daemon, HOUR + 1)
    run_after(world, daemon, 40 * DAY)
    assert row(daemon) is None
