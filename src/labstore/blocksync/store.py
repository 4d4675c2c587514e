"""The digests of a device in files: one file per level of the tree, changed in place, with a root that can be asked
for at any time and costs what was changed since the last time."""

from __future__ import annotations

import mmap
import os
from collections.abc import Iterator
from pathlib import Path

from labstore.blocksync.digests import FAN, GROUP, SIZE, NodeHasher
from labstore.model.block_sync import Algorithm

_NODES_AT_ONCE = 1024
"""Nodes that are put down together when some of them were made anew,"""
_AT_ONCE = 256
"""groups that are read together for that, at most,"""
_BETWEEN = 4
"""and groups that are read though they need not be, where that spares a call."""
_GAP = b"\1" + bytes(_BETWEEN + 1)
_ZEROS_AT_ONCE = 65536
"""Blocks looked at in one piece when digests become zeros: holes stay holes."""


class DigestStore:
    """All digests of a device of `size` bytes. Raises OSError.

    The files say what was put into them, nothing more: whether that is the truth about a device, the header beside
    them knows. `fresh` starts with nothing but zeros.
    """

    def __init__(
        self, folder: Path, algorithm: Algorithm, key: bytes, block_size: int, size: int, fresh: bool = False
    ) -> None:
        self._folder, self._algorithm, self._block_size, self.size = folder, algorithm, block_size, size
        self._nodes = NodeHasher(key)
        self.blocks = -(-size // block_size)
        self._counts = _level_counts(self.blocks)
        self._files: list[int] = []
        self._clean()
        try:
            self._open(fresh)
        except BaseException:
            self.close()
            raise

    def _open(self, fresh: bool) -> None:
        for level, count in enumerate(self._counts):
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | (os.O_TRUNC if fresh else 0)
            self._files.append(os.open(self._folder / f"level{level}", flags, 0o600))
            before = os.fstat(self._files[-1]).st_size // SIZE
            os.ftruncate(self._files[-1], count * SIZE)
            if level == 0 and before != count:
                self.mark(max(min(before, count) - 1, 0), 1)
        for level in range(len(self._counts), 16):
            (self._folder / f"level{level}").unlink(missing_ok=True)

    def get(self, start: int, count: int) -> bytes:
        """The digests of blocks `start` to `start + count`."""
        found = os.pread(self._files[0], count * SIZE, start * SIZE)
        if len(found) != count * SIZE:
            raise OSError(5, "the digest file is shorter than it should be", str(self._folder))
        return found

    def put(self, start: int, digests: bytes) -> None:
        """These are the digests of the blocks from `start` on."""
        _write(self._files[0], digests, start * SIZE)
        self.mark(start, len(digests) // SIZE)

    def put_zeros(self, start: int, count: int) -> None:
        """These blocks are zeros."""
        for at in range(start, start + count, _ZEROS_AT_ONCE):
            length = min(_ZEROS_AT_ONCE, start + count - at) * SIZE
            if os.pread(self._files[0], length, at * SIZE).strip(b"\0"):
                _write(self._files[0], bytes(length), at * SIZE)
                self.mark(at, length // SIZE)

    def mark(self, start: int, count: int) -> None:
        """The nodes above these blocks are to be made anew."""
        first, last = start // FAN, (start + count - 1) // FAN
        self._dirty[first : last + 1] = b"\1" * (last + 1 - first)
        self._touched = True

    def root(self) -> bytes:
        """The root over all digests as they are now."""
        if self._touched:
            dirty: mmap.mmap | bytearray = self._dirty
            for level in range(len(self._counts) - 1):
                dirty = self._renew(level, dirty)
            self._clean()
        top = os.pread(self._files[-1], SIZE, 0)
        return self._nodes.root(self._algorithm, self._block_size, self.size, top)

    def _renew(self, level: int, dirty: mmap.mmap | bytearray) -> bytearray:
        """Make the nodes of the groups of `level` anew that are marked; returns the marks of the next level."""
        above = bytearray(-(-self._counts[level + 1] // FAN))
        first = dirty.find(b"\1")
        while first >= 0:
            marks = bytes(dirty[first : first + _NODES_AT_ONCE])
            nodes = bytearray(os.pread(self._files[level + 1], len(marks) * SIZE, first * SIZE))
            for start, end in _stretches(marks):
                groups = os.pread(self._files[level], (end - start) * GROUP, (first + start) * GROUP)
                self._nodes.renew(level, groups, marks[start:end], memoryview(nodes)[start * SIZE :])
                low, high = (first + start) // FAN, (first + end - 1) // FAN + 1
                above[low:high] = b"\1" * (high - low)
            _write(self._files[level + 1], nodes, first * SIZE)
            first = dirty.find(b"\1", first + _NODES_AT_ONCE)
        return above

    def _clean(self) -> None:
        """One byte per group of blocks, 1 where its node has to be made anew. Untouched pages cost no memory."""
        self._dirty = mmap.mmap(-1, max(-(-self.blocks // FAN), 1))
        self._touched = False

    def sync(self) -> None:
        """What was put is on stable storage when this returns."""
        for file in self._files:
            os.fdatasync(file)

    def close(self) -> None:
        for file in self._files:
            os.close(file)
        self._files = []


def _level_counts(blocks: int) -> list[int]:
    """How many digests each level has, from the blocks up to the one at the top."""
    counts = [blocks]
    while counts[-1] > 1 or len(counts) == 1:
        counts.append(-(-counts[-1] // FAN))
    return counts


def _stretches(marks: bytes) -> Iterator[tuple[int, int]]:
    """What is marked, in stretches from a marked group to behind one: little else lies in between."""
    start = marks.find(b"\1")
    while start >= 0:
        gap = marks.find(_GAP, start, start + _AT_ONCE)
        end = (marks.rfind(b"\1", start, start + _AT_ONCE) if gap < 0 else gap) + 1
        yield start, end
        start = marks.find(b"\1", end)


def _write(file: int, content: bytes | bytearray, offset: int) -> None:
    view = memoryview(content)
    while view:
        written = os.pwrite(file, view, offset)
        view, offset = view[written:], offset + written
