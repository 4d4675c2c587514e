"""The driver on a real MariaDB: with the procedures and with plain rights, with roles and with grants."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

import pymysql
import pytest

from labstore.formats.account_procedures import Setup
from labstore.model.accounts import DbUser, Limits
from labstore.model.database import GrantType, RoleName
from labstore.model.dbusers_settings import ReplicaSettings, Tls
from labstore.ports.replica_server import HostChange, HostVerb, ReplicaServer
from labstore.reconcile.facts import Fact, Missing
from labstore.reports.dbusers import HostRefused
from labstore.sources.replica_hands import PlainHands, ProcedureHands, Refused, connect
from labstore.sources.replica_server import MariaReplica
from labstore.system.clock import SystemClock
from tests.contracts.replica_server import OLD, S1, S2, ReplicaServerContract, looked, made, seen, wanted
from tests.support.hang import HANGS
from tests.support.mariadb import LOGIN, PASSWORD, PROCEDURES, MariaServer


@dataclass
class MariaLab:
    server: MariaServer
    settings: ReplicaSettings
    said: list[str] = field(default_factory=list)
    clients: list[Any] = field(default_factory=list)
    stopped: bool = False

    def fresh(self) -> ReplicaServer:
        return MariaReplica(self.settings, SystemClock(), partial(connect, self.settings, self.said.append))

    def works(self, user: str, password: str) -> bool:
        return self.server.works(user, password)

    def connect(self, user: str, password: str) -> Any:
        client = pymysql.connect(
            host="127.0.0.1", port=self.server.port, user=user, password=password, autocommit=True, read_timeout=20
        )
        self.clients.append(client)
        return client

    def drop_behind_our_back(self, user: str) -> None:
        self.server.run(f"DROP USER '{user}'@'%'")

    def give_more(self, user: str) -> None:
        self.server.run(
            "CREATE ROLE IF NOT EXISTS another",
            "CREATE DATABASE IF NOT EXISTS elsewhere",
            "CREATE TABLE IF NOT EXISTS elsewhere.t (a INT)",
            "CREATE OR REPLACE FUNCTION elsewhere.f() RETURNS INT RETURN 1",
            f"GRANT another TO '{user}'@'%'",
            rf"GRANT ALL ON `els\_%`.* TO '{user}'@'%' WITH GRANT OPTION",
            rf"GRANT INSERT ON `%\_p`.* TO '{user}'@'%'",
            f"GRANT SELECT (a), INSERT ON elsewhere.t TO '{user}'@'%'",
            f"GRANT EXECUTE ON FUNCTION elsewhere.f TO '{user}'@'%'",
        )

    def make_administrator(self, user: str) -> None:
        self.server.run(f"GRANT SELECT ON *.* TO '{user}'@'%'")

    def read_only(self, on: bool) -> None:
        powers = "READ_ONLY ADMIN ON *.*"
        who = f"'{PROCEDURES}_definer'@'localhost'" if self.procedures else f"'{LOGIN}'@'127.0.0.1'"
        self.server.run(f"{'REVOKE' if on else 'GRANT'} {powers} {'FROM' if on else 'TO'} {who}")
        self.server.run(f"SET GLOBAL read_only = {int(on)}")
        self.server.run(f"KILL USER '{LOGIN}'")

    @property
    def procedures(self) -> bool:
        return isinstance(connect(self.settings), ProcedureHands)

    def stop(self) -> None:
        self.stopped = True
        self.server.kill()


VARIANTS = [(grant_type, procedures) for grant_type in GrantType for procedures in (True, False)]


@pytest.fixture(
    scope="module", params=VARIANTS, ids=["role-procedures", "role-plain", "legacy-procedures", "legacy-plain"]
)
def variant(request: pytest.FixtureRequest, all_servers: list[MariaServer]) -> MariaLab:
    """The first server, set up in one of the ways for all tests of that way."""
    return _set_up(all_servers[0], *request.param)


def _set_up(server: MariaServer, grant_type: GrantType, procedures: bool) -> MariaLab:
    server.run(f"DROP DATABASE IF EXISTS {PROCEDURES}")
    lab = MariaLab(server, server.set_up(grant_type, procedures))
    assert lab.procedures is procedures
    return lab


@pytest.fixture
def lab(variant: MariaLab, servers: list[MariaServer]) -> Iterator[MariaLab]:
    assert variant.server is servers[0]
    made_lab = MariaLab(variant.server, variant.settings)
    yield made_lab
    if made_lab.stopped:
        made_lab.server.start()
    for client in made_lab.clients:
        client.close() if client.open else None


class TestMariaReplica(ReplicaServerContract):
    @pytest.fixture
    def lab(self, lab: MariaLab) -> MariaLab:
        return lab


# --- what only real servers show -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def plain_server(all_servers: list[MariaServer]) -> MariaLab:
    return _set_up(all_servers[1], GrantType.ROLE, False)


@pytest.fixture(scope="module")
def narrow_server(all_servers: list[MariaServer]) -> MariaLab:
    return _set_up(all_servers[2], GrantType.ROLE, True)


@pytest.fixture
def plain(plain_server: MariaLab, servers: list[MariaServer]) -> MariaLab:
    return MariaLab(plain_server.server, plain_server.settings)


@pytest.fixture
def narrow(narrow_server: MariaLab, servers: list[MariaServer]) -> MariaLab:
    return MariaLab(narrow_server.server, narrow_server.settings)


def test_nothing_is_ever_flushed_replaced_or_dropped_to_repair(plain: MariaLab) -> None:
    server = plain.fresh()
    accounts = [wanted(DbUser(f"s{number}")) for number in range(61000, 61020)]
    made(server, *accounts)
    changes = [HostChange(HostVerb.CREATE, account.user, account) for account in accounts]
    assert server.carry_out(changes) == {}
    seen(server)
    assert not [sql for sql in plain.said if "FLUSH" in sql or "REPLACE" in sql or "DROP" in sql]


def test_no_account_statement_reaches_the_binary_log(servers: list[MariaServer]) -> None:
    """A replica would get a transaction of its own and stop following."""
    server = servers[2]
    server.kill()
    server.start("--log-bin=bin")
    try:
        for procedures in (True, False):
            server.run(f"DROP DATABASE IF EXISTS {PROCEDURES}")
            lab = MariaLab(server, server.set_up(procedures=procedures))
            before = server.run("SHOW MASTER STATUS")
            replica = lab.fresh()
            made(replica, wanted(S1))
            replica.carry_out([HostChange(HostVerb.ALTER, S1, wanted(S1, limits=Limits(3)))])
            replica.carry_out([HostChange(HostVerb.LOCK, S1), HostChange(HostVerb.DROP, S1)])
            assert server.run("SHOW MASTER STATUS") == before
            kept = MariaLab(server, replace(lab.settings, keep_binlog=True))
            if not procedures:
                made(kept.fresh(), wanted(S1))
                assert server.run("SHOW MASTER STATUS") != before
    finally:
        server.kill()
        server.start()


def test_a_frozen_server_is_missing_after_its_deadline(plain: MariaLab) -> None:
    """The original waited for ever."""
    settings = replace(plain.settings, connect_deadline=0.5, deadline=0.5)
    server = MariaLab(plain.server, settings).fresh()
    made(server, wanted(S1))
    plain.server.freeze()
    try:
        started = time.monotonic()
        assert isinstance(server.observe(), Missing)
        assert time.monotonic() - started < HANGS
    finally:
        plain.server.thaw()
    assert S1 in seen(server).accounts


def test_a_connection_that_the_server_closed_is_made_anew(plain: MariaLab) -> None:
    server = plain.fresh()
    seen(server)
    plain.server.run(f"KILL USER '{LOGIN}'")
    assert seen(server).accounts == {}


def test_no_connection_is_left_open(plain: MariaLab) -> None:
    """upstream #44"""
    for _ in range(5):
        server = plain.fresh()
        seen(server)
        server.sessions()
        server.close()
    deadline = time.monotonic() + 5
    while plain.server.run(f"SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER = '{LOGIN}'") != [(0,)]:
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_tls_is_verified_and_a_server_without_it_is_refused(plain: MariaLab) -> None:
    server = MariaLab(plain.server, replace(plain.settings, tls=Tls.VERIFY)).fresh()
    assert isinstance(server.observe(), Missing)


def test_an_account_that_cannot_be_made_costs_itself_alone(plain: MariaLab) -> None:
    """upstream #42: one error stopped the whole loop. A role has the name of an account here."""
    plain.server.run("CREATE ROLE s62001")
    try:
        server = plain.fresh()
        users = [DbUser(f"s{number}") for number in range(62000, 62004)]
        made(server, *(wanted(user) for user in users))
        plain.server.run("INSERT INTO mysql.global_priv VALUES ('%', 's62004', '{\"access\": 0, \"is_role\": true}')")
        every = (*users, DbUser("s62005"))
        refused = server.carry_out([HostChange(HostVerb.GRANT, user, wanted(user)) for user in every])
        assert list(refused) == ["s62005"] and isinstance(refused[DbUser("s62005")], HostRefused)
    finally:
        plain.server.run("DROP ROLE s62001", "DELETE FROM mysql.global_priv WHERE User = 's62004'")


# --- the procedures as a wall ----------------------------------------------------------------------------------------


def narrow_login(lab: MariaLab) -> Any:
    return pymysql.connect(host="127.0.0.1", port=lab.server.port, user=LOGIN, password=PASSWORD, autocommit=True)


FORBIDDEN = (
    *("CREATE USER evil", "SET PASSWORD FOR root@localhost = ''", "DROP USER root@localhost", "FLUSH PRIVILEGES"),
    *("GRANT ALL ON *.* TO evil", "SELECT * FROM mysql.global_priv", "UPDATE mysql.global_priv SET Priv = '{}'"),
    *("SET GLOBAL read_only = 1", "SET SESSION sql_log_bin = 0", "CREATE DATABASE x"),
    f"CREATE PROCEDURE {PROCEDURES}.mine() SELECT 1",
    f"DROP PROCEDURE {PROCEDURES}.check_accounts",
    f"ALTER USER '{PROCEDURES}_definer'@'localhost' IDENTIFIED BY 'x' ACCOUNT UNLOCK",
)
NO_NAMES = (
    *('[{"u":"root"}]', "[{\"u\":\"s1'@'%' IDENTIFIED BY 'x' -- \"}]", '[{"u":"s01"}]', '[{"u":"S1"}]', "[{}]", "[]"),
    *('{"u":"s1"}', "", "null", '[{"u":"s1\\n"}]', '[{"u":null}]', '[{"u":"labsdbuser"}]', '[{"u":"s12345678901"}]'),
    '[{"u":"s1"},{"u":"mysql"}]',
)
NO_HASHES = ("[]", '["x"]', f'["*{"a" * 40}"]', "null", f"[\"*{'A' * 40}' OR '\"]", f'["*{"A" * 40}\\n"]')


def test_the_login_itself_can_do_nothing_else(narrow: MariaLab) -> None:
    with narrow_login(narrow) as connection:
        for sql in FORBIDDEN:
            with pytest.raises(pymysql.MySQLError) as refused:
                connection.cursor().execute(sql)
            assert refused.value.args[0] in (1044, 1045, 1142, 1227, 1370), (sql, refused.value)


def test_the_procedures_take_no_other_names(narrow: MariaLab) -> None:
    with narrow_login(narrow) as connection:
        for procedure in ("lock_accounts", "drop_accounts", "grant_accounts", "end_sessions"):
            for batch in NO_NAMES:
                with pytest.raises(pymysql.MySQLError, match=r"labstore:|JSON"):
                    connection.cursor().execute(f"CALL {PROCEDURES}.{procedure}(%s)", (batch,))
    assert narrow.server.run("SELECT COUNT(*) FROM mysql.global_priv WHERE User = 'root'") == [(1,)]


def test_the_procedures_take_no_other_hashes(narrow: MariaLab) -> None:
    with narrow_login(narrow) as connection:
        for hashes in NO_HASHES:
            with pytest.raises(pymysql.MySQLError, match="labstore:"):
                connection.cursor().execute(
                    f"CALL {PROCEDURES}.create_accounts(%s, 10, 0, 0)", (f'[{{"u":"s1","h":{hashes}}}]',)
                )
    assert narrow.server.names() == set()


def test_the_procedures_leave_administrators_and_roles_alone(narrow: MariaLab) -> None:
    """upstream #45: a cure by name pattern could drop an administrator."""
    server = narrow.fresh()
    made(server, wanted(S1), wanted(S2))
    narrow.make_administrator(S1)
    for verb in (HostVerb.LOCK, HostVerb.DROP, HostVerb.ALTER):
        refused = server.carry_out([HostChange(verb, user, wanted(user, limits=Limits(3))) for user in (S1, S2)])
        assert list(refused) == [S1]
    assert S1 in looked(server, S1)


def test_the_procedures_end_nobody_elses_session(narrow: MariaLab) -> None:
    admin = narrow.server.admin()
    with admin.cursor() as cursor:
        cursor.execute("SELECT CONNECTION_ID()")
        (number,) = cursor.fetchone()
        hands = connect(narrow.settings)
        assert isinstance(hands, ProcedureHands)
        assert hands._call("end_session", number)[0] == [(0,)]
        cursor.execute("SELECT 1")


def test_procedures_of_another_type_or_version_are_not_used(servers: list[MariaServer]) -> None:
    server = servers[0]
    settings = server.set_up(GrantType.ROLE)
    server.run(*Setup(PROCEDURES, LOGIN, "127.0.0.1", GrantType.LEGACY, RoleName("labsdbuser")).statements())
    assert isinstance(connect(replace(settings, grant_type=GrantType.LEGACY)), ProcedureHands)
    with pytest.raises(Refused):
        connect(settings)  # plain statements, for which the login has no rights


def test_repeating_the_set_up_changes_nothing(narrow: MariaLab) -> None:
    before = narrow.server.run("SELECT User, Host, Priv FROM mysql.global_priv WHERE User LIKE '%definer'")
    narrow.server.run(*Setup(PROCEDURES, LOGIN, "127.0.0.1", GrantType.ROLE, RoleName("labsdbuser")).statements())
    assert narrow.server.run("SELECT User, Host, Priv FROM mysql.global_priv WHERE User LIKE '%definer'") == before


def test_an_account_that_cannot_be_read_costs_the_others_nothing(lab: MariaLab) -> None:
    """Somebody wrote into the grant tables themselves."""
    server = lab.fresh()
    made(server, wanted(S1), wanted(S2))
    before = seen(server).accounts[S2]
    lab.server.run(
        f"UPDATE mysql.global_priv SET Priv = JSON_SET(Priv, '$.max_questions', 'many') WHERE User = '{S1}'",
        "FLUSH PRIVILEGES",
    )
    for found in (seen(server).accounts, looked(server, S1, S2)):
        assert not found[S1].touchable and found[S2] == before


# --- sessions --------------------------------------------------------------------------------------------------------


def test_a_statement_is_ended_and_its_successor_is_not(lab: MariaLab) -> None:
    server = lab.fresh()
    made(server, wanted(S1))
    client = lab.connect(S1, OLD.reveal())
    client._execute_command(3, "SELECT SLEEP(10)")
    session = next(each for each in _running(server) if each.user == S1)
    assert server.end_statement(session)
    started = time.monotonic()
    with pytest.raises(pymysql.MySQLError, match="interrupted"):
        client._read_query_result()
    assert time.monotonic() - started < HANGS
    client._execute_command(3, "SELECT SLEEP(0.5), 7")
    _running(server)
    assert server.end_statement(session) is False, "its number was the former statement's"
    client._read_query_result()
    assert client._result.rows == ((0, 7),)


def _running(server: ReplicaServer) -> list[Any]:
    deadline = time.monotonic() + 5
    while time.monotonic() < deadline:
        answer = server.sessions()
        assert isinstance(answer, Fact), answer
        found = [each for each in answer.value if each.running]
        if found:
            return found
        time.sleep(0.02)
    raise AssertionError("nothing runs")


def test_plain_hands_are_told_apart(plain: MariaLab, servers: list[MariaServer]) -> None:
    assert isinstance(connect(plain.settings), PlainHands)
