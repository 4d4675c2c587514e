"""The demonstration proves its scenes, and whatever ends it, nothing is left behind."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from labstore.demo.scenes import SCENES
from labstore.demo.stage import PREFIX, ground

pytestmark = [pytest.mark.root, pytest.mark.slow]

DEMO = (sys.executable, "-m", "labstore.demo")


@pytest.fixture
def own_ground(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A short path of this test's own, on a file system that the server can serve."""
    directory = ground() / f"labstore-{os.getpid()}"
    directory.mkdir()
    monkeypatch.setenv("LABSTORE_DEMO_DIR", str(directory))
    yield directory
    directory.rmdir()


def running(directory: Path) -> list[str]:
    """Command lines that name the directory."""
    lines = [" ".join(process.info["cmdline"] or ()) for process in psutil.process_iter(["cmdline"])]
    return [line for line in lines if str(directory) in line]


def left(directory: Path) -> list[str]:
    """Files, processes and mounts of the demonstration."""
    mounts = [line for line in Path("/proc/self/mountinfo").read_text().splitlines() if str(directory) in line]
    return [*map(str, directory.glob(f"{PREFIX}*")), *running(directory), *mounts]


def gone(directory: Path, deadline: float = 30.0) -> bool:
    end = time.monotonic() + deadline
    while left(directory) and time.monotonic() < end:
        time.sleep(0.1)
    return not left(directory)


def test_once_proves_every_scene_and_leaves_nothing(own_ground: Path) -> None:
    done = subprocess.run([*DEMO, "--once"], capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert f"{len(SCENES)} of {len(SCENES)} scenes proved" in done.stdout
    assert gone(own_ground), left(own_ground)


@pytest.mark.parametrize("seconds", [0.0, 3.0, 8.0])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_ended_in_the_middle_it_leaves_nothing(own_ground: Path, seconds: float, number: signal.Signals) -> None:
    process = subprocess.Popen(DEMO, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    while not left(own_ground) and process.poll() is None:
        time.sleep(0.01)  # the interpreter itself takes a while to come up
    time.sleep(seconds)
    process.send_signal(number)
    _, said = process.communicate(timeout=60)
    assert "Traceback" not in said
    assert gone(own_ground), left(own_ground)


def test_killed_it_leaves_no_process(own_ground: Path) -> None:
    process = subprocess.Popen(DEMO, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    time.sleep(4)
    process.kill()
    process.wait(30)
    end = time.monotonic() + 30
    while running(own_ground) and time.monotonic() < end:
        time.sleep(0.1)
    assert not running(own_ground), "children end with the demonstration, however it ends"
    for path in own_ground.glob(f"{PREFIX}*"):
        subprocess.run(["rm", "-rf", str(path)], check=True, timeout=60)
