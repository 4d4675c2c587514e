"""Where a device changed, as a file that any storage's tool can be made to write.

    labstore-hints 1
    since TOKEN
    until TOKEN
    START LENGTH
    ...

The tokens name the two moments, as the source's tokens do; the ranges are in bytes, in rising order.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator

from labstore.model.change_hints import Hints

FIRST = "labstore-hints 1"


class BadHints(ValueError):
    """Not such a file; nothing of it may be believed."""


def parse(lines: Iterable[str]) -> Hints:
    """Raises BadHints."""
    found = iter(lines)
    if next(found, "").rstrip("\n") != FIRST:
        raise BadHints("the first line is not " + FIRST)
    since, until = _token(next(found, ""), "since"), _token(next(found, ""), "until")
    return Hints(since, until, _packed(found))


def render(hints: Hints) -> Iterator[str]:
    """The lines of the file."""
    yield from (f"{FIRST}\n", f"since {hints.since}\n", f"until {hints.until}\n")
    for start, end in hints.ranges():
        yield f"{start} {end - start}\n"


def _token(line: str, word: str) -> str:
    name, _, token = line.rstrip("\n").partition(" ")
    if name != word or not token or len(token) > 512 or not token.isprintable():
        raise BadHints(f"no line `{word} TOKEN`")
    return token


def _packed(lines: Iterator[str]) -> array[int]:
    packed = array("Q")
    for line in lines:
        words = line.split()
        if len(words) != 2 or not all(word.isascii() and word.isdigit() and len(word) < 20 for word in words):
            raise BadHints(f"not a range: {line[:60]!r}")
        start, length = int(words[0]), int(words[1])
        if not length or start + length > 1 << 62 or (packed and start < packed[-1]):
            raise BadHints(f"a range that is empty, out of order or too far: {line[:60]!r}")
        if packed and start == packed[-1]:
            packed[-1] = start + length
        else:
            packed.extend((start, start + length))
    return packed
