"""Every applied generation, kept: who may mount what from which generation to which, and who changed it when and why.

One SQLite file. A grant or export is one row with the generations between which it held, so a change of one client
costs one row whatever the size of the table, and any generation can be read back whole.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from pathlib import Path
from typing import Any

from labstore.exports.grants import Doubt, Grant, GrantTable
from labstore.formats.exports5 import option_text, parse_options
from labstore.model.address import Client
from labstore.model.exports import Export, ExportOptions, Owner
from labstore.model.names import ExportPath

_SCHEMA = """
CREATE TABLE IF NOT EXISTS generation (
    number INTEGER PRIMARY KEY, at TEXT NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL,
    digest TEXT NOT NULL, state TEXT NOT NULL, facts TEXT NOT NULL, steps TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS export (
    path TEXT NOT NULL, owner TEXT NOT NULL, options TEXT NOT NULL, world INTEGER NOT NULL,
    first INTEGER NOT NULL, last INTEGER);
CREATE TABLE IF NOT EXISTS granted (
    path TEXT NOT NULL, client TEXT NOT NULL, source TEXT NOT NULL, since TEXT NOT NULL, project_id TEXT NOT NULL,
    instance_id TEXT NOT NULL, instance_name TEXT NOT NULL, region TEXT NOT NULL,
    first INTEGER NOT NULL, last INTEGER, ended_by TEXT);
CREATE TABLE IF NOT EXISTS doubt (
    path TEXT NOT NULL, client TEXT NOT NULL, region TEXT NOT NULL, listing INTEGER NOT NULL, since TEXT NOT NULL,
    PRIMARY KEY (path, client));
CREATE TABLE IF NOT EXISTS pin (
    generation INTEGER NOT NULL, until TEXT NOT NULL, who TEXT NOT NULL, why TEXT NOT NULL);
CREATE INDEX IF NOT EXISTS export_open ON export (path) WHERE last IS NULL;
CREATE INDEX IF NOT EXISTS granted_open ON granted (path, client) WHERE last IS NULL;
CREATE INDEX IF NOT EXISTS granted_client ON granted (client);
"""
ABANDONED_KEPT = 100
"""Generations that never came to be and are remembered: a server that refuses for a night makes a thousand."""
_ALIVE = "first <= :n AND (last IS NULL OR last >= :n)"


class GenerationState(StrEnum):
    PENDING = "pending"
    """Being applied; what the server's files say decides whether it came to be."""
    APPLIED = "applied"
    ABANDONED = "abandoned"


@dataclass(frozen=True)
class Generation:
    """One generation: its number, when (UTC), who, why, the digest of its table, the figures and steps behind it."""

    number: int
    at: datetime
    who: str
    why: str
    digest: str
    state: GenerationState
    facts: Mapping[str, Any]
    steps: tuple[Mapping[str, Any], ...]


@dataclass(frozen=True)
class Held:
    """One grant with the generations between which it held; `last` None means it holds now."""

    grant: Grant
    first: int
    last: int | None
    ended_by: str | None


@dataclass(frozen=True)
class Pin:
    """A person's word that a former generation is to be served until a moment (UTC), whatever the inventory says."""

    generation: int
    until: datetime
    who: str
    why: str


@dataclass(frozen=True)
class Difference:
    """What generation `b` has and `a` had not, and the reverse; exports whose options changed stand in both."""

    added: tuple[Grant, ...]
    removed: tuple[Grant, ...]
    exports_added: tuple[Export, ...]
    exports_removed: tuple[Export, ...]


class History:
    """The file of generations of one cluster. Raises sqlite3.Error where the file cannot be read or written."""

    def __init__(self, path: Path, read_only: bool = False) -> None:
        if read_only:
            self._db = _reading(path)
        else:
            self._db = sqlite3.connect(path, timeout=10, isolation_level=None)
            self._db.execute("PRAGMA journal_mode=WAL")
            self._db.execute("PRAGMA synchronous=FULL")
            self._db.executescript(_SCHEMA)
        self._db.row_factory = sqlite3.Row
        self._latest: tuple[int, GrantTable] | None = None
        self._identities: Mapping[ExportPath, str] | None = None

    def close(self) -> None:
        self._db.close()

    # --- reading ----------------------------------------------------------------------------------------------------

    def generations(self, limit: int = 50) -> tuple[Generation, ...]:
        """The newest `limit` generations, the newest first."""
        rows = self._db.execute("SELECT * FROM generation ORDER BY number DESC LIMIT ?", (limit,))
        return tuple(_generation(row) for row in rows)

    def generation(self, number: int) -> Generation | None:
        row = self._db.execute("SELECT * FROM generation WHERE number = ?", (number,)).fetchone()
        return _generation(row) if row else None

    def newest(self) -> int | None:
        """The number of the newest generation that was applied."""
        row = self._db.execute("SELECT max(number) FROM generation WHERE state = ?", (GenerationState.APPLIED.value,))
        number = row.fetchone()[0]
        return None if number is None else int(number)

    def pin(self) -> Pin | None:
        row = self._db.execute("SELECT * FROM pin").fetchone()
        return Pin(row["generation"], datetime.fromisoformat(row["until"]), row["who"], row["why"]) if row else None

    def at_time(self, moment: datetime) -> Generation | None:
        """The generation that was in force at `moment` (UTC)."""
        row = self._db.execute(
            "SELECT * FROM generation WHERE state = ? AND at <= ? ORDER BY number DESC LIMIT 1",
            (GenerationState.APPLIED.value, moment.isoformat()),
        ).fetchone()
        return _generation(row) if row else None

    def table(self, number: int) -> GrantTable:
        """The whole table of one generation."""
        if self._latest is not None and self._latest[0] == number:
            return self._latest[1]
        exports = {
            path: Export(Owner(row["owner"]), path, _options(row["options"]), (), bool(row["world"]))
            for row in self._db.execute(f"SELECT * FROM export WHERE {_ALIVE}", {"n": number})  # noqa: S608
            if (path := ExportPath(row["path"]))
        }
        grants: dict[ExportPath, dict[Client, Grant]] = {}
        for row in self._db.execute(f"SELECT * FROM granted WHERE {_ALIVE}", {"n": number}):  # noqa: S608
            grant = _grant(row)
            grants.setdefault(grant.path, {})[grant.client] = grant
        return GrantTable(exports, grants)

    def diff(self, a: int, b: int) -> Difference:
        """How generation `b` differs from `a`."""
        old, new = self.table(a), self.table(b)
        before = {(g.path, g.client): g for by_client in old.grants.values() for g in by_client.values()}
        after = {(g.path, g.client): g for by_client in new.grants.values() for g in by_client.values()}
        return Difference(
            added=tuple(after[key] for key in sorted(after.keys() - before.keys())),
            removed=tuple(before[key] for key in sorted(before.keys() - after.keys())),
            exports_added=tuple(e for path, e in sorted(new.exports.items()) if old.exports.get(path) != e),
            exports_removed=tuple(e for path, e in sorted(old.exports.items()) if new.exports.get(path) != e),
        )

    def why(self, address: Client, path: ExportPath | None = None) -> tuple[Held, ...]:
        """Every grant, past and present, that covers this address (and lies at or above this path); what
        holds now first, then the newest."""
        rows = self._db.execute(
            "SELECT * FROM granted WHERE client = ? OR instr(client, '/') > 0 ORDER BY last IS NULL DESC, first DESC",
            (str(address),),
        )
        held = (Held(_grant(row), row["first"], row["last"], row["ended_by"]) for row in rows)
        return tuple(h for h in held if h.grant.client.covers(address) and (path is None or path.under(h.grant.path)))

    def identities(self) -> Mapping[ExportPath, str]:
        """The project id to which each path was granted last, whether or not a grant is left."""
        if self._identities is None:
            rows = self._db.execute(
                "SELECT path, project_id, max(first) FROM granted WHERE project_id <> '' GROUP BY path"
            )
            self._identities = {ExportPath(row["path"]): str(row["project_id"]) for row in rows}
        return self._identities

    def doubts(self) -> Mapping[tuple[ExportPath, Client], Doubt]:
        doubts = (_doubt(row) for row in self._db.execute("SELECT * FROM doubt"))
        return {(doubt.path, doubt.client): doubt for doubt in doubts}

    # --- writing ----------------------------------------------------------------------------------------------------

    def begin(
        self,
        table: GrantTable,
        at: datetime,
        who: str,
        why: str,
        facts: Mapping[str, Any],
        steps: Iterable[Mapping[str, Any]],
        ended: Mapping[tuple[ExportPath, Client], str] | None = None,
        above: int = 0,
    ) -> int:
        """Write a pending generation, only its differences from the newest; returns its number.

        `ended` says for grants that end what ended them. `above` is the number that the server's files carry: where
        this history was lost, they remember more than it. A generation that was left pending is abandoned first.
        """
        with self._transaction():
            self._settle_pending(above or None)
            newest = self.newest()
            old = self.table(newest) if newest else GrantTable()
            number = max(self._next_number(), above + 1)
            self._db.execute(
                "INSERT INTO generation VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(number, at.isoformat(), who, why, table.table.digest, GenerationState.PENDING.value),
                    *(json.dumps(dict(facts)), json.dumps([dict(step) for step in steps])),
                ),
            )
            self._write_exports(old, table, number)
            self._write_grants(old, table, number, ended or {})
        self._latest, self._identities = (number, table), None
        return number

    def commit(self, number: int) -> None:
        """The pending generation is what the server serves."""
        self._set_state(number, GenerationState.APPLIED)

    def abandon(self, number: int) -> None:
        """The pending generation never came to be: its rows go, what it had ended holds again."""
        with self._transaction():
            self._undo(number)
        self._latest = self._identities = None

    def settle(self, stored: int | None) -> None:
        """After a restart: commit the pending generation if it is the one the server's files carry, else abandon it."""
        if not self._pending():
            return
        with self._transaction():
            self._settle_pending(stored)
        self._latest = self._identities = None

    def keep_doubts(self, doubts: Mapping[tuple[ExportPath, Client], Doubt]) -> None:
        """Replace the doubts; writes nothing where they are the same."""
        if dict(doubts) == dict(self.doubts()):
            return
        with self._transaction():
            self._db.execute("DELETE FROM doubt")
            self._db.executemany(
                "INSERT INTO doubt VALUES (?, ?, ?, ?, ?)",
                ((d.path, d.client, d.region, d.listing, d.since.isoformat()) for d in doubts.values()),
            )

    def set_pin(self, pin: Pin | None) -> None:
        """Pin a generation, or let the inventory rule again."""
        with self._transaction():
            self._db.execute("DELETE FROM pin")
            if pin is not None:
                self._db.execute(
                    "INSERT INTO pin VALUES (?, ?, ?, ?)", (pin.generation, pin.until.isoformat(), pin.who, pin.why)
                )

    def unpin(self, at: datetime) -> None:
        """Forget a pin whose time is over."""
        pin = self.pin()
        if pin is not None and pin.until <= at:
            self.set_pin(None)

    def prune(self, keep: int) -> int:
        """Forget all but the newest `keep` generations that were applied and those from the pinned one on; of those
        that never came to be a few stay. Rows that still hold are kept, and of every path the last grant (it names the
        project). Returns how many generations went."""
        with self._transaction():
            newest = self.newest()
            if newest is None:
                return 0
            pin = self.pin()
            oldest = min(self._oldest(keep), pin.generation if pin else newest)
            self._db.execute(
                "DELETE FROM granted WHERE last IS NOT NULL AND last < ? AND rowid NOT IN"
                " (SELECT rowid FROM (SELECT rowid, max(first) FROM granted WHERE project_id <> '' GROUP BY path))",
                (oldest,),
            )
            self._db.execute("DELETE FROM export WHERE last IS NOT NULL AND last < ?", (oldest,))
            never = self._db.execute(
                "DELETE FROM generation WHERE state = ? AND number NOT IN"
                " (SELECT number FROM generation WHERE state = ? ORDER BY number DESC LIMIT ?)",
                (GenerationState.ABANDONED.value, GenerationState.ABANDONED.value, ABANDONED_KEPT),
            ).rowcount
            return never + self._db.execute("DELETE FROM generation WHERE number < ?", (oldest,)).rowcount

    # --- the rows ---------------------------------------------------------------------------------------------------

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
        except BaseException:
            self._db.execute("ROLLBACK")
            raise
        self._db.execute("COMMIT")

    def _oldest(self, keep: int) -> int:
        """The oldest of the newest `keep` generations that were applied."""
        rows = self._db.execute(
            "SELECT number FROM generation WHERE state = ? ORDER BY number DESC LIMIT ?",
            (GenerationState.APPLIED.value, keep),
        ).fetchall()
        return int(rows[-1]["number"])

    def _next_number(self) -> int:
        (highest,) = self._db.execute("SELECT coalesce(max(number), 0) FROM generation").fetchone()
        return int(highest) + 1

    def _settle_pending(self, stored: int | None) -> None:
        for number in self._pending():
            if number == stored:
                self._set_state(number, GenerationState.APPLIED)
            else:
                self._undo(number)

    def _pending(self) -> list[int]:
        rows = self._db.execute("SELECT number FROM generation WHERE state = ?", (GenerationState.PENDING.value,))
        return [int(row[0]) for row in rows]

    def _set_state(self, number: int, state: GenerationState) -> None:
        self._db.execute("UPDATE generation SET state = ? WHERE number = ?", (state.value, number))

    def _undo(self, number: int) -> None:
        self._set_state(number, GenerationState.ABANDONED)
        for table in ("export", "granted"):
            self._db.execute(f"DELETE FROM {table} WHERE first = ?", (number,))  # noqa: S608 - a fixed list of tables
        self._db.execute("UPDATE export SET last = NULL WHERE last = ?", (number - 1,))
        self._db.execute("UPDATE granted SET last = NULL, ended_by = NULL WHERE last = ?", (number - 1,))

    def _write_exports(self, old: GrantTable, new: GrantTable, number: int) -> None:
        for path, export in old.exports.items():
            if new.exports.get(path) != export:
                self._db.execute("UPDATE export SET last = ? WHERE path = ? AND last IS NULL", (number - 1, path))
        self._db.executemany(
            "INSERT INTO export VALUES (?, ?, ?, ?, ?, NULL)",
            (
                (path, export.owner, option_text(export.options), int(export.world), number)
                for path, export in new.exports.items()
                if old.exports.get(path) != export
            ),
        )

    def _write_grants(
        self, old: GrantTable, new: GrantTable, number: int, ended: Mapping[tuple[ExportPath, Client], str]
    ) -> None:
        before = {(p, c): g for p, by_client in old.grants.items() for c, g in by_client.items()}
        after = {(p, c): g for p, by_client in new.grants.items() for c, g in by_client.items()}
        self._db.executemany(
            "UPDATE granted SET last = ?, ended_by = ? WHERE path = ? AND client = ? AND last IS NULL",
            ((number - 1, ended.get(key), *key) for key, grant in before.items() if after.get(key) != grant),
        )
        self._db.executemany(
            "INSERT INTO granted VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
            (
                (
                    *(g.path, g.client, g.source, g.since.isoformat()),
                    *(g.project_id, g.instance_id, g.instance_name, g.region, number),
                )
                for key, g in after.items()
                if before.get(key) != g
            ),
        )


def _reading(path: Path) -> sqlite3.Connection:
    """A connection that writes nothing. Where no writer has the file open SQLite would first make its index of the
    journal, which a reader without the right to write cannot: without a journal there is nothing to index."""
    reading = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=10, isolation_level=None)
    try:
        reading.execute("SELECT 1 FROM generation LIMIT 1")
    except sqlite3.OperationalError:
        if path.with_name(path.name + "-wal").exists() or not path.exists():
            raise
        reading.close()
        reading = sqlite3.connect(f"file:{path}?immutable=1", uri=True, timeout=10, isolation_level=None)
    return reading


def _generation(row: sqlite3.Row) -> Generation:
    return Generation(
        row["number"],
        datetime.fromisoformat(row["at"]),
        row["who"],
        row["why"],
        row["digest"],
        GenerationState(row["state"]),
        json.loads(row["facts"]),
        tuple(json.loads(row["steps"])),
    )


def _grant(row: sqlite3.Row) -> Grant:
    return Grant(
        ExportPath(row["path"]),
        Client(row["client"]),
        row["source"],
        datetime.fromisoformat(row["since"]),
        row["project_id"],
        row["instance_id"],
        row["instance_name"],
        row["region"],
    )


def _doubt(row: sqlite3.Row) -> Doubt:
    since = datetime.fromisoformat(row["since"])
    return Doubt(ExportPath(row["path"]), Client(row["client"]), row["region"], row["listing"], since)


def _options(text: str) -> ExportOptions:
    return parse_options(tuple(text.split(",")))
