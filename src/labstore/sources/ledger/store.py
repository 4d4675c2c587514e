"""The two stores behind the ledger, made alike: parameters are `?`, transactions are explicit, errors are one class."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

import pymysql
from pymysql.constants import CLIENT

from labstore.model.dbusers_settings import LedgerSettings
from labstore.ports.clock import Clock
from labstore.ports.ledger import LedgerFailed
from labstore.sources.mariadb import connection_arguments

Row = tuple[Any, ...]
IN_LIST = 1000
"""Values in one IN list."""


class Store(Protocol):
    """A database with transactions. Every method raises LedgerFailed for what the database refuses or fails."""

    mariadb: bool

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """All that is done inside, or nothing. Other writers wait."""

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        """What is read inside is of one moment."""

    def query(self, sql: str, *values: object) -> list[Row]:
        """The rows of a SELECT."""

    def execute(self, sql: str, *values: object) -> int:
        """The number of rows that a statement changed."""

    def many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        """The same statement with each of these rows of values."""

    def lock(self, sql: str) -> list[Row]:
        """The rows of a SELECT, held against other writers until the transaction ends."""

    def columns(self, table: str) -> dict[str, str]:
        """The columns of a table with their types; empty where there is no such table."""

    def unique_indexes(self, table: str) -> set[tuple[str, ...]]:
        """The column lists of its unique indexes."""

    def index_names(self, table: str) -> set[str]:
        """The names of all its indexes."""

    def now(self) -> datetime:
        """The store's own time, UTC."""

    def close(self) -> None:
        """Let go."""


class SqliteStore:
    """One file on this machine, durable at every commit."""

    mariadb = False

    def __init__(self, path: Path, clock: Clock) -> None:
        self._path, self._clock = path, clock
        self._db: sqlite3.Connection | None = None

    @property
    def _open(self) -> sqlite3.Connection:
        if self._db is None:
            with _failing("open"):
                self._db = sqlite3.connect(self._path, timeout=10, isolation_level=None, check_same_thread=False)
                self._db.execute("PRAGMA journal_mode=WAL")
                self._db.execute("PRAGMA synchronous=FULL")
                self._db.execute("PRAGMA foreign_keys=ON")
                self._path.chmod(0o600)
        return self._db

    @contextmanager
    def transaction(self) -> Iterator[None]:
        yield from self._within("BEGIN IMMEDIATE")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        yield from self._within("BEGIN")

    def _within(self, begin: str) -> Iterator[None]:
        self.execute(begin)
        try:
            yield
        except BaseException:
            if self._db is not None and self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise
        self.execute("COMMIT")

    def query(self, sql: str, *values: object) -> list[Row]:
        with _failing(sql):
            return self._open.execute(sql, values).fetchall()

    def execute(self, sql: str, *values: object) -> int:
        with _failing(sql):
            return self._open.execute(sql, values).rowcount

    def many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        with _failing(sql):
            self._open.executemany(sql, rows)

    def lock(self, sql: str) -> list[Row]:
        return self.query(sql)

    def columns(self, table: str) -> dict[str, str]:
        return {row[1]: row[2] for row in self.query(f"PRAGMA table_info({table})")}

    def unique_indexes(self, table: str) -> set[tuple[str, ...]]:
        found = [row[1] for row in self.query(f"PRAGMA index_list({table})") if row[2]]
        return {tuple(row[2] for row in self.query(f"PRAGMA index_info('{name}')")) for name in found}

    def index_names(self, table: str) -> set[str]:
        return {row[1] for row in self.query(f"PRAGMA index_list({table})")}

    def now(self) -> datetime:
        return self._clock.now()

    def close(self) -> None:
        if self._db is not None:
            self._db.close()
            self._db = None


class MariaStore:
    """A database on a MariaDB server. A connection that was lost is made anew for the next transaction."""

    mariadb = True

    def __init__(self, settings: LedgerSettings) -> None:
        self._settings = settings
        self._db: Any = None
        self._inside = False

    @property
    def _open(self) -> Any:
        if self._db is None:
            s = self._settings
            with _failing("connect"):
                self._db = pymysql.connect(
                    **connection_arguments(s.host, s.port, s.socket, s.user, s.password, s.tls, s.ca_file),
                    database=s.database,
                    charset="utf8mb4",
                    autocommit=True,
                    connect_timeout=s.deadline,
                    read_timeout=s.deadline,
                    write_timeout=s.deadline,
                    client_flag=CLIENT.FOUND_ROWS,
                )
                with self._db.cursor() as cursor:
                    # a leader that is paused in the middle of a transaction must not hold the others up for ever
                    cursor.execute("SET SESSION idle_transaction_timeout=20, innodb_lock_wait_timeout=10")
                    cursor.execute("SET SESSION sql_mode='STRICT_ALL_TABLES,NO_AUTO_VALUE_ON_ZERO'")
        return self._db

    @contextmanager
    def transaction(self) -> Iterator[None]:
        yield from self._within("START TRANSACTION")

    @contextmanager
    def snapshot(self) -> Iterator[None]:
        yield from self._within("START TRANSACTION WITH CONSISTENT SNAPSHOT, READ ONLY")

    def _within(self, begin: str) -> Iterator[None]:
        self._begin(begin)
        self._inside = True
        try:
            yield
            self.execute("COMMIT")
        except BaseException:
            self._roll_back()
            raise
        finally:
            self._inside = False

    def _begin(self, begin: str) -> None:
        """The server may have closed an idle connection: that is found out here, where nothing is lost by it."""
        known = self._db is not None
        try:
            self.execute(begin)
        except LedgerFailed:
            self.close()
            if not known:
                raise
            self.execute(begin)

    def _roll_back(self) -> None:
        try:
            self.execute("ROLLBACK")
        except LedgerFailed:
            self.close()

    def query(self, sql: str, *values: object) -> list[Row]:
        known = self._db is not None
        try:
            return self._rows(sql, values)
        except LedgerFailed:
            if self._inside:
                raise
            self.close()
            if not known:
                raise
            return self._rows(sql, values)

    def _rows(self, sql: str, values: tuple[object, ...]) -> list[Row]:
        with _failing(sql), self._open.cursor() as cursor:
            cursor.execute(sql.replace("?", "%s"), values or None)
            return list(cursor.fetchall())

    def execute(self, sql: str, *values: object) -> int:
        try:
            with _failing(sql), self._open.cursor() as cursor:
                return int(cursor.execute(sql.replace("?", "%s"), values or None))
        except LedgerFailed:
            if not self._inside:
                self.close()
            raise

    def many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        with _failing(sql), self._open.cursor() as cursor:
            cursor.executemany(sql.replace("?", "%s"), rows)

    def lock(self, sql: str) -> list[Row]:
        return self.query(f"{sql} FOR UPDATE")

    def columns(self, table: str) -> dict[str, str]:
        rows = self.query(
            "SELECT column_name, column_type FROM information_schema.columns "
            "WHERE table_schema = DATABASE() AND table_name = ?",
            table,
        )
        return {row[0]: row[1] for row in rows}

    def unique_indexes(self, table: str) -> set[tuple[str, ...]]:
        found: dict[str, list[str]] = {}
        for name, column in self.query(
            "SELECT index_name, column_name FROM information_schema.statistics WHERE table_schema = DATABASE() "
            "AND table_name = ? AND non_unique = 0 ORDER BY index_name, seq_in_index",
            table,
        ):
            found.setdefault(name, []).append(column)
        return {tuple(columns) for columns in found.values()}

    def index_names(self, table: str) -> set[str]:
        rows = self.query(
            "SELECT DISTINCT index_name FROM information_schema.statistics "
            "WHERE table_schema = DATABASE() AND table_name = ?",
            table,
        )
        return {row[0] for row in rows}

    def now(self) -> datetime:
        (found,) = self.query("SELECT UTC_TIMESTAMP(6)")[0]
        return _utc(found)

    def close(self) -> None:
        if self._db is not None:
            self._db.close() if self._db.open else None
            self._db = None


def _utc(found: datetime) -> datetime:
    return found.replace(tzinfo=UTC)


@contextmanager
def _failing(sql: str) -> Iterator[None]:
    """Whatever the driver raises as one error, with the statement's beginning and never its values."""
    try:
        yield
    except (sqlite3.Error, pymysql.MySQLError, OSError) as error:
        raise LedgerFailed(f"{' '.join(sql.split())[:60]}: {error}") from error
