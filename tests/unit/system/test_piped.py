"""The door to programs that are talked with."""

from __future__ import annotations

import os

import pytest

from labstore.system.piped import CannotStart, Piped

pytestmark = pytest.mark.starts_processes


def test_it_is_talked_with_over_pipes() -> None:
    program = Piped(["cat"])
    os.write(program.writing, b"hello")
    assert os.read(program.reading, 100) == b"hello"
    os.close(program.writing)
    assert program.end() == 0
    assert os.read(program.reading, 1) == b""
    os.close(program.reading)


def test_what_will_not_end_is_ended_with_all_its_children() -> None:
    program = Piped(["sh", "-c", "trap '' TERM; sleep 60 & wait; sleep 60"])
    assert program.end(patience=0.2) < 0
    assert os.read(program.reading, 1) == b"", "the child that held the pipe is gone too"
    os.close(program.reading)
    os.close(program.writing)


def test_its_last_words_are_kept_in_one_printable_line() -> None:
    program = Piped(["sh", "-c", "printf 'one\\ntwo \\033[2Jthree\\n' >&2"])
    program.end()
    assert program.last_words() == "one; two ?[2Jthree"
    os.close(program.reading)
    os.close(program.writing)


def test_what_is_not_there_is_said() -> None:
    with pytest.raises(CannotStart, match="No such file"):
        Piped(["/no/such/program"])
