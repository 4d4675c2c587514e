"""The ledger comes back from an older backup, or not at all: what a trusted file says is what everything follows."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from labstore.model.accounts import AccountKind, DbUser
from labstore.model.dbusers_settings import DAY, HOUR
from labstore.model.ledger import AccountState, Cause, LedgerView, RequestVerb
from labstore.reconcile.record import State
from labstore.reports.dbusers import LedgerLost
from labstore.reports.report import Override
from tests.support import mariadb
from tests.support.dbusers import Site, credentials, site
from tests.support.killing import Marks
from tests.support.mariadb import MariaServer

pytestmark = pytest.mark.root
OLD_DATABASE, BACKUP = "labsdbaccounts", "labsdbaccounts_backup"
TABLES = (
    *("account", "account_host", "tombstone", "event", "limit_policy", "request", "listing", "leader"),
    "labstore_schema",
)


@dataclass
class World:
    """`save` and `load` are what an operator does with backups of this kind of ledger, `lose` what a disk does."""

    site: Site
    save: Callable[[], None]
    load: Callable[[], None]
    lose: Callable[[], None]

    def view(self) -> LedgerView:
        ledger = self.site.ledger()
        try:
            return ledger.read()
        finally:
            ledger.close()

    def passwords(self, *names: str) -> list[str]:
        return [self.site.homes.credentials(AccountKind.TOOL, name)[1] for name in names]

    def work(self, *names: str) -> bool:
        return all(self.site.works(name) == [True] * 3 for name in names)


@pytest.fixture(params=["sqlite", "mariadb"])
def world(request: pytest.FixtureRequest, servers: list[MariaServer]) -> Iterator[World]:
    with mariadb.scratch("site") as root:
        if request.param == "sqlite":
            made = site(root, servers)
            live, saved = root / "ledger.db", root / "saved.db"

            def save() -> None:
                made.close()
                shutil.copy(live, saved)

            def lose() -> None:
                made.close()
                for path in root.glob("ledger.db*"):
                    path.unlink()

            def load() -> None:
                lose()
                shutil.copy(saved, live)

        else:
            server = servers[0]
            made = site(root, servers, server.ledger(OLD_DATABASE))

            def save() -> None:
                made.close()
                _copy(server, OLD_DATABASE, BACKUP)

            def load() -> None:
                made.close()
                _copy(server, BACKUP, OLD_DATABASE)

            def lose() -> None:
                made.close()
                server.ledger(OLD_DATABASE)

        yield World(made, save, load, lose)
        made.end()


def _copy(server: MariaServer, source: str, target: str) -> None:
    server.run(
        f"CREATE OR REPLACE DATABASE {target} CHARACTER SET utf8mb4",
        *(
            sql
            for table in TABLES
            for sql in (
                f"CREATE TABLE {target}.{table} LIKE {source}.{table}",
                f"INSERT INTO {target}.{table} SELECT * FROM {source}.{table}",
            )
        ),
    )


def settled(made: Site) -> Any:
    for _ in range(3):
        record = made.run()
    assert record.state is State.CONVERGED and not record.steps, (record.reports, record.steps)
    return record


def test_an_older_backup_loses_nothing_that_anybody_could_read(world: World) -> None:
    made = world.site
    for number, name in enumerate(("quiet", "rotated", "again", "gone")):
        made.add_tool(name, 50001 + number)
    settled(made)
    world.save()
    made.ask(RequestVerb.ROTATE, "s50002")
    made.ask(RequestVerb.ROTATE, "s50003")
    settled(made)
    made.clock.advance(DAY + 1)
    settled(made)
    made.ask(RequestVerb.ROTATE, "s50003")
    settled(made)
    made.add_tool("later", 50009)
    made.ask(RequestVerb.REMOVE, "s50004", now=True)
    del made.tools["gone"]
    made.write_people()
    settled(made)
    names = ("quiet", "rotated", "again", "later")
    before = world.passwords(*names)
    world.load()
    settled(made)
    assert world.passwords(*names) == before and world.work(*names)
    view = world.view()
    assert {view.accounts[DbUser(user)].state for user in ("s50001", "s50002", "s50003", "s50009")} == {
        AccountState.LIVE
    }
    assert view.accounts[DbUser("s50002")].generation > 1


def test_a_backup_from_the_middle_of_a_rotation(world: World) -> None:
    made = world.site
    made.add_tool("rotated", 50001)
    settled(made)
    first = world.passwords("rotated")[0]
    made.ask(RequestVerb.ROTATE, "s50001")
    settled(made)
    world.save()
    made.clock.advance(DAY + 1)
    settled(made)
    last = world.passwords("rotated")[0]
    world.load()
    settled(made)
    assert world.passwords("rotated") == [last] and world.work("rotated")
    assert not any(server.works("s50001", first) for server in made.servers)


def test_a_lost_ledger_is_gathered_from_files_and_servers_without_a_change(world: World) -> None:
    """Also by hundreds: nobody gets a new password, nothing is said to any server."""
    made = world.site
    names = [f"t{number}" for number in range(30)]
    for number, name in enumerate(names):
        made.add_tool(name, 50100 + number)
    settled(made)
    before = world.passwords(*names)
    world.lose()
    marks = Marks()
    record = made.cycle(hooks=marks.hooks).run()
    assert record.state is State.CONVERGED, record.reports
    assert world.passwords(*names) == before and world.work(*names)
    assert {word for word, _ in marks.passed} == {"ledger commit"}
    assert {row.state for row in world.view().accounts.values()} == {AccountState.LIVE}


def test_with_the_files_lost_too_a_person_decides(world: World) -> None:
    """What servers know and nobody can prove: many of them are not given new passwords by themselves."""
    made = world.site
    names = [f"t{number}" for number in range(30)]
    for number, name in enumerate(names):
        made.add_tool(name, 50100 + number)
    settled(made)
    before = dict(zip(names, world.passwords(*names), strict=True))
    world.lose()
    made.homes.clear()
    made.homes.__post_init__()
    for number, name in enumerate(names):
        made.homes.make(AccountKind.TOOL, name, 50100 + number)
    record = made.cycle().run()
    assert record.state is State.REFUSED and any(isinstance(report, LedgerLost) for report in record.reports)
    assert all(server.works(f"s{50100 + n}", before[name]) for n, name in enumerate(names) for server in made.servers)
    assert made.last is not None
    made.last.run(frozenset({Override.ALLOW_MASS_REMOVAL}))
    assert world.work(*names) and not set(world.passwords(*names)) & set(before.values())


def test_accounts_that_only_servers_know_are_kept_and_then_suspended(world: World) -> None:
    """upstream's known issue: nobody knows whose they are; they are shown, and go like everybody who is missing."""
    made = world.site
    made.add_tool("known", 50001)
    for server in made.servers:
        server.run("CREATE USER 's50777'@'%' IDENTIFIED BY 'somebodyhasthis1'")
    settled(made)
    row = world.view().accounts[DbUser("s50777")]
    assert not row.name_known and row.missing_since is not None
    assert all(server.works("s50777", "somebodyhasthis1") for server in made.servers)
    made.clock.advance(HOUR + 1)
    settled(made)
    assert world.view().accounts[DbUser("s50777")].cause is Cause.MISSING
    assert not any(server.works("s50777", "somebodyhasthis1") for server in made.servers)
    made.clock.advance(41 * DAY)
    settled(made)
    assert not any("s50777" in server.names() for server in made.servers)


def test_a_person_who_turns_up_again_with_a_file_keeps_the_password(world: World) -> None:
    """The account was found before its owner was: then the file is what counts."""
    made = world.site
    made.add_tool("known", 50001)
    for server in made.servers:
        server.run("CREATE USER 's50777'@'%' IDENTIFIED BY 'somebodyhasthis1'")
    settled(made)
    made.add_tool("found", 50777)
    made.homes.put(AccountKind.TOOL, "found", 50777, credentials("s50777", "somebodyhasthis1"))
    settled(made)
    assert world.passwords("found") == ["somebodyhasthis1"] and world.work("found")
