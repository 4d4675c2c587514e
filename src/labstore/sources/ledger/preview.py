"""Looking at a ledger that this program has not prepared yet, without writing to it: a copy of it is prepared."""

from __future__ import annotations

import contextlib
import sqlite3
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from labstore.model.dbusers_settings import LedgerSettings
from labstore.ports.clock import Clock
from labstore.sources.ledger.ledger import SqlLedger
from labstore.sources.ledger.store import MariaStore, Row, SqliteStore, Store

_ORIGINAL = """
CREATE TABLE account (id INTEGER PRIMARY KEY AUTOINCREMENT, mysql_username TEXT NOT NULL, type TEXT NOT NULL,
    username TEXT NOT NULL, password_hash TEXT NOT NULL);
CREATE TABLE account_host (id INTEGER PRIMARY KEY AUTOINCREMENT, account_id INTEGER NOT NULL, hostname TEXT NOT NULL,
    status TEXT NOT NULL);
"""


@dataclass(frozen=True)
class Preview:
    """A ledger to be read. `changes`: what preparing the real one would do to it; empty for one that is prepared."""

    ledger: SqlLedger
    changes: tuple[str, ...] = ()


@contextlib.contextmanager
def preview(settings: LedgerSettings, clock: Clock) -> Iterator[Preview]:
    """The ledger itself if it is prepared, else a copy. Raises LedgerFailed, SchemaUnfit."""
    if settings.sqlite is not None and not settings.sqlite.exists():
        with _copy(clock, [], []) as made:
            yield Preview(made, (f"{settings.sqlite} is made",))
        return
    store = MariaStore(settings) if settings.sqlite is None else SqliteStore(settings.sqlite, clock)
    with contextlib.closing(store):
        if store.columns("leader"):
            yield Preview(SqlLedger(store))
            return
        accounts, places = _original(store)
        with _copy(clock, accounts, places) as made:
            yield Preview(made, ("its tables become labstore's, in place; the original's readers go on",))


def _original(store: Store) -> tuple[list[Row], list[Row]]:
    accounts, places = [], []
    if store.columns("account"):
        accounts = store.query("SELECT id, mysql_username, type, username, password_hash FROM account")
    if store.columns("account_host"):
        places = store.query("SELECT id, account_id, hostname, status FROM account_host")
    return accounts, places


@contextlib.contextmanager
def _copy(clock: Clock, accounts: list[Row], places: list[Row]) -> Iterator[SqlLedger]:
    """A ledger in a file of our own that goes with the look."""
    with tempfile.TemporaryDirectory(prefix="labstore-preview-") as directory:
        path = Path(directory) / "ledger.sqlite"
        if accounts:
            with contextlib.closing(sqlite3.connect(path)) as made:
                made.executescript(_ORIGINAL)
                made.executemany("INSERT INTO account VALUES (?, ?, ?, ?, ?)", map(_plain, accounts))
                made.executemany("INSERT INTO account_host VALUES (?, ?, ?, ?)", places)
                made.commit()
        ledger = SqlLedger(SqliteStore(path, clock))
        ledger.prepare()
        try:
            yield ledger
        finally:
            ledger.close()


def _plain(row: Row) -> Row:
    return tuple(value.decode("ascii", "replace") if isinstance(value, bytes) else value for value in row)
