"""A whole site of accounts, as the daemon puts it together, in a process of its own: `... ACCOUNTS PORT,PORT,... DIR`.

From an empty ledger; then a cycle in which nothing changed; then new passwords for everybody. One line of JSON.
"""

from __future__ import annotations

import json
import os
import resource
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

from bench.children.dbusers_hosts import FIRST, settings
from labstore.dbusers import assemble
from labstore.dbusers.crew import Crew
from labstore.dbusers.cycle import DbCycle
from labstore.dbusers.observe import Observer
from labstore.model.accounts import AccountKind
from labstore.model.dbusers_settings import (
    DbusersSettings,
    FileDirectorySettings,
    FilesSettings,
    LedgerSettings,
    Pacing,
    RotationSettings,
)
from labstore.model.ledger import Request, RequestVerb
from labstore.reconcile.record import State
from labstore.sources.ledger.ledger import SqlLedger
from labstore.sources.ledger.store import SqliteStore
from labstore.system.beneath import set_immutable
from labstore.system.clock import SystemClock
from labstore.system.credential_files import CredentialFiles
from labstore.system.node import LocalNode

PATIENT = Pacing(patience=120.0, work_patience=600.0)


class Counts:
    """What a cycle says to servers, and writes in the ledger and in homes."""

    def __init__(self) -> None:
        self.said = self.rows = self.files = 0

    def statement(self, _sql: str) -> None:
        self.said += 1

    def file(self, _word: str) -> None:
        self.files += 1


class CountedStore(SqliteStore):
    counts: Counts

    def execute(self, sql: str, *values: object) -> int:
        self._count(sql)
        return super().execute(sql, *values)

    def many(self, sql: str, rows: Sequence[Sequence[object]]) -> None:
        self._count(sql)
        super().many(sql, rows)

    def _count(self, sql: str) -> None:
        self.counts.rows += " account" in sql and sql.lstrip().startswith(("INSERT", "UPDATE", "DELETE"))


def furnish(root: Path, count: int) -> DbusersSettings:
    homes = root / "homes"
    homes.mkdir()
    lines = [f"  t{number}: {FIRST + number}" for number in range(count)]
    (root / "people.yaml").write_text("\n".join(["tools:", *lines, "users: {}", ""]))
    for number in range(count):
        (homes / f"t{number}").mkdir()
        os.chown(homes / f"t{number}", FIRST + number, FIRST + number)
    return DbusersSettings(
        directory=FileDirectorySettings(root / "people.yaml"),
        ledger=LedgerSettings(sqlite=root / "ledger.db"),
        hosts=tuple(settings(int(port)) for port in sys.argv[2].split(",")),
        files=FilesSettings({AccountKind.TOOL: homes}),
        kinds=frozenset({AccountKind.TOOL}),
        rotation=RotationSettings(batch=count),
        pacing=PATIENT,
        state_dir=root,
    )


def made(site: DbusersSettings, counts: Counts) -> DbCycle:
    clock = SystemClock()
    assert site.ledger.sqlite is not None
    store = CountedStore(site.ledger.sqlite, clock)
    store.counts = counts
    observer = Observer(
        site,
        assemble.directory(site, clock),
        SqlLedger(store),
        Crew(assemble.servers(site, clock, counts.statement), clock),
        CredentialFiles(site.files, clock, counts.file),
        clock,
    )
    return DbCycle(observer, LocalNode(clock), "bench", turn=nullcontext)


def measured(cycle: DbCycle, counts: Counts) -> Iterator[tuple[str, Any]]:
    def run() -> float:
        started = time.perf_counter()
        record = cycle.run()
        assert record.state is State.CONVERGED, record.reports[:5]
        return time.perf_counter() - started

    yield "first", run()
    yield "first_statements", counts.said
    before = counts.said, counts.rows, counts.files
    yield "same", run()
    yield "same_statements", counts.said - before[0]
    yield "same_writes", counts.rows + counts.files - before[1] - before[2]
    yield "memory", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    ledger = cycle.observer.ledger
    ledger.ask(Request(RequestVerb.ROTATE, None, "a benchmark", cycle.observer.clock.now()))
    yield "rotated", sum(_until(lambda: not ledger.read().requests, run))
    yield "memory_rotated", resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def _until(so: Callable[[], bool], run: Callable[[], float]) -> Iterator[float]:
    while not so():
        yield run()


def clear(root: Path) -> None:
    for path in (root / "homes").glob("*/*.cnf"):
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
        set_immutable(descriptor, False)
        os.close(descriptor)


if __name__ == "__main__":
    where = Path(sys.argv[3])
    counted = Counts()
    try:
        print(json.dumps(dict(measured(made(furnish(where, int(sys.argv[1])), counted), counted))))
    finally:
        clear(where)
