"""What a run did, step by step, in a file that is only ever appended to and is on the disk before the step begins.

The journal explains; it never decides: a run looks at the world, not here. A half line at the end is a run that was
cut off while it wrote.
"""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from pathlib import Path

from labstore.ports.storage_node import Entry, Event
from labstore.system.files import make_directory, read_limited, sync_directory

LIMIT = 64 << 20


class Journal:
    """One file. Raises OSError where it cannot be written: a run that cannot be journaled does not start."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def append(self, *entries: Entry) -> None:
        """Durable when it returns, in one write."""
        make_directory(self.path.parent)
        new = not self.path.exists()
        descriptor = os.open(self.path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o640)
        try:
            lines = b"".join(map(_line, entries))
            if _half_line(self.path):
                lines = b"\n" + lines
            written = os.write(descriptor, lines)
            if written != len(lines):
                raise OSError(28, "the line was not written whole", str(self.path))
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        if new:
            sync_directory(self.path.parent)

    def entries(self) -> tuple[Entry, ...]:
        """Every whole line; empty where there is no file yet. Raises OSError."""
        try:
            text = read_limited(self.path, LIMIT).decode("utf-8", "replace")
        except FileNotFoundError:
            return ()
        return tuple(_entries(text))

    def unfinished(self) -> tuple[Entry, ...]:
        """The entries of the last run if it did not come to its end; else nothing. Raises OSError."""
        return unfinished(self.entries())

    def forget(self, run: str) -> None:
        """Cut off the lines of this run, the last one, and what follows: that can be done on a full disk too. Raises
        OSError."""
        begins = 0
        for line in read_limited(self.path, LIMIT).splitlines(keepends=True):
            if any(entry.run == run for entry in _entries(line.decode("utf-8", "replace"))):
                os.truncate(self.path, begins)
                return
            begins += len(line)

    def shorten(self, keep: int = 4000) -> None:
        """Keep the last entries alone. The file is replaced whole or not at all."""
        entries = self.entries()
        if len(entries) <= keep:
            return
        new = self.path.with_name(self.path.name + ".new")
        with new.open("wb") as file:
            for entry in entries[-keep:]:
                file.write(_line(entry))
            file.flush()
            os.fsync(file.fileno())
        new.replace(self.path)
        sync_directory(self.path.parent)


def unfinished(entries: Sequence[Entry]) -> tuple[Entry, ...]:
    """Those of the last run if it did not come to its end; else nothing."""
    last = tuple(entry for entry in entries if entry.run == entries[-1].run)
    return () if any(entry.event is Event.END for entry in last) else last


def _line(entry: Entry) -> bytes:
    return json.dumps(asdict(entry), separators=(",", ":")).encode() + b"\n"


def _half_line(path: Path) -> bool:
    with contextlib.suppress(OSError), path.open("rb") as file:
        file.seek(0, os.SEEK_END)
        if file.tell():
            file.seek(-1, os.SEEK_END)
            return file.read(1) != b"\n"
    return False


def _entries(text: str) -> Iterator[Entry]:
    for line in text.splitlines():
        with contextlib.suppress(ValueError, KeyError, TypeError, AttributeError):
            found = json.loads(line)
            data = {str(key): str(value) for key, value in found["data"].items()}
            yield Entry(found["at"], found["run"], Event(found["event"]), found["step"], data)
