"""Limits hold against accounts that try to escape them, and a change of policy reaches every server."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from datetime import timedelta
from typing import Any

import pymysql
import pytest

from labstore.dbusers import assemble
from labstore.dbusers.governor import Governor
from labstore.model.accounts import AccountKind, DbUser, Limits, PartialLimits
from labstore.model.database import GrantType, HostGroupName
from labstore.model.dbusers_settings import GovernorSettings, LimitRule, LimitSettings, ReplicaSettings, Surplus
from labstore.reconcile.record import State
from labstore.reports.dbusers import SessionsEnded, StatementsEnded
from tests.support.dbusers import Site
from tests.support.hang import HANGS
from tests.support.mariadb import MariaServer

pytestmark = pytest.mark.root
TOOL, ACCOUNT = "greedy", "s50001"
FOREVER = 3600
"""Seconds for which a greedy statement would go on."""
ENDED = (1317, 1927, 1969, 2013, 2006)
"""What a client is told of a statement or a session that was ended."""


@dataclass
class Greedy:
    """A tool that wants more than it may have."""

    site: Site
    sessions: list[Any] = field(default_factory=list)

    def log_in(self, server: MariaServer) -> Any:
        user, password = self.site.homes.credentials(AccountKind.TOOL, TOOL)
        session = pymysql.connect(
            host="127.0.0.1", port=server.port, user=user, password=password, read_timeout=2 * HANGS, autocommit=True
        )
        self.sessions.append(session)
        return session

    def refused(self, server: MariaServer) -> int:
        try:
            self.log_in(server)
        except pymysql.MySQLError as error:
            return int(error.args[0])
        return 0


@pytest.fixture
def greedy(small: Site) -> Iterator[Greedy]:
    small.change(limits=LimitSettings(role=Limits(3, 1)), governor=GovernorSettings(interval=0.1, grace=0.2))
    small.add_tool(TOOL, 50001)
    assert small.run().state is State.CONVERGED
    made = Greedy(small)
    yield made
    for session in made.sessions:
        with contextlib.suppress(pymysql.MySQLError):
            session.close()


@contextlib.contextmanager
def governed(site: Site) -> Iterator[Governor]:
    assert site.last is not None
    governor = assemble.governor(site.last)
    site.last.run()
    governor.start()
    try:
        yield governor
    finally:
        governor.stop()


# --- escapes ---------------------------------------------------------------------------------------------------------

FREE = "SET SESSION max_statement_time = 0"
MANY_ROWS = "SELECT COUNT(*) FROM " + ", ".join(f"information_schema.COLLATIONS c{number}" for number in range(9))


def _unset(session: Any) -> None:
    _each(session, FREE, f"SELECT SLEEP({FOREVER})")


def _unset_for_one(session: Any) -> None:
    _each(session, f"SET STATEMENT max_statement_time = 0 FOR SELECT SLEEP({FOREVER})")


def _prepared(session: Any) -> None:
    _each(session, FREE, f"PREPARE p FROM 'SELECT SLEEP({FOREVER})'", "EXECUTE p")


def _immediate(session: Any) -> None:
    _each(session, FREE, f"EXECUTE IMMEDIATE 'DO SLEEP({FOREVER})'")


def _compound(session: Any) -> None:
    _each(session, FREE, f"BEGIN NOT ATOMIC DECLARE x INT; SELECT SLEEP({FOREVER}) INTO x; END")


def _short_parts(session: Any) -> None:
    """A block of statements each of which is over before anybody could end it."""
    _each(session, FREE, "BEGIN NOT ATOMIC DECLARE x INT DEFAULT 0; WHILE x >= 0 DO SET x = 1; END WHILE; END")


def _busy(session: Any) -> None:
    """Works instead of sleeping."""
    _each(session, FREE, f"SELECT BENCHMARK({FOREVER} * 100000000, MD5('a'))")


def _many_rows(session: Any) -> None:
    _each(session, FREE, MANY_ROWS)


def _asleep_in_a_lock(session: Any) -> None:
    _each(session, FREE, "SELECT GET_LOCK('a', 1)", f"SELECT SLEEP({FOREVER}), RELEASE_LOCK('a')")


def _each(session: Any, *statements: str) -> None:
    with session.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)


ESCAPES: dict[str, Callable[[Any], None]] = {
    "unsets its limit": _unset,
    "unsets it for one statement": _unset_for_one,
    "prepared": _prepared,
    "immediate": _immediate,
    "compound": _compound,
    "short parts": _short_parts,
    "busy": _busy,
    "many rows": _many_rows,
    "after a lock": _asleep_in_a_lock,
}


def test_the_server_ends_what_does_not_escape(greedy: Greedy) -> None:
    with pytest.raises(pymysql.MySQLError) as ended:
        _each(greedy.log_in(greedy.site.servers[0]), MANY_ROWS)
    assert ended.value.args[0] == 1969


def test_every_escape_is_ended(greedy: Greedy) -> None:
    """upstream never enforced statement time; what an account is given is only where its sessions start."""
    server = greedy.site.servers[0]
    with governed(greedy.site) as governor:
        for name, escape in ESCAPES.items():
            session = greedy.log_in(server)
            began = time.monotonic()
            try:
                escape(session)
            except pymysql.MySQLError as error:
                assert error.args[0] in ENDED, (name, error)
            assert time.monotonic() - began < HANGS, f"{name} was not ended"
            with contextlib.suppress(pymysql.MySQLError):
                session.close()
        ended = governor.ended()
    assert StatementsEnded in {type(report) for report in ended}
    assert {report.account for report in ended} == {ACCOUNT}


def test_an_event_of_the_scheduler_is_ended_too(greedy: Greedy) -> None:
    """It has no client, and runs as its account."""
    server = greedy.site.servers[0]
    server.run(
        "SET GLOBAL event_scheduler = ON",
        f"CREATE OR REPLACE DATABASE {ACCOUNT}__x",
        f"GRANT ALL ON {ACCOUNT}__x.* TO '{ACCOUNT}'@'%'",
    )
    try:
        with governed(greedy.site) as governor:
            body = f"BEGIN {FREE}; DO SLEEP({FOREVER}); END"
            _each(greedy.log_in(server), f"CREATE EVENT {ACCOUNT}__x.e ON SCHEDULE AT NOW() DO {body}")
            _until(lambda: bool(governor.ended()))
    finally:
        server.run("SET GLOBAL event_scheduler = OFF", f"DROP DATABASE {ACCOUNT}__x")


def test_who_keeps_within_its_time_is_left_alone(greedy: Greedy) -> None:
    greedy.site.change(limits=LimitSettings(role=Limits(3, 3)))
    greedy.site.cycle().run()
    session = greedy.log_in(greedy.site.servers[0])
    with governed(greedy.site) as governor:
        with session.cursor() as cursor:
            for _ in range(20):
                cursor.execute("SELECT SLEEP(0.05), 7")
                assert cursor.fetchall() == ((0, 7),)
        time.sleep(3.5)  # idle for longer than a statement may take
        session.ping(reconnect=False)
        assert governor.ended() == ()


def test_an_account_with_global_privileges_is_left_alone(greedy: Greedy) -> None:
    """upstream #45: it is never touched, whatever its name."""
    server = greedy.site.servers[0]
    server.run(f"GRANT PROCESS ON *.* TO '{ACCOUNT}'@'%'")
    session = greedy.log_in(server)
    with governed(greedy.site) as governor:
        _each(session, FREE, "DO SLEEP(3)")
        session.ping(reconnect=False)
        assert governor.ended() == ()


def test_what_was_ended_is_in_the_record_and_can_be_told_later(greedy: Greedy) -> None:
    with governed(greedy.site):
        with contextlib.suppress(pymysql.MySQLError):
            _unset(greedy.log_in(greedy.site.servers[1]))
        record = greedy.site.run()
    said = [report for report in record.reports if isinstance(report, StatementsEnded)]
    assert [report.host for report in said] == [str(greedy.site.servers[1].key)]
    ledger = greedy.site.ledger()
    events = ledger.events(DbUser(ACCOUNT), 1)
    ledger.close()
    assert events[0].what == "ended over the limit" and events[0].host == str(greedy.site.servers[1].key)


# --- connections -----------------------------------------------------------------------------------------------------


def test_no_more_connections_than_the_limit_on_every_server(greedy: Greedy) -> None:
    for server in greedy.site.servers:
        assert [greedy.refused(server) for _ in range(5)] == [0, 0, 0, 1226, 1226]


def test_a_lower_limit_also_counts_for_sessions_that_are_open(greedy: Greedy) -> None:
    """A server only looks at a limit when somebody logs in."""
    site = greedy.site
    sessions = [greedy.log_in(site.servers[0]) for _ in range(3)]
    rule = LimitRule(PartialLimits(max_connections=1), account=DbUser(ACCOUNT), reason="a test")
    ledger = site.ledger()
    ledger.add_rule(rule, "a test")
    ledger.close()
    with governed(site) as governor:
        _until(lambda: sum(map(_pings, sessions)) == 1)
        assert _pings(sessions[0]), "the oldest stays"
        _until_told(governor, 2)
    assert greedy.refused(site.servers[0]) == 1226


def _pings(session: Any) -> bool:
    try:
        session.ping(reconnect=False)
    except (pymysql.MySQLError, OSError):
        return False
    return True


def _until(so: Callable[[], bool]) -> None:
    ends = time.monotonic() + HANGS
    while not so():
        assert time.monotonic() < ends
        time.sleep(0.05)


def _until_told(governor: Governor, count: int) -> None:
    """A session is gone before the governor has said so."""
    told = 0

    def all_told() -> bool:
        nonlocal told
        told += sum(report.count for report in governor.ended() if isinstance(report, SessionsEnded))
        return told >= count

    _until(all_told)
    assert told == count


# --- policy ----------------------------------------------------------------------------------------------------------


def limits_on(server: MariaServer) -> dict[str, tuple[int, float, int]]:
    rows = server.run(
        "SELECT User, JSON_VALUE(Priv, '$.max_user_connections'), JSON_VALUE(Priv, '$.max_statement_time'), "
        "JSON_VALUE(Priv, '$.max_questions') FROM mysql.global_priv WHERE User RLIKE '^[sup][1-9]'"
    )
    return {name: (int(a or 0), float(b or 0), int(c or 0)) for name, a, b, c in rows}


def mixed(servers: list[MariaServer]) -> tuple[ReplicaSettings, ...]:
    """With procedures, with plain rights, of the older kind."""
    ways = ((GrantType.ROLE, True, "web"), (GrantType.ROLE, False, "analytics"), (GrantType.LEGACY, True, None))
    made = []
    for server, (kind, procedures, group) in zip(servers, ways, strict=True):
        server.run("DROP DATABASE IF EXISTS labstore_accounts")
        made.append(server.set_up(kind, procedures, HostGroupName(group) if group else None))
    return tuple(made)


def test_a_policy_reaches_every_account_on_every_server_and_ends_by_itself(small: Site) -> None:
    """upstream #55: raising a limit was hand work on two dozen servers."""
    small.change(hosts=mixed(list(small.servers)))
    for number in range(20):
        small.add_tool(f"t{number}", 51000 + number)
    small.run()
    ledger = small.ledger()
    analytics = HostGroupName("analytics")
    until = small.clock.now() + timedelta(days=1)
    ledger.add_rule(LimitRule(PartialLimits(20, 60, 1000), kind=AccountKind.TOOL, until=until), "a test")
    ledger.add_rule(LimitRule(PartialLimits(statement_seconds=600), kind=AccountKind.TOOL, group=analytics), "a test")
    ledger.add_rule(LimitRule(PartialLimits(max_connections=99), account=DbUser("s51007")), "a test")
    ledger.close()
    assert small.run().state is State.CONVERGED
    web, slow, legacy = map(limits_on, small.servers)
    assert len(web) == len(slow) == len(legacy) == 20
    assert web.pop("s51007") == (99, 60, 1000) and set(web.values()) == {(20, 60, 1000)}
    assert slow.pop("s51007") == (99, 600, 1000) and set(slow.values()) == {(20, 600, 1000)}
    assert legacy.pop("s51007") == (99, 60, 1000) and set(legacy.values()) == {(20, 60, 1000)}
    small.clock.advance(25 * 3600)
    assert small.run().state is State.CONVERGED
    web, slow, legacy = map(limits_on, small.servers)
    assert web["s51007"] == (99, 0, 0) and web["s51008"] == (10, 0, 0)
    assert slow["s51008"] == (10, 600, 0) and legacy["s51008"] == (0, 0, 0)


def test_a_policy_reaches_a_server_that_was_away(small: Site) -> None:
    small.add_tool(TOOL, 50001)
    small.run()
    away = small.servers[2]
    away.kill()
    ledger = small.ledger()
    ledger.add_rule(LimitRule(PartialLimits(max_connections=4), account=DbUser(ACCOUNT)), "a test")
    ledger.close()
    small.run()
    away.start()
    small.clock.advance(120)
    assert small.run().state is State.CONVERGED
    assert [limits_on(server)[ACCOUNT] for server in small.servers] == [(4, 0, 0)] * 3


@pytest.mark.parametrize(
    "changed",
    [
        "MAX_USER_CONNECTIONS 0 MAX_QUERIES_PER_HOUR 5",
        "MAX_USER_CONNECTIONS -1",
        "MAX_QUERIES_PER_HOUR 4294967295",
        "MAX_STATEMENT_TIME 99999999",
    ],
)
def test_limits_that_somebody_changed_by_hand_are_put_right(small: Site, changed: str) -> None:
    """Whatever the server takes."""
    small.add_tool(TOOL, 50001)
    small.run()
    small.servers[1].run(f"ALTER USER '{ACCOUNT}'@'%' WITH {changed}")
    assert small.run().state is State.CONVERGED
    assert limits_on(small.servers[1])[ACCOUNT] == (10, 0, 0)


def test_rights_from_somebody_else_go_where_the_server_says_so(small: Site) -> None:
    small.change(hosts=tuple(replace(host, surplus=Surplus.REVOKE) for host in mixed(list(small.servers))))
    small.add_tool(TOOL, 50001)
    small.run()
    ours = [grants(server) for server in small.servers]
    for server in small.servers:
        server.run(
            "CREATE DATABASE IF NOT EXISTS elsewhere",
            f"GRANT ALL ON elsewhere.* TO '{ACCOUNT}'@'%' WITH GRANT OPTION",
        )
    assert [grants(server) for server in small.servers] != ours
    assert small.run().state is State.CONVERGED
    assert [grants(server) for server in small.servers] == ours
    assert small.works(TOOL) == [True] * 3


def grants(server: MariaServer) -> list[tuple[Any, ...]]:
    return sorted(server.run(f"SHOW GRANTS FOR '{ACCOUNT}'@'%'"))
