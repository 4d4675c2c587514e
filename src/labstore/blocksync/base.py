"""What the source compares with: the digests of the target, from its own copy of the index or from the other end."""

from __future__ import annotations

from typing import Protocol

from labstore.blocksync.channel import broken
from labstore.blocksync.crew import Lane
from labstore.blocksync.digests import SIZE
from labstore.blocksync.store import DigestStore

Run = tuple[int, int, bytes | None]
"""First block, how many, and their digests; None for zeros."""


class Base(Protocol):
    def take(self, start: int, count: int) -> bytes | None:
        """The target's digests of these blocks, None where all of them are zeros. Asked for in rising order."""


class StoreBase:
    """From a copy of the index."""

    def __init__(self, store: DigestStore) -> None:
        self._store = store

    def take(self, start: int, count: int) -> bytes | None:
        digests = self._store.get(start, count)
        return digests if digests.strip(b"\0") else None


class WireBase:
    """From the other end, which sends all of them in order."""

    def __init__(self, lane: Lane[Run]) -> None:
        self._lane = lane
        self._run: Run = (0, 0, None)

    def take(self, start: int, count: int) -> bytes | None:
        parts: list[tuple[int, bytes | None]] = []
        while count:
            first, length, digests = self._here(start)
            taken = min(count, first + length - start)
            at = (start - first) * SIZE
            parts.append((taken, None if digests is None else digests[at : at + taken * SIZE]))
            start, count = start + taken, count - taken
        joined = b"".join(bytes(taken * SIZE) if digests is None else digests for taken, digests in parts)
        return joined if joined.strip(b"\0") else None

    def _here(self, start: int) -> Run:
        """The run in which a block lies."""
        first, length, _ = self._run
        if start >= first + length:
            end = first + length
            self._run = self._lane.get()
            if self._run[0] != end:
                raise broken("digests out of order")
        return self._run
