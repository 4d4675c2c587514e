"""The kernel's NFS server: files in exports.d, one `exportfs -r` per batch, the result read back from mountd's table.

`exports.d/<owner>.exports` are symbolic links into the generation in force, so the whole set changes in one rename;
what is not such a link is not ours. Measured on nfs-utils 2.6.2, and kept as tests: a dangling link is complained
about and passed over; a line that is not exports(5) ends the reading of its own file and of no other; a path without
a client is exported to everybody; of two entries for one path and client the first in the order of file names counts.
"""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from labstore.exports.backends.generations import Generations
from labstore.formats.exports5 import WORLD, BadExports, Entry, entries, parse_options, read, read_etab, render
from labstore.model.exports import Export, ExportTable, Owner
from labstore.model.names import ExportPath
from labstore.ports.clock import Clock
from labstore.ports.export_server import PartlyServed, Served
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.exports import (
    ApplyFailed,
    ForeignExportOfOurs,
    ForeignExportsBroken,
    ForeignFile,
    ServerUnreadable,
)
from labstore.reports.report import Report
from labstore.system.files import FileTooLarge, read_limited, staged, sync_directory, write_atomic
from labstore.system.nfsd import threads_in

SUFFIX = ".exports"
NAME = "knfsd"
FILE_LIMIT = 16 << 20
"""Bytes of one file in exports.d that are read: far more than the largest that labstore writes."""
ETAB_LIMIT = 1 << 30

Etab = Mapping[str, Mapping[str, tuple[str, ...]]]
Signature = tuple[int, int, int]


class Exportfs(Protocol):
    """Runs exportfs with the rights that it needs; see system.exportfs."""

    def reload(self) -> str: ...


@dataclass(frozen=True)
class KnfsdPaths:
    """Where nfs-utils and the kernel keep things; tests have their own."""

    exports_dir: Path = Path("/etc/exports.d")
    exports_file: Path = Path("/etc/exports")
    etab: Path = Path("/var/lib/nfs/etab")
    threads: Path = Path("/proc/fs/nfsd/threads")
    statistics: Path = Path("/proc/net/rpc/nfsd")


@dataclass
class Knfsd:
    """See ports.export_server.ExportServer. `store` is a directory of its own below the state directory."""

    store: Path
    exportfs: Exportfs
    clock: Clock
    paths: KnfsdPaths = KnfsdPaths()
    _files: dict[str, tuple[Signature, tuple[Export, ...]]] = field(default_factory=dict, init=False)
    _table: tuple[Signature, Etab] | None = field(default=None, init=False)

    def __post_init__(self) -> None:
        self._generations = Generations(self.store)

    # --- observing --------------------------------------------------------------------------------------------------

    def observe(self) -> Answer[Served]:
        try:
            stored, foreign = self._stored(), self._foreign_entries()
            served = Served(
                stored=stored,
                generation=self._generations.number(),
                running=self._running(),
                drift=self._drift(stored, foreign),
                foreign=tuple(self._foreign_reports(stored)),
            )
        except (OSError, ValueError, FileTooLarge) as error:
            return Missing(ServerUnreadable(NAME, str(error)), NAME, self.clock.now())
        return Fact(served, NAME, self.clock.now())

    def _stored(self) -> ExportTable:
        return ExportTable(tuple(export for name in self._generations.names() for export in self._file(name)))

    def _file(self, name: str) -> tuple[Export, ...]:
        """One file of ours, parsed again only when it is another file than last time."""
        path = self._generations.current / name
        signature = _signature(path)
        known = self._files.get(name)
        if known is None or known[0] != signature:
            text = read_limited(path, FILE_LIMIT).decode("ascii")
            known = (signature, read(text, Owner(name.removesuffix(SUFFIX))))
            self._files[name] = known
        return known[1]

    def _running(self) -> bool:
        counted = threads_in(self.paths.statistics)
        if counted is not None:
            return counted > 0
        try:
            return int(self.paths.threads.read_text().split()[0]) > 0
        except (OSError, ValueError, IndexError):
            return False

    def _drift(self, stored: ExportTable, foreign: list[Entry]) -> tuple[ExportPath, ...]:
        """Paths that mountd's table answers otherwise than the files, and paths whose file is not linked."""
        table = self._etab()
        if table is None:
            return ()
        theirs = {_plain(entry.path) for entry in foreign}
        links = self._links()
        wrong = {path for path, export in stored.by_path.items() if not _same(export, table.get(path, {}))}
        unlinked = {export.path for export in stored if export.owner + SUFFIX not in links}
        left = {ExportPath(path) for path in table if path not in theirs and path not in stored.by_path and _ours(path)}
        return tuple(sorted((wrong - theirs) | unlinked | left))

    def _etab(self) -> Etab | None:
        """mountd's table, parsed again only when it is another file than last time (exportfs replaces it)."""
        try:
            signature = _signature(self.paths.etab)
        except FileNotFoundError:
            return None
        if self._table is None or self._table[0] != signature:
            text = read_limited(self.paths.etab, ETAB_LIMIT).decode("utf-8", "surrogateescape")
            self._table = (signature, read_etab(text))
        return self._table[1]

    def _links(self) -> frozenset[str]:
        """The names in exports.d that are links of ours."""
        return frozenset(entry.name for entry in self._entries() if self._is_link_of_ours(entry))

    def _is_link_of_ours(self, entry: os.DirEntry[str]) -> bool:
        return entry.is_symlink() and os.readlink(entry.path) == f"{self._generations.current}/{entry.name}"  # noqa: PTH115 - 5,000 of them

    def _entries(self) -> list[os.DirEntry[str]]:
        try:
            return sorted(os.scandir(self.paths.exports_dir), key=lambda entry: entry.name)
        except FileNotFoundError:
            return []

    # --- what is not ours -------------------------------------------------------------------------------------------

    def _foreign_files(self) -> Iterator[Path]:
        """Files that exportfs reads and that are not ours (exports(5): `.exports`, no leading dot)."""
        if self.paths.exports_file.is_file():
            yield self.paths.exports_file
        for entry in self._entries():
            if _is_read(entry) and not self._is_link_of_ours(entry):
                yield Path(entry.path)

    def _foreign_entries(self) -> list[Entry]:
        found: list[Entry] = []
        for path in self._foreign_files():
            with contextlib.suppress(OSError, BadExports, FileTooLarge):
                found += entries(_text(path))
        return found

    def _foreign_reports(self, stored: ExportTable) -> Iterator[Report]:
        for path in self._foreign_files():
            try:
                found = list(entries(_text(path)))
            except (OSError, BadExports, FileTooLarge) as error:
                yield ForeignExportsBroken(str(path), str(error))
                continue
            if found or path != self.paths.exports_file:
                yield ForeignFile(str(path), f"it exports to {len(found)} clients")
            for shared in sorted({_plain(entry.path) for entry in found if _plain(entry.path) in stored.by_path}):
                yield ForeignExportOfOurs(str(path), shared)
        for entry in self._entries():
            if not _is_read(entry) and not self._is_link_of_ours(entry):
                yield ForeignFile(entry.path, "exportfs passes it over")

    def of_others(self) -> Mapping[str, tuple[Export, ...] | str]:
        """The files of others in exports.d by name: what they say, read as strictly as our own, or why they cannot be
        read so. Raises OSError."""
        return {path.name: _strictly(path) for path in self._foreign_files() if path != self.paths.exports_file}

    # --- applying ---------------------------------------------------------------------------------------------------

    def apply(self, table: ExportTable, generation: int) -> int:
        try:
            return self._apply(table, generation)
        except (OSError, ValueError, FileTooLarge) as error:
            raise StepFailed(ApplyFailed(NAME, str(error))) from error

    def take_over(self, owners: Collection[Owner], table: ExportTable, generation: int) -> int:
        """Serve `table`, which is what is stored and what the files of these owners in exports.d say, with links of
        ours in place of those files; returns how often the server was called on.

        Everything in it was served before: killed at any point, every name gives the same exports, and another
        `take_over` goes on. Raises StepFailed; then the files are there again as they were.
        """
        try:
            names = [owner + SUFFIX for owner in owners]
            originals = {name: read_limited(self.paths.exports_dir / name, FILE_LIMIT) for name in names}
            return self._take_over(originals, table, generation)
        except (OSError, ValueError, FileTooLarge) as error:
            raise StepFailed(ApplyFailed(NAME, str(error))) from error

    def _take_over(self, originals: Mapping[str, bytes], table: ExportTable, generation: int) -> int:
        self._generations.sweep()
        previous = self._generations.number()
        if table != self._stored() or previous is None:
            self._prepare(table, generation)
            self._generations.switch(generation)
        for name in originals:
            with staged(self.paths.exports_dir / name) as new:
                new.symlink_to(self._generations.current / name)
        sync_directory(self.paths.exports_dir)
        try:
            self._reload(table)
        except StepFailed:
            for name, content in originals.items():
                write_atomic(self.paths.exports_dir / name, content)
            self._back(previous)
            raise
        if previous is not None:
            self._generations.drop(previous)
        return 1

    def _apply(self, table: ExportTable, generation: int) -> int:
        self._generations.sweep()
        stored = self._stored()
        if table == stored and not self._drift(stored, self._foreign_entries()) and not self._stale_links(stored):
            return 0
        previous = self._generations.number()
        before = self._wrong(stored)
        if table != stored or previous is None:
            self._store(table, generation)
        else:
            self._link(stored)
        try:
            self._reload(table, before)
        except PartlyServed:
            if previous not in (None, self._generations.number()):
                self._generations.drop(previous)
            raise
        except StepFailed:
            self._back(previous)
            raise
        if previous is not None:
            self._generations.drop(previous)
        return 1

    def _store(self, table: ExportTable, generation: int) -> None:
        """The files of a generation, put in force by one rename. Links for newcomers come before it (until then they
        dangle, which exportfs passes over), links of the departed go after it."""
        self._prepare(table, generation)
        self._link(table)
        self._generations.switch(generation)
        self._unlink_stale(table)

    def _prepare(self, table: ExportTable, generation: int) -> None:
        if generation == self._generations.number():
            raise ValueError(f"generation {generation} is in force already, with another table")
        unchanged = {name: self._file(name) for name in self._generations.names()}
        files: dict[str, bytes | None] = {}
        for owner, exports in table.by_owner.items():
            name = owner + SUFFIX
            files[name] = None if unchanged.get(name) == exports else render(exports).encode()
        self._generations.prepare(generation, files)

    def _link(self, table: ExportTable) -> None:
        links = self._links()
        missing = [owner + SUFFIX for owner in table.by_owner if owner + SUFFIX not in links]
        for name in missing:
            path = self.paths.exports_dir / name
            try:
                path.symlink_to(self._generations.current / name)
            except FileExistsError:
                raise FileExistsError(errno.EEXIST, "is not labstore's", str(path)) from None
        if missing:
            sync_directory(self.paths.exports_dir)

    def _stale_links(self, table: ExportTable) -> frozenset[str]:
        return self._links() - {owner + SUFFIX for owner in table.by_owner}

    def _unlink_stale(self, table: ExportTable) -> None:
        for name in self._stale_links(table):
            (self.paths.exports_dir / name).unlink()

    def _reload(self, table: ExportTable, before: Collection[ExportPath] = ()) -> None:
        """Let exportfs read the files, and look at what came of it: its exit status says little. `before`: paths that
        were served otherwise already."""
        self._unlink_stale(table)
        said = self.exportfs.reload()
        self._table = None
        wrong = self._wrong(table)
        if not wrong:
            return
        more = f" and {len(wrong) - 1} more" if len(wrong) > 1 else ""
        where = os.path.realpath(wrong[0])
        leads = "" if where == wrong[0] else f"; its directory leads to {where}"
        report = ApplyFailed(NAME, f"{wrong[0]}{more} is not served as wanted (exportfs: {_first(said)}{leads})")
        if set(wrong) <= set(before) and len(wrong) < len(table.by_path):
            raise PartlyServed(report, tuple(wrong), 1)
        raise StepFailed(report)

    def _wrong(self, table: ExportTable) -> list[ExportPath]:
        """The paths that mountd's table answers otherwise than `table` says."""
        etab = self._etab() or {}
        wrong = [path for path, export in table.by_path.items() if not _same(export, etab.get(path, {}))]
        foreign = {_plain(entry.path) for entry in self._foreign_entries()} if wrong else frozenset()
        return [path for path in wrong if path not in foreign]

    def _back(self, previous: int | None) -> None:
        """The generation before, in force again; if mountd had taken the new one already, it is told."""
        failed = self._generations.number()
        if failed == previous:
            return
        if previous is None:
            self._generations.withdraw()
        else:
            self._generations.switch(previous)
        self._files.clear()
        stored = self._stored()
        self._link(stored)
        self._unlink_stale(stored)
        if failed is not None:
            self._generations.drop(failed)
        self._table = None
        if self._drift(stored, self._foreign_entries()):
            with contextlib.suppress(StepFailed):
                self.exportfs.reload()
        self._table = None


def _same(export: Export, served: Mapping[str, tuple[str, ...]]) -> bool:
    """Whether mountd's table has just these clients, with these options."""
    clients: set[str] = {WORLD} if export.world else set(export.clients)
    if set(served) != clients:
        return False
    try:
        return all(parse_options(words) == export.options for words in set(served.values()))
    except ValueError:
        return False


def _signature(path: Path) -> Signature:
    status = path.stat()
    return status.st_ino, status.st_mtime_ns, status.st_size


def _is_read(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.name.endswith(SUFFIX) and not entry.name.startswith(".") and entry.is_file()
    except OSError:  # a link that leads to itself
        return False


def _plain(path: str) -> str:
    """A path as mountd's table has it: without doubled and trailing slashes."""
    return "/" + "/".join(part for part in path.split("/") if part)


def _ours(path: str) -> bool:
    """Whether this path is one that labstore could have exported."""
    try:
        ExportPath(path)
    except ValueError:
        return False
    return True


def _first(said: str) -> str:
    lines: Iterable[str] = (line for line in said.splitlines() if "can't open" not in line and line.strip())
    return next(iter(lines), "no complaint")[:200]


def _strictly(path: Path) -> tuple[Export, ...] | str:
    try:
        return read(_text(path), Owner(path.name.removesuffix(SUFFIX)))
    except (ValueError, OSError, FileTooLarge) as error:
        return str(error)


def _text(path: Path) -> str:
    return read_limited(path, FILE_LIMIT).decode("utf-8", "surrogateescape")
