"""Frames: whatever is done to them is noticed before their payload is looked at, and nothing is allocated on trust."""

from __future__ import annotations

import json
import struct
from itertools import pairwise

import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from labstore.blocksync import messages
from labstore.blocksync.messages import Geometry, Message, pack_data, pack_ranges, unpack_data, unpack_ranges
from labstore.blocksync.packing import packer
from labstore.blocksync.wire import HEADER_SIZE, LIMITS, BadFrame, Checker, Kind, Sealer, session_keys
from labstore.model.block_sync import BLOCK_SIZES

GEOMETRY = Geometry(1000 * 16384 - 5000, 16384)
SPOKEN = tuple(Message.__subclasses__())
JSON = st.recursive(st.none() | st.booleans() | st.integers() | st.text(), st.lists) | st.dictionaries(
    st.text(), st.integers()
)


def both() -> tuple[Sealer, Checker]:
    keys = session_keys(b"a" * 16, b"b" * 16)
    sealer, checker = Sealer(), Checker()
    sealer.rekey(keys[0])
    checker.rekey(keys[0])
    return sealer, checker


@given(st.sampled_from(Kind), st.binary(max_size=4000))
def test_a_frame_arrives_as_it_was_sent(kind: Kind, payload: bytes) -> None:
    payload = payload[: LIMITS[kind]]
    sealer, checker = both()
    raw = sealer.seal(kind, payload)
    head = checker.head(raw)
    checker.payload(raw, payload)
    assert (head.kind, head.length) == (kind, len(payload))


@given(st.binary(min_size=1, max_size=200), st.integers(0), st.integers(1, 255))
def test_a_changed_byte_anywhere_is_noticed(payload: bytes, at: int, change: int) -> None:
    sealer, checker = both()
    whole = bytearray(sealer.seal(Kind.POSITION, payload[:24]) + payload[:24])
    whole[at % len(whole)] ^= change
    with pytest.raises(BadFrame):
        head = checker.head(bytes(whole[:HEADER_SIZE]))
        follows = whole[HEADER_SIZE:] + bytes(head.length)  # a changed length takes from what comes after
        checker.payload(bytes(whole[:HEADER_SIZE]), follows[: head.length])


def test_a_frame_twice_is_noticed() -> None:
    sealer, checker = both()
    raw = sealer.seal(Kind.PING)
    checker.head(raw)
    checker.payload(raw, b"")
    with pytest.raises(BadFrame, match="frame 0 where 1 was due"):
        checker.head(raw)


def test_a_frame_of_the_other_direction_or_another_session_is_noticed() -> None:
    keys = session_keys(b"a" * 16, b"b" * 16)
    others = session_keys(b"a" * 16, b"c" * 16)
    for wrong in (keys[1], others[0]):
        sealer, checker = Sealer(), Checker()
        sealer.rekey(wrong)
        checker.rekey(keys[0])
        raw = sealer.seal(Kind.PING)
        checker.head(raw)
        with pytest.raises(BadFrame, match="changed on its way"):
            checker.payload(raw, b"")


@pytest.mark.parametrize("kind", Kind)
def test_a_length_beyond_the_limit_is_refused_before_it_is_allocated(kind: Kind) -> None:
    raw = struct.pack("!4sBBHIQ", b"LBS1", kind, 0, 0, LIMITS[kind] + 1, 0) + bytes(16)
    with pytest.raises(BadFrame, match="bytes"):
        Checker().head(raw)
    assert LIMITS[kind] < 2 << 20


@given(st.binary(min_size=HEADER_SIZE, max_size=HEADER_SIZE))
def test_noise_is_no_header(raw: bytes) -> None:
    with pytest.raises(BadFrame):
        Checker().head(raw)


def test_what_a_shell_says_before_us_is_quoted() -> None:
    with pytest.raises(BadFrame, match="Welcome to Debian"):
        Checker().head(b"Welcome to Debian GNU/Linux 12, enjoy your stay"[:HEADER_SIZE])


# --- payloads --------------------------------------------------------------------------------------------------------


@given(st.sampled_from(SPOKEN), st.binary(max_size=300))
def test_noise_is_no_message(message: type[Message], payload: bytes) -> None:
    with pytest.raises(BadFrame):
        message.unpack(payload)


@given(st.sampled_from(SPOKEN), JSON)
def test_json_of_another_shape_is_no_message(message: type[Message], value: object) -> None:
    with pytest.raises(BadFrame):
        message.unpack(json.dumps(value).encode())


def test_deep_nesting_is_no_message() -> None:
    with pytest.raises(BadFrame):
        messages.Scan.unpack(b"[" * 30000)


@pytest.mark.parametrize(
    "path", ["relative", "/a/../b", "/a//b", "/a/./b", "/", "/a\nb", "/a\0b", "/" + "x" * 2000, ""]
)
def test_a_hello_with_a_tricky_path_is_no_hello(path: str) -> None:
    good = {"version": 1, "nonce": "0" * 32, "role": "source", "options": "{}", "limits": "{}", "label": ""}
    messages.Hello.unpack(json.dumps(good | {"path": "/dev/vg/lv"}).encode())
    with pytest.raises(BadFrame):
        messages.Hello.unpack(json.dumps(good | {"path": path}).encode())


@given(st.binary(max_size=100), st.integers(0, 5000))
def test_ranges_lie_within_the_device(payload: bytes, blocks: int) -> None:
    try:
        ranges = unpack_ranges(payload, blocks)
    except BadFrame:
        return
    assert ranges
    assert all(count > 0 and start + count <= blocks for start, count in ranges)
    assert pack_ranges(ranges) == payload


@given(st.binary(max_size=600))
def test_noise_is_no_data(payload: bytes) -> None:
    check_data(bytearray(payload))


@given(
    st.lists(st.integers(0, 999), min_size=1, max_size=4, unique=True).map(sorted),
    st.booleans(),
    st.lists(st.tuples(st.integers(0, 60), st.integers(0, 255)), max_size=3),
)
def test_data_that_was_meddled_with_stays_within_the_device(
    blocks: list[int], packed: bool, changes: list[tuple[int, int]]
) -> None:
    content = [bytes([block % 256]) * GEOMETRY.length(block) for block in blocks]
    pack = packer() if packed else None
    payload = bytearray(b"".join(pack_data(blocks, bytes(16 * len(blocks)), content, pack)))
    if not changes:
        data = unpack_data(payload, GEOMETRY)
        assert list(data.blocks) == blocks
        assert bytes(data.content) == b"".join(content)
    for at, value in changes:
        payload[at % len(payload)] = value
    check_data(payload)


def check_data(payload: bytearray) -> None:
    try:
        data = unpack_data(payload, GEOMETRY)
    except BadFrame:
        return
    assert all(a < b for a, b in pairwise(data.blocks))
    assert data.blocks[-1] < GEOMETRY.blocks
    assert len(data.content) == sum(GEOMETRY.length(block) for block in data.blocks) <= 1 << 20


def test_a_bomb_is_refused_before_it_goes_off() -> None:
    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 28))
    payload = bytearray(struct.pack("!IB3xQ", 1, 1, 3) + bytes(16) + bomb)
    with pytest.raises(BadFrame, match="another length"):
        unpack_data(payload, GEOMETRY)
    unsized = zstandard.ZstdCompressor(write_content_size=False).compress(bytes(1 << 28))
    with pytest.raises(BadFrame, match="another length"):
        unpack_data(bytearray(payload[: -len(bomb)] + unsized), GEOMETRY)


def test_the_geometry_of_every_block_size() -> None:
    for size in BLOCK_SIZES:
        assert Geometry(size * 10, size).blocks == 10
        assert Geometry(size * 10 + 1, size).length(10) == 1
