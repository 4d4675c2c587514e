"""Where the parts of a document stand in its file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

Path = Sequence[str | int]
"""The way to a value: keys of maps and positions (from 0) in lists."""


@dataclass(frozen=True, slots=True)
class Place:
    """Line and column, 1-based."""

    line: int
    column: int


@dataclass(frozen=True, slots=True)
class Places:
    """Where a value, its keys and its parts stand. Packed, since a mounts file may have hundreds of thousands."""

    at: int
    keys: Mapping[str, int] = field(default_factory=dict)
    parts: Mapping[str | int, Places | int] = field(default_factory=dict)

    def value(self, path: Path) -> Place:
        """Where the value at `path` begins; of the nearest value around it where there is none."""
        here: Places | int = self
        for step in path:
            if isinstance(here, int) or step not in here.parts:
                break
            here = here.parts[step]
        return unpacked(here if isinstance(here, int) else here.at)

    def key(self, path: Path) -> Place:
        """Where the key of the value at `path` stands; of the nearest key around it where there is none."""
        here: Places | int = self
        best = self.at
        for step in path:
            if isinstance(here, int) or step not in here.parts:
                break
            part = here.parts[step]
            best = here.keys[step] if isinstance(step, str) else part if isinstance(part, int) else part.at
            here = part
        return unpacked(best)

    def best(self, path: Path) -> Place:
        """What a person should look at: the value itself where it is on one place, the key of a map or list."""
        here: Places | int = self
        for step in path:
            if isinstance(here, int) or step not in here.parts:
                return self.key(path)
            here = here.parts[step]
        return self.value(path) if isinstance(here, int) else self.key(path)


def packed(line: int, column: int) -> int:
    """A place as one number; `line` and `column` from 0, as the parser counts."""
    return line << 24 | min(column, 0xFFFFFF)


def unpacked(place: int) -> Place:
    return Place((place >> 24) + 1, (place & 0xFFFFFF) + 1)
