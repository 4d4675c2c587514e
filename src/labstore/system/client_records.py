"""nfsdcld's records put aside before the server starts, and put back where it has to start once more.

At the end of a grace period nfsdcld forgets the clients that did not come back, and with that their locks are lost. A
run that is killed after it started the server, and before it let clients in, would lose them all that way.
"""

from __future__ import annotations

import contextlib
import os
import sqlite3
from pathlib import Path

from labstore.system.files import sync_directory

DATABASE = "main.sqlite"


def put_aside(directory: Path, aside: Path) -> None:
    """Copy the records in nfsdcld's directory, whole or not at all; nothing where there are none yet. Raises OSError,
    sqlite3.Error."""
    database = directory / DATABASE
    if not database.exists():
        return
    new = aside.with_name(aside.name + ".new")
    new.unlink(missing_ok=True)
    new.touch(mode=0o600)
    _copy(database, new, "OFF")
    with new.open("rb") as file:
        os.fsync(file.fileno())
    new.replace(aside)
    sync_directory(aside.parent)


def put_back(aside: Path, directory: Path) -> None:
    """Let nfsdcld, which must not run, find the records that were put aside. Raises OSError, sqlite3.Error."""
    _copy(aside, directory / DATABASE, "FULL")


def _copy(source: Path, target: Path, synchronous: str) -> None:
    """In one transaction; what a machine that lost its power had half written in either is rolled back first. With
    `synchronous` OFF the target is not safe from that: for one that has no name yet."""
    with (
        contextlib.closing(sqlite3.connect(source, timeout=5)) as old,
        contextlib.closing(sqlite3.connect(target, timeout=5)) as new,
    ):
        new.execute(f"PRAGMA synchronous = {synchronous}")
        old.backup(new)
