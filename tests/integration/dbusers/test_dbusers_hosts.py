"""A server that is dead, frozen or read-only costs the others nothing, and gets what it lacks when it is back."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import pytest

from labstore.model.accounts import AccountKind, DbUser
from labstore.model.database import HostKey
from labstore.model.dbusers_settings import Pacing
from labstore.model.ledger import RequestVerb
from labstore.reconcile.record import Record, State
from labstore.reports.dbusers import HostLost, HostReadOnly, HostSlow
from tests.support.dbusers import Hooks, Site
from tests.support.hang import HANGS
from tests.support.mariadb import LOGIN, PROCEDURES, MariaServer

pytestmark = pytest.mark.root
SHORT = Pacing(patience=2.5, work_patience=6.0, back_off=1.0)


@dataclass
class Fault:
    """What happens to a server, how it ends, and what is said of it."""

    begin: Callable[[MariaServer], None]
    end: Callable[[MariaServer], None]
    said: tuple[type[HostLost], ...]


def _read_only(server: MariaServer) -> None:
    server.run(f"REVOKE READ_ONLY ADMIN ON *.* FROM '{PROCEDURES}_definer'@'localhost'", "SET GLOBAL read_only = 1")
    server.run(f"KILL USER '{LOGIN}'")


def _writable(server: MariaServer) -> None:
    server.run("SET GLOBAL read_only = 0", f"GRANT READ_ONLY ADMIN ON *.* TO '{PROCEDURES}_definer'@'localhost'")


FAULTS = {
    "dead": Fault(MariaServer.kill, MariaServer.start, (HostLost,)),
    "frozen": Fault(MariaServer.freeze, MariaServer.thaw, (HostSlow, HostLost)),
    "read-only": Fault(_read_only, _writable, (HostReadOnly,)),
}


@pytest.fixture
def quick(small: Site) -> Iterator[Site]:
    """Deadlines that are over soon: what is waited for here never comes."""
    hosts = tuple(replace(host, connect_deadline=1.5, deadline=1.5) for host in small.settings.hosts)
    small.change(hosts=hosts, pacing=SHORT)
    yield small
    for server in small.servers:
        server.thaw()


def debts(site: Site) -> dict[HostKey, set[str]]:
    ledger = site.ledger()
    try:
        return {key: set(owed) for key, owed in ledger.read().debts.items() if owed}
    finally:
        ledger.close()


def back(site: Site) -> Record:
    """The daemon goes on when the server is there again; back-off is over."""
    site.clock.advance(5)
    ends = time.monotonic() + HANGS
    while (record := site.run()).state is not State.CONVERGED:
        assert time.monotonic() < ends, record.reports
        time.sleep(0.2)  # a thread that the fault held up takes time to come back, whatever the clock says
        site.clock.advance(5)
    return record


@pytest.mark.parametrize("what", FAULTS)
def test_newcomers_are_served_by_the_others(quick: Site, what: str) -> None:
    """upstream #47, #48: the original skipped, stopped, or waited for ever."""
    quick.add_tool("before", 50001)
    assert quick.run().state is State.CONVERGED
    fault, bad = FAULTS[what], quick.servers[1]
    fault.begin(bad)
    quick.add_tool("meanwhile", 50002)
    try:
        record = quick.run()
        user, password = quick.homes.credentials(AccountKind.TOOL, "meanwhile")
        assert [server.works(user, password) for server in quick.servers if server is not bad] == [True, True]
        assert record.state in (State.HOLDING, State.FAILED)
        assert any(isinstance(report, fault.said) for report in record.reports), record.reports
        assert all(str(bad.key) in report.message() for report in record.reports if isinstance(report, HostLost))
        assert debts(quick) == {bad.key: {"s50002"}}
        shown = record.facts["hosts"]
        assert [shown[str(server.key)]["absent"] for server in quick.servers] == [0, 1, 0]
        assert record.facts["oldest_unconverged"] >= 0 and record.facts["unconverged"] == 1
        if what != "read-only":
            assert shown[str(bad.key)]["answers"] is False and shown[str(bad.key)]["last_seen"]
        quick.run(2)
    finally:
        fault.end(bad)
    assert back(quick).facts["unconverged"] == 0
    assert quick.works("meanwhile") == quick.works("before") == [True] * 3
    assert debts(quick) == {}


def test_a_login_that_is_refused_between_look_and_work_costs_one_server(small: Site) -> None:
    """Somebody gave labstore's login on that server another password at that moment."""
    small.add_tool("before", 50001)
    small.run()
    small.add_tool("meanwhile", 50002)
    bad, secret = small.servers[0], small.settings.hosts[0].password.reveal()
    login = f"'{LOGIN}'@'127.0.0.1'"
    done: list[str] = []

    def change(sql: str) -> None:
        if sql.startswith("INSERT INTO account ") and not done:
            done.append(sql)
            bad.run(f"ALTER USER {login} IDENTIFIED BY 'another'", f"KILL USER {login}")

    try:
        record = small.cycle(hooks=Hooks(ledger=change)).run()
        assert done and "Access denied" in str([report.message() for report in record.reports])
        assert [{"s50002"} <= server.names() for server in small.servers] == [False, True, True]
        assert debts(small) == {bad.key: {"s50002"}}
    finally:
        bad.run(f"ALTER USER {login} IDENTIFIED BY '{secret}'")
    back(small)
    assert small.works("meanwhile") == [True] * 3


@pytest.mark.parametrize("what", FAULTS)
def test_a_removal_is_carried_out_there_when_it_is_back(quick: Site, what: str) -> None:
    """Suspended everywhere else at once; the row stays until the last server has dropped the account."""
    quick.add_tool("gone", 50001)
    quick.add_tool("other", 50002)
    quick.run()
    _, password = quick.homes.credentials(AccountKind.TOOL, "gone")
    fault, bad = FAULTS[what], quick.servers[2]
    fault.begin(bad)
    try:
        quick.ask(RequestVerb.REMOVE, "s50001", now=True)
        quick.run(2)
        assert [server.works("s50001", password) for server in quick.servers[:2]] == [False, False]
        ledger = quick.ledger()
        assert DbUser("s50001") in ledger.read().accounts
        ledger.close()
    finally:
        fault.end(bad)
    back(quick)
    assert ["s50001" in server.names() for server in quick.servers] == [False] * 3
    assert not quick.homes.file(AccountKind.TOOL, "gone").exists()


def test_two_bad_ones_at_once_leave_the_third_at_work(quick: Site) -> None:
    quick.run()
    dead, frozen, good = quick.servers
    dead.kill()
    frozen.freeze()
    try:
        quick.add_tool("newcomer", 50003)
        record = quick.run()
        user, password = quick.homes.credentials(AccountKind.TOOL, "newcomer")
        assert good.works(user, password)
        assert debts(quick) == {dead.key: {"s50003"}, frozen.key: {"s50003"}}
        assert record.state is State.HOLDING
    finally:
        frozen.thaw()
        dead.start()
    back(quick)
    assert quick.works("newcomer") == [True] * 3


def test_a_server_that_freezes_in_the_middle_of_its_work_stops_nobody_else(quick: Site) -> None:
    """It is waited for so long and no longer, and looked at again when it answers."""
    quick.run()
    bad = quick.servers[0]

    def freeze(key: HostKey, sql: str) -> None:
        if key == bad.key and "create_accounts" in sql:
            bad.freeze()

    for number in range(10):
        quick.add_tool(f"t{number}", 50010 + number)
    cycle = quick.cycle(hooks=Hooks(server=freeze))
    try:
        record = cycle.run()
        assert debts(quick) == {bad.key: {f"s{50010 + number}" for number in range(10)}}
        assert {str(step["host"]) for step in record.steps if step["host"]} == {str(s.key) for s in quick.servers}
        for number in range(10):
            user, password = quick.homes.credentials(AccountKind.TOOL, f"t{number}")
            assert [server.works(user, password) for server in quick.servers[1:]] == [True, True]
    finally:
        bad.thaw()
    back(quick)
    assert all(quick.works(f"t{number}") == [True] * 3 for number in range(10))


def test_a_new_server_is_one_line_of_configuration(small: Site) -> None:
    """upstream #53: it took hand work in the ledger."""
    hosts = small.settings.hosts
    small.change(hosts=hosts[:2])
    for number in range(5):
        small.add_tool(f"t{number}", 50010 + number)
    assert small.run().state is State.CONVERGED
    small.change(hosts=hosts)
    assert small.cycle().run().state is State.CONVERGED
    assert all(small.works(f"t{number}") == [True] * 3 for number in range(5))
