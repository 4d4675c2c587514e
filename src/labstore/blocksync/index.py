"""What is known of a target (or, at the source, what the target was told to be), kept between runs.

A folder per device holds the digests (`store.py`), a header that says what they are worth, and a lock. The header is
replaced atomically and carries its own digest. While a run changes the target the header says so: if the run is
killed, the next one finds that and believes nothing.
"""

from __future__ import annotations

import json
import os
import re
from dataclasses import dataclass, replace
from pathlib import Path

from blake3 import blake3

from labstore.blocksync import strict
from labstore.blocksync.store import DigestStore
from labstore.model.block_sync import BLOCK_SIZES, LARGEST_DEVICE, Algorithm
from labstore.system.files import FileTooLarge, make_directory, read_limited, sync_directory, write_atomic

VERSION = 1
_HEADER = "header.json"
_HEX = re.compile(r"[0-9a-f]{32}|[0-9a-f]{64}")


class Unreadable(Exception):
    """There is a header and it cannot be believed; the text says why."""


@dataclass(frozen=True)
class IndexState:
    """The header of an index.

    `known` blocks from the start have digests that are the truth, provided that `closed` (no run was at work when it
    was written) and that the target still shows `witness`. `generation` counts the states the target was brought to;
    `root` is the present one's, None while the target is between two. `token` names the moment of the source that
    `root` stands for; while `root` is None it is the moment that blocks before `position` were brought to. `changed`
    blocks were written since the last root by runs that did not come to their end.
    """

    volume: str
    key: str
    algorithm: Algorithm
    block_size: int
    size: int
    closed: bool = False
    known: int = 0
    generation: int = 0
    root: str | None = None
    target: str = ""
    content: str | None = None
    token: str | None = None
    position: int = 0
    witness: str | None = None
    synced: float = 0.0
    read_whole: float = 0.0
    compared_both: float = 0.0
    scrub_at: int = 0
    changed: int = 0
    version: int = VERSION

    def __post_init__(self) -> None:
        good = (
            _HEX.fullmatch(self.volume) is not None
            and len(self.volume) == 32
            and _HEX.fullmatch(self.key) is not None
            and len(self.key) == 64
            and (self.root is None or _HEX.fullmatch(self.root) is not None)
            and self.block_size in BLOCK_SIZES
            and 0 < self.size <= LARGEST_DEVICE
            and 0 <= self.known <= self.blocks
            and 0 <= self.position <= self.blocks
            and self.scrub_at >= 0
            and self.changed >= 0
            and self.generation >= 0
        )
        if not good:
            raise ValueError("the header of the index contradicts itself")

    @property
    def blocks(self) -> int:
        return -(-self.size // self.block_size)

    def sized(self, size: int) -> IndexState:
        """The same for a device that has another size now: what is beyond the last whole block is not known."""
        if size == self.size:
            return self
        whole = min(size, self.size) // self.block_size
        known, position = min(self.known, whole), min(self.position, whole)
        return replace(self, size=size, known=known, position=position, root=None)


def new_state(algorithm: Algorithm, block_size: int, size: int) -> IndexState:
    """An index of nothing yet, with a key of its own."""
    return IndexState(os.urandom(16).hex(), os.urandom(32).hex(), algorithm, block_size, size)


class IndexFolder:
    """One index on disk. Its methods raise OSError."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def load(self) -> IndexState | None:
        """The header, None where there is none. Raises Unreadable."""
        try:
            raw = read_limited(self.path / _HEADER, 1 << 16)
        except FileNotFoundError:
            return None
        except FileTooLarge as error:
            raise Unreadable(str(error)) from None
        try:
            return _decoded(raw)
        except (json.JSONDecodeError, UnicodeError, TypeError, KeyError, AttributeError, RecursionError):
            raise Unreadable("its header is not what was written there") from None
        except ValueError as error:
            raise Unreadable(str(error)) from None

    def save(self, state: IndexState) -> None:
        """Replace the header, durably."""
        write_atomic(self.path / _HEADER, _encoded(state), mode=0o600)

    def clear(self) -> None:
        """Forget the header, durably, before the digests change."""
        (self.path / _HEADER).unlink(missing_ok=True)
        sync_directory(self.path)

    def digests(self, state: IndexState, fresh: bool) -> DigestStore:
        """The digests that belong to a header."""
        key = bytes.fromhex(state.key)
        return DigestStore(self.path, state.algorithm, key, state.block_size, state.size, fresh)

    def make(self) -> None:
        make_directory(self.path, 0o700)

    @property
    def lock(self) -> Path:
        return self.path / "lock"


def folder_name(path: str) -> str:
    """A folder name for a device path: readable, and different for different paths."""
    plain = re.sub(r"[^A-Za-z0-9.-]", "_", path.strip("/"))[-80:].lstrip(".")
    return f"{plain}-{blake3(path.encode()).hexdigest(6)}"


def target_index(state: Path, path: str) -> Path:
    """The folder of a target's index."""
    return state / "targets" / folder_name(path)


def source_caches(state: Path) -> Path:
    """The folder of a source's copies of indexes."""
    return state / "sources"


def _encoded(state: IndexState) -> bytes:
    body = strict.dumps(state).decode()
    return json.dumps({"header": body, "digest": blake3(body.encode()).hexdigest()}).encode()


def _decoded(raw: bytes) -> IndexState:
    outer = json.loads(raw)
    body = outer["header"]
    if blake3(body.encode()).hexdigest() != outer["digest"]:
        raise ValueError("its digest does not fit")
    values = json.loads(body)
    if values.get("version") != VERSION:
        raise ValueError(f"it is of version {values.get('version')}")
    return strict.typed(IndexState, {"changed": 0, **values})
