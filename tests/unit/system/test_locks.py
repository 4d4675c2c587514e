"""Locks that live as long as their process."""

from __future__ import annotations

import os
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
