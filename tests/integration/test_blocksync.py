"""Block sync as it is used: processes, ssh to a private sshd, a forced command, loop devices, kill -9."""

from __future__ import annotations

import contextlib
import json
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labstore.blocksync.devices import Device
from tests.support.blocksync import honest
from tests.support.hang import HANGS
from tests.support.sshd import Sshd, private_sshd

BLOCK = 16384
BLOCKS = 600
COMMAND = (sys.executable, "-c", "from labstore.cli.blocksync import blocksync; blocksync()")


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with private_sshd(tmp_path / "ssh") as running:
        yield running


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "source.img"
    path.write_bytes(random.Random(1).randbytes(BLOCKS * BLOCK))
    return path


@pytest.fixture
def target(tmp_path: Path) -> Path:
    return tmp_path / "target.img"


def change(path: Path, seed: int, count: int = 50) -> None:
    chance = random.Random(seed)
    with path.open("r+b") as file:
        for block in chance.sample(range(BLOCKS), count):
            file.seek(block * BLOCK)
            file.write(chance.randbytes(BLOCK))


def serving(state: Path, *more: str) -> str:
    return " ".join((COMMAND[0], "-c", f"'{COMMAND[2]}'", "serve", "--state", str(state), *more))


def sync(*words: object, expect: int = 0) -> dict[str, object]:
    argv = [*COMMAND, "run", "--json", *map(str, words)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == expect, done.stdout + done.stderr
    return json.loads(done.stdout)  # type: ignore[no-any-return]


def test_here(source: Path, target: Path, tmp_path: Path) -> None:
    assert sync(source, target, "--state", tmp_path / "state")["passed"] == "both"
    change(source, 1)
    again = sync(source, target, "--state", tmp_path / "state")
    assert again["passed"] == "cached"
    assert again["changed"] == 50
    assert target.read_bytes() == source.read_bytes()


@pytest.mark.parametrize("push", [False, True], ids=["pull", "push"])
def test_over_ssh(source: Path, target: Path, tmp_path: Path, sshd: Sshd, push: bool) -> None:
    places = (source, f"elsewhere:{target}") if push else (f"elsewhere:{source}", target)
    ssh = ("--ssh-config", sshd.config, "--state", tmp_path / "here", "--remote", serving(tmp_path / "there"))
    assert sync(*places, *ssh)["passed"] == "both"
    change(source, 2)
    assert sync(*places, *ssh)["passed"] == "cached"
    assert target.read_bytes() == source.read_bytes()


def test_a_forced_command_does_its_one_job(source: Path, target: Path, tmp_path: Path, sshd: Sshd) -> None:
    sshd.allow(serving(tmp_path / "there", "--source", str(source)).replace('"', '\\"'))
    ssh = ("--ssh-config", sshd.config, "--state", tmp_path / "here", "--remote", "cat /etc/shadow")
    sync(f"elsewhere:{source}", target, *ssh)
    assert target.read_bytes() == source.read_bytes()
    for path in ("/etc/shadow", "/dev/vda", target):
        refused = sync(f"elsewhere:{path}", tmp_path / "stolen", *ssh, expect=3)
        assert refused["code"] == "blocksync-not-allowed"
    assert sync(target, f"elsewhere:{source}", *ssh, expect=3)["code"] == "blocksync-not-allowed"
    assert not (tmp_path / "stolen").exists()


@pytest.mark.parametrize(
    ("words", "status", "said"),
    [
        (["--state", "/nonexistent"], 1, "the connection to the other end is lost"),
        (["--source", "/a", "--target", "/b"], 2, "a forced command is for one role"),
        (["--label", "tools"], 2, "are for a --source"),
    ],
    ids=["plain", "two roles", "no device"],
)
@pytest.mark.parametrize("whole", [True, False], ids=["whole", "bare"])
def test_whoever_is_called_says_what_is_wrong(whole: bool, words: list[str], status: int, said: str) -> None:
    """With and without a command line around it."""
    command = ("labstore", "blocksync", "serve") if whole else ("labstore.blocksync",)
    argv = [sys.executable, "-m", *command, *words]
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=60, check=False)
    assert done.returncode == status
    assert (said if whole or status == 1 else "labstore blocksync serve") in done.stderr.decode()


def test_what_was_not_believed_is_said(source: Path, target: Path, tmp_path: Path) -> None:
    done = sync(source, target, "--state", tmp_path / "state", "--hints", tmp_path / "missing")
    assert f"the change hints in {tmp_path}/missing are not believed: No such file" in str(done["notes"])


def test_a_copy_of_no_one_moment_is_not_called_equal(source: Path, target: Path, tmp_path: Path) -> None:
    over = threading.Event()

    def write() -> None:
        while not over.is_set():
            change(source, 5, 1)

    writer = threading.Thread(target=write)
    writer.start()
    try:
        words = (source, target, "--state", tmp_path / "state", "--read-limit", "20M")
        assert sync(*words, expect=3)["code"] == "blocksync-source-changed"
        done = sync(*words, "--permit", "live-source")
        argv = [*COMMAND, "run", *map(str, words), "--permit", "live-source"]
        said = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout
    finally:
        over.set()
        writer.join()
    assert done["torn"] is True
    assert done["token"] is None
    assert "of no one moment" in str(done["notes"])
    assert said.startswith("of no one moment: ")


# --- killed ----------------------------------------------------------------------------------------------------------


def started(*words: object) -> subprocess.Popen[bytes]:
    """A sync in a session of its own."""
    argv = [*COMMAND, "run", "--json", "--attempts", "1", *map(str, words)]
    return subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)


def child_of(pid: int) -> int | None:
    try:
        children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    except OSError:
        return None
    return int(children[0]) if children else None


def begun(process: subprocess.Popen[bytes]) -> int:
    """The other end, once it is there: how long a machine takes to get so far is not what is tested."""
    until = time.monotonic() + HANGS
    while (child := child_of(process.pid)) is None:
        assert process.poll() is None and time.monotonic() < until
        time.sleep(0.01)
    return child


@pytest.mark.parametrize("whom", ["target", "source"])
def test_killed_at_any_moment_the_next_run_recovers(source: Path, target: Path, tmp_path: Path, whom: str) -> None:
    chance, state = random.Random(11), tmp_path / "state"
    sync(source, target, "--state", state)
    killed = 0
    for attempt in range(5):
        change(source, 100 + attempt, 400)
        process = started(source, target, "--state", state, "--send-limit", "8M")
        source_end = begun(process)
        time.sleep(chance.uniform(0.0, 0.7))
        if process.poll() is None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(process.pid if whom == "target" else source_end, signal.SIGKILL)
            killed += process.wait(HANGS) != 0
        status = process.wait(30)
        assert status != 0 or target.read_bytes() == source.read_bytes()
        honest(source, target, state)
        if attempt % 3 == 2:
            sync(source, target, "--state", state)
            assert target.read_bytes() == source.read_bytes()
    assert killed >= 2
    sync(source, target, "--state", state)
    assert target.read_bytes() == source.read_bytes()


def test_what_was_sent_before_an_interruption_is_not_sent_again(source: Path, target: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    process = started(source, target, "--state", state, "--send-limit", "3M")
    until = time.monotonic() + 60
    while not (target.exists() and target.stat().st_blocks * 512 > 3 << 20):
        assert time.monotonic() < until
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGTERM)
    assert process.wait(30) == 1
    rest = sync(source, target, "--state", state)
    assert int(str(rest["received"])) < 0.9 * BLOCKS * BLOCK
    assert int(str(rest["read"])) < 0.95 * BLOCKS * BLOCK, "it went on where it was"
    assert target.read_bytes() == source.read_bytes()


def test_a_file_is_known_by_its_birth_too(source: Path) -> None:
    device = Device(str(source))
    number, _, born = device.identity().partition(" born ")
    device.close()
    argv, env = ["stat", "--format=%i %w", source], {"TZ": "UTC", "PATH": os.environ["PATH"]}
    said = subprocess.run(argv, capture_output=True, text=True, check=True, env=env).stdout.split()
    assert number.split(" version ")[0] == f"file {said[0]}"
    assert born == ("" if said[1] == "-" else f"{said[1]}T{said[2]}Z")


# --- devices ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def loop(tmp_path: Path) -> Iterator[Path]:
    """A block device of 10 MB."""
    if os.geteuid() != 0:
        pytest.skip("loop devices want root")
    backing = tmp_path / "backing"
    backing.touch()
    os.truncate(backing, BLOCKS * BLOCK)
    done = subprocess.run(["losetup", "--find", "--show", backing], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"no loop device can be had: {done.stderr.strip()}")
    device = Path(done.stdout.strip())
    yield device
    subprocess.run(["umount", device], capture_output=True, check=False)
    subprocess.run(["losetup", "--detach", device], check=True)


def test_onto_a_block_device_and_again(source: Path, loop: Path, tmp_path: Path) -> None:
    state = tmp_path / "state"
    assert sync(source, loop, "--state", state)["passed"] == "both"
    change(source, 3)
    assert sync(source, loop, "--state", state)["passed"] == "cached", "the kernel's write counters are the proof"
    assert loop.read_bytes() == source.read_bytes()
    with loop.open("r+b") as device:
        device.seek(5 * BLOCK)
        device.write(b"behind our back")
        os.fsync(device.fileno())
    assert sync(source, loop, "--state", state)["passed"] == "both"
    assert loop.read_bytes() == source.read_bytes()


def test_zeros_reach_a_block_device(source: Path, loop: Path, tmp_path: Path) -> None:
    sync(source, loop, "--state", tmp_path / "state")
    with source.open("r+b") as file:
        file.seek(100 * BLOCK)
        file.write(bytes(200 * BLOCK))
    assert sync(source, loop, "--state", tmp_path / "state")["zeroed"] == 200
    assert loop.read_bytes() == source.read_bytes()


def test_a_mounted_target_is_refused_and_named(source: Path, loop: Path, tmp_path: Path) -> None:
    subprocess.run(["mkfs.ext4", "-q", loop], check=True)
    point = tmp_path / "mnt"
    point.mkdir()
    subprocess.run(["mount", loop, point], check=True)
    before = loop.read_bytes()
    refused = sync(source, loop, "--state", tmp_path / "state", expect=3)
    assert refused["code"] == "blocksync-target-in-use"
    assert f"mounted at {point}" in str(refused["message"])
    subprocess.run(["umount", point], check=True)
    assert loop.read_bytes() != b"" and len(before) == BLOCKS * BLOCK
    foreign = sync(source, loop, "--state", tmp_path / "state", expect=3)
    assert foreign["code"] == "blocksync-foreign-target", "unmounted, it still is somebody's file system"


def test_a_file_under_a_loop_device_is_refused(source: Path, loop: Path, tmp_path: Path) -> None:
    refused = sync(source, tmp_path / "backing", "--state", tmp_path / "state", "--permit", "adopt-target", expect=3)
    assert refused["code"] == "blocksync-target-in-use"
    assert str(loop) in str(refused["message"])


def test_a_full_disk_is_said_and_survived(source: Path, tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("mounting wants root")
    small, state = tmp_path / "small", tmp_path / "state"
    small.mkdir()
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", small], check=False).returncode:
        pytest.skip("no tmpfs can be mounted")
    try:
        failed = sync(source, small / "target.img", "--state", state, expect=1)
        assert failed["code"] == "blocksync-write-failed"
        assert "No space left" in str(failed["message"])
        honest(source, small / "target.img", state)
        subprocess.run(["mount", "-o", "remount,size=40m", small], check=True)
        sync(source, small / "target.img", "--state", state)
        assert (small / "target.img").read_bytes() == source.read_bytes()
    finally:
        subprocess.run(["umount", small], check=True)
