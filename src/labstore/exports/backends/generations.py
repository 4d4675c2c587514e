"""A directory of generations of which one symbolic link, `current`, names the one in force.

Switching it is one rename(2): whoever reads through it sees one whole generation, whenever a writer is killed.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from labstore.system.files import STAGED, switch_symlink, sync_directory, sync_files

CURRENT = "current"
_PREFIX = "generation-"


class Generations:
    """Files by name, generation by generation, under `store`. Raises OSError."""

    def __init__(self, store: Path) -> None:
        self.store = store
        self.current = store / CURRENT

    def number(self) -> int | None:
        """The generation in force, None where there is none: not yet, or because its directory was taken away."""
        try:
            name = self.current.readlink().name
        except FileNotFoundError:
            return None
        digits = name.removeprefix(_PREFIX)
        return int(digits) if digits.isdigit() and (self.store / name).is_dir() else None

    def names(self) -> frozenset[str]:
        """The names of the files in force."""
        try:
            return frozenset(entry.name for entry in os.scandir(self.current))
        except FileNotFoundError:
            return frozenset()

    def prepare(self, number: int, files: Mapping[str, bytes | None]) -> Path:
        """Write generation `number` beside the one in force: None means the file as it is in force (a hard link, so
        that unchanged files cost no writing). Nothing is in force yet; a left-over of the same number is replaced."""
        self.store.mkdir(parents=True, exist_ok=True, mode=0o755)
        new = self.store / f"{_PREFIX}{number}"
        shutil.rmtree(new, ignore_errors=True)
        new.mkdir(mode=0o755)
        for name, content in files.items():
            if content is None:
                os.link(self.current / name, new / name)
            else:
                _write(new / name, content)
        sync_files([new / name for name, content in files.items() if content is not None])
        sync_directory(new)
        return new

    def switch(self, number: int) -> None:
        """Put a prepared generation in force, durably."""
        switch_symlink(self.current, f"{_PREFIX}{number}")

    def withdraw(self) -> None:
        """Put nothing in force, as before the first generation."""
        self.current.unlink(missing_ok=True)
        sync_directory(self.store)

    def drop(self, number: int) -> None:
        """Remove a generation that is not in force."""
        if number != self.number():
            shutil.rmtree(self.store / f"{_PREFIX}{number}", ignore_errors=True)

    def sweep(self) -> None:
        """Remove what killed runs left: every generation but the one in force, and half-made names."""
        keep = {CURRENT, f"{_PREFIX}{self.number()}"}
        if not self.store.is_dir():
            return
        for entry in list(os.scandir(self.store)):
            if entry.name in keep or not entry.name.startswith((_PREFIX, STAGED)):
                continue
            if entry.is_dir(follow_symlinks=False):
                shutil.rmtree(entry.path, ignore_errors=True)
            else:
                Path(entry.path).unlink(missing_ok=True)


def _write(path: Path, content: bytes) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o444)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
