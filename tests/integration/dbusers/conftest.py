"""Three real replica servers for all tests of the room, emptied before each of them. The last one is further away."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.integration.dbusers.place import Place
from tests.support import mariadb
from tests.support.dbusers import Homes, Site, site
from tests.support.mariadb import MariaServer


@pytest.fixture(scope="session")
def all_servers() -> Iterator[list[MariaServer]]:
    with mariadb.running(3, delays=(0, 0, 0.001)) as servers:
        yield servers


@pytest.fixture
def servers(all_servers: list[MariaServer]) -> list[MariaServer]:
    for server in all_servers:
        server.revive()
        names = sorted(server.names())
        if names:
            server.run("DROP USER " + ", ".join(f"'{name}'@'%'" for name in names))
        server.run("SET GLOBAL read_only = 0")
    return all_servers


@pytest.fixture
def small(servers: list[MariaServer]) -> Iterator[Site]:
    """A site with a file directory, an SQLite ledger and all three servers."""
    if os.geteuid() != 0:
        pytest.skip("homes that belong to tools need root")
    with mariadb.scratch("site") as root:
        made = site(root, servers)
        try:
            yield made
        finally:
            made.end()


@pytest.fixture
def place(servers: list[MariaServer]) -> Iterator[Place]:
    """Two of the servers, and the programs that an operator starts."""
    if os.geteuid() != 0:
        pytest.skip("homes that belong to tools need root")
    with mariadb.scratch("place") as root:
        made = Place(root, servers[:2], Homes(root / "homes"))
        try:
            yield made
        finally:
            made.homes.clear()
