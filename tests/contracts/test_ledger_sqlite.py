"""The embedded ledger keeps the contract."""

from __future__ import annotations

import sqlite3
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labstore.ports.ledger import Ledger
from labstore.sources.ledger.ledger import SqlLedger
from labstore.sources.ledger.store import SqliteStore
from tests.contracts.ledger import LedgerContract
from tests.support.fake_clock import FakeClock

ORIGINAL = """
CREATE TABLE account (id INTEGER PRIMARY KEY AUTOINCREMENT, mysql_username VARCHAR(255) NOT NULL,
    type TEXT NOT NULL, username VARCHAR(255) NOT NULL, password_hash BINARY(41) NOT NULL);
CREATE UNIQUE INDEX account_type ON account (type, username);
CREATE TABLE account_host (id INTEGER PRIMARY KEY AUTOINCREMENT, account_id INTEGER NOT NULL,
    hostname VARCHAR(255) NOT NULL, status TEXT NOT NULL);
"""


@dataclass
class SqliteLab:
    path: Path
    clock: FakeClock

    def fresh(self) -> Ledger:
        return SqlLedger(SqliteStore(self.path, self.clock))

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        with sqlite3.connect(self.path) as connection:
            for statement in statements:
                found = connection.execute(statement).fetchall()
        return found

    def original(self) -> None:
        with sqlite3.connect(self.path) as connection:
            connection.executescript(ORIGINAL)

    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)


class TestSqliteLedger(LedgerContract):
    @pytest.fixture
    def lab(self, tmp_path: Path) -> SqliteLab:
        return SqliteLab(tmp_path / "ledger.db", FakeClock())


def test_nobody_else_reads_the_file(tmp_path: Path) -> None:
    lab = SqliteLab(tmp_path / "ledger.db", FakeClock())
    lab.fresh().prepare()
    assert lab.path.stat().st_mode & 0o077 == 0
