"""A site of the original is taken over as it stands: not one password changes.

The fixtures are made from the facts of its published SQL and code: tables, statements, names, files.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from labstore.model.accounts import AccountKind, DbUser, NativeHash, PartialLimits
from labstore.model.database import GrantType
from labstore.model.dbusers_settings import LimitRule, ReplicaSettings
from labstore.model.ledger import AccountState
from labstore.model.secret import Secret
from labstore.reconcile.record import State
from tests.integration.dbusers.test_dbusers_ledger import ORIGINAL
from tests.support import mariadb
from tests.support.dbusers import Hooks, Site, credentials, flag, site
from tests.support.killing import Marks
from tests.support.mariadb import MariaServer

pytestmark = pytest.mark.root
DATABASE = "labsdbaccounts"
PAWS_OWNER = 52771
KINDS = frozenset(AccountKind)


@dataclass(frozen=True)
class Old:
    """An account as the original made it."""

    kind: AccountKind
    name: str
    uid: int
    password: str
    owner: int

    @property
    def user(self) -> str:
        return f"{self.kind.letter}{self.uid}"

    @property
    def hash(self) -> str:
        """Lower case, as it computed it; servers keep the case they are given."""
        return NativeHash.of(Secret(self.password)).stored

    @property
    def home(self) -> str:
        return self.name.partition(".")[2] if self.kind is AccountKind.TOOL else self.name


TOOLS = [Old(AccountKind.TOOL, f"tools.t{n}", 52000 + n, f"Tool{n:012}", 52000 + n) for n in range(40)]
USERS = [Old(AccountKind.USER, f"Person{n}", 2000 + n, f"User{n:012}", 2000 + n) for n in range(10)]
PAWS = [Old(AccountKind.PAWS, f"{n}", n, f"Paws{n:012}", PAWS_OWNER) for n in range(101, 106)]
EVERYBODY = [*TOOLS, *USERS, *PAWS]


def on_a_role_server(old: Old) -> tuple[str, ...]:
    limit = {"s52007": 48, "u2003": 15}.get(old.user, 10)
    return (
        f"GRANT USAGE ON *.* TO '{old.user}'@'%' IDENTIFIED BY PASSWORD '{old.hash}' WITH MAX_USER_CONNECTIONS {limit}",
        f"GRANT labsdbuser TO '{old.user}'@'%'",
        f"SET DEFAULT ROLE labsdbuser FOR '{old.user}'@'%'",
    )


def on_a_legacy_server(old: Old) -> tuple[str, ...]:
    return (
        f"CREATE USER '{old.user}'@'%' IDENTIFIED BY PASSWORD '{old.hash}'",
        rf"GRANT SELECT, SHOW VIEW ON `%\_p`.* TO '{old.user}'@'%'",
        rf"GRANT ALL PRIVILEGES ON `{old.user}\_\_%`.* TO '{old.user}'@'%'",
    )


@dataclass
class Museum:
    site: Site
    servers: Sequence[MariaServer]
    hosts: Sequence[ReplicaSettings]

    def file(self, old: Old) -> Path:
        return self.site.homes.file(old.kind, old.home)

    def state(self, without: Sequence[Old] = ()) -> dict[str, Any]:
        """Everything in which a password is written down, for all but these."""
        left_out = {old.user for old in without}
        names = ", ".join(f"'{old.user}'" for old in EVERYBODY if old.user not in left_out)
        sql = f"SELECT User, JSON_VALUE(Priv, '$.authentication_string') FROM mysql.global_priv WHERE User IN ({names})"
        ledger = f"SELECT mysql_username, password_hash FROM {DATABASE}.account WHERE mysql_username IN ({names})"
        return {
            "files": {old.user: _bytes_and_inode(self.file(old)) for old in EVERYBODY if old.user not in left_out},
            "servers": [sorted(server.run(sql)) for server in self.servers],
            "ledger": sorted(self.servers[0].run(ledger)),
        }


def _bytes_and_inode(path: Path) -> tuple[bytes, int, int]:
    status = path.stat()
    return path.read_bytes(), status.st_ino, status.st_mtime_ns


@pytest.fixture
def museum(servers: list[MariaServer]) -> Iterator[Museum]:
    if os.geteuid() != 0:
        pytest.skip("homes that belong to tools need root")
    for server in servers:
        server.run("DROP DATABASE IF EXISTS labstore_accounts")
    ways = ((GrantType.ROLE, True), (GrantType.ROLE, False), (GrantType.LEGACY, True))
    hosts = tuple(server.set_up(*way) for server, way in zip(servers, ways, strict=True))
    with mariadb.scratch("site") as root:
        made = site(root, servers, servers[0].ledger(DATABASE), hosts=hosts, kinds=KINDS)
        rules = _variances("s52007", 48), _variances("u2003", 15)
        made.change(limits=replace(made.settings.limits, rules=rules))
        made.tools = {old.home: old.uid for old in TOOLS}
        made.users = {old.name: old.uid for old in USERS}
        made.write_people()
        _furnish(made, servers)
        yield Museum(made, servers, hosts)
        made.end()


def _furnish(made: Site, servers: Sequence[MariaServer]) -> None:
    ways = (on_a_role_server, on_a_role_server, on_a_legacy_server)
    for server, way in zip(servers, ways, strict=True):
        # PAWS users were left out on servers of the older type, and written down as present all the same
        server.run(*[sql for old in EVERYBODY if way is on_a_role_server or old not in PAWS for sql in way(old)])
    servers[0].run(
        f"USE {DATABASE}",
        *ORIGINAL,
        "ALTER TABLE account MODIFY type ENUM('tool', 'user', 'paws') NOT NULL",
        *(
            "INSERT INTO account (mysql_username, type, username, password_hash) "
            f"VALUES ('{old.user}', '{old.kind}', '{old.name}', '{old.hash}')"
            for old in EVERYBODY
        ),
        # one server in the newer spelling, one in the older; what another migration left stands there twice
        *(
            f"INSERT INTO account_host (account_id, hostname, status) SELECT id, '127.0.0.1:{server.port}', 'present' "
            "FROM account"
            for server in servers
        ),
        f"INSERT INTO account_host (account_id, hostname, status) SELECT id, '127.0.0.1:{servers[1].port}', 'present' "
        "FROM account LIMIT 7",
    )
    for number, old in enumerate(EVERYBODY):
        home = made.homes.make(old.kind, old.home, old.owner)
        assert home.is_dir()
        content = credentials(old.user, old.password)
        if number % 3 == 1:  # an earlier version wrote quotes
            content = f"[client]\nuser = '{old.user}'\npassword = '{old.password}'\n".encode()
        path = made.homes.put(old.kind, old.home, old.uid if old not in PAWS else PAWS_OWNER, content, protect=False)
        path.chmod(0o440 if number % 2 else 0o400)
        flag(path, True)


def test_everything_is_adopted_without_one_password_change(museum: Museum) -> None:
    """upstream #52, #53: lower-case hashes, both spellings of a server, no unique index, no foreign key."""
    made, before = museum.site, museum.state()
    marks = Marks()
    cycle = made.cycle(hooks=marks.hooks)
    record = cycle.run()
    assert record.state is State.CONVERGED, record.reports
    assert museum.state() == before
    assert [word for word, _ in marks.passed if not word.startswith("ledger")] == [], "nothing was touched"
    ledger = made.ledger()
    view = ledger.read()
    ledger.close()
    assert len(view.accounts) == len(EVERYBODY) and {row.state for row in view.accounts.values()} == {AccountState.LIVE}
    assert {row.generation for row in view.accounts.values()} == {1} and not view.foreign
    assert [view.present[host.key] for host in museum.hosts] == [len(EVERYBODY)] * 3 and not any(view.debts.values())
    assert view.accounts[DbUser("s52007")].uid == 52007
    again = cycle.run()
    assert again.state is State.CONVERGED and not again.steps
    assert [word for word, _ in marks.passed if not word.startswith("ledger")] == []


def _variances(user: str, connections: int) -> LimitRule:
    """As the configuration makes them of the original's."""
    return LimitRule(PartialLimits(max_connections=connections), account=DbUser(user), grants=GrantType.ROLE)


def test_what_the_original_left_broken_is_made_whole_and_no_file_changes(museum: Museum) -> None:
    """Rows whose hash is not the file's, servers that lack an account, accounts without a row (its known issue)."""
    made = museum.site
    leaked, lacking, unknown, half = TOOLS[:4]
    one, two, three = museum.servers
    one.run(
        f"UPDATE {DATABASE}.account SET password_hash = '{'*' + 'e' * 40}' WHERE mysql_username = '{leaked.user}'",
        f"DELETE FROM {DATABASE}.account_host WHERE account_id = "
        f"(SELECT id FROM {DATABASE}.account WHERE mysql_username = '{unknown.user}')",
        f"DELETE FROM {DATABASE}.account WHERE mysql_username = '{unknown.user}'",
    )
    for server in museum.servers:
        server.run(f"ALTER USER '{leaked.user}'@'%' IDENTIFIED BY PASSWORD '*{'E' * 40}'")
    two.run(f"DROP USER '{lacking.user}'@'%'")
    three.run(rf"REVOKE ALL PRIVILEGES ON `{half.user}\_\_%`.* FROM '{half.user}'@'%'")
    files, others = museum.state()["files"], museum.state([leaked, lacking, unknown, half])
    record = made.cycle().run()
    assert record.state is State.CONVERGED, record.reports
    assert museum.state()["files"] == files and museum.state([leaked, lacking, unknown, half]) == others
    for old in (leaked, lacking, unknown, half):
        assert [server.works(old.user, old.password) for server in museum.servers] == [True] * 3
    assert rf"`{half.user}\_\_%`" in str(three.run(f"SHOW GRANTS FOR '{half.user}'@'%'")).replace("\\\\", "\\")


def test_a_daemon_that_is_killed_in_the_middle_of_the_take_over_changes_none_either(museum: Museum) -> None:
    """Every statement of the migration commits for itself on this server."""
    made, before = museum.site, museum.state()
    statements: list[str] = []

    class Killed(BaseException):
        pass

    def until(limit: int) -> bool:
        statements.clear()

        def before_each(sql: str) -> None:
            if not sql.startswith(("SELECT", "START", "SET")):
                statements.append(sql)
                if len(statements) > limit:
                    raise Killed

        try:
            made.cycle(hooks=Hooks(ledger=before_each)).run()
        except Killed:
            return False
        return True

    limit = 0
    while not until(limit):
        limit += 1
        assert limit < 200
    assert museum.state() == before
    assert made.run().state is State.CONVERGED
