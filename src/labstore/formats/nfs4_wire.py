"""One NFSv4.1 question that needs no export and no session: EXCHANGE_ID (RFC 8881, 18.35).

The answer carries the server's scope, which decides whether clients try to reclaim their locks after a failover
(8.4.2.1 there), and which the kernel shows nowhere else. The question leaves an unconfirmed client behind, which is
not recorded and expires by itself.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

_CALL, _REPLY = 0, 1
_PROGRAM, _VERSION, _COMPOUND = 100003, 4, 1
_EXCHANGE_ID = 42
_AUTH_SYS, _AUTH_NONE = 1, 0
_LAST_FRAGMENT = 0x80000000
LIMIT = 64 << 10
"""Bytes of an answer at most; a real one has some hundred."""


class BadReply(ValueError):
    """Bytes that are no answer to the question, or an answer that refuses it."""


@dataclass(frozen=True, slots=True)
class ServerIdentity:
    """Who answered: `owner` and `scope` as the server calls itself, bytes as text where they are text."""

    owner: str
    scope: str


def question(xid: int, who: bytes, verifier: bytes) -> bytes:
    """The call with its record mark, ready for a TCP connection. `verifier` has 8 bytes."""
    credential = struct.pack(">I", 0) + _opaque(b"labstore") + struct.pack(">III", 0, 0, 0)
    call = struct.pack(">IIIIII", xid, _CALL, 2, _PROGRAM, _VERSION, _COMPOUND)
    call += struct.pack(">I", _AUTH_SYS) + _opaque(credential) + struct.pack(">II", _AUTH_NONE, 0)
    call += _opaque(b"") + struct.pack(">II", 1, 1)  # no tag, minor version 1, one operation
    call += struct.pack(">I", _EXCHANGE_ID) + verifier + _opaque(who) + struct.pack(">III", 0, 0, 0)
    return struct.pack(">I", _LAST_FRAGMENT | len(call)) + call


def length(mark: bytes) -> tuple[int, bool]:
    """How many bytes the fragment behind this record mark has, and whether it is the last. Raises BadReply."""
    (word,) = struct.unpack(">I", mark)
    size = word & ~_LAST_FRAGMENT
    if size > LIMIT:
        raise BadReply(f"an answer of {size} bytes")
    return size, bool(word & _LAST_FRAGMENT)


def answer(xid: int, reply: bytes) -> ServerIdentity:
    """What the reply (without record marks) says. Raises BadReply."""
    reader = _Reader(reply)
    if reader.number() != xid or reader.number() != _REPLY:
        raise BadReply("not the reply to this call")
    if reader.number() != 0:
        raise BadReply(f"the call was rejected (reason {reader.number()})")
    reader.number()
    reader.opaque()
    status = reader.number()
    if status != 0:
        raise BadReply(f"the call was not carried out (accept status {status})")
    status = reader.number()
    reader.opaque()
    if status != 0 or reader.number() != 1 or reader.number() != _EXCHANGE_ID or reader.number() != 0:
        raise BadReply(f"EXCHANGE_ID was refused (status {status})")
    reader.skip(8 + 4 + 4)
    if reader.number() != 0:
        raise BadReply("state protection that was not asked for")
    reader.skip(8)
    return ServerIdentity(owner=_text(reader.opaque()), scope=_text(reader.opaque()))


def _text(value: bytes) -> str:
    return value.decode("ascii", "backslashreplace")


def _opaque(value: bytes) -> bytes:
    return struct.pack(">I", len(value)) + value + b"\0" * (-len(value) % 4)


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def number(self) -> int:
        (value,) = struct.unpack(">I", self._take(4))
        return int(value)

    def opaque(self) -> bytes:
        size = self.number()
        value = self._take(size)
        self._take(-size % 4)
        return value

    def skip(self, size: int) -> None:
        self._take(size)

    def _take(self, size: int) -> bytes:
        taken = self._data[self._at : self._at + size]
        if len(taken) != size:
            raise BadReply("the answer ends too early")
        self._at += size
        return taken
