"""Accounts on one server after the other, in a process of its own: `... ACCOUNTS PORT,... WHAT`; one line of JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import pymysql

from labstore.formats import account_statements as statements
from labstore.model.accounts import AccountKind, DbUser, Limits, NativeHash
from labstore.model.database import HostKey, RoleName, WantedAccount
from labstore.model.dbusers_settings import ReplicaSettings, Tls
from labstore.model.secret import Secret
from labstore.ports.replica_server import HostChange, HostVerb, ReplicaServer
from labstore.reconcile.facts import Fact
from labstore.sources.replica_hands import connect
from labstore.sources.replica_server import MariaReplica
from labstore.system.clock import SystemClock

FIRST = 100_000
"""The number of the first account."""
ROLE = RoleName("labsdbuser")
LOGIN, PASSWORD = "labstore", "a-test-login"
"""As the servers of tests/support/mariadb.py are set up."""


def users(count: int) -> list[DbUser]:
    return [DbUser.of(AccountKind.TOOL, FIRST + number) for number in range(count)]


def accounts(count: int) -> list[WantedAccount]:
    return [WantedAccount(user, (hashed(user),), Limits(10)) for user in users(count)]


def hashed(user: DbUser) -> NativeHash:
    return NativeHash.of(Secret(f"password{user}"))


def settings(port: int) -> ReplicaSettings:
    return ReplicaSettings(
        HostKey("127.0.0.1", port), user=LOGIN, password=Secret(PASSWORD), tls=Tls.OFF, deadline=120.0
    )


def replica(port: int) -> ReplicaServer:
    return MariaReplica(settings(port), SystemClock(), partial(connect, settings(port)))


def timed(act: Callable[[], Any]) -> float:
    started = time.perf_counter()
    act()
    return time.perf_counter() - started


# --- one server ------------------------------------------------------------------------------------------------------


LIST = 500


def lists(wanted: Sequence[WantedAccount]) -> list[Sequence[WantedAccount]]:
    return [wanted[start : start + LIST] for start in range(0, len(wanted), LIST)]


def create(count: int, ports: list[int]) -> dict[str, float]:
    """Lists, through the procedures, in the order of a cycle: all accounts, then their rights."""
    server = replica(ports[0])

    def act() -> None:
        for verb in (HostVerb.CREATE, HostVerb.GRANT):
            for part in lists(accounts(count)):
                assert server.carry_out([HostChange(verb, each.user, each) for each in part]) == {}

    return {"seconds": timed(act)}


def create_bare(count: int, ports: list[int]) -> dict[str, float]:
    """The server's own part of it: the same lists as an administrator's plain statements, with nothing checked."""
    with administrator(ports[0]) as connection, connection.cursor() as cursor:

        def act() -> None:
            for part in lists(accounts(count)):
                cursor.execute(statements.create(part))
            for part in lists(accounts(count)):
                cursor.execute(statements.grant_role(ROLE, [each.user for each in part]))
                cursor.execute(statements.default_roles(ROLE, [each.user for each in part]))

        return {"seconds": timed(act)}


def create_one_by_one(count: int, ports: list[int]) -> dict[str, float]:
    """The original's three statements for each account, over one connection."""
    with administrator(ports[0]) as connection, connection.cursor() as cursor:

        def act() -> None:
            for user in users(count):
                cursor.execute(
                    f"GRANT USAGE ON *.* TO '{user}'@'%' IDENTIFIED BY PASSWORD '{hashed(user)}' "
                    "WITH MAX_USER_CONNECTIONS 10"
                )
                cursor.execute(f"GRANT labsdbuser TO '{user}'@'%'")
                cursor.execute(f"SET DEFAULT ROLE labsdbuser FOR '{user}'@'%'")

        return {"seconds": timed(act)}


def limits(count: int, ports: list[int]) -> dict[str, float]:
    """Other limits for 5,000 accounts that exist: in lists, one by one, and the server's own part of the lists."""
    server, some = replica(ports[0]), users(count)[:5000]

    def in_lists() -> None:
        wanted = [WantedAccount(user, (hashed(user),), Limits(20, 60)) for user in some]
        assert server.carry_out([HostChange(HostVerb.ALTER, each.user, each) for each in wanted]) == {}

    with administrator(ports[0]) as connection, connection.cursor() as cursor:

        def one_by_one() -> None:
            for user in some:
                cursor.execute(f"ALTER USER '{user}'@'%' WITH MAX_USER_CONNECTIONS 10 MAX_STATEMENT_TIME 0")

        def bare() -> None:
            for part in lists([WantedAccount(user, (hashed(user),), Limits(30, 90)) for user in some]):
                cursor.execute(statements.alter(part))

        return {"ours": timed(in_lists), "theirs": timed(one_by_one), "bare": timed(bare)}


def limits_away(count: int, ports: list[int]) -> dict[str, float]:
    """The same on the server that is further away."""
    return limits(count, ports[::-1])


def drift(count: int, ports: list[int]) -> dict[str, float]:
    """Everything about every account: the first look, a look after one change, a look where nothing changed."""
    server = replica(ports[0])

    def look() -> None:
        answer = server.observe()
        assert isinstance(answer, Fact) and len(answer.value.accounts) >= count

    with administrator(ports[0]) as connection, connection.cursor() as cursor:

        def show_grants() -> None:
            for user in users(count):
                cursor.execute(f"SHOW GRANTS FOR '{user}'@'%'")
                cursor.fetchall()

        first = timed(look)
        cursor.execute(f"ALTER USER '{users(count)[0]}'@'%' WITH MAX_USER_CONNECTIONS 7")
        return {
            "first": first,
            "one": timed(look),
            "same": min(timed(look) for _ in range(3)),
            "theirs": timed(show_grants),
        }


def administrator(port: int) -> Any:
    return pymysql.connect(host="127.0.0.1", port=port, user="bench", password=PASSWORD, autocommit=True)


WHAT: dict[str, Callable[[int, list[int]], dict[str, Any]]] = {
    "create": create,
    "create-bare": create_bare,
    "create-one-by-one": create_one_by_one,
    "limits": limits,
    "limits-away": limits_away,
    "drift": drift,
}

if __name__ == "__main__":
    print(json.dumps(WHAT[sys.argv[3]](int(sys.argv[1]), [int(port) for port in sys.argv[2].split(",")])))
