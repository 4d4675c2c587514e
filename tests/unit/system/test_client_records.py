"""nfsdcld's records, put aside and put back: on databases as nfsdcld makes them."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest

from labstore.system.client_records import put_aside, put_back
from labstore.system.nfsd import recorded_clients, recorded_in

TABLE = "rec-000000000000000a"


def nfsdcld(directory: Path, *names: str) -> Path:
    """A database with these clients in it, as nfsdcld leaves it."""
    directory.mkdir(exist_ok=True)
    opened = sqlite3.connect(directory / "main.sqlite")
    with opened:
        opened.execute(f'CREATE TABLE IF NOT EXISTS "{TABLE}" (id BLOB PRIMARY KEY, princhash BLOB)')
        opened.execute(f'DELETE FROM "{TABLE}"')
        opened.executemany(f'INSERT INTO "{TABLE}" VALUES (?, NULL)', [(name.encode(),) for name in names])
    opened.close()
    return directory


def test_what_was_put_aside_is_there_again_when_it_is_put_back(tmp_path: Path) -> None:
    directory, aside = nfsdcld(tmp_path / "nfsdcld", "one", "two"), tmp_path / "aside.sqlite"
    put_aside(directory, aside)
    nfsdcld(directory)
    assert recorded_clients(directory) == ()
    assert recorded_in(aside) == ("one", "two")
    put_back(aside, directory)
    assert recorded_clients(directory) == ("one", "two")


def test_where_nothing_was_recorded_yet_nothing_is_put_aside(tmp_path: Path) -> None:
    put_aside(tmp_path, tmp_path / "aside.sqlite")
    assert list(tmp_path.iterdir()) == []


def test_the_copy_is_its_owners_alone_and_whole_or_not_there(tmp_path: Path) -> None:
    directory, aside = nfsdcld(tmp_path / "nfsdcld", "one"), tmp_path / "aside.sqlite"
    (tmp_path / "aside.sqlite.new").write_bytes(b"half of a copy")
    put_aside(directory, aside)
    assert aside.stat().st_mode & 0o777 == 0o600
    assert sorted(path.name for path in tmp_path.iterdir()) == ["aside.sqlite", "nfsdcld"]
    (directory / "main.sqlite").write_bytes(b"no database at all, but long enough to be looked at" * 100)
    with pytest.raises(sqlite3.Error):
        put_aside(directory, aside)
    assert recorded_in(aside) == ("one",)
