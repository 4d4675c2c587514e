"""The ledger's tables, and how the original's two become ours in place.

Each migration is a list of things that must be there; what is there already is left alone, so that a migration that
was killed half-way simply goes on. MariaDB commits at every such statement; nothing here relies on a transaction.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from labstore.model.names import shown
from labstore.ports.ledger import SchemaUnfit
from labstore.sources.ledger.store import Store

ID = ("INTEGER PRIMARY KEY AUTOINCREMENT", "INT UNSIGNED NOT NULL PRIMARY KEY AUTO_INCREMENT")
REF = ("INTEGER NOT NULL", "INT UNSIGNED NOT NULL")
NUMBER = ("INTEGER NOT NULL DEFAULT 0", "BIGINT NOT NULL DEFAULT 0")
NUMBER_OR_NONE = ("INTEGER", "BIGINT NULL")
WORD = ("TEXT NOT NULL DEFAULT ''", "VARCHAR(64) CHARACTER SET ascii COLLATE ascii_bin NOT NULL DEFAULT ''")
TEXT = ("TEXT NOT NULL DEFAULT ''", "VARCHAR(255) NOT NULL DEFAULT ''")
LONG = ("TEXT NOT NULL DEFAULT ''", "TEXT NOT NULL DEFAULT ''")
STAMP = ("TEXT", "VARCHAR(40) CHARACTER SET ascii COLLATE ascii_bin NULL")
"""ISO 8601, UTC."""
HASH_OR_NONE = ("TEXT", "VARCHAR(41) CHARACTER SET ascii COLLATE ascii_bin NULL")
EXACT = ("TEXT NOT NULL", "VARCHAR(255) COLLATE utf8mb4_bin NOT NULL")
ORIGINAL_NAME = ("TEXT NOT NULL", "VARCHAR(255) NOT NULL")
ORIGINAL_TYPE = ("TEXT NOT NULL", "ENUM('tool','user','paws') NOT NULL")
ORIGINAL_HASH = ("TEXT NOT NULL", "BINARY(41) NOT NULL")
ORIGINAL_STATUS = ("TEXT NOT NULL", "ENUM('present','absent') NOT NULL")
TABLE_TAIL = ("", " ENGINE=InnoDB ROW_FORMAT=Dynamic CHARSET=utf8mb4")

Kind = tuple[str, str]
Done = Iterator[str]


@dataclass(frozen=True, slots=True)
class Table:
    """A table that must be there with at least these columns."""

    name: str
    columns: tuple[tuple[str, Kind], ...]

    def ensure(self, store: Store) -> Done:
        there = store.columns(self.name)
        if not there:
            body = ", ".join(f"{name} {kind[store.mariadb]}" for name, kind in self.columns)
            store.execute(f"CREATE TABLE {self.name} ({body}){TABLE_TAIL[store.mariadb]}")
            yield f"made table {self.name}"
            return
        for name, kind in self.columns:
            if name not in there:
                store.execute(f"ALTER TABLE {self.name} ADD COLUMN {name} {kind[store.mariadb]}")
                yield f"added {self.name}.{name}"


@dataclass(frozen=True, slots=True)
class Unique:
    """No two rows alike in these columns, whatever the index is called."""

    table: str
    columns: tuple[str, ...]

    def ensure(self, store: Store) -> Done:
        if self.columns in store.unique_indexes(self.table):
            return
        names = ", ".join(self.columns)
        twice = store.query(f"SELECT {names}, COUNT(*) FROM {self.table} GROUP BY {names} HAVING COUNT(*) > 1")  # noqa: S608
        if twice:
            rows = ", ".join(shown("/".join(str(value) for value in row[:-1])) for row in twice[:20])
            raise SchemaUnfit([f"{self.table} has more than one row for {names}: {rows}"])
        store.execute(f"CREATE UNIQUE INDEX {_index_name(self.table, self.columns)} ON {self.table} ({names})")
        yield f"made {self.table} ({names}) unique"


@dataclass(frozen=True, slots=True)
class Index:
    table: str
    columns: tuple[str, ...]

    def ensure(self, store: Store) -> Done:
        name = _index_name(self.table, self.columns)
        if name not in store.index_names(self.table):
            store.execute(f"CREATE INDEX {name} ON {self.table} ({', '.join(self.columns)})")
            yield f"indexed {self.table} ({', '.join(self.columns)})"


@dataclass(frozen=True, slots=True)
class Step:
    """Something else that must be so; `name` stands for its content in the checksum."""

    name: str
    run: Callable[[Store], Done]

    def ensure(self, store: Store) -> Done:
        yield from self.run(store)


Wish = Table | Unique | Index | Step


@dataclass(frozen=True, slots=True)
class Migration:
    number: int
    name: str
    wishes: tuple[Wish, ...]

    @property
    def checksum(self) -> str:
        words = [each.name if isinstance(each, Step) else repr(each) for each in self.wishes]
        return hashlib.sha256("\n".join([self.name, *words]).encode()).hexdigest()


def _index_name(table: str, columns: tuple[str, ...]) -> str:
    return f"labstore_{table}_{'_'.join(columns)}"


def _once_per_server(store: Store) -> Done:
    """The original's statement that was to make (account, server) unique was invalid, so rows may be there twice."""
    twice = store.query(
        "SELECT account_id, hostname, MIN(id), COUNT(*) FROM account_host GROUP BY account_id, hostname "
        "HAVING COUNT(*) > 1"
    )
    for account, host, first, _ in twice:
        store.execute(
            "DELETE FROM account_host WHERE account_id = ? AND hostname = ? AND id <> ?", account, host, first
        )
    if twice:
        yield f"removed double rows of {len(twice)} accounts per server"


def _of_nobody(store: Store) -> Done:
    """Without a foreign key, rows per server outlived their accounts."""
    count = store.execute("DELETE FROM account_host WHERE account_id NOT IN (SELECT id FROM account)")
    if count:
        yield f"removed {count} rows per server of accounts that are no more"


def _types(store: Store) -> Done:
    """The shipped enumeration never gained `paws`, though rows of it were written."""
    if store.mariadb and "paws" not in store.columns("account")["type"]:
        store.execute("ALTER TABLE account MODIFY type ENUM('tool','user','paws') NOT NULL")
        yield "let account.type be paws"


def _exact_names(store: Store) -> Done:
    """Names are compared byte by byte: look-alikes collided under the loose collation (upstream #42)."""
    if not store.mariadb:
        return
    rows = store.query(
        "SELECT column_name, collation_name FROM information_schema.columns WHERE table_schema = DATABASE() "
        "AND table_name = 'account' AND column_name IN ('mysql_username', 'username')"
    )
    for name, collation in rows:
        if collation != "utf8mb4_bin":
            store.execute(f"ALTER TABLE account MODIFY {name} VARCHAR(255) COLLATE utf8mb4_bin NOT NULL")
            yield f"let account.{name} be compared byte by byte"


MIGRATIONS = (
    Migration(
        1,
        "the original's tables, and what stands beside them",
        (
            Table(
                "account",
                (
                    ("id", ID),
                    ("mysql_username", EXACT),
                    ("type", ORIGINAL_TYPE),
                    ("username", EXACT),
                    ("password_hash", ORIGINAL_HASH),
                    ("uid", NUMBER_OR_NONE),
                    ("entry_uuid", WORD),
                    ("generation", ("INTEGER NOT NULL DEFAULT 1", "BIGINT NOT NULL DEFAULT 1")),
                    (
                        "state",
                        ("TEXT NOT NULL DEFAULT 'live'", "VARCHAR(16) CHARACTER SET ascii NOT NULL DEFAULT 'live'"),
                    ),
                    ("other_hash", HASH_OR_NONE),
                    ("until", STAMP),
                    ("missing_since", STAMP),
                    ("suspended_at", STAMP),
                    ("suspended_why", TEXT),
                    ("password_at", STAMP),
                ),
            ),
            Table(
                "account_host",
                (
                    ("id", ID),
                    ("account_id", REF),
                    ("hostname", ORIGINAL_NAME),
                    ("status", ORIGINAL_STATUS),
                    ("error", TEXT),
                    ("tries", NUMBER),
                    ("since", STAMP),
                ),
            ),
            Table(
                "tombstone",
                (
                    ("id", ID),
                    ("mysql_username", EXACT),
                    ("type", WORD),
                    ("username", EXACT),
                    ("uid", NUMBER),
                    ("entry_uuid", WORD),
                    ("at", STAMP),
                    ("why", TEXT),
                ),
            ),
            Table(
                "event",
                (
                    ("id", ID),
                    ("at", STAMP),
                    ("epoch", NUMBER),
                    ("actor", TEXT),
                    ("account", TEXT),
                    ("host", TEXT),
                    ("what", WORD),
                    ("detail", LONG),
                    ("digest", WORD),
                ),
            ),
            Table(
                "limit_policy",
                (
                    ("id", ID),
                    ("kind", WORD),
                    ("account", WORD),
                    ("host_group", TEXT),
                    ("max_connections", NUMBER_OR_NONE),
                    ("statement_seconds", NUMBER_OR_NONE),
                    ("queries_per_hour", NUMBER_OR_NONE),
                    ("reason", TEXT),
                    ("until", STAMP),
                    ("who", TEXT),
                    ("at", STAMP),
                    ("ended_at", STAMP),
                ),
            ),
            Table(
                "request",
                (
                    ("id", ID),
                    ("verb", WORD),
                    ("account", WORD),
                    ("options", LONG),
                    ("who", TEXT),
                    ("at", STAMP),
                    ("done_at", STAMP),
                    ("result", TEXT),
                ),
            ),
            Table("listing", (("id", ID), ("kind", WORD), ("at", STAMP), ("count", NUMBER))),
            Table(
                "leader",
                (("id", REF), ("holder", TEXT), ("epoch", NUMBER), ("until", STAMP), ("version", NUMBER)),
            ),
            Step("types", _types),
            Step("exact names", _exact_names),
            Step("once per server", _once_per_server),
            Step("of nobody", _of_nobody),
            Unique("account", ("type", "username")),
            Unique("account", ("mysql_username",)),
            Unique("account_host", ("account_id", "hostname")),
            Unique("tombstone", ("mysql_username",)),
            Unique("listing", ("kind",)),
            Unique("leader", ("id",)),
            Index("account_host", ("hostname", "status")),
            Index("event", ("account",)),
        ),
    ),
)
_APPLIED = Table("labstore_schema", (("id", ID), ("number", NUMBER), ("name", TEXT), ("checksum", WORD), ("at", STAMP)))


def migrate(store: Store) -> tuple[str, ...]:
    """Bring the tables to the newest version; what was done, in words. Raises SchemaUnfit, LedgerFailed."""
    done = list(_APPLIED.ensure(store))
    applied = {row[0]: row[1] for row in store.query("SELECT number, checksum FROM labstore_schema")}
    newer = sorted(set(applied) - {migration.number for migration in MIGRATIONS})
    if newer:
        raise SchemaUnfit([f"the ledger is of version {newer[-1]}, this program knows {MIGRATIONS[-1].number}"])
    for migration in MIGRATIONS:
        if migration.number in applied:
            if applied[migration.number] != migration.checksum:
                raise SchemaUnfit([f"migration {migration.number} of the ledger was another one than this program's"])
            continue
        for wish in migration.wishes:
            done += wish.ensure(store)
        _first_rows(store)
        store.execute(
            "INSERT INTO labstore_schema (number, name, checksum, at) VALUES (?, ?, ?, ?)",
            *(migration.number, migration.name, migration.checksum, store.now().isoformat()),
        )
        done.append(f"the ledger is of version {migration.number}: {migration.name}")
    return tuple(done)


def _first_rows(store: Store) -> None:
    if not store.query("SELECT id FROM leader WHERE id = 1"):
        store.execute("INSERT INTO leader (id, holder, epoch, until, version) VALUES (1, '', 0, NULL, 0)")
