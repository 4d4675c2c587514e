"""Who gets a new password when: so many at a time of those that can, each with the overlap that was asked for."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest

from labstore.dbusers.cycle import DbCycle
from labstore.model.accounts import AccountKind, DbUser
from labstore.model.dbusers_settings import DAY, HOUR, RotationSettings
from labstore.model.ledger import AccountRow, AccountState, Request, RequestVerb
from labstore.model.secret import Secret
from labstore.ports.credential_writer import FileFact, FileOwner, FileState
from labstore.reconcile.runner import StepFailed
from labstore.reports.dbusers import FileRefused
from tests.support.accounts_world import AccountsWorld
from tests.support.dbusers_fakes import FakeFiles
from tests.unit.dbusers.worlds import NOBODY, SETTINGS, acts, ago, entry, facts, plan, row, trusted

WIKIBUGS, BOB = DbUser("s52788"), DbUser("u2171")
ONE_AT_A_TIME = replace(SETTINGS, rotation=RotationSettings(batch=1, every=30 * DAY))
OLD = ago(60 * DAY)


@dataclass
class StubbornFiles(FakeFiles):
    """Something that does not go away keeps the files of these from being replaced."""

    stubborn: set[DbUser] = field(default_factory=set)

    def replace(self, owner: FileOwner, password: Secret) -> None:
        if owner.user in self.stubborn:
            raise StepFailed(FileRefused(owner.user, "a directory stands at its name"))
        super().replace(owner, password)


@pytest.fixture
def world(tmp_path: Path) -> AccountsWorld:
    made = AccountsWorld(tmp_path)
    made.files = StubbornFiles(made.clock, made.files.homes)
    made.add(AccountKind.USER, "bob", 2171)
    return made


def rows(daemon: DbCycle) -> dict[DbUser, AccountRow]:
    return dict(daemon.observer.ledger.read().accounts)


def password(world: AccountsWorld, user: DbUser = WIKIBUGS) -> str:
    return world.files.passwords[user].reveal()


def works(world: AccountsWorld, text: str, user: DbUser = WIKIBUGS) -> list[bool]:
    return [server.works(user, text) for server in world.replicas.values()]


def files(world: AccountsWorld) -> StubbornFiles:
    assert isinstance(world.files, StubbornFiles)
    return world.files


def lose_the_home(world: AccountsWorld, user: DbUser) -> None:
    """It is archived; the directory has its owner still."""
    world.files.homes.discard(user)
    world.files.files.pop(user)


# --- whose turn it is ------------------------------------------------------------------------------------------------


CANNOT: dict[str, tuple[AccountRow, FileFact | None]] = {
    "suspended": (row("s1001", password_at=OLD, suspended_at=OLD), trusted()),
    "nobody's": (row("s1001", password_at=OLD, name="?s1001", missing_since=OLD), FileFact(FileState.ABSENT)),
    "homeless": (row("s1001", password_at=OLD), FileFact(FileState.NO_HOME)),
    "not looked at": (row("s1001", password_at=OLD), None),
    "in a rotation": (row("s1001", password_at=OLD, state=AccountState.OVERLAP, until=ago(-HOUR)), trusted()),
}


@pytest.mark.parametrize("requests", [(), (Request(RequestVerb.ROTATE, None, "a test", ago(60)),)], ids=["due", "all"])
@pytest.mark.parametrize("why", CANNOT)
def test_who_cannot_rotate_takes_nobody_s_turn(why: str, requests: tuple[Request, ...]) -> None:
    first, file = CANNOT[why]
    given = facts(
        [entry("s1001", locked=first.suspended), entry("s1002")] if first.name_known else [entry("s1002")],
        [first, row("s1002", password_at=OLD)],
        files={"s1001": NOBODY if file is None else file},
        requests=requests,
        settings=ONE_AT_A_TIME,
    )
    assert "s1002 begin a rotation" in acts(plan(given))
    assert "s1001 begin a rotation" not in acts(plan(given))


def test_a_password_from_before_labstore_is_due() -> None:
    given = facts([entry("s1001")], [row("s1001", password_at=None)], settings=ONE_AT_A_TIME)
    assert "s1001 begin a rotation" in acts(plan(given))
    assert acts(plan(replace(given, settings=SETTINGS))) == [], "where a schedule is set"


def test_only_so_many_begin_in_a_cycle() -> None:
    users = ["s1001", "s1002", "s1003"]
    given = facts(
        [entry(user) for user in users], [row(user, password_at=OLD) for user in users], settings=ONE_AT_A_TIME
    )
    assert [key for key in acts(plan(given)) if "begin" in key] == ["s1001 begin a rotation"]


# --- now, and not for ever -------------------------------------------------------------------------------------------


def test_all_are_rotated_although_one_has_no_home(world: AccountsWorld, daemon: DbCycle) -> None:
    lose_the_home(world, BOB)
    leaked = password(world)
    world.run("dbusers", "rotate", "--all", "--now", "--yes")
    daemon.run()
    ledger = daemon.observer.ledger
    assert works(world, leaked) == [False, False] and ledger.read().requests == ()
    (event,) = (each for each in ledger.events(None, 20) if each.what == "rotate finished")
    assert event.detail["result"] == "all rotated but 1 without a home, whose password is as it was"


def test_an_ordinary_rotation_keeps_its_overlap_while_not_all_have_rotated_at_once(
    world: AccountsWorld, daemon: DbCycle
) -> None:
    files(world).stubborn.add(BOB)
    world.run("dbusers", "rotate", "--all", "--now", "--yes")
    daemon.run()
    world.clock.advance(DAY)
    before = password(world)
    world.run("dbusers", "rotate", "wikibugs", "--yes")
    daemon.run()
    assert len(daemon.observer.ledger.read().requests) == 1, "bob's is still owed"
    assert before != password(world)
    assert works(world, before) == works(world, password(world)) == [True, True]


def test_what_began_as_a_rotation_at_once_ends_as_one(world: AccountsWorld, daemon: DbCycle) -> None:
    """Whatever held it up: the process is another one by then."""
    leaked = password(world, BOB)
    files(world).stubborn.add(BOB)
    world.run("dbusers", "rotate", "--all", "--now", "--yes")
    daemon.run()
    assert rows(daemon)[BOB].state is AccountState.ROTATING
    files(world).stubborn.clear()
    world.clock.advance(DAY)
    daemon = world.room().cycle()
    daemon.run()
    assert rows(daemon)[BOB].state is AccountState.LIVE
    assert works(world, leaked, BOB) == [False, False]
    assert works(world, password(world, BOB), BOB) == [True, True]


def test_no_moment_is_told_for_an_old_password_that_ends_at_once(world: AccountsWorld, daemon: DbCycle) -> None:
    files(world).stubborn.add(BOB)
    world.run("dbusers", "rotate", "bob", "--now", "--yes")
    daemon.run()
    assert rows(daemon)[BOB].state is AccountState.ROTATING
    shown = world.run("dbusers", "show", "bob").stdout
    assert "the old password is good as well" not in shown
    assert "when the rotation that is under way is over" not in world.run("dbusers", "rotate", "bob", "--yes").stdout


def test_a_rotation_for_all_at_once_ends_windows_that_are_open(world: AccountsWorld, daemon: DbCycle) -> None:
    world.run("dbusers", "rotate", "wikibugs", "--yes")
    first = password(world)
    daemon.run()
    leaked = password(world)
    world.clock.advance(60)
    world.run("dbusers", "rotate", "--all", "--now", "--yes")
    daemon.run()
    assert works(world, first) == works(world, leaked) == [False, False]
    assert works(world, password(world)) == [True, True]
    assert {each.state for each in rows(daemon).values()} == {AccountState.LIVE}
