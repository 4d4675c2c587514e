"""NFS-Ganesha: a file of EXPORT blocks that it reads at its start, and live changes of just the exports that differ.

The server's configuration includes STORE/current/exports.conf; `current` names the generation in force, so a restart
serves the last known good without anybody's help. The running server is told over D-Bus, takings-away first, and asked
afterwards what it serves.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from labstore.exports.backends.export_ids import ExportIds
from labstore.exports.backends.ganesha_changes import batches, changes, differing
from labstore.exports.backends.generations import Generations
from labstore.formats.ganesha_conf import HEADER, Numbered, block, read, render
from labstore.formats.ganesha_dbus import Listed, LiveExport
from labstore.model.exports import ExportTable
from labstore.model.names import ExportPath
from labstore.ports.clock import Clock
from labstore.ports.export_server import Served
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.exports import ApplyFailed, ForeignFile, ServerUnreadable
from labstore.reports.report import Report
from labstore.system.files import FileTooLarge, read_limited, switch_symlink, write_atomic
from labstore.system.ganesha import Failure, GaneshaFailed

NAME = "NFS-Ganesha"
EXPORTS = "exports.conf"
IDS = "export-ids"
ALREADY = "already active"
NOTHING = "nothing"
"""Names the file that is in force before anything was applied."""
CHANGE = "change.conf"
"""Hands a few blocks to the running server; gone when the call has returned."""
FILE_LIMIT = 256 << 20
BATCH, BATCH_CLIENTS = 50, 1000
"""Blocks and clients handed over in one call."""


class Session(Protocol):
    """Calls on a server; see system.ganesha.Session. Every function raises GaneshaFailed."""

    def running(self) -> bool: ...
    def listed(self) -> tuple[Listed, ...]: ...
    def shown(self, ids: Sequence[int]) -> tuple[LiveExport, ...]: ...
    def add(self, file: Path, count: int) -> None: ...
    def update(self, file: Path, count: int) -> None: ...
    def remove(self, number: int) -> None: ...


class Server(Protocol):
    """Opens sessions; see system.ganesha.Ganesha."""

    def connect(self) -> AbstractContextManager[Session]: ...


class DirectoriesMissing(Report):
    """Exports whose directory is not there; the server would refuse them, so it is not asked."""

    paths: tuple[str, ...]

    code = "directories-missing"

    def message(self) -> str:
        more = f" and {len(self.paths) - 3} more" if len(self.paths) > 3 else ""
        return f"{', '.join(self.paths[:3])}{more}: no such directory; kept on file, served once it is there"

    def remedy(self) -> str:
        return "create the directory of the share, or take the share out of the mounts file"


@dataclass(frozen=True)
class Live:
    """What a running server serves: our exports by their path, and the rest."""

    ours: Mapping[ExportPath, LiveExport]
    foreign: tuple[Listed, ...]


@dataclass
class NfsGanesha:
    """See ports.export_server.ExportServer. `store` is a directory of its own below the state directory; the server
    must be able to read it. `servable` says whether a path is there to be exported."""

    store: Path
    server: Server
    clock: Clock
    servable: Callable[[ExportPath], bool] = field(default=lambda path: Path(path).is_dir())
    _read: tuple[tuple[int, int, int], tuple[Numbered, ...]] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._generations = Generations(self.store)
        self._ids = ExportIds(self.store / IDS)

    def prepare(self) -> None:
        """Let the server start before anything was ever applied: without its file it would not (4.3). Later without
        effect. Raises OSError."""
        if self._generations.current.is_symlink():
            return
        (self.store / NOTHING).mkdir(parents=True, exist_ok=True)
        write_atomic(self.store / NOTHING / EXPORTS, render(()).encode())
        switch_symlink(self._generations.current, NOTHING)

    # --- observing --------------------------------------------------------------------------------------------------

    def observe(self) -> Answer[Served]:
        try:
            stored = self._stored()
            with self.server.connect() as session:
                live = self._live(session, stored) if session.running() else None
        except (OSError, ValueError, FileTooLarge, GaneshaFailed) as error:
            return Missing(ServerUnreadable(NAME, str(error)), NAME, self.clock.now())
        table = _table(stored)
        served = Served(
            stored=table,
            generation=self._generations.number(),
            running=live is not None,
            drift=differing(live.ours, table, self.servable) if live else (),
            foreign=self._reports(live, table) if live else (),
        )
        return Fact(served, NAME, self.clock.now())

    def _stored(self) -> tuple[Numbered, ...]:
        """The file in force, parsed again only when it is another file than last time."""
        path = self._generations.current / EXPORTS
        try:
            status = path.stat()
        except FileNotFoundError:
            return ()
        signature = (status.st_ino, status.st_mtime_ns, status.st_size)
        if self._read is None or self._read[0] != signature:
            self._read = (signature, read(read_limited(path, FILE_LIMIT).decode("ascii")))
        return self._read[1]

    def _live(self, session: Session, stored: Iterable[Numbered]) -> Live:
        """Ours is what has an id that was given out, and the path that it was given to (a path cannot be changed while
        it is served; its pseudo path can)."""
        owner = {number: path for path, number in (self._ids.known() | _ids(stored)).items()}
        listed = [each for each in session.listed() if each.id != 0]
        shown = {each.id: each for each in session.shown([each.id for each in listed if each.id in owner])}
        ours = {owner[number]: export for number, export in shown.items() if export.path == owner[number]}
        ours_by_id = {export.id for export in ours.values()}
        return Live(ours, tuple(each for each in listed if each.id not in ours_by_id))

    def _reports(self, live: Live, table: ExportTable) -> tuple[Report, ...]:
        absent = [export.path for export in table if export.path not in live.ours and not self.servable(export.path)]
        said: list[Report] = [ForeignFile(each.pseudo, f"export {each.id} of {NAME}") for each in live.foreign]
        return tuple(said + ([DirectoriesMissing(tuple(absent))] if absent else []))

    # --- applying ---------------------------------------------------------------------------------------------------

    def apply(self, table: ExportTable, generation: int) -> int:
        wanted = ExportTable(tuple(export for export in table if not export.nobody))
        try:
            self._generations.sweep()
            with self.server.connect() as session:
                return self._apply(session, wanted, generation)
        except (OSError, ValueError, FileTooLarge, GaneshaFailed) as error:
            raise StepFailed(ApplyFailed(NAME, str(error))) from error

    def _apply(self, session: Session, table: ExportTable, generation: int) -> int:
        stored, previous = self._stored(), self._generations.number()
        live = self._live(session, stored) if session.running() else None
        before = _table(stored)
        same = table == before and previous is not None
        if same and not (live and differing(live.ours, before, self.servable)):
            return 0
        ids = self._ids.give(table.by_path, _ids(stored), {each.id for each in live.foreign} if live else ())
        try:
            calls = self._take_out(session, live, before, table) if live else 0
            if not same:
                self._store(table, ids, generation)
            if live:
                calls += self._bring(session, self._live(session, stored) if calls else live, table, ids)
        except (OSError, ValueError, GaneshaFailed):
            self._back(session, previous, generation)
            raise
        if previous is not None and previous != generation:
            self._generations.drop(previous)
        return calls

    def _store(self, table: ExportTable, ids: Mapping[ExportPath, int], generation: int) -> None:
        """The generation's file, in force in one step. What would not come back the same never gets a name."""
        if generation == self._generations.number():
            raise ValueError(f"generation {generation} is in force already, with another table")
        text = render(Numbered(ids[export.path], export) for export in table)
        if _table(read(text)) != table:
            raise ValueError("the table does not survive being written")
        self._generations.prepare(generation, {EXPORTS: text.encode()})
        self._generations.switch(generation)

    def _take_out(self, session: Session, live: Live, before: ExportTable, table: ExportTable) -> int:
        """Remove exports whose fsid changes, while the old file is still in force: the server cannot change it and does
        not show it, so its absence is what a later run recognizes."""
        fsid = {export.path: export.options.fsid for export in before}
        going = [
            path
            for path in live.ours
            if path in table.by_path and path in fsid and fsid[path] != table.by_path[path].options.fsid
        ]
        below = [path for path in live.ours if any(path.under(parent) for parent in going)] if going else []
        for path in sorted(below, reverse=True):
            session.remove(live.ours[path].id)
        return len(below)

    # --- the running server -----------------------------------------------------------------------------------------

    def _bring(self, session: Session, live: Live, table: ExportTable, ids: Mapping[ExportPath, int]) -> int:
        """Tell the server what differs and ask what came of it; returns the number of calls."""
        todo = changes(live.ours, table, ids, self.servable)
        for number in todo.remove:
            session.remove(number)
        calls = len(todo.remove)
        for tell, exports in ((session.update, todo.narrow), (session.update, todo.widen), (session.add, todo.add)):
            calls += sum(self._hand_over(tell, batch) for batch in batches(exports, BATCH, BATCH_CLIENTS))
        told = [*todo.widen, *todo.add]
        told += [each for each in todo.narrow if each.id not in {other.id for other in todo.widen}]
        self._verify(session, told, frozenset(todo.remove) - {each.id for each in todo.add})
        return calls

    def _hand_over(self, tell: Callable[[Path, int], None], batch: Sequence[Numbered]) -> int:
        """Give the server these exports in one call; where it refuses, one by one to find out which it is."""
        try:
            self._tell(tell, batch)
        except GaneshaFailed as failed:
            if failed.failure is not Failure.REFUSED:
                raise
            for each in batch:
                self._alone(tell, each)
            return len(batch) + 1
        return 1

    def _alone(self, tell: Callable[[Path, int], None], each: Numbered) -> None:
        """Hand over one export. That it is there already is fine (the batch had got as far, or it will be seen by
        `_verify`), and so is a refusal because its directory has just gone."""
        try:
            self._tell(tell, [each])
        except GaneshaFailed as failed:
            if ALREADY in failed.said or (failed.failure is Failure.REFUSED and not self.servable(each.export.path)):
                return
            raise GaneshaFailed(failed.method, failed.failure, f"{each.export.path}: {failed.said}") from failed

    def _tell(self, tell: Callable[[Path, int], None], batch: Sequence[Numbered]) -> None:
        file = self.store / CHANGE
        text = HEADER + "".join(block(each) for each in batch)
        if read(text) != tuple(batch):
            raise ValueError("the change does not survive being written")
        write_atomic(file, text.encode(), mode=0o600)
        try:
            tell(file, len(batch))
        finally:
            file.unlink(missing_ok=True)

    def _verify(self, session: Session, told: Sequence[Numbered], removed: frozenset[int]) -> None:
        listed = {each.id for each in session.listed()}
        shown = {each.id: each for each in session.shown([each.id for each in told if each.id in listed])}
        wrong = [
            each.export.path
            for each in told
            if not (shown[each.id].serves(each.export) if each.id in shown else not self.servable(each.export.path))
        ]
        if wrong or removed & listed:
            what = f"{len(wrong)} exports, first {wrong[0]}" if wrong else f"export {min(removed & listed)}"
            raise GaneshaFailed("DisplayExport", Failure.REFUSED, f"{what}: answered otherwise than told")

    def _back(self, session: Session, previous: int | None, failed: int) -> None:
        """The generation before, in force again, and the server brought back to it as far as it lets itself."""
        if previous is None:
            self._generations.current.unlink(missing_ok=True)
            self.prepare()
        elif previous != self._generations.number():
            self._generations.switch(previous)
        if previous != failed:
            self._generations.drop(failed)
        stored = self._stored()
        with contextlib.suppress(GaneshaFailed, OSError, ValueError):
            ids = self._ids.known() | _ids(stored)
            self._bring(session, self._live(session, stored), _table(stored), ids)


def _table(stored: Iterable[Numbered]) -> ExportTable:
    return ExportTable(tuple(each.export for each in stored))


def _ids(stored: Iterable[Numbered]) -> dict[ExportPath, int]:
    return {each.export.path: each.id for each in stored}
