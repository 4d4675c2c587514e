"""Files and devices: identified, watched, read without pushing anything out of the page cache."""

from __future__ import annotations

import mmap
import os
from pathlib import Path

import pytest

from labstore.blocksync.buffers import whole_blocks
from labstore.blocksync.devices import Device, Target, counted
from labstore.blocksync.messages import Geometry
from labstore.blocksync.residency import Residency
from labstore.model.block_sync import ReadMode
from labstore.reports.blocksync import CannotOpen, NotADevice, ReadFailed, SyncFailed

PAGE = 4096


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "image"
    path.write_bytes(os.urandom(3 * (1 << 20) + 1000))
    return path


def buffer() -> memoryview:
    return memoryview(mmap.mmap(-1, 1 << 20))


@pytest.mark.parametrize("mode", ReadMode)
def test_every_way_of_reading_reads_the_same(image: Path, mode: ReadMode) -> None:
    device, content, into = Device(str(image), mode), image.read_bytes(), buffer()
    for offset in range(0, len(content), 1 << 20):
        length = min(1 << 20, len(content) - offset)
        device.read(into, length, offset)
        assert into[:length] == content[offset : offset + length]
        device.read_device(into, length, offset)
        assert into[:length] == content[offset : offset + length]
    device.close()


def test_reading_around_the_cache_leaves_the_cache_alone(image: Path) -> None:
    device, into = Device(str(image)), buffer()
    if not device.direct:
        pytest.skip("this file system cannot be read around the page cache")
    with image.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
        if Residency(file.fileno()).resident(0, PAGE):
            pytest.skip("this file system is in memory: all of it is in the page cache, always")
        os.pread(file.fileno(), PAGE, 2 << 20)
        before = [Residency(file.fileno()).resident(at, PAGE) for at in range(0, 3 << 20, PAGE)]
        for offset in range(0, 3 << 20, 1 << 20):
            device.read(into, 1 << 20, offset)
        after = [Residency(file.fileno()).resident(at, PAGE) for at in range(0, 3 << 20, PAGE)]
    assert after == before
    assert any(before)
    assert not all(before)
    device.close()


def test_residency_is_the_same_by_both_calls(image: Path) -> None:
    with image.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 1 << 20, os.POSIX_FADV_DONTNEED)
        by_count, by_core = Residency(file.fileno()), Residency(file.fileno())
        by_core._by_count = False
        for length in (PAGE, 64 << 10, 256 << 10):
            found = [by_count.resident(at, length) for at in range(0, 3 << 20, length)]
            assert found == [by_core.resident(at, length) for at in range(0, 3 << 20, length)]


def test_what_is_shorter_than_it_was_is_an_error(image: Path) -> None:
    device = Device(str(image))
    os.truncate(image, 1 << 20)
    with pytest.raises(SyncFailed) as failed:
        device.read(buffer(), 1 << 20, 1 << 20)
    assert isinstance(failed.value.report, ReadFailed)
    device.close()


@pytest.mark.parametrize("what", ["directory", "fifo", "missing", "/dev/null"])
def test_what_is_no_device_is_refused_at_once(tmp_path: Path, what: str) -> None:
    path = Path(what) if what.startswith("/") else tmp_path / what
    if what == "directory":
        path.mkdir()
    elif what == "fifo":
        os.mkfifo(path)
    with pytest.raises(SyncFailed) as refused:
        Device(str(path))
    assert isinstance(refused.value.report, NotADevice | CannotOpen)


def test_any_write_changes_the_witness(image: Path) -> None:
    device = Device(str(image))
    seen = [device.witness()]
    assert device.witness() == seen[0]
    for change in (b"a", b"a"):
        with image.open("r+b") as file:
            file.write(change)
        seen.append(device.witness())
    os.utime(image, ns=(0, image.stat().st_mtime_ns))
    seen.append(device.witness())
    assert len(set(seen)) == 4
    device.close()


def test_another_file_has_another_identity(image: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(image.read_bytes())
    devices = Device(str(image)), Device(str(other))
    assert devices[0].identity() != devices[1].identity()
    for device in devices:
        device.close()


def test_two_targets_on_one_file_are_one_too_many(image: Path) -> None:
    first = Target(str(image))
    with pytest.raises(SyncFailed, match="locked"):
        Target(str(image))
    first.close()
    Target(str(image)).close()


def test_nothing_is_made_among_the_devices() -> None:
    with pytest.raises(SyncFailed, match="No such file"):
        Target("/dev/labstore-no-such-device")
    assert not Path("/dev/labstore-no-such-device").exists()


def test_holes_are_pieces_without_data(tmp_path: Path) -> None:
    path = tmp_path / "sparse"
    with path.open("wb") as file:
        file.truncate(100 << 20)
        file.seek(10 << 20)
        file.write(b"x" * 10000)
        file.seek(70 << 20)
        file.write(b"y")
    device = Device(str(path))
    geometry = Geometry(100 << 20, 16384)
    pieces = list(whole_blocks(device.extents(0, 100 << 20), geometry))
    assert sum(piece.count for piece in pieces) == geometry.blocks
    assert [a.start + a.count for a in pieces[:-1]] == [b.start for b in pieces[1:]]
    data = {piece.start + each for piece in pieces if piece.data for each in range(piece.count)}
    assert {640, 70 * 64} <= data
    assert len(data) < 20
    device.close()


@pytest.mark.parametrize(
    ("said", "mapped", "moves", "expected"),
    [("1", False, False, True), ("1", True, False, True), ("0", False, True, False), ("0", True, True, True),
     ("0", True, False, False)],
)  # fmt: skip
def test_counts_are_believed_where_they_are_kept(
    tmp_path: Path, said: str, mapped: bool, moves: bool, expected: bool
) -> None:
    """Linux 6.1 says of every device of device mapper that it does not count, and does."""
    (tmp_path / "dm-5/queue").mkdir(parents=True)
    (tmp_path / "dm-5/queue/iostats").write_text(f"{said}\n")
    (tmp_path / "dm-5/stat").write_text("    2753        0   335904     1264     8307        0    66432\n")
    if mapped:
        (tmp_path / "dm-5/dm").mkdir()

    def read() -> None:
        if moves:
            (tmp_path / "dm-5/stat").write_text("    2754        0   335912     1264     8307        0    66432\n")

    assert counted(tmp_path / "dm-5", read) is expected
