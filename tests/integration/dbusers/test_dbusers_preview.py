"""Looking at the original's ledger on a real MariaDB changes nothing of it, and shows what adopting it would be."""

from __future__ import annotations

from pathlib import Path

from labstore.dbusers import assemble
from labstore.model.accounts import AccountKind, DbUser, NativeHash
from labstore.model.database import HostKey
from labstore.model.dbusers_settings import LedgerSettings
from labstore.model.secret import Secret
from labstore.sources.ledger.preview import preview
from labstore.system.clock import SystemClock
from tests.support.mariadb import MariaServer

HASH = NativeHash.of(Secret("an old password"))
ORIGINAL = (
    "CREATE TABLE account (id INT UNSIGNED NOT NULL PRIMARY KEY AUTO_INCREMENT, mysql_username VARCHAR(255) NOT NULL, "
    "type ENUM('tool','user') NOT NULL, username VARCHAR(255) NOT NULL, password_hash BINARY(41) NOT NULL, "
    "UNIQUE KEY account_type (type, username)) ENGINE=InnoDB CHARSET=utf8mb4",
    "CREATE TABLE account_host (id INT UNSIGNED NOT NULL PRIMARY KEY AUTO_INCREMENT, account_id INT UNSIGNED NOT NULL, "
    "hostname VARCHAR(255) NOT NULL, status ENUM('present','absent') NOT NULL) ENGINE=InnoDB CHARSET=utf8mb4",
    f"INSERT INTO account VALUES (7, 's52788', 'tool', 'tools.wikibugs', '{HASH.stored}')",
    "INSERT INTO account_host VALUES (1, 7, 'db1.example.org', 'present'), (2, 7, 'db2.example.org:3311', 'absent')",
)


def state(server: MariaServer) -> list[object]:
    """Everything there is in the ledger's database, as text."""
    tables = [row[0] for row in server.run("SHOW TABLES FROM labsdbaccounts")]
    found: list[object] = [tables]
    for table in tables:
        found += [
            server.run(f"SHOW CREATE TABLE labsdbaccounts.{table}"),
            server.run(f"SELECT * FROM labsdbaccounts.{table}"),
        ]
    return found


def test_the_original_s_ledger_is_shown_as_it_would_be_and_left_as_it_is(servers: list[MariaServer]) -> None:
    server, clock = servers[0], SystemClock()
    settings = server.ledger()
    server.run("USE labsdbaccounts", *ORIGINAL)
    before = state(server)
    with preview(settings, clock) as shown:
        view = shown.ledger.read()
        assert shown.changes
    (row,) = view.accounts.values()
    assert (row.user, row.kind, row.name, row.verifier) == ("s52788", AccountKind.TOOL, "tools.wikibugs", HASH)
    assert view.present == {HostKey("db1.example.org"): 1}
    assert set(view.debts[HostKey("db2.example.org", 3311)]) == {DbUser("s52788")}
    assert state(server) == before


def test_a_prepared_ledger_is_read_itself(servers: list[MariaServer]) -> None:
    settings, clock = servers[0].ledger(), SystemClock()
    ledger = assemble.ledger(settings, clock)
    ledger.prepare()
    ledger.close()
    before = state(servers[0])
    with preview(settings, clock) as shown:
        assert shown.changes == ()
        assert not shown.ledger.read().accounts
    assert state(servers[0]) == before


def test_a_ledger_that_is_not_there_yet_is_empty_and_stays_so(tmp_path: Path) -> None:
    settings = LedgerSettings(sqlite=tmp_path / "ledger.sqlite")
    with preview(settings, SystemClock()) as shown:
        assert shown.changes
        assert not shown.ledger.read().accounts
    assert list(tmp_path.iterdir()) == []
