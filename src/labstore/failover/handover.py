"""What clients held when they were cut off, on its way to the other node; and what became of it there.

The barrier is up when it is written, so nothing changes meanwhile: what stands here is exact.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path

from labstore.model.nfsd import Connection, NfsClient
from labstore.reconcile.codec import converter
from labstore.system.files import FileTooLarge, make_directory, read_limited, write_atomic

LIMIT = 256 << 20


class BadHandover(Exception):
    """A file that is not what `write_handover` writes."""


@dataclass(frozen=True)
class Handover:
    """`clients` and `connections` of the server on `node` at `at` (UTC); `run` is the run that cut them off."""

    node: str
    at: str
    run: str
    clients: tuple[NfsClient, ...] = ()
    connections: tuple[Connection, ...] = ()


def write_handover(path: Path, handover: Handover) -> None:
    """Durable when it returns. Raises OSError; then an older one is still there."""
    make_directory(path.parent, 0o700)
    write_atomic(path, to_json(handover).encode(), mode=0o600)


def read_handover(path: Path) -> Handover:
    """Raises OSError, BadHandover."""
    try:
        return from_json(read_limited(path, LIMIT).decode())
    except (FileTooLarge, UnicodeDecodeError) as error:
        raise BadHandover(f"{path}: {error}") from error


def to_json(handover: Handover) -> str:
    return json.dumps(converter().unstructure(handover), separators=(",", ":"))


def from_json(text: str) -> Handover:
    """Raises BadHandover."""
    try:
        return converter().structure(json.loads(text), Handover)
    except Exception as error:
        raise BadHandover(f"not a handover: {type(error).__name__}") from error
