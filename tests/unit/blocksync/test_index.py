"""The header of an index: kept atomically, believed only whole."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from blake3 import blake3

from labstore.blocksync.index import IndexFolder, IndexState, Unreadable, folder_name, new_state
from labstore.model.block_sync import Algorithm


@pytest.fixture
def folder(tmp_path: Path) -> IndexFolder:
    made = IndexFolder(tmp_path / "index")
    made.make()
    return made


@pytest.fixture
def state() -> IndexState:
    return new_state(Algorithm.BLAKE3, 16384, 1 << 30)


def test_it_reads_back(folder: IndexFolder, state: IndexState) -> None:
    assert folder.load() is None
    full = replace(state, closed=True, known=65536, generation=3, root="a" * 64, token="t", content=None, synced=1.5)
    folder.save(full)
    assert folder.load() == full
    assert (folder.path / "header.json").stat().st_mode & 0o777 == 0o600
    assert folder.path.stat().st_mode & 0o777 == 0o700


def test_every_index_has_a_key_of_its_own(state: IndexState) -> None:
    assert new_state(Algorithm.BLAKE3, 16384, 1 << 30).key != state.key


def test_a_changed_byte_anywhere_is_noticed(folder: IndexFolder, state: IndexState) -> None:
    folder.save(state)
    header = folder.path / "header.json"
    whole = header.read_bytes()
    for at in range(0, len(whole), 3):
        changed = bytearray(whole)
        changed[at] ^= 1
        header.write_bytes(changed)
        try:
            assert folder.load() == state, at  # e.g. a blank between the fields
        except Unreadable:
            continue


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xff", b"[]", b"{}", b'{"header": 5, "digest": ""}', b"[" * 60_000]
)
def test_what_is_no_header_is_said_in_words(folder: IndexFolder, content: bytes) -> None:
    folder.make()
    (folder.path / "header.json").write_bytes(content)
    with pytest.raises(Unreadable, match=r"^its header is not what was written there$"):
        folder.load()


@pytest.mark.parametrize(
    "change",
    [
        {"version": 2},
        {"known": 1 << 40},
        {"known": -1},
        {"size": 0},
        {"size": 1 << 60},
        {"block_size": 1},
        {"key": "zz"},
        {"volume": "../../etc"},
        {"root": "0" * 63},
        {"closed": 1},
        {"extra": 1},
    ],
)
def test_a_header_that_contradicts_itself_is_not_believed(
    folder: IndexFolder, state: IndexState, change: dict[str, object]
) -> None:
    folder.save(state)
    outer = json.loads((folder.path / "header.json").read_bytes())
    body = json.dumps(json.loads(outer["header"]) | change)
    sealed = {"header": body, "digest": blake3(body.encode()).hexdigest()}
    (folder.path / "header.json").write_text(json.dumps(sealed))
    with pytest.raises(Unreadable):
        folder.load()


def test_what_is_beyond_a_new_size_is_not_known(state: IndexState) -> None:
    full = replace(state, size=100 * 16384 + 5, known=101, root="a" * 64, closed=True)
    assert full.sized(full.size) == full
    assert (full.sized(200 * 16384).known, full.sized(200 * 16384).root) == (100, None)
    assert full.sized(50 * 16384 + 1).known == 50


def test_folder_names_are_plain_and_different() -> None:
    names = [folder_name(path) for path in ("/dev/vg/home", "/dev/vg_home", "/dev/vg/../home", "/" + "x" * 900, "/..")]
    assert len(set(names)) == 5
    assert all("/" not in name and not name.startswith(".") and len(name) < 120 for name in names)
