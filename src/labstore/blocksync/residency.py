"""Whether the page cache has a piece of a file, asked without bringing anything in."""

from __future__ import annotations

import ctypes
import mmap
import os

_CACHESTAT = 451
"""The number of cachestat(2), Linux 6.5, on every architecture."""
_PAGE = mmap.PAGESIZE
_WINDOW = 32 << 20
"""Bytes asked about at a time,"""
_SHORT = 128 << 10
"""but for less than this, which says little of what is beside it."""
_PROT_READ, _MAP_SHARED = 1, 1
_LOWEST = bytes(each & 1 for each in range(256))
"""Of what mincore(2) says of a page only the lowest bit means something."""
_LIBC = ctypes.CDLL(None, use_errno=True)
_LIBC.mmap.restype = ctypes.c_void_p


class _Range(ctypes.Structure):
    _fields_ = (("offset", ctypes.c_uint64), ("length", ctypes.c_uint64))


class _Counts(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_uint64) for name in ("cached", "dirty", "writeback", "evicted", "recently"))


class Residency:
    """Answers for one open file. Asks for a window at a time, so that a sequential reader asks seldom."""

    def __init__(self, descriptor: int) -> None:
        self._descriptor = descriptor
        self._start = self._end = 0
        self._whole: bool | None = None
        """Whether all of the window is there (True), nothing (False), or some of it."""
        self._by_count = self._counted(0, _PAGE) is not None

    def resident(self, offset: int, length: int) -> bool:
        """Whether all of it is in the page cache. False where nobody can tell."""
        if length >= _SHORT and not self._start <= offset <= offset + length <= self._end:
            self._look(offset)
        if self._whole is not None and self._start <= offset <= offset + length <= self._end:
            return self._whole
        return self._cached(offset, length) == -(-length // _PAGE)

    def _look(self, offset: int) -> None:
        size = os.lseek(self._descriptor, 0, os.SEEK_END)
        self._start, self._end = offset, min(offset + _WINDOW, size)
        length = max(self._end - offset, 0)
        cached = self._cached(offset, length) if length else 0
        self._whole = True if cached and cached == -(-length // _PAGE) else None if cached else False

    def _cached(self, offset: int, length: int) -> int:
        """How many pages of it are there; 0 where nobody can tell."""
        if self._by_count:
            return self._counted(offset, length) or 0
        return _mincore(self._descriptor, offset, length).count(1)

    def _counted(self, offset: int, length: int) -> int | None:
        """How many pages of it are cached, None where the kernel is too old to say."""
        where, counts = _Range(offset, length), _Counts()
        done = _LIBC.syscall(_CACHESTAT, self._descriptor, ctypes.byref(where), ctypes.byref(counts), 0)
        return int(counts.cached) if done == 0 else None


def _mincore(descriptor: int, offset: int, length: int) -> bytes:
    """One byte per page, 1 where it is cached. The mapping is asked about and never touched."""
    address = _LIBC.mmap(None, ctypes.c_size_t(length), _PROT_READ, _MAP_SHARED, descriptor, ctypes.c_longlong(offset))
    if address in (None, ctypes.c_void_p(-1).value):
        return bytes(-(-length // _PAGE))
    try:
        pages = (ctypes.c_ubyte * -(-length // _PAGE))()
        if _LIBC.mincore(ctypes.c_void_p(address), ctypes.c_size_t(length), pages) != 0:
            return bytes(len(pages))
        return bytes(pages).translate(_LOWEST)
    finally:
        _LIBC.munmap(ctypes.c_void_p(address), ctypes.c_size_t(length))
