"""A small site for database accounts: homes on this machine, a directory, a ledger, replica servers."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

from labstore.dbusers import assemble
from labstore.dbusers.crew import Crew
from labstore.dbusers.cycle import DbCycle
from labstore.dbusers.observe import Observer
from labstore.formats import my_cnf
from labstore.model.accounts import AccountKind, DbUser
from labstore.model.database import HostKey
from labstore.model.dbusers_settings import (
    DbusersSettings,
    FileDirectorySettings,
    FilesSettings,
    LedgerSettings,
    Pacing,
)
from labstore.model.ledger import Request, RequestVerb
from labstore.ports.clock import Clock
from labstore.ports.credential_writer import CredentialWriter
from labstore.ports.directory import Directory
from labstore.ports.ledger import Ledger
from labstore.reconcile.record import Record
from labstore.sources.ledger.ledger import SqlLedger
from labstore.sources.ledger.store import MariaStore, SqliteStore, Store
from labstore.sources.replica_hands import connect
from labstore.sources.replica_server import MariaReplica
from labstore.system.beneath import is_immutable, set_immutable
from labstore.system.clock import SystemClock
from labstore.system.credential_files import FILE_NAMES, CredentialFiles
from labstore.system.locks import exclusive
from tests.support.fakes import FakeNode
from tests.support.mariadb import MariaServer

HOUR = 3600.0
PATIENT = Pacing(patience=30.0)
"""For a busy machine: a server that is there answers in the end."""


def _nothing(*_words: object) -> None:
    """No hook."""


@dataclass(frozen=True)
class Hooks:
    """What is called before a statement to a replica server, a statement to the ledger, a change of a file."""

    server: Callable[[HostKey, str], None] = _nothing
    ledger: Callable[[str], None] = _nothing
    file: Callable[[str], None] = _nothing


NO_HOOKS = Hooks()


def _hooked(store: Store, before: Callable[[str], None]) -> Store:
    execute, many = store.execute, store.many

    def marked(sql: str, *values: object) -> int:
        before(sql)
        return execute(sql, *values)

    def marked_many(sql: str, rows: Sequence[Sequence[object]]) -> None:
        before(sql)
        many(sql, rows)

    store.execute, store.many = marked, marked_many  # type: ignore[method-assign]
    return store


class ShiftedClock(SystemClock):
    """The machine's clock, put forward by the tests: real seconds go on in between."""

    def __init__(self) -> None:
        super().__init__()
        self._shift = timedelta()

    def now(self) -> datetime:
        return super().now() + self._shift

    def monotonic(self) -> float:
        return super().monotonic() + self._shift.total_seconds()

    def advance(self, seconds: float) -> None:
        self._shift += timedelta(seconds=seconds)


@dataclass
class Homes:
    """The homes of tools and users below one directory, owned as on the real thing."""

    root: Path

    def __post_init__(self) -> None:
        for kind in AccountKind:
            (self.root / kind.value).mkdir(parents=True, exist_ok=True)

    def settings(self, **changes: Any) -> FilesSettings:
        return FilesSettings({kind: self.root / kind.value for kind in AccountKind}, **changes)

    def make(self, kind: AccountKind, name: str, uid: int) -> Path:
        home = self.root / kind.value / name
        home.mkdir(mode=0o755)
        os.chown(home, uid, uid)
        return home

    def file(self, kind: AccountKind, name: str) -> Path:
        return self.root / kind.value / name / FILE_NAMES[kind]

    def credentials(self, kind: AccountKind, name: str) -> tuple[str, str]:
        """User and password as a client reads them."""
        found = my_cnf.parse(self.file(kind, name).read_bytes())
        return str(found.user), found.password.reveal()

    def protected(self, kind: AccountKind, name: str) -> bool:
        descriptor = os.open(self.file(kind, name), os.O_RDONLY)
        try:
            return is_immutable(descriptor)
        finally:
            os.close(descriptor)

    def put(self, kind: AccountKind, name: str, uid: int, content: bytes, protect: bool = True) -> Path:
        """A file as the original made it."""
        path = self.file(kind, name)
        path.write_bytes(content)
        path.chmod(0o400)
        os.chown(path, uid, uid)
        if protect:
            flag(path, True)
        return path

    def clear(self) -> None:
        for path in self.root.rglob("*my.cnf"):
            if path.is_file() and not path.is_symlink():
                flag(path, False)
        shutil.rmtree(self.root, ignore_errors=True)


def flag(path: Path, wanted: bool) -> None:
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW)
    try:
        set_immutable(descriptor, wanted)
    finally:
        os.close(descriptor)


def credentials(user: str, password: str) -> bytes:
    return f"[client]\nuser = {user}\npassword = {password}\n\n".encode()


@dataclass
class Site:
    """Everything of a site but its servers. `people` is the file directory's text, rewritten by `tools` and `users`.

    A new `cycle()` is a restarted daemon: nothing in memory is left.
    """

    root: Path
    servers: Sequence[MariaServer]
    settings: DbusersSettings
    homes: Homes
    clock: ShiftedClock = field(default_factory=ShiftedClock)
    node: FakeNode | None = None
    tools: dict[str, Any] = field(default_factory=dict)
    users: dict[str, Any] = field(default_factory=dict)
    directory: Directory | None = None
    writer: CredentialWriter | None = None
    last: DbCycle | None = None

    def add_tool(self, name: str, uid: int, home: bool = True) -> None:
        self.tools[name] = uid
        self.write_people()
        if home:
            self.homes.make(AccountKind.TOOL, name, uid)

    def write_people(self) -> None:
        if isinstance(self.settings.directory, FileDirectorySettings):
            lines = [
                f"{section}: {_flow(entries)}" for section, entries in (("tools", self.tools), ("users", self.users))
            ]
            new = self.settings.directory.path.with_suffix(".new")
            new.write_text("\n".join(lines) + "\n")
            new.rename(self.settings.directory.path)

    def change(self, **changes: Any) -> None:
        self.settings = replace(self.settings, **changes)

    def ledger(self) -> Ledger:
        return assemble.ledger(self.settings.ledger, self.clock)

    def cycle(self, clock: Clock | None = None, hooks: Hooks = NO_HOOKS) -> DbCycle:
        """A daemon that has just been started; the former one's connections are closed."""
        self.close()
        used = clock or self.clock
        made = self.settings
        store = MariaStore(made.ledger) if made.ledger.sqlite is None else SqliteStore(made.ledger.sqlite, used)
        servers = [
            MariaReplica(host, used, partial(connect, host, partial(hooks.server, host.key))) for host in made.hosts
        ]
        observer = Observer(
            made,
            self.directory or assemble.directory(made, used),
            SqlLedger(_hooked(store, hooks.ledger)),
            Crew(servers, used, made.pacing.back_off),
            self.writer or CredentialFiles(made.files, used, hooks.file),
            used,
        )
        turn = partial(exclusive, self.root / "dbusers.lock", "a test")
        self.last = DbCycle(observer, self.node or FakeNode(used), "test", turn=turn)  # type: ignore[arg-type]
        return self.last

    def run(self, times: int = 1) -> Record:
        """Cycles of the daemon that runs already."""
        cycle = self.last or self.cycle()
        for _ in range(times):
            record = cycle.run()
        return record

    def ask(self, verb: RequestVerb, account: str | None, **options: Any) -> Request:
        ledger = self.ledger()
        try:
            user = DbUser(account) if account else None
            return ledger.ask(Request(verb, user, "a test", self.clock.now(), options))
        finally:
            ledger.close()

    def works(self, name: str, kind: AccountKind = AccountKind.TOOL) -> list[bool]:
        """Whether the file's password logs in, on each server."""
        user, password = self.homes.credentials(kind, name)
        return [server.works(user, password) for server in self.servers]

    def close(self) -> None:
        if self.last is not None:
            self.last.observer.crew.close()
            self.last.observer.ledger.close()
            self.last = None

    def end(self) -> None:
        self.close()
        self.homes.clear()


def _flow(entries: dict[str, Any]) -> str:
    parts = []
    for name, value in entries.items():
        words = str(value) if isinstance(value, int) else _map(value)
        parts.append(f"{name}: {words}")
    return "{" + ", ".join(parts) + "}"


def _map(value: dict[str, Any]) -> str:
    return "{" + ", ".join(f"{key}: {str(word).lower()}" for key, word in value.items()) + "}"


def site(root: Path, servers: Sequence[MariaServer], ledger: LedgerSettings | None = None, **changes: Any) -> Site:
    """A site with a file directory, and an SQLite ledger unless another is given."""
    homes = Homes(root / "homes")
    hosts = changes.pop("hosts", None)
    if hosts is None:
        hosts = tuple(server.set_up() for server in servers)
    settings = DbusersSettings(
        directory=changes.pop("directory", FileDirectorySettings(root / "people.yaml")),
        ledger=ledger or LedgerSettings(sqlite=root / "ledger.db"),
        hosts=hosts,
        files=changes.pop("files", homes.settings()),
        pacing=changes.pop("pacing", PATIENT),
        metrics_port=None,
        state_dir=root,
        **changes,
    )
    made = Site(root, servers, settings, homes)
    made.write_people()
    return made
