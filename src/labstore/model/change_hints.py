"""Where a device changed between two moments, as its storage says."""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field


@dataclass(frozen=True)
class Hints:
    """`since` and `until` name the two moments. The ranges, in bytes, are in rising order and do not touch; they are
    kept packed, because there may be millions."""

    since: str
    until: str
    packed: array[int] = field(default_factory=lambda: array("Q"))

    @classmethod
    def of(cls, since: str, until: str, ranges: Iterable[tuple[int, int]]) -> Hints:
        """From ranges (first byte, length) in any order, which may overlap. Raises ValueError."""
        packed = array("Q")
        for start, length in sorted(ranges):
            if start < 0 or length <= 0 or start + length > 1 << 62:
                raise ValueError(f"a range of {length} bytes at {start}")
            if packed and start <= packed[-1]:
                packed[-1] = max(packed[-1], start + length)
            else:
                packed.extend((start, start + length))
        return cls(since, until, packed)

    def ranges(self) -> Iterator[tuple[int, int]]:
        """First byte and end of each."""
        numbers = iter(self.packed)
        return zip(numbers, numbers, strict=True)

    @property
    def bytes(self) -> int:
        return sum(end - start for start, end in self.ranges())
