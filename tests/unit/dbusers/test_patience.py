"""How long a file waits for servers: so long as the settings say, and not at all where a password has leaked."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from labstore.dbusers.cycle import DbCycle
from labstore.model.accounts import AccountKind, DbUser
from labstore.model.dbusers_settings import DAY, HOUR
from labstore.model.ledger import AccountState
from labstore.reconcile.record import State
from labstore.reports.dbusers import RotationGap
from labstore.reports.report import Override
from tests.support.accounts_world import AccountsWorld
from tests.support.dbusers_fakes import FakeReplica

WIKIBUGS = DbUser("s52788")
ONE, TWO = "db1.example.org", "db2.example.org:3311"


def _away(server: FakeReplica, on: bool) -> None:
    server.away = on


def _read_only(server: FakeReplica, on: bool) -> None:
    server.refuses_changes = on


FAULTS: dict[str, Callable[[FakeReplica, bool], None]] = {"away": _away, "read-only": _read_only}


@pytest.fixture
def world(tmp_path: Path) -> AccountsWorld:
    """Its first server is required."""
    made = AccountsWorld(tmp_path)
    text = made.site_file.read_text()
    made.site_file.write_text(text.replace("{group: web}", "{group: web, required: true}"))
    return made


def password(world: AccountsWorld) -> str:
    return world.files.passwords[WIKIBUGS].reveal()


@pytest.mark.parametrize("fault", FAULTS)
def test_a_new_file_waits_for_a_required_server_and_no_longer_than_its_patience(
    world: AccountsWorld, daemon: DbCycle, fault: str
) -> None:
    FAULTS[fault](world.replica(ONE), True)
    user = world.add(AccountKind.TOOL, "tools.new", 53000)
    daemon.run()
    world.clock.advance(299)
    daemon.run()
    assert user not in world.files.files
    world.clock.advance(1)
    daemon.run()
    assert user in world.files.files
    assert world.replica(TWO).works(user, world.files.passwords[user].reveal())
    FAULTS[fault](world.replica(ONE), False)
    world.clock.advance(60)
    assert daemon.run().state is State.CONVERGED
    assert world.replica(ONE).works(user, world.files.passwords[user].reveal())


@pytest.mark.parametrize("fault", FAULTS)
def test_a_rotation_waits_with_the_file_for_its_patience(world: AccountsWorld, daemon: DbCycle, fault: str) -> None:
    before = password(world)
    FAULTS[fault](world.replica(TWO), True)
    world.run("dbusers", "rotate", "wikibugs", "--yes")
    daemon.run()
    world.clock.advance(HOUR - 1)
    daemon.run()
    assert password(world) == before
    world.clock.advance(1)
    daemon.run()
    assert password(world) != before
    assert world.replica(ONE).works(WIKIBUGS, password(world)) and world.replica(ONE).works(WIKIBUGS, before)
    world.clock.advance(DAY)
    daemon.run()
    assert not world.replica(ONE).works(WIKIBUGS, before)


@pytest.mark.parametrize("fault", FAULTS)
def test_a_leaked_password_ends_at_once_on_the_servers_that_do_their_part(
    world: AccountsWorld, daemon: DbCycle, fault: str
) -> None:
    leaked = password(world)
    FAULTS[fault](world.replica(TWO), True)
    world.run("dbusers", "rotate", "wikibugs", "--now", "--yes")
    daemon.run()
    assert world.replica(ONE).works(WIKIBUGS, password(world))
    assert not world.replica(ONE).works(WIKIBUGS, leaked)
    FAULTS[fault](world.replica(TWO), False)
    world.clock.advance(60)
    daemon.run()
    assert world.replica(TWO).works(WIKIBUGS, password(world))
    assert not world.replica(TWO).works(WIKIBUGS, leaked)
    assert daemon.observer.ledger.read().accounts[WIKIBUGS].state is AccountState.LIVE


def test_with_two_servers_away_a_person_says_once_more_that_it_has_to_be_now(
    world: AccountsWorld, daemon: DbCycle
) -> None:
    before = password(world)
    for server in world.replicas.values():
        server.away = True
    world.run("dbusers", "rotate", "wikibugs", "--now", "--yes")
    assert any(isinstance(report, RotationGap) for report in daemon.run().reports)
    assert password(world) == before
    daemon.run(frozenset({Override.ALLOW_ROTATION_GAP}))
    assert password(world) != before


def test_nothing_is_buried_while_a_server_refuses_to_drop_it(world: AccountsWorld, daemon: DbCycle) -> None:
    """A removal waits without end: what is forgotten is never dropped there."""
    world.replica(TWO).refuses_changes = True
    world.run("dbusers", "remove", "wikibugs", "--now", "--yes")
    for _ in range(3):
        daemon.run()
        world.clock.advance(DAY)
    assert WIKIBUGS in daemon.observer.ledger.read().accounts
