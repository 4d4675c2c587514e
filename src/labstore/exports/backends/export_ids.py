"""Export ids of NFS-Ganesha: part of every file handle, so a path keeps its id for good.

An id is made from the path, so that two nodes which never spoke to each other give the same one (clients keep their
handles over a failover); where another path has it already, the next free one is taken. What was given once is kept in
a file, written before it is used, also for paths that are no longer exported.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping
from pathlib import Path

from labstore.formats.ganesha_conf import HIGHEST_ID, read_ids, render_ids
from labstore.model.names import ExportPath
from labstore.system.files import read_limited, write_atomic

FILE_LIMIT = 80 << 20
"""Bytes: 65,535 paths of 1,024 characters with their ids."""


class NoIdLeft(ValueError):
    """More exports than there are ids."""

    def __init__(self, path: ExportPath) -> None:
        self.path = path
        super().__init__(f"{path}: all {HIGHEST_ID} export ids are in use")


class ExportIds:
    """The ids ever given out, in `file`. Raises OSError, ValueError (BadGaneshaConf, NoIdLeft)."""

    def __init__(self, file: Path) -> None:
        self._file = file

    def known(self) -> dict[ExportPath, int]:
        try:
            return read_ids(read_limited(self._file, FILE_LIMIT).decode("ascii"))
        except FileNotFoundError:
            return {}

    def give(
        self, paths: Iterable[ExportPath], in_force: Mapping[ExportPath, int], foreign: Collection[int]
    ) -> dict[ExportPath, int]:
        """An id for each of `paths`, on file before this returns. Those `in_force` hold, whatever the file says; ids
        that `foreign` exports have are not given."""
        known = self.known()
        held = frozenset(in_force.values())
        ids = {path: number for path, number in known.items() if number not in held} | dict(in_force)
        wanted = sorted(paths)
        assign(ids, wanted, foreign)
        if ids != known:
            self._file.parent.mkdir(parents=True, exist_ok=True)
            write_atomic(self._file, render_ids(ids).encode())
        return {path: ids[path] for path in wanted}


def assign(ids: dict[ExportPath, int], wanted: Iterable[ExportPath], foreign: Collection[int]) -> None:
    """Give each wanted path that has none an id in `ids`. The oldest id whose path is not wanted is given away only
    when there is no fresh one left. Raises NoIdLeft."""
    wanted = list(wanted)
    taken = {*ids.values(), *foreign}
    for path in wanted:
        if path in ids:
            continue
        if len(taken) < HIGHEST_ID:
            ids[path] = _first_free(path, taken)
        else:
            ids[path] = _given_up(path, ids, frozenset(wanted))
        taken.add(ids[path])


def _first_free(path: ExportPath, taken: Collection[int]) -> int:
    start = int.from_bytes(hashlib.blake2b(path.encode(), digest_size=8).digest())
    return next(number for step in range(HIGHEST_ID) if (number := (start + step) % HIGHEST_ID + 1) not in taken)


def _given_up(path: ExportPath, ids: dict[ExportPath, int], wanted: Collection[ExportPath]) -> int:
    old = next((other for other in ids if other not in wanted), None)
    if old is None:
        raise NoIdLeft(path)
    return ids.pop(old)
