"""Files replaced atomically."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from labstore.system.files import FileTooLarge, make_directory, read_limited, staged, switch_symlink, write_atomic


def test_the_file_has_its_mode_before_it_has_its_name(tmp_path: Path) -> None:
    write_atomic(tmp_path / "a", b"secret", mode=0o400)
    assert (tmp_path / "a").read_bytes() == b"secret"
    assert stat.S_IMODE((tmp_path / "a").stat().st_mode) == 0o400
    assert os.listdir(tmp_path) == ["a"]  # noqa: PTH208


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    (tmp_path / "a").write_text("old")
    with pytest.raises(PermissionError), staged(tmp_path / "a") as new:
        new.write_text("half")
        raise PermissionError
    assert (tmp_path / "a").read_text() == "old"
    assert os.listdir(tmp_path) == ["a"]  # noqa: PTH208


def test_what_is_being_written_is_invisible_to_exportfs(tmp_path: Path) -> None:
    with staged(tmp_path / "a.exports") as new:
        assert new.name.startswith(".")
        assert not new.name.endswith(".exports")  # upstream #18
        new.touch()


def test_a_link_is_switched_in_place(tmp_path: Path) -> None:
    switch_symlink(tmp_path / "current", "one")
    switch_symlink(tmp_path / "current", "two")
    assert (tmp_path / "current").readlink() == Path("two")


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"x" * 101)
    assert len(read_limited(tmp_path / "a", 101)) == 101
    with pytest.raises(FileTooLarge):
        read_limited(tmp_path / "a", 100)


def test_a_fifo_does_not_block(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "fifo")
    with pytest.raises(OSError, match="not a regular file"):
        read_limited(tmp_path / "fifo", 10)


@pytest.mark.parametrize("umask", [0o000, 0o077])
def test_what_is_made_has_its_mode_at_every_level_whatever_the_umask(tmp_path: Path, umask: int) -> None:
    (tmp_path / "there").mkdir(mode=0o711)
    before = os.umask(umask)
    try:
        make_directory(tmp_path / "there/state/exports/primary", 0o750)
        make_directory(tmp_path / "there/state/exports/primary", 0o700)
    finally:
        os.umask(before)
    made = ("there", "there/state", "there/state/exports", "there/state/exports/primary")
    modes = [stat.S_IMODE((tmp_path / each).stat().st_mode) for each in made]
    assert modes == [0o711, 0o755, 0o755, 0o750]


def test_a_file_in_the_way_of_a_directory_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError):
        make_directory(tmp_path / "file")
