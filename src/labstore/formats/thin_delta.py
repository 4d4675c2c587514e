"""What `thin_delta` (thin-provisioning-tools) says of two thin volumes of one pool: where they differ."""

from __future__ import annotations

from array import array
from typing import NoReturn
from xml.parsers import expat

from labstore.model.change_hints import Hints

SECTOR = 512
_CHANGED = frozenset({"different", "left_only", "right_only"})
"""`left_only` was given back since: it reads as zeros now, which is a change like any other."""


class BadDelta(ValueError):
    """Not such a report, or a part of one; nothing of it may be believed."""


def parse(report: str, since: str, until: str) -> Hints:
    """The report, with and without --verbose, as hints between two moments. Raises BadDelta."""
    reader = _Reader()
    try:
        reader.parser.Parse(report, True)
    except expat.ExpatError as error:
        raise BadDelta(f"not XML: {error}") from None
    if not reader.ended:
        raise BadDelta("it has no <diff>")
    return Hints(since, until, reader.packed)


class _Reader:
    """Takes the elements one by one: a report may have millions."""

    def __init__(self) -> None:
        self.packed: array[int] = array("Q")
        self.ended = False
        self._chunk = 0
        self._at = 0
        self._within: str | None = None
        self.parser = expat.ParserCreate()
        self.parser.StartElementHandler = self._start
        self.parser.EndElementHandler = self._end
        self.parser.EntityDeclHandler = self._entity

    def _start(self, name: str, attributes: dict[str, str]) -> None:
        if name == "superblock":
            self._chunk = _number(attributes, "data_block_size") * SECTOR
        elif name == "range" and self._within is not None:
            self._range(self._within, attributes)
        elif name in _CHANGED or name == "same":
            if attributes:
                self._range(name, attributes)
            self._within = name

    def _end(self, name: str) -> None:
        if name == self._within:
            self._within = None
        elif name == "diff":
            self.ended = True

    def _range(self, name: str, attributes: dict[str, str]) -> None:
        begin, length = _number(attributes, "begin"), _number(attributes, "length")
        if begin < self._at or not length or not self._chunk or begin + length > 1 << 50:
            raise BadDelta(f"a range of {length} at {begin}, after {self._at}")
        self._at = begin + length
        if name == "same":
            return
        start, end = begin * self._chunk, self._at * self._chunk
        if self.packed and self.packed[-1] == start:
            self.packed[-1] = end
        else:
            self.packed.extend((start, end))

    def _entity(self, *_: object) -> NoReturn:
        raise BadDelta("it declares an entity")


def _number(attributes: dict[str, str], name: str) -> int:
    text = attributes.get(name, "")
    if not (text.isascii() and text.isdigit() and len(text) < 18):
        raise BadDelta(f"{name} is {text[:40]!r}")
    return int(text)
