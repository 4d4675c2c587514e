"""What people ask for is done before it is forgotten, at whatever moment they ask."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from labstore.dbusers.cycle import DbCycle
from labstore.model.accounts import DbUser
from labstore.model.ledger import AccountRow, AccountState, Cause, Request
from tests.support.accounts_world import AccountsWorld

WIKIBUGS = DbUser("s52788")


def row(daemon: DbCycle) -> AccountRow | None:
    return daemon.observer.ledger.read().accounts.get(WIKIBUGS)


def still_open(daemon: DbCycle) -> tuple[Request, ...]:
    return daemon.observer.ledger.read().requests


def meanwhile(world: AccountsWorld, ask: Callable[[], object]) -> None:
    """Once, while a server is looked at in the next cycle: what was asked before is read by then."""
    server = world.replica("db1.example.org")

    def trouble(word: str) -> None:
        if "observe" in word:
            server.trouble = lambda _word: None
            world.clock.advance(1)
            ask()
            world.clock.advance(1)

    server.trouble = trouble


def asked(world: AccountsWorld, *words: str) -> Callable[[], object]:
    return lambda: world.run("dbusers", *words, "--yes")


def test_a_removal_without_waiting_that_is_asked_for_in_the_middle_of_a_cycle_is_carried_out(
    world: AccountsWorld, daemon: DbCycle
) -> None:
    asked(world, "remove", "wikibugs")()
    daemon.run()
    meanwhile(world, asked(world, "remove", "wikibugs", "--now"))
    daemon.run()
    assert len(still_open(daemon)) == 1
    for _ in range(3):
        world.clock.advance(60)
        daemon.run()
    assert row(daemon) is None and still_open(daemon) == ()


def test_a_removal_in_the_middle_of_the_cycle_that_suspends_for_another_word_is_not_done_by_that(
    world: AccountsWorld, daemon: DbCycle
) -> None:
    asked(world, "remove", "wikibugs")()
    meanwhile(world, asked(world, "remove", "wikibugs", "--now"))
    daemon.run()
    found = row(daemon)
    assert found is not None and found.cause is Cause.ASKED
    daemon.run()
    assert (found := row(daemon)) is None or found.cause is Cause.ASKED_NOW


@pytest.mark.parametrize("whom", ["wikibugs", "--all"])
def test_a_password_that_leaked_while_a_cycle_rotates_it_anyway_ends_at_once(
    world: AccountsWorld, daemon: DbCycle, whom: str
) -> None:
    leaked = world.files.passwords[WIKIBUGS].reveal()
    asked(world, "rotate", "--all")()
    meanwhile(world, asked(world, "rotate", whom, "--now"))
    daemon.run()
    assert [request.options for request in still_open(daemon)] == [{"now": True}]
    world.clock.advance(60)
    daemon.run()
    assert not any(server.works(WIKIBUGS, leaked) for server in world.replicas.values())
    assert still_open(daemon) == ()
    found = row(daemon)
    assert found is not None and found.state is AccountState.LIVE


@pytest.mark.parametrize("later", [["--restore"], ["--now"], []], ids=str)
def test_of_two_words_before_a_cycle_the_later_one_counts_and_both_are_done(
    world: AccountsWorld, daemon: DbCycle, later: list[str]
) -> None:
    """Else the former would be found open, and carried out, once the later one is done."""
    for words in ([], later):
        asked(world, "remove", "wikibugs", *words)()
        world.clock.advance(1)
    for _ in range(4):
        daemon.run()
        world.clock.advance(60)
    assert still_open(daemon) == ()
    found = row(daemon)
    if "--restore" in later:
        assert found is not None and not found.suspended
    elif "--now" in later:
        assert found is None
    else:
        assert found is not None and found.cause is Cause.ASKED
