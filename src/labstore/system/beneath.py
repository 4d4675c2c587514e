"""Opening what lies below a directory that somebody else may be changing, and the immutable attribute.

The kernel does the walking: openat2(2) with flags that refuse links, mount points and anything that leads out. There
is no way to a file here that starts with a path from the root.
"""

from __future__ import annotations

import array
import ctypes
import errno
import fcntl
import os
import stat

_OPENAT2 = 437
"""The number of the system call, the same on every architecture."""
_NO_XDEV, _NO_MAGICLINKS, _NO_SYMLINKS, _BENEATH = 0x01, 0x02, 0x04, 0x08
_RESOLVE = _NO_XDEV | _NO_MAGICLINKS | _NO_SYMLINKS | _BENEATH
_GETFLAGS, _SETFLAGS = 0x80086601, 0x40086602
_IMMUTABLE = 0x10
_NO_ATTRIBUTES = frozenset({errno.ENOTTY, errno.EOPNOTSUPP, errno.EINVAL})
_TRIES = 8
_FORBIDDEN = "openat2(2) is forbidden here, as RestrictSUIDSGID= of a unit does it, or unknown to the kernel"

_libc = ctypes.CDLL(None, use_errno=True)


class _OpenHow(ctypes.Structure):
    _fields_ = (("flags", ctypes.c_uint64), ("mode", ctypes.c_uint64), ("resolve", ctypes.c_uint64))


def open_beneath(directory: int, name: str, flags: int) -> int:
    """A descriptor of one name in an open directory, never through a link, a mount point or `..`; never waits.

    Raises OSError: ENOENT where there is nothing, ELOOP for a link, EXDEV for a mount point, EAGAIN where the owner
    of the file holds a lease on it, ENOSYS where the system call is forbidden.
    """
    if "/" in name or name in ("", ".", "..") or "\0" in name:
        raise OSError(errno.EINVAL, "not one name", name)
    how = _OpenHow(flags | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0, _RESOLVE)
    if flags & os.O_PATH:
        how.flags &= ~os.O_NONBLOCK
    for _ in range(_TRIES):
        found = int(
            _libc.syscall(
                ctypes.c_long(_OPENAT2), ctypes.c_int(directory), name.encode(), ctypes.byref(how),
                ctypes.c_size_t(ctypes.sizeof(how)),
            )
        )  # fmt: skip
        if found >= 0:
            return found
        number = ctypes.get_errno()
        # EAGAIN also says that a rename somewhere made the kernel unsure whether we are still beneath
        if number not in (errno.EAGAIN, errno.EINTR):
            break
    raise OSError(number, _FORBIDDEN if number == errno.ENOSYS else os.strerror(number), name)


def is_immutable(descriptor: int) -> bool:
    """Whether the file has the attribute; false on file systems that have none. Raises OSError."""
    flags = _flags(descriptor)
    return flags is not None and bool(flags & _IMMUTABLE)


def set_immutable(descriptor: int, wanted: bool) -> None:
    """Set or clear the attribute. Raises OSError where it cannot be had (EOPNOTSUPP: not on this file system)."""
    flags = _flags(descriptor)
    if flags is None:
        raise OSError(errno.EOPNOTSUPP, "this file system has no immutable attribute")
    new = flags | _IMMUTABLE if wanted else flags & ~_IMMUTABLE
    if new != flags:
        fcntl.ioctl(descriptor, _SETFLAGS, array.array("L", [new]))


def _flags(descriptor: int) -> int | None:
    word = array.array("L", [0])
    try:
        fcntl.ioctl(descriptor, _GETFLAGS, word, True)
    except OSError as error:
        if error.errno in _NO_ATTRIBUTES:
            return None
        raise
    return word[0] & 0xFFFFFFFF


def unnamed_file(directory: int) -> int | None:
    """A new file without a name on the directory's file system, for reading and writing; None where there is no such
    thing. Raises OSError."""
    try:
        return os.open(".", os.O_TMPFILE | os.O_RDWR | os.O_CLOEXEC, 0o600, dir_fd=directory)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.EISDIR, errno.ENOENT):
            return None
        raise


def name_file(descriptor: int, directory: int, name: str) -> None:
    """Give an open file this name. Raises FileExistsError for any name that is taken, a dangling link among them."""
    os.link(f"/proc/self/fd/{descriptor}", name, dst_dir_fd=directory, follow_symlinks=True)


def inode_at(directory: int, name: str) -> tuple[int, int] | None:
    """Device and inode of what stands at a name, links not followed; None where there is nothing."""
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return None
    return status.st_dev, status.st_ino


def inode_of(descriptor: int) -> tuple[int, int]:
    status = os.fstat(descriptor)
    return status.st_dev, status.st_ino


def is_regular(status: os.stat_result) -> bool:
    return stat.S_ISREG(status.st_mode)
