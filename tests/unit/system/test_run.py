"""The one door to processes."""

from __future__ import annotations

import os
import subprocess
import time

import pytest

from labstore.ports.host import Command, CommandFailed
from labstore.system.run import LocalHost

pytestmark = pytest.mark.starts_processes


def sh(script: str, deadline: float = 10.0, input: bytes | None = None) -> Command:  # noqa: A002
    return Command.of("/bin/sh", "-c", script, deadline=deadline, input=input)


def test_output_and_status_come_back() -> None:
    done = LocalHost().run(sh("echo out; echo err >&2; exit 3"), expect=frozenset({3}))
    assert (done.status, done.stdout, done.stderr) == (3, "out\n", "err\n")


def test_a_status_that_was_not_expected_is_an_error_with_the_last_words() -> None:
    with pytest.raises(CommandFailed) as caught:
        LocalHost().run(sh("echo first >&2; echo the reason >&2; exit 4"))
    assert caught.value.status == 4
    assert "the reason" in str(caught.value)


def test_a_program_that_is_not_there_is_an_error() -> None:
    with pytest.raises(CommandFailed, match="cannot be started"):
        LocalHost().run(Command.of("/nonexistent/program"))


def test_the_deadline_ends_the_program_and_all_it_started() -> None:
    with pytest.raises(CommandFailed, match=r"did not end within 0\.3 s"):
        LocalHost().run(sh("sleep 60 & echo $!; sleep 60", deadline=0.3))


def test_a_child_left_behind_does_not_hold_the_caller() -> None:
    done = LocalHost().run(sh("sleep 60 & echo $!"))
    pid = int(done.stdout)
    for _ in range(100):
        if not os.path.exists(f"/proc/{pid}"):  # noqa: PTH110
            return
        if open(f"/proc/{pid}/stat").read().split()[2] == "Z":  # noqa: PTH123, SIM115
            return
        time.sleep(0.05)
    pytest.fail("the child is still there")


def test_standard_input_is_closed_unless_given() -> None:
    assert LocalHost().run(sh("cat")).stdout == ""
    assert LocalHost().run(sh("cat", input=b"secret")).stdout == "secret"


def test_a_program_that_does_not_read_its_input_is_no_error() -> None:
    assert LocalHost().run(sh("exit 0", input=b"x" * (1 << 20))).ok


def test_the_environment_is_small_and_in_the_c_locale(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OS_PASSWORD", "hunter2")
    text = LocalHost().run(Command(("/usr/bin/env",), env={"EXTRA": "1"})).stdout
    assert "hunter2" not in text
    assert "LC_ALL=C.UTF-8" in text
    assert "EXTRA=1" in text


def test_endless_output_is_cut() -> None:
    with pytest.raises(CommandFailed, match="said more than"):
        LocalHost(limit=100_000).run(sh("yes"))


def test_what_is_stuck_in_the_kernel_is_left_to_it(monkeypatch: pytest.MonkeyPatch) -> None:
    """State D: no signal ends it. The deadline's own error is what has to be said."""

    def wait(self: subprocess.Popen[bytes], timeout: float | None = None) -> int:
        if timeout is None:
            return waited(self)
        raise subprocess.TimeoutExpired("umount", timeout)

    waited = subprocess.Popen.wait
    monkeypatch.setattr(subprocess.Popen, "wait", wait)
    with pytest.raises(CommandFailed):
        LocalHost().run(Command.of("sleep", "60", deadline=0.2))
