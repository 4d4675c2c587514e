"""`systemctl show UNIT...`: blocks of KEY=VALUE, one per unit, separated by empty lines."""

from __future__ import annotations

from collections.abc import Mapping


def blocks(text: str) -> tuple[Mapping[str, str], ...]:
    """The properties of each unit, in the order in which they were asked for."""
    found: list[dict[str, str]] = []
    for block in text.split("\n\n"):
        values = {key: value for key, equals, value in (line.partition("=") for line in block.splitlines()) if equals}
        if values:
            found.append(values)
    return tuple(found)
