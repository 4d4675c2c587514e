"""Who holds a file system, and mounting and unmounting it: real mounts in a namespace of the test's own."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from labstore.formats.mountinfo import on_top
from labstore.system.holders import Holder, HolderKind, Holders, stat_devices
from labstore.system.mounts import Device, MountFailed, Mounts, below, of_device
from labstore.system.run import LocalHost
from tests.support import mount_namespace
from tests.support.hang import HANGS

pytestmark = pytest.mark.root

MOUNTS = Mounts(LocalHost())
READY = "import sys; print('ready', flush=True); sys.stdin.read()"


@pytest.fixture
def point(tmp_path: Path) -> Iterator[Path]:
    """A file system of its own."""
    mount_namespace.enter()
    found = tmp_path / "volume"
    found.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "volume", str(found)], check=True, timeout=HANGS)
    yield found
    for mount in reversed(MOUNTS.here()):
        if mount.point.startswith(f"{tmp_path}/"):
            subprocess.run(["umount", "-l", mount.point], check=False, timeout=HANGS)


def device(point: Path) -> Device:
    number = point.stat().st_dev
    return os.major(number), os.minor(number)


def held(point: Path, of: Device | None = None) -> tuple[Holder, ...]:
    return Holders(MOUNTS).of(of or device(point), str(point))


@contextmanager
def process(code: str = READY, *arguments: str, before: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[str]]:
    """A program that says when it has got so far, and ends when it is told."""
    argv = [*before, sys.executable, "-c", code, *arguments]
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as running:
        assert running.stdout is not None and running.stdout.readline() == "ready\n"
        try:
            yield running
        finally:
            running.kill()


def test_nobody_holds_what_nobody_uses(point: Path) -> None:
    assert held(point) == ()


OPEN = "import sys; f = open(sys.argv[1], 'w'); print('ready', flush=True); sys.stdin.read()"
CHDIR = "import os, sys; os.chdir(sys.argv[1]); print('ready', flush=True); sys.stdin.read()"
MAPPED = (
    "import mmap, os, sys; f = os.open(sys.argv[1], os.O_RDWR); m = mmap.mmap(f, 4096); os.close(f);"
    "print('ready', flush=True); sys.stdin.read()"
)


@pytest.mark.parametrize(
    ("code", "how"),
    [(OPEN, "fd "), (CHDIR, "cwd "), (MAPPED, "maps ")],
    ids=["open file", "shell inside", "mapped file"],
)
def test_a_process_is_named_with_what_it_holds(point: Path, code: str, how: str) -> None:
    """acceptance 5"""
    (point / "file").write_bytes(b"x" * mmap.PAGESIZE)
    with process(code, str(point if code is CHDIR else point / "file")) as running:
        found = {(each.kind, each.pid, each.how.split()[0] + " ") for each in held(point)}
    assert (HolderKind.PROCESS, running.pid, how) in found


def test_a_process_outside_is_not_named(point: Path, tmp_path: Path) -> None:
    (tmp_path / "volumes").mkdir()  # begins alike
    with process(CHDIR, str(tmp_path / "volumes")):
        assert held(point) == ()


def test_mounts_inside_and_elsewhere_are_named(point: Path, tmp_path: Path) -> None:
    (point / "inside").mkdir()
    (tmp_path / "other").mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "inside", str(point / "inside")], check=True, timeout=HANGS)
    subprocess.run(["mount", "--bind", str(point), str(tmp_path / "other")], check=True, timeout=HANGS)
    found = {(each.kind, each.what) for each in held(point)}
    assert found == {(HolderKind.MOUNT, str(point / "inside")), (HolderKind.MOUNT, str(tmp_path / "other"))}


def test_another_mount_namespace_is_named(point: Path) -> None:
    with process(READY, before=("unshare", "--mount", "--propagation", "private")) as running:
        found = [each for each in held(point) if each.kind is HolderKind.NAMESPACE]
        assert [each.pid for each in found] == [running.pid]
        assert str(point) in found[0].how
        MOUNTS.unmount_in(running.pid, str(point))
        assert not [each for each in held(point) if each.kind is HolderKind.NAMESPACE]


def test_what_was_unmounted_lazily_is_still_named(point: Path) -> None:
    """upstream #20: `umount -l` hides the mount, and nobody could see who had it."""
    number = device(point)
    with process(OPEN, str(point / "file")) as running:
        subprocess.run(["umount", "-l", str(point)], check=True, timeout=HANGS)
        found = [each for each in held(point, number) if each.kind is HolderKind.PROCESS]
        assert [each.pid for each in found] == [running.pid]


def test_a_stat_that_does_not_come_back_costs_its_patience_and_no_other(tmp_path: Path) -> None:
    """A dead NFS server elsewhere hangs whoever asks; a process that is stopped in the middle stands for it."""
    paths = [tmp_path / name for name in ("a", "b")]
    for path in paths:
        path.touch()
    unseen: list[str] = []
    assert set(stat_devices(paths, HANGS, unseen)) == set(paths) and unseen == []
    assert stat_devices([tmp_path / "gone", paths[0]], HANGS, unseen).keys() == {paths[0]}
    assert unseen == []


# --- mounting --------------------------------------------------------------------------------------------------------


def test_a_busy_mount_says_so_and_stays(point: Path) -> None:
    with process(OPEN, str(point / "file")):
        with pytest.raises(MountFailed) as raised:
            MOUNTS.unmount(str(point))
        assert raised.value.busy and raised.value.point == str(point)
        assert on_top(MOUNTS.here(), str(point)) is not None
    MOUNTS.unmount(str(point))
    assert on_top(MOUNTS.here(), str(point)) is None


def test_what_is_not_mounted_is_not_called_busy(point: Path) -> None:
    MOUNTS.unmount(str(point))
    with pytest.raises(MountFailed) as raised:
        MOUNTS.unmount(str(point))
    assert not raised.value.busy


def test_mounts_come_away_deepest_first(point: Path) -> None:
    for name in ("a", "a/b", "c"):
        (point / name).mkdir()
        subprocess.run(["mount", "-t", "tmpfs", name, str(point / name)], check=True, timeout=HANGS)
    inside = [mount.point.removeprefix(f"{point}/") for mount in below(MOUNTS.here(), str(point))]
    assert inside == ["a/b", "c", "a"]
    for name in inside:
        MOUNTS.unmount(str(point / name))
    MOUNTS.unmount(str(point))


def test_a_bind_is_of_the_same_device(point: Path, tmp_path: Path) -> None:
    (tmp_path / "bind").mkdir()
    number = device(point)
    MOUNTS.bind(str(point), str(tmp_path / "bind"))
    assert [mount.point for mount in of_device(MOUNTS.here(), number)] == [str(point), str(tmp_path / "bind")]


def test_a_device_that_is_not_there_is_said(tmp_path: Path) -> None:
    assert MOUNTS.device(tmp_path / "drbd7") is None
    with pytest.raises(MountFailed):
        MOUNTS.mount(tmp_path / "drbd7", str(tmp_path), "ext4", ("noatime",))


def test_a_file_system_is_active_as_long_as_the_kernel_says(tmp_path: Path) -> None:
    """/sys/fs/ext4/drbd1 is there after a lazy unmount too."""
    (tmp_path / "devices/virtual/block/drbd1/holders/dm-3/dm").mkdir(parents=True)
    (tmp_path / "devices/virtual/block/drbd1/holders/dm-3/dm/name").write_text("lab-snap\n")
    (tmp_path / "dev/block").mkdir(parents=True)
    (tmp_path / "dev/block/147:1").symlink_to(tmp_path / "devices/virtual/block/drbd1")
    mounts = Mounts(LocalHost(), sys=tmp_path)
    assert not mounts.alive((147, 1)) and not mounts.alive((147, 2))
    (tmp_path / "fs/ext4/drbd1").mkdir(parents=True)
    assert mounts.alive((147, 1)) and not mounts.alive((147, 2))
    assert mounts.stacked((147, 1)) == ("dm-3 (lab-snap)",) and mounts.stacked((147, 2)) == ()


@pytest.mark.parametrize("odd", ["form\ffeed", "a\x1cseparator", "line\u2028end", "next\x85line", "tab\tand\nnewline"])
def test_a_mount_point_of_any_name_is_one_mount(point: Path, odd: str) -> None:
    """Others make names; the kernel escapes space, tab, newline and backslash in them, and nothing else."""
    (point / odd).mkdir()
    before = len(MOUNTS.here())
    MOUNTS.bind(str(point), str(point / odd))
    here = MOUNTS.here()
    assert len(here) == before + 1 and on_top(here, str(point / odd)) is not None
