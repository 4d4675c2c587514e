"""Which device or file a target is: the same after a restart, another for another one at its path."""

from __future__ import annotations

import ctypes
import fcntl
import os
import stat
import struct
import time

from labstore.blocksync.devices import SYS, text

_BORN, _VERSION = " born ", " version "
_AT_EMPTY_PATH, _STATX_BTIME = 0x1000, 0x800
_MASK, _BIRTH = struct.Struct("=I"), struct.Struct("=80xqI")
"""Where struct statx says what it knows, and the time of birth. It is the same on every architecture."""
_FS_IOC_GETVERSION = 0x80087601


def identity_of(descriptor: int) -> str:
    """In words. The number of a file alone would not do: the next file that is made often gets that of one that was
    removed. So its birth stands with it, or the version of its number, where the file system knows one of them."""
    status = os.fstat(descriptor)
    if stat.S_ISBLK(status.st_mode):
        return _block(status.st_rdev)
    return f"file {_file(descriptor)}"


def same(known: str, found: str, synced: float) -> bool:
    """Whether what was found is what is known, and was last written at `synced` (0: never to its end). Indexes that
    were made before births were looked at know a file by its number alone: it is the one unless it was born later."""
    if known == found:
        return True
    number, _, born = found.partition(_BORN)
    if born and number == known:
        return not synced or born <= _moment(int(synced), int(synced % 1 * 1e9))
    return found.partition(_VERSION)[0] == known


def _file(descriptor: int) -> str:
    number = os.fstat(descriptor).st_ino
    born = _born(descriptor)
    if born is not None:
        return f"{number}{_BORN}{born}"
    version = bytearray(8)
    try:
        fcntl.ioctl(descriptor, _FS_IOC_GETVERSION, version)
    except OSError:
        return str(number)
    return f"{number}{_VERSION}{int.from_bytes(version[:4], 'little')}"


def _born(descriptor: int) -> str | None:
    """When a file was made, None where its file system does not keep that."""
    known = ctypes.create_string_buffer(256)
    libc = ctypes.CDLL(None)
    if libc.statx(descriptor, b"", _AT_EMPTY_PATH, ctypes.c_uint(_STATX_BTIME), known) != 0:
        return None
    (mask,) = _MASK.unpack_from(known)
    return _moment(*_BIRTH.unpack_from(known)) if mask & _STATX_BTIME else None


def _moment(seconds: int, nanoseconds: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds)) + f".{nanoseconds:09}Z"


def _block(number: int) -> str:
    here = SYS / f"{os.major(number)}:{os.minor(number)}"
    backing = text(here / "loop" / "backing_file")
    if backing:
        return f"loop over {_backing(backing)}"
    for name in ("dm/uuid", "md/uuid", "wwid", "device/wwid", "serial", "device/serial"):
        said = text(here / name)
        if said:
            return f"{name.split('/')[0]} {said}"
    partition = text(here / "partition")
    if partition:
        parent = os.stat(f"/dev/{(here.resolve().parent).name}").st_rdev  # noqa: PTH116 - sysfs says it as text
        return f"partition {partition} of {_block(parent)}"
    return f"device {here.resolve().name}"


def _backing(path: str) -> str:
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    except OSError:
        return path
    try:
        return _file(descriptor)
    finally:
        os.close(descriptor)
