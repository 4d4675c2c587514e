"""Locks that live as long as their process."""

from __future__ import annotations

import os
import stat
import tempfile
from pathlib import Path

import pytest

from labstore.system.locks import Locked, exclusive, is_held


def test_a_second_holder_is_told_who_the_first_is(tmp_path: Path) -> None:
    with (
        exclusive(tmp_path / "lock", "exports apply"),
        pytest.raises(Locked, match=f"exports apply, pid {os.getpid()}"),
        exclusive(tmp_path / "lock", "another"),
    ):
        pass


def test_a_lock_is_free_again_afterwards(tmp_path: Path) -> None:
    for _ in range(2):
        with exclusive(tmp_path / "lock", "one"):
            pass


def test_the_lock_of_a_killed_process_is_free(tmp_path: Path) -> None:
    child = os.fork()
    if not child:
        with exclusive(tmp_path / "lock", "doomed"):
            os.kill(os.getpid(), 9)
    os.waitpid(child, 0)
    with exclusive(tmp_path / "lock", "next"):
        pass


def test_whether_a_lock_is_held_can_be_seen_from_outside(tmp_path: Path) -> None:
    assert is_held(tmp_path / "lock") is False
    with exclusive(tmp_path / "lock", "one"):
        assert is_held(tmp_path / "lock") is True
    assert is_held(tmp_path / "lock") is False
    (tmp_path / "link").symlink_to(tmp_path / "lock")
    assert is_held(tmp_path / "link") is None


@pytest.mark.parametrize("left", [None, 0o644])
def test_nobody_else_may_open_a_lock_and_keep_us_out(tmp_path: Path, left: int | None) -> None:
    """flock(2) needs no more than the right to read."""
    path = tmp_path / "lock"
    if left is not None:
        path.touch(mode=left)
    with exclusive(path, "one"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_who_may_not_open_a_lock_can_tell_whether_it_is_held() -> None:
    with tempfile.TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)
        path = Path(directory) / "lock"
        with exclusive(path, "one"):
            child = os.fork()
            if not child:
                os.setresuid(65534, 65534, 65534)
                os._exit(0 if is_held(path) and not os.access(path, os.R_OK) else 1)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_a_look_turns_nobody_away(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    for _ in range(50):
        child = os.fork()
        if not child:
            is_held(path)
            os._exit(0)
        with exclusive(path, "one"):
            pass
        os.waitpid(child, 0)


def test_the_kernel_s_list_is_read_with_care(tmp_path: Path) -> None:
    path, listed = tmp_path / "lock", tmp_path / "locks"
    path.touch()
    found = path.stat()
    here = f"{os.major(found.st_dev):02x}:{os.minor(found.st_dev):02x}"
    for line, held in (
        (f"1: FLOCK  ADVISORY  WRITE 12 {here}:{found.st_ino} 0 EOF", True),
        (f"1: -> FLOCK  ADVISORY  WRITE 12 {here}:{found.st_ino} 0 EOF", False),
        (f"1: POSIX  ADVISORY  WRITE 12 {here}:{found.st_ino} 0 EOF", False),
        (f"1: FLOCK  ADVISORY  WRITE 12 {here}:{found.st_ino}1 0 EOF", False),
        (f"1: FLOCK  ADVISORY  WRITE 12 ffff:ff:{found.st_ino} 0 EOF", None),
    ):
        listed.write_text(line + "\n")
        assert is_held(path, listed) is held, line
    assert is_held(path, tmp_path / "no list") is None
