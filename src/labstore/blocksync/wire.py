"""Frames: the shape in which everything travels between the two ends. Pure; the bytes come from and go elsewhere.

A frame is a header of 36 bytes (magic, kind, length, sequence number, MAC) and a payload. The MAC is over both, under
a key that belongs to one session and one direction, so that a changed, cut, repeated, reordered or reflected frame, or
one of another session, is found before its payload is looked at. The length is checked against the kind's limit
before anything of that length is allocated.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum

from blake3 import blake3

from labstore.blocksync.digests import Bytes, derived

VERSION = 1
MAGIC = b"LBS1"
_HEAD = struct.Struct("!4sBBHIQ")
MAC_SIZE = 16
HEADER_SIZE = _HEAD.size + MAC_SIZE
CONTENT_LIMIT = 1 << 20
"""Bytes of device content in one frame, before compression."""
_NO_KEY = bytes(32)


class Kind(IntEnum):
    HELLO = 1
    WELCOME = 2
    OFFER = 3
    PLAN = 4
    SCAN = 5
    DIGESTS = 6
    NOTHING = 7
    DATA = 8
    ZEROS = 9
    POSITION = 10
    COMPLETE = 11
    COMMITTED = 12
    STORED = 13
    LIMITS = 14
    PING = 15
    FAULT = 16


_TEXT = 1 << 15
LIMITS: Mapping[Kind, int] = {
    Kind.HELLO: _TEXT,
    Kind.WELCOME: _TEXT,
    Kind.OFFER: _TEXT,
    Kind.PLAN: _TEXT,
    Kind.SCAN: _TEXT,
    Kind.DIGESTS: 8 + 16 * 4096,
    Kind.NOTHING: 16,
    Kind.DATA: 8 + 24 * 256 + CONTENT_LIMIT + 1024,
    Kind.ZEROS: 16 * 4096,
    Kind.POSITION: 24,
    Kind.COMPLETE: _TEXT,
    Kind.COMMITTED: _TEXT,
    Kind.STORED: _TEXT,
    Kind.LIMITS: _TEXT,
    Kind.PING: 0,
    Kind.FAULT: _TEXT,
}
"""The longest payload of each kind in bytes."""


class BadFrame(Exception):
    """What came is no frame of this session; the text says why."""


@dataclass(frozen=True, slots=True)
class Head:
    kind: Kind
    length: int


class Sealer:
    """Makes the headers of the frames of one direction."""

    def __init__(self) -> None:
        self._key, self._sequence = _NO_KEY, 0

    def rekey(self, key: bytes) -> None:
        """From now on frames belong to a session."""
        self._key = key

    def seal(self, kind: Kind, *parts: Bytes) -> bytes:
        """The header of a frame with this payload. Raises ValueError for one that the other end would refuse."""
        length = sum(map(len, parts))
        if length > LIMITS[kind]:
            raise ValueError(f"{length} bytes are too long for {kind.name}")
        head = _HEAD.pack(MAGIC, kind, 0, 0, length, self._sequence)
        self._sequence += 1
        return head + _mac(self._key, head, parts)


class Checker:
    """Checks the frames of one direction. Raises BadFrame."""

    def __init__(self) -> None:
        self._key, self._sequence = _NO_KEY, 0

    def rekey(self, key: bytes) -> None:
        self._key = key

    def head(self, raw: bytes) -> Head:
        """What the header of a frame says, as far as it can be believed before the payload is there."""
        if len(raw) != HEADER_SIZE:
            raise BadFrame("a header was cut short")
        magic, kind, flags, reserved, length, sequence = _HEAD.unpack_from(raw)
        if magic != MAGIC:
            raise BadFrame(f"not a frame: {bytes(raw[:40])!r}")
        if kind not in _KINDS or flags or reserved:
            raise BadFrame(f"unknown kind of frame {kind}")
        if length > LIMITS[Kind(kind)]:
            raise BadFrame(f"{Kind(kind).name} of {length} bytes")
        if sequence != self._sequence:
            raise BadFrame(f"frame {sequence} where {self._sequence} was due")
        return Head(Kind(kind), length)

    def payload(self, raw: bytes, payload: Bytes) -> None:
        """Whether header and payload are what was sent."""
        if _mac(self._key, raw[: _HEAD.size], (payload,)) != raw[_HEAD.size :]:
            raise BadFrame("a frame was changed on its way")
        self._sequence += 1


_KINDS = frozenset(Kind)


def session_keys(caller: bytes, called: bytes) -> tuple[bytes, bytes]:
    """The keys of a session from what both ends threw in: of the caller's frames and of the called one's."""
    return derived(caller + called, "frames of the caller"), derived(caller + called, "frames of the called")


def _mac(key: bytes, head: bytes, parts: tuple[Bytes, ...]) -> bytes:
    mac = blake3(head, key=key)
    for part in parts:
        mac.update(part)
    return mac.digest(MAC_SIZE)
