"""What the two ends say to each other, as values, and how it is packed into the payloads of frames. Pure.

Reading is strict: a payload is exactly what it may be or raises BadFrame. Whether it fits the moment is for the ends
to judge.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import ClassVar, TypeVar

from labstore.blocksync import strict
from labstore.blocksync.digests import SIZE, Bytes
from labstore.blocksync.wire import CONTENT_LIMIT, BadFrame, Kind
from labstore.model.block_sync import (
    BLOCK_SIZES,
    LARGEST_DEVICE,
    Algorithm,
    DevicePath,
    Limits,
    Options,
    Pass,
    Role,
)
from labstore.model.value import Value
from labstore.reports.blocksync import Fault, Refused
from labstore.reports.report import Report

T = TypeVar("T", bound="Message")
_HEX = re.compile(r"[0-9a-f]+")
_SAMPLE = re.compile(r"[0-9]{1,16} [0-9a-f]{64}")
_TOKEN_LIMIT = 512


class Message(Value):
    """One that travels as JSON."""

    kind: ClassVar[Kind]

    def pack(self) -> bytes:
        return strict.dumps(self)

    @classmethod
    def unpack(cls: type[T], payload: bytes | bytearray) -> T:
        """Raises BadFrame."""
        try:
            return strict.loads(cls, payload)
        except ValueError as error:
            raise BadFrame(f"{cls.__name__}: {error}") from None


class Hello(Message):
    """The caller's first word: what the called end shall be, for which device, how. `nonce` goes into the keys. The
    shape of this and of Welcome is the same in every version, so that versions can be compared at all."""

    version: int
    nonce: str
    role: Role
    path: str
    options: str
    limits: str
    label: str

    kind = Kind.HELLO

    def __post_init__(self) -> None:
        _hex(self.nonce, 32)
        _short(self.label)
        DevicePath(self.path)


class Welcome(Message):
    version: int
    nonce: str

    kind = Kind.WELCOME

    def __post_init__(self) -> None:
        _hex(self.nonce, 32)


class Offer(Message):
    """The source introduces itself. `head` is the digest of its beginning, `content` what file system it holds,
    `token` the moment it stands for, where that can be known; `hints_from` the moment since which its storage says
    what changed."""

    path: str
    size: int
    head: str
    content: str | None
    token: str | None
    hints_from: str | None

    kind = Kind.OFFER

    def __post_init__(self) -> None:
        _sized(self.size)
        _hex(self.head, 64)
        _short(self.path, self.content, self.token, self.hints_from)


class Plan(Message):
    """The target's answer: how digests are made, and what is known. Blocks before `start` are as the source's token
    says already. `root` stands for all blocks, where all are known."""

    volume: str
    key: str
    algorithm: Algorithm
    block_size: int
    generation: int
    root: str | None
    start: int
    believe_hints: bool
    max_changed: int
    why: str

    kind = Kind.PLAN

    def __post_init__(self) -> None:
        _hex(self.volume, 32)
        _hex(self.key, 64)
        if self.root is not None:
            _hex(self.root, 64)
        _short(self.why)
        if self.block_size not in BLOCK_SIZES or min(self.start, self.max_changed, self.generation) < 0:
            raise ValueError("a number is out of its range")


class Scan(Message):
    """How the source will look: with its own copy of the index, and by hints."""

    cached: bool
    hinted: bool

    kind = Kind.SCAN


class Complete(Message):
    """Everything that differs was sent. `torn`: the source was written while it was read."""

    root: str
    token: str | None
    torn: bool
    read: int
    changed: int
    zeroed: int
    samples: tuple[str, ...]
    notes: tuple[str, ...]

    kind = Kind.COMPLETE

    def __post_init__(self) -> None:
        _hex(self.root, 64)
        _short(self.token, *self.notes)
        if len(self.samples) > 256 or any(_SAMPLE.fullmatch(each) is None for each in self.samples):
            raise ValueError("not samples")
        if min(self.read, self.changed, self.zeroed) < 0 or max(self.read, self.changed, self.zeroed) > LARGEST_DEVICE:
            raise ValueError("a number is out of its range")

    @property
    def sampled(self) -> tuple[int, ...]:
        """The blocks that `samples` are of."""
        return tuple(int(each.partition(" ")[0]) for each in self.samples)


class Committed(Message):
    """The target equals the source, is on stable storage, was read back, and its index says so."""

    generation: int
    root: str
    passed: Pass
    why: str
    scrubbed: int
    read_back: str

    kind = Kind.COMMITTED

    def __post_init__(self) -> None:
        _hex(self.root, 64)
        _short(self.why, self.read_back)


class Stored(Message):
    """The source keeps a copy of the index (or not); the session is over."""

    kept: bool

    kind = Kind.STORED


class LimitsNow(Message):
    """What the called end may take from now on."""

    limits: str

    kind = Kind.LIMITS


class FaultSaid(Message):
    """A report that ends the session, as its code and fields; `words` for whoever does not know the code."""

    code: str
    fields: str
    words: str

    kind = Kind.FAULT

    @classmethod
    def of(cls, report: Report) -> FaultSaid:
        return cls(report.code, strict.dumps(report).decode(), report.text()[:4000])

    def report(self) -> Report:
        """The report, or its words where this end does not know it."""
        from labstore.reports import blocksync_target as _  # noqa: F401, PLC0415 - it may be one of these

        known = Report.registry.get(self.code)
        if known is not None and issubclass(known, Fault):
            try:
                return strict.loads(known, self.fields.encode())
            except ValueError:
                pass
        return Refused("".join(c if c.isprintable() else "?" for c in self.words[:1000]))


def options_text(options: Options) -> str:
    return strict.dumps(options).decode()


def options_of(text: str) -> Options:
    """Raises BadFrame."""
    return _of(Options, text)


def limits_text(limits: Limits) -> str:
    return strict.dumps(limits).decode()


def limits_of(text: str) -> Limits:
    """Raises BadFrame."""
    limits = _of(Limits, text)
    if any(each is not None and each <= 0 for each in (limits.send, limits.read, limits.reads)):
        raise BadFrame("a limit that is not positive")
    return limits


_V = TypeVar("_V")


def _of(kind: type[_V], text: str) -> _V:
    try:
        return strict.loads(kind, text.encode())
    except ValueError as error:
        raise BadFrame(f"{kind.__name__}: {error}") from None


def _hex(text: str, length: int) -> None:
    if len(text) != length or _HEX.fullmatch(text) is None:
        raise ValueError(f"not {length} hexadecimal digits")


def _short(*texts: str | None) -> None:
    for text in texts:
        if text is not None and (len(text) > 2 * _TOKEN_LIMIT or not text.isprintable()):
            raise ValueError("a text is too long or not printable")


def _sized(size: int) -> None:
    if not 0 <= size <= LARGEST_DEVICE:
        raise ValueError(f"a size of {size} bytes")


# --- binary ----------------------------------------------------------------------------------------------------------

Range = tuple[int, int]
"""The first block and how many."""

_RANGE = struct.Struct("!QQ")
_START = struct.Struct("!Q")
_THREE = struct.Struct("!QQQ")
_DATA = struct.Struct("!IB3x")


def pack_ranges(ranges: Sequence[Range]) -> bytes:
    """The payload of ZEROS and NOTHING."""
    return b"".join(_RANGE.pack(*each) for each in ranges)


def unpack_ranges(payload: Bytes, blocks: int) -> list[Range]:
    """Ranges within a device of so many blocks, none of them empty. Raises BadFrame."""
    if not payload or len(payload) % _RANGE.size:
        raise BadFrame("a list of ranges was cut short")
    ranges = list(_RANGE.iter_unpack(payload))
    if any(not count or start + count > blocks for start, count in ranges):
        raise BadFrame("a range outside of the device")
    return ranges


def pack_digests(start: int, digests: Bytes) -> tuple[bytes, Bytes]:
    return _START.pack(start), digests


def unpack_digests(payload: bytes | bytearray, blocks: int) -> tuple[int, bytes]:
    """The first block and the digests. Raises BadFrame."""
    length = len(payload) - _START.size
    if length <= 0 or length % SIZE:
        raise BadFrame("digests were cut short")
    (start,) = _START.unpack_from(payload)
    if start + length // SIZE > blocks:
        raise BadFrame("digests of blocks outside of the device")
    return start, bytes(payload[_START.size :])


def pack_position(position: int, read: int, changed: int) -> bytes:
    return _THREE.pack(position, read, changed)


def unpack_position(payload: Bytes) -> tuple[int, int, int]:
    """Raises BadFrame."""
    if len(payload) != _THREE.size:
        raise BadFrame("a position was cut short")
    position, read, changed = _THREE.unpack(payload)
    return position, read, changed


@dataclass(frozen=True)
class Geometry:
    """The blocks of a device, for judging what is said about them."""

    size: int
    block_size: int

    @property
    def blocks(self) -> int:
        return -(-self.size // self.block_size)

    def length(self, block: int) -> int:
        """The bytes of a block: the last one may be short."""
        return min(self.block_size, self.size - block * self.block_size)


@dataclass(frozen=True)
class Data:
    """Blocks with their digests and content, which `lengths` cuts into blocks."""

    blocks: tuple[int, ...]
    digests: bytes
    content: Bytes


def pack_data(
    blocks: Sequence[int], digests: bytes, content: Sequence[Bytes], pack: Callable[[bytes], bytes] | None
) -> list[Bytes]:
    """The payload of DATA in parts; packed where that is given and helps."""
    head = struct.pack(f"!{len(blocks)}Q", *blocks)
    if pack is not None:
        whole = b"".join(content)
        packed = pack(whole)
        if len(packed) < len(whole):
            return [_DATA.pack(len(blocks), 1), head, digests, packed]
    return [_DATA.pack(len(blocks), 0), head, digests, *content]


def unpack_data(payload: bytearray, geometry: Geometry) -> Data:
    """Blocks in rising order, all within the device, with content of exactly their lengths. Raises BadFrame.

    Nothing is unpacked before it is certain how long it will be.
    """
    if len(payload) < _DATA.size:
        raise BadFrame("data was cut short")
    count, packed = _DATA.unpack_from(payload)
    most = CONTENT_LIMIT // geometry.block_size
    at = _DATA.size + count * (8 + SIZE)
    if not 0 < count <= most or packed > 1 or len(payload) < at:
        raise BadFrame("data was cut short")
    blocks = struct.unpack_from(f"!{count}Q", payload, _DATA.size)
    if any(b <= a for a, b in pairwise(blocks)) or blocks[-1] >= geometry.blocks:
        raise BadFrame("data for blocks outside of the device, or out of order")
    length = (count - 1) * geometry.block_size + geometry.length(blocks[-1])
    content: Bytes = memoryview(payload)[at:]
    if packed:
        from labstore.blocksync.packing import unpacked  # noqa: PLC0415 - see there

        content = unpacked(content, length)
    if len(content) != length:
        raise BadFrame("data of another length than its blocks")
    return Data(blocks, bytes(payload[at - count * SIZE : at]), content)
