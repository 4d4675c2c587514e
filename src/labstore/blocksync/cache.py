"""The source's copy of a target's index: so that an unchanged target need say no more than its root."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path

from labstore.blocksync.index import IndexFolder, IndexState, Unreadable, folder_name
from labstore.blocksync.messages import Plan
from labstore.blocksync.store import DigestStore
from labstore.reports.blocksync import IndexFailed, SyncFailed
from labstore.system import locks
from labstore.system.files import make_directory

KEPT = 4
"""Copies kept per source: one for each target that it has, and no more than these."""


class Copy:
    """The digests that the source works on in one run. `valid`: they are the target's, as its root says."""

    def __init__(self, folder: IndexFolder, state: IndexState, valid: bool, kept: bool) -> None:
        self.valid, self._folder, self._state, self._kept = valid, folder, state, kept
        self._clean = valid
        self.store: DigestStore = folder.digests(state, fresh=not valid)

    def dirty(self) -> None:
        """Say, before it becomes true, that the copy is no longer what its header says."""
        if self._clean and self._kept:
            self._clean = False
            self._folder.save(_said(self._state, None, 0))

    def keep(self, root: str, generation: int) -> bool:
        """The target now has what is in the store. Returns whether that is kept."""
        if self._kept and not (self._clean and self._state.root == root):
            self.store.sync()
            self._folder.save(_said(self._state, root, generation))
        return self._kept


@contextlib.contextmanager
def copy_of(caches: Path | None, label: str, size: int, plan: Plan) -> Iterator[Copy]:
    """The copy for one source (`label`) and target, or an empty one that goes away again. Raises SyncFailed."""
    fresh = IndexState(plan.volume, plan.key, plan.algorithm, plan.block_size, size)
    try:
        with contextlib.ExitStack() as held:
            kept = caches is not None and _locked(held, caches, label, plan.volume)
            folder = IndexFolder(_path(caches, label, plan.volume) if caches and kept else _passing(held))
            known = _known(folder) if kept else None
            valid = known is not None and plan.root is not None and known == _said(fresh, plan.root, plan.generation)
            if kept and not valid:
                _forget(folder)
            copy = Copy(folder, fresh if known is None or not valid else known, valid, kept)
            held.callback(copy.store.close)
            yield copy
    except OSError as error:
        raise SyncFailed(IndexFailed(str(caches), error.strerror or str(error))) from error


def _said(state: IndexState, root: str | None, generation: int) -> IndexState:
    return IndexState(
        state.volume,
        state.key,
        state.algorithm,
        state.block_size,
        state.size,
        closed=root is not None,
        known=state.blocks if root is not None else 0,
        generation=generation,
        root=root,
    )


def _path(caches: Path, label: str, volume: str) -> Path:
    return caches / folder_name(label) / volume


def _locked(held: contextlib.ExitStack, caches: Path, label: str, volume: str) -> bool:
    """Take the copy for ourselves; another run may have it, then we do without."""
    path = _path(caches, label, volume)
    make_directory(path, 0o700)
    try:
        held.enter_context(locks.exclusive(path / "lock", "block sync"))
    except locks.Locked:
        return False
    others = sorted((each for each in path.parent.iterdir() if each != path), key=lambda each: each.stat().st_mtime)
    _remove(others[: max(0, len(others) + 1 - KEPT)])
    return True


def _remove(folders: Sequence[Path]) -> None:
    if folders:
        import shutil  # noqa: PLC0415 - used by one run in many

        for each in folders:
            shutil.rmtree(each, ignore_errors=True)


_BESIDE_MEMORY = "/var/tmp"  # noqa: S108 - a folder of a name that nobody can guess is made in it
"""Where digests of a run go of which nothing is kept: a thousandth of the device, too much for a /tmp in memory."""


def _passing(held: contextlib.ExitStack) -> Path:
    import tempfile  # noqa: PLC0415 - only where no copy is kept

    return Path(held.enter_context(tempfile.TemporaryDirectory(prefix="labstore-blocksync-", dir=_BESIDE_MEMORY)))


def _known(folder: IndexFolder) -> IndexState | None:
    try:
        return folder.load()
    except Unreadable:
        return None


def _forget(folder: IndexFolder) -> None:
    """Nothing of an old copy is left to be mistaken for a new one."""
    folder.clear()
