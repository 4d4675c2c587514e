"""Block devices and image files: opened safely, identified, watched, read without disturbing, written, read back."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from labstore.blocksync.residency import Residency
from labstore.formats.superblock import HEAD, Content, content_of
from labstore.model.block_sync import ReadMode
from labstore.reports.blocksync import CannotOpen, NotADevice, ReadFailed, SyncFailed, TargetInUse, WriteFailed
from labstore.system.block_use import holder_of, loop_over, writer_of

PAGE = 4096
"""O_DIRECT wants offsets, lengths and addresses to be multiples of this at most."""
_PUNCH_HOLE_KEEP_SIZE = 0x03
_ZERO_RANGE_KEEP_SIZE = 0x11
SYS = Path("/sys/dev/block")
_TICK = 0.02
"""Seconds in which two writes to a file may get the same time stamp, with something to spare."""


Extent = tuple[int, int, bool]
"""First byte, end, and whether there is data; what is no data is zeros."""


class Device:
    """A block device or regular file, open for reading. Raises SyncFailed.

    Reading goes around the page cache where it can (`mode` AUTO, DIRECT), so that nothing is pushed out of it.
    """

    def __init__(self, path: str, mode: ReadMode = ReadMode.AUTO) -> None:
        self.path, self._mode = path, mode
        self._descriptor = self._opened(path)
        self._direct: int | None = None
        self._residency: Residency | None = None
        try:
            status = os.fstat(self._descriptor)
            self.block = stat.S_ISBLK(status.st_mode)
            if not self.block and not stat.S_ISREG(status.st_mode):
                raise SyncFailed(NotADevice(path, _kind(status.st_mode)))
            self._direct = _direct(self._descriptor, os.O_RDONLY) if mode is not ReadMode.CACHED else None
            if mode is ReadMode.AUTO and self._direct is not None:
                self._residency = Residency(self._descriptor)
        except BaseException:
            self.close()
            raise

    def _opened(self, path: str) -> int:
        try:
            return os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
        except OSError as error:
            raise SyncFailed(CannotOpen(path, error.strerror or str(error))) from None

    @property
    def size(self) -> int:
        return os.lseek(self._descriptor, 0, os.SEEK_END)

    @property
    def direct(self) -> bool:
        """Whether reads can be made to come from the device itself."""
        return self._direct is not None

    @property
    def direct_file(self) -> int | None:
        """The descriptor by which they do, None where they cannot."""
        return self._direct

    def read(self, buffer: memoryview, length: int, offset: int, at_hand: bool = False) -> None:
        """Fill the first `length` bytes of `buffer` from `offset` on. `buffer` starts at a page and has room for whole
        pages; `offset` is a multiple of 4096. `at_hand`: what the method of that name said of them."""
        if at_hand or self._direct is None:
            self._fill(self._descriptor, buffer, length, offset)
        else:
            self.read_device(buffer, length, offset)
        if self._mode is ReadMode.CACHED:
            os.posix_fadvise(self._descriptor, offset, length, os.POSIX_FADV_DONTNEED)

    def read_device(self, buffer: memoryview, length: int, offset: int) -> None:
        """The same, and what the device has, not the page cache (where the file system can do that: see `direct`)."""
        if self._direct is None:
            os.posix_fadvise(self._descriptor, offset, length, os.POSIX_FADV_DONTNEED)
            self._fill(self._descriptor, buffer, length, offset)
        else:
            self._fill(self._direct, buffer, -(-length // PAGE) * PAGE, offset, length)

    def at_hand(self, offset: int, length: int) -> bool:
        """Whether reading this is copying from the page cache and nothing else. False where nobody can tell. For one
        thread at a time."""
        return self._residency is not None and self._residency.resident(offset, length)

    def _fill(self, descriptor: int, buffer: memoryview, length: int, offset: int, enough: int | None = None) -> None:
        enough, have = length if enough is None else enough, 0
        while have < enough:
            try:
                got = os.preadv(descriptor, [buffer[have:length]], offset + have)
            except OSError as error:
                raise SyncFailed(ReadFailed(self.path, offset + have, error.strerror or str(error))) from None
            if not got:
                raise SyncFailed(ReadFailed(self.path, offset + have, "it ends there; it was longer when we began"))
            have += got

    def extents(self, start: int, end: int) -> Iterator[Extent]:
        """The pieces from byte `start` to `end`. Raises nothing: who cannot say where holes are has none."""
        at = start
        while at < end:
            try:
                data = min(os.lseek(self._descriptor, at, os.SEEK_DATA), end)
                hole = min(os.lseek(self._descriptor, data, os.SEEK_HOLE), end) if data < end else end
            except OSError as error:
                if error.errno != errno.ENXIO:
                    yield at, end, True
                    return
                data = hole = end
            if at < data:
                yield at, data, False
            if data < hole:
                yield data, hole, True
            at = hole

    def content(self) -> Content | None:
        """The file system it holds."""
        return content_of(self.head())

    def holds(self) -> str | None:
        """In words what is on it: the file system, something else, or None for a blank one."""
        content = self.content()
        return str(content) if content else "something" if self.head().strip(b"\0") else None

    def head(self) -> bytes:
        length = min(HEAD, self.size)
        buffer = memoryview(mmap.mmap(-1, HEAD))
        self._fill(self._descriptor, buffer, length, 0)
        return bytes(buffer[:length])

    def identity(self) -> str:
        """Which device or file this is: the same after a restart, another for another."""
        from labstore.blocksync.identity import identity_of  # noqa: PLC0415 - nobody asks for that of a source

        return identity_of(self._descriptor)

    def in_place(self) -> bool:
        """Whether its path still leads to it."""
        here = os.fstat(self._descriptor)
        try:
            there = os.stat(self.path)  # noqa: PTH116 - a device path is text here
        except OSError:
            return False
        if self.block:
            return stat.S_ISBLK(there.st_mode) and there.st_rdev == here.st_rdev
        return os.path.samestat(here, there)

    def witness(self) -> str | None:
        """What changes when anybody writes to it: the same twice means that nobody did in between. None where the
        system says nothing of the kind."""
        status = os.fstat(self._descriptor)
        if self.block:
            here = (SYS / f"{os.major(status.st_rdev)}:{os.minor(status.st_rdev)}").resolve()
            return _block_witness(status.st_rdev) if counted(here, self._read_one) else None
        _outlast(status.st_mtime, status.st_ctime)
        return _file_witness(os.fstat(self._descriptor), os.fstatvfs(self._descriptor).f_fsid)

    def _read_one(self) -> None:
        direct = _direct(self._descriptor, os.O_RDONLY)
        if direct is not None:
            os.close(direct)

    def close(self) -> None:
        for descriptor in (self._descriptor, self._direct):
            if descriptor is not None:
                os.close(descriptor)
        self._direct = None


class Target(Device):
    """One that is written, and held so that nobody else can mount or claim it. A file that is not there is made
    (`create`), but never among the devices in /dev."""

    def __init__(self, path: str, mode: ReadMode = ReadMode.AUTO, create: bool = True) -> None:
        self._create, self._created = create, False
        super().__init__(path, mode)

    def _opened(self, path: str) -> int:
        flags = os.O_RDWR | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY
        try:
            self._make(path)
            block = stat.S_ISBLK(os.stat(path).st_mode)  # noqa: PTH116 - a device path is text here
            descriptor = os.open(path, flags | (os.O_EXCL if block else 0))
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise SyncFailed(TargetInUse(path, holder_of(path))) from None
            raise SyncFailed(CannotOpen(path, error.strerror or str(error))) from None
        try:
            if not block:
                self._claim_file(path, descriptor)
        except BaseException:
            os.close(descriptor)
            raise
        return descriptor

    def _make(self, path: str) -> None:
        folder = Path(path).parent
        if (
            not self._create
            or os.path.lexists(path)
            or not folder.is_dir()
            or folder.stat().st_dev == Path("/dev").stat().st_dev
        ):
            return
        os.close(os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        self._created = True

    def undo_creation(self) -> None:
        """Remove a file that was made in vain."""
        if self._created:
            os.unlink(self.path)  # noqa: PTH108 - a device path is text here

    @staticmethod
    def _claim_file(path: str, descriptor: int) -> None:
        """The kernel guards no file: we lock it against our own kind, and ask for a lease, which is given only where
        nobody else has it open; who does, and may write, is named."""
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SyncFailed(TargetInUse(path, "another program has locked it")) from None
        try:
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_UNLCK)
        except OSError:
            real = os.path.realpath(path)
            holder = loop_over(real) or writer_of(real)
            if holder is not None:
                raise SyncFailed(TargetInUse(path, holder)) from None

    def write(self, views: Sequence[memoryview], offset: int) -> None:
        """Write all of it; it need not be on stable storage before `sync`."""
        rest = list(views)
        while rest:
            try:
                done = os.pwritev(self._descriptor, rest[:1000], offset)
            except OSError as error:
                raise SyncFailed(WriteFailed(self.path, offset, error.strerror or str(error))) from None
            offset += done
            while rest and done >= len(rest[0]):
                done -= len(rest.pop(0))
            if done:
                rest[0] = rest[0][done:]

    def zero(self, offset: int, length: int) -> None:
        """Make these bytes zeros, giving their room back where the storage can."""
        end = min(offset + length, self.size)
        for mode in (_PUNCH_HOLE_KEEP_SIZE, _ZERO_RANGE_KEEP_SIZE):
            if _fallocate(self._descriptor, mode, offset, end - offset):
                return
        zeros = memoryview(mmap.mmap(-1, 1 << 20))
        for at in range(offset, end, 1 << 20):
            self.write([zeros[: min(1 << 20, end - at)]], at)

    def resize(self, size: int) -> None:
        """Only of files."""
        try:
            os.ftruncate(self._descriptor, size)
        except OSError as error:
            raise SyncFailed(WriteFailed(self.path, size, error.strerror or str(error))) from None

    def sync(self) -> None:
        try:
            os.fdatasync(self._descriptor)
        except OSError as error:
            self.let_go(0, 0)  # what could not be written the kernel calls clean now: nobody may find it in the cache
            raise SyncFailed(WriteFailed(self.path, 0, error.strerror or str(error))) from None

    def let_go(self, offset: int, length: int) -> None:
        """The page cache need not keep these bytes."""
        os.posix_fadvise(self._descriptor, offset, length, os.POSIX_FADV_DONTNEED)


# --- finding out -----------------------------------------------------------------------------------------------------


def _block_witness(number: int) -> str | None:
    here = (SYS / f"{os.major(number)}:{os.minor(number)}").resolve()
    counted = _written(here)
    boot = text(Path("/proc/sys/kernel/random/boot_id"))
    if counted is None or boot is None:
        return None
    said = [boot, text(here / "diskseq") or text(here.parent / "diskseq") or "", counted]
    if (here / "partition").exists():
        said.append(_written(here.parent) or "")
    backing = text(here / "loop" / "backing_file")
    if backing is not None:
        try:
            said.append(_file_witness(os.stat(backing), os.statvfs(backing).f_fsid))  # noqa: PTH116 - text
        except OSError:
            return None
    return "block " + " ".join(said)


def counted(here: Path, read: Callable[[], None]) -> bool:
    """Whether the kernel counts what is done to the device of this folder in sysfs. Device mapper's says no on some
    kernels (6.1 is one) and counts all the same: a read shows it."""
    if text(here / "queue" / "iostats") != "0" and text(here.parent / "queue" / "iostats") != "0":
        return True
    if not (here / "dm").exists():
        return False
    before = (text(here / "stat") or "").split()[:1]
    read()
    return (text(here / "stat") or "").split()[:1] != before


def _written(here: Path) -> str | None:
    """Writes, sectors written, discards and sectors discarded, as the kernel counts them for a device."""
    fields = (text(here / "stat") or "").split()
    return ",".join((fields[4], fields[6], *fields[11:12], *fields[13:14])) if len(fields) >= 11 else None


def _file_witness(status: os.stat_result, filesystem: int) -> str:
    numbers = (filesystem, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)
    return "file " + " ".join(map(str, numbers))


def _outlast(*stamps: float) -> None:
    """Wait until the clock of time stamps has moved on, so that a later write gets a later stamp than these."""
    newest = max(stamps)
    while 0 <= time.clock_gettime(time.CLOCK_REALTIME) - newest < _TICK:
        time.sleep(_TICK / 4)


def _kind(mode: int) -> str:
    names = ((stat.S_ISDIR, "a directory"), (stat.S_ISCHR, "a character device"), (stat.S_ISFIFO, "a pipe"))
    return next((name for test, name in names if test(mode)), "something else")


def text(path: Path) -> str | None:
    """What a file of sysfs says, None where it says nothing."""
    try:
        return path.read_text().strip()
    except (OSError, UnicodeDecodeError):
        return None


# --- doing -----------------------------------------------------------------------------------------------------------

_LIBC = ctypes.CDLL(None, use_errno=True)


def _fallocate(descriptor: int, mode: int, offset: int, length: int) -> bool:
    number = ctypes.c_longlong
    return bool(_LIBC.fallocate(descriptor, ctypes.c_int(mode), number(offset), number(length)) == 0)


def _direct(descriptor: int, flags: int) -> int | None:
    """The same file opened again around the page cache, None where its file system cannot do that."""
    try:
        direct = os.open(f"/proc/self/fd/{descriptor}", flags | os.O_DIRECT | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        os.preadv(direct, [memoryview(mmap.mmap(-1, PAGE))], 0)
    except OSError:
        os.close(direct)
        return None
    return direct
