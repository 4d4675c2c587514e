"""Accounts on one server after the other, in a process of its own: `... ACCOUNTS PORT,... WHAT`; one line of JSON."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any

import pymysql

from labstore.model.accounts import AccountKind, DbUser, Limits, NativeHash
from labstore.model.database import HostKey, WantedAccount
from labstore.model.dbusers_settings import ReplicaSettings, Tls
from labstore.model.secret import Secret
from labstore.ports.replica_server import HostChange, HostVerb, ReplicaServer
from labstore.reconcile.facts import Fact
from labstore.sources.replica_hands import connect
from labstore.sources.replica_server import MariaReplica
from labstore.system.clock import SystemClock

FIRST = 100_000
"""The number of the first account."""
LOGIN, PASSWORD = "labstore", "a-test-login"
"""As the servers of tests/support/mariadb.py are set up."""


def users(count: int) -> list[DbUser]:
    return [DbUser.of(AccountKind.TOOL, FIRST + number) for number in range(count)]


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


def create(count: int, ports: list[int]) -> dict[str, float]:
    """Lists, through the procedures."""
    server = replica(ports[0])
    wanted = [WantedAccount(user, (hashed(user),), Limits(10)) for user in users(count)]

    def act() -> None:
        for start in range(0, count, 500):
            part = wanted[start : start + 500]
            changes = [HostChange(verb, each.user, each) for verb in (HostVerb.CREATE, HostVerb.GRANT) for each in part]
            assert server.carry_out(changes) == {}

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
    """Other limits for 5,000 accounts that exist, in lists and one by one."""
    server, some = replica(ports[0]), users(count)[:5000]

    def lists() -> None:
        wanted = [WantedAccount(user, (hashed(user),), Limits(20, 60)) for user in some]
        assert server.carry_out([HostChange(HostVerb.ALTER, each.user, each) for each in wanted]) == {}

    with administrator(ports[0]) as connection, connection.cursor() as cursor:

        def one_by_one() -> None:
            for user in some:
                cursor.execute(f"ALTER USER '{user}'@'%' WITH MAX_USER_CONNECTIONS 10 MAX_STATEMENT_TIME 0")

        return {"ours": timed(lists), "theirs": timed(one_by_one)}


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
    "create-one-by-one": create_one_by_one,
    "limits": limits,
    "drift": drift,
}

if __name__ == "__main__":
    print(json.dumps(WHAT[sys.argv[3]](int(sys.argv[1]), [int(port) for port in sys.argv[2].split(",")])))
