"""A directory that lies takes nothing away; a real removal does, step by step, and can be undone."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pymysql
import pytest

from labstore.model.accounts import AccountKind, DbUser
from labstore.model.database import HostKey
from labstore.model.dbusers_settings import DAY, HOUR, RemovalSettings
from labstore.model.ledger import AccountState, Event
from labstore.ports.replica_server import HostView
from labstore.reconcile.facts import Fact
from labstore.reconcile.record import Record, State
from labstore.reports.report import Report, Severity
from tests.support import mariadb, slapd
from tests.support.dbusers import Site, site
from tests.support.mariadb import MariaServer
from tests.support.slapd import TOOLS, Slapd

pytestmark = pytest.mark.root
NUMBERS = range(60001, 60015)
NAMES = [f"t{number}" for number in NUMBERS]


@dataclass
class World:
    site: Site
    directories: list[Slapd]
    sessions: list[Any] = field(default_factory=list)

    def log_in(self, name: str) -> None:
        user, password = self.site.homes.credentials(AccountKind.TOOL, name)
        for server in self.site.servers:
            self.sessions.append(
                pymysql.connect(host="127.0.0.1", port=server.port, user=user, password=password, read_timeout=20)
            )

    def alive(self) -> list[bool]:
        return [_pings(session) for session in self.sessions]

    def remove(self, name: str) -> None:
        for directory in self.directories:
            directory.remove(f"uid=tools.{name},{TOOLS}")

    def snapshot(self) -> Any:
        """All that tools can tell apart: files, and what every server has of every account."""
        views = [server.observe() for server in self.site.cycle().observer.crew.servers]
        found = [dict(view.value.accounts) for view in views if isinstance(view, Fact)]
        assert len(found) == len(self.site.servers)
        return [self.site.homes.file(AccountKind.TOOL, name).read_bytes() for name in NAMES], found

    def row(self, user: str) -> Any:
        ledger = self.site.ledger()
        try:
            return ledger.read().accounts.get(DbUser(user))
        finally:
            ledger.close()

    def done(self) -> list[Event]:
        ledger = self.site.ledger()
        try:
            return list(ledger.events(limit=1000))
        finally:
            ledger.close()


def _pings(session: Any) -> bool:
    try:
        session.ping(reconnect=False)
    except (pymysql.MySQLError, OSError):
        return False
    return True


@pytest.fixture
def world(servers: list[MariaServer]) -> Iterator[World]:
    ldif = [slapd.tool(f"t{number}", number) for number in NUMBERS]
    with slapd.running(2, ldif=[*ldif, slapd.group(["nobody"])]) as directories, mariadb.scratch("site") as root:
        first, second = directories
        settings = first.settings(second, connect_deadline=1.5, deadline=3.0, page=4)
        made = site(root, servers, directory=settings, kinds=frozenset({AccountKind.TOOL}))
        for number in NUMBERS:
            made.homes.make(AccountKind.TOOL, f"t{number}", number)
        world = World(made, directories)
        assert made.run().state is State.CONVERGED
        yield world
        for session in world.sessions:
            with contextlib.suppress(pymysql.MySQLError):
                session.close()
        made.end()


# --- lies ------------------------------------------------------------------------------------------------------------


def _cut_short(directories: list[Slapd]) -> None:
    """A limit over all pages together, as it is set on servers that are asked too much."""
    for directory in directories:
        directory.prtotal, directory.sizelimit = "5", 5
        _restart(directory)


def _empty(directories: list[Slapd]) -> None:
    """As after a restore of nothing: the base is there, and no entry below it."""
    for directory in directories:
        directory.modify(*(f"dn: uid=tools.{name},{TOOLS}\nchangetype: delete\n" for name in NAMES))


def _half_empty(directories: list[Slapd]) -> None:
    for directory in directories:
        directory.modify(*(f"dn: uid=tools.{name},{TOOLS}\nchangetype: delete\n" for name in NAMES[:7]))


def _slow(directories: list[Slapd]) -> None:
    for directory in directories:
        directory.freeze()


def _down(directories: list[Slapd]) -> None:
    for directory in directories:
        directory.stop()


def _one_behind(directories: list[Slapd]) -> None:
    """One of the two has lost its replication and with it the newest entries."""
    directories[1].modify(*(f"dn: uid=tools.{name},{TOOLS}\nchangetype: delete\n" for name in NAMES[-3:]))


def _one_down(directories: list[Slapd]) -> None:
    directories[0].stop()


def _no_rights(directories: list[Slapd]) -> None:
    """The reader may log in and sees nothing, as after a careless change of rules."""
    for directory in directories:
        conf = directory.directory / "slapd.conf"
        text = conf.read_text()
        directory.stop()
        conf.write_text(text.replace(f'by dn.exact="{slapd.READER}" read', f'by dn.exact="{slapd.READER}" auth'))
        directory.start()


def _restart(directory: Slapd) -> None:
    directory.stop()
    directory.configure()
    directory.start()


LIES: dict[str, Callable[[list[Slapd]], None]] = {
    "cut short": _cut_short,
    "empty": _empty,
    "half empty": _half_empty,
    "slow": _slow,
    "down": _down,
    "one behind": _one_behind,
    "one down": _one_down,
    "no rights": _no_rights,
}


@pytest.mark.parametrize("lie", LIES)
def test_nothing_is_removed_and_one_state_is_loud(world: World, lie: str) -> None:
    """upstream #46: names that were not listed were dropped at once."""
    before, events = world.snapshot(), len(world.done())
    LIES[lie](world.directories)
    try:
        records = []
        for hours in (0, 1.5, 24, 24 * 60):
            world.site.clock.advance(hours * HOUR)
            records.append(world.site.run())
        assert world.snapshot() == before
        assert not [event for event in world.done()[: len(world.done()) - events] if event.account]
        loud = [_loud(record) for record in records]
        assert all(len(reports) == 1 for reports in loud), loud
        assert {type(reports[0]) for reports in loud} == {type(loud[0][0])}, "it says the same every time"
        assert not [record for record in records if record.steps]
    finally:
        for directory in world.directories:
            directory.thaw() if directory._process and directory._process.poll() is None else None


def _loud(record: Record) -> list[Report]:
    assert record.state in (State.HOLDING, State.CONVERGED)
    found = [report for report in record.reports if report.severity in (Severity.WARNING, Severity.ERROR)]
    assert record.state is State.HOLDING or found
    return found


def test_newcomers_are_served_while_one_directory_server_is_down(world: World) -> None:
    world.directories[0].stop()
    world.directories[1].add(slapd.tool("newcomer", 60100))
    world.site.homes.make(AccountKind.TOOL, "newcomer", 60100)
    world.site.run()
    assert world.site.works("newcomer") == [True] * 3


# --- a real removal --------------------------------------------------------------------------------------------------


def shut_out(world: World, password: str, name: str, user: str) -> None:
    """Suspended: refused, sessions ended; file, account and grants are kept."""
    assert [server.works(user, password) for server in world.site.servers] == [False] * 3
    assert world.alive() == [False] * 3
    assert world.site.homes.credentials(AccountKind.TOOL, name) == (user, password)
    assert world.site.homes.protected(AccountKind.TOOL, name)
    for view in _views(world).values():
        found = view.accounts[DbUser(user)]
        assert found.locked and found.roles == {"labsdbuser"}


def _views(world: World) -> dict[HostKey, HostView]:
    answers = {server.key: server.observe() for server in world.site.cycle().observer.crew.servers}
    return {key: answer.value for key, answer in answers.items() if isinstance(answer, Fact)}


def test_what_the_directory_disables_is_suspended_at_once_and_comes_back_with_its_password(world: World) -> None:
    world.log_in("t60001")
    _, password = world.site.homes.credentials(AccountKind.TOOL, "t60001")
    dn = f"uid=tools.t60001,{TOOLS}"
    for directory in world.directories:
        directory.lock(dn)
    assert world.site.run().state is State.CONVERGED
    shut_out(world, password, "t60001", "s60001")
    world.site.clock.advance(100 * DAY)
    world.site.run()
    assert world.row("s60001").state is AccountState.LIVE, "disabled is not removed, however long"
    for directory in world.directories:
        directory.unlock(dn)
    assert world.site.run().state is State.CONVERGED
    assert world.site.works("t60001") == [True] * 3
    assert world.site.homes.credentials(AccountKind.TOOL, "t60001") == ("s60001", password)


def test_who_is_gone_is_suspended_kept_for_the_waiting_time_and_restored_by_return(world: World) -> None:
    world.log_in("t60002")
    _, password = world.site.homes.credentials(AccountKind.TOOL, "t60002")
    world.remove("t60002")
    world.site.run()
    assert world.site.works("t60002") == [True] * 3, "one listing is no proof"
    world.site.clock.advance(HOUR + 1)
    assert world.site.run().state is State.CONVERGED
    shut_out(world, password, "t60002", "s60002")
    world.site.clock.advance(39 * DAY)
    world.site.run()
    shut_out(world, password, "t60002", "s60002")
    for directory in world.directories:
        directory.stop()
        directory.load(slapd.tool("t60002", 60002))
        directory.start()
    assert world.site.run().state is State.CONVERGED
    assert world.site.works("t60002") == [True] * 3
    assert world.site.homes.credentials(AccountKind.TOOL, "t60002") == ("s60002", password)


def test_after_the_waiting_time_it_is_dropped_and_its_databases_are_not(world: World) -> None:
    server = world.site.servers[0]
    server.run("CREATE OR REPLACE DATABASE s60003__kept", "CREATE TABLE s60003__kept.t AS SELECT 1 AS one")
    try:
        world.remove("t60003")
        world.site.run()
        world.site.clock.advance(HOUR + 1)
        world.site.run()
        world.site.clock.advance(41 * DAY)
        assert world.site.run().state is State.CONVERGED
        assert ["s60003" in each.names() for each in world.site.servers] == [False] * 3
        assert not world.site.homes.file(AccountKind.TOOL, "t60003").exists() and world.row("s60003") is None
        assert server.run("SELECT one FROM s60003__kept.t") == [(1,)]
    finally:
        server.run("DROP DATABASE s60003__kept")


def test_many_who_are_really_gone_wait_for_a_person(world: World) -> None:
    """The brake: six of fourteen at once are a broken directory until somebody says otherwise."""
    for name in NAMES[:6]:
        world.remove(name)
    world.site.change(removal=RemovalSettings(shrink=0.5))
    world.site.cycle().run()
    world.site.clock.advance(HOUR + 1)
    record = world.site.run()
    assert record.state is State.REFUSED
    assert [world.site.works(name) for name in NAMES[:6]] == [[True] * 3] * 6
    assert [type(report).__name__ for report in record.reports] == ["MassSuspension"]
