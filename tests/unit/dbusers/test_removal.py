"""When an account may be dropped: the waiting time is counted from when what ends it was first so, and not at all while
a person wants it back."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labstore.dbusers.cycle import DbCycle
from labstore.model.accounts import DbUser
from labstore.model.dbusers_settings import DAY, HOUR
from labstore.model.ledger import AccountRow
from labstore.model.people import Entry, Rejected
from tests.support.accounts_world import AccountsWorld

WIKIBUGS = DbUser("s52788")


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


@pytest.mark.parametrize("claim", ["s52788", "tools.wikibugs"])
def test_what_somebody_claims_is_dropped_no_further(world: AccountsWorld, daemon: DbCycle, claim: str) -> None:
    """Two entries with one number: neither is taken, and what is there belongs to one of them."""
    away, name = world.replica("db2.example.org:3311"), WIKIBUGS
    del world.directory.entries[WIKIBUGS]
    daemon.run()
    run_after(world, daemon, HOUR + 1)
    away.away = True
    run_after(world, daemon, 40 * DAY)
    assert name not in world.replica("db1.example.org").accounts and name in away.accounts
    world.directory.rejected = (Rejected("twice", "two entries have one number", frozenset({claim})),)
    away.away = False
    for _ in range(3):
        run_after(world, daemon, HOUR)
    assert name in away.accounts
    world.directory.rejected = ()
    for _ in range(3):
        run_after(world, daemon, HOUR)
    assert name not in away.accounts


# --- asked back ------------------------------------------------------------------------------------------------------


def lose(world: AccountsWorld, daemon: DbCycle) -> Entry:
    """The directory lacks it for so long that it is suspended."""
    entry = world.directory.entries.pop(WIKIBUGS)
    daemon.run()
    run_after(world, daemon, HOUR + 1)
    return entry


def restored(world: AccountsWorld) -> str:
    """What the command says."""
    return " ".join(world.run("dbusers", "remove", "wikibugs", "--restore", "--yes").stdout.split())


def untouched(world: AccountsWorld) -> str:
    return str(world.json("plan")["untouched"].get(WIKIBUGS, ""))


def test_what_was_asked_back_and_the_directory_lacks_is_kept_until_it_is_there_again(
    world: AccountsWorld, daemon: DbCycle
) -> None:
    entry = lose(world, daemon)
    password = world.files.passwords[WIKIBUGS].reveal()
    assert "the directory lacks it; kept, locked, until it has it again" in restored(world)
    daemon.run()
    assert untouched(world) == "asked back by alice@labstore1, but two complete listings lack it"
    run_after(world, daemon, 100 * DAY)
    assert is_kept(world, daemon)
    world.directory.add(entry)
    daemon.run()
    assert world.replica("db1.example.org").works(WIKIBUGS, password)
    assert daemon.observer.ledger.read().requests == ()


def test_what_was_asked_back_and_the_directory_disables_says_so(world: AccountsWorld, daemon: DbCycle) -> None:
    disable(world)
    daemon.run()
    assert "the directory says that it is disabled; kept, locked, until that ends" in restored(world)
    daemon.run()
    assert untouched(world) == "asked back by alice@labstore1, but the directory says it is disabled"
    del world.directory.entries[WIKIBUGS]
    daemon.run()
    run_after(world, daemon, HOUR + 1)
    run_after(world, daemon, 100 * DAY)
    assert is_kept(world, daemon)


def test_a_new_word_ends_the_keeping_and_begins_the_waiting_time(world: AccountsWorld, daemon: DbCycle) -> None:
    """Also where an earlier removal by hand was long ago: it was taken back."""
    world.run("dbusers", "remove", "wikibugs", "--yes")
    daemon.run()
    lose(world, daemon)
    restored(world)
    daemon.run()
    run_after(world, daemon, 100 * DAY)
    world.run("dbusers", "remove", "wikibugs", "--yes")
    daemon.run()
    run_after(world, daemon, 39 * DAY)
    assert is_kept(world, daemon)
    run_after(world, daemon, DAY)
    assert row(daemon) is None


def test_what_is_being_dropped_and_is_asked_back_is_dropped_no_further(world: AccountsWorld, daemon: DbCycle) -> None:
    entry = lose(world, daemon)
    world.replica("db1.example.org").away = True
    run_after(world, daemon, 40 * DAY)
    assert WIKIBUGS not in world.replica("db2.example.org:3311").accounts
    restored(world)
    world.replica("db1.example.org").away = False
    run_after(world, daemon, DAY)
    assert is_kept(world, daemon)
    world.directory.add(entry)
    daemon.run()
    password = world.files.passwords[WIKIBUGS].reveal()
    assert all(server.works(WIKIBUGS, password) for server in world.replicas.values())
