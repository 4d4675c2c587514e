"""What the beginning of a device says it holds; superblocks made by the real programs are tried in the integration
tests."""

from __future__ import annotations

import uuid

from hypothesis import given
from hypothesis import strategies as st

from labstore.formats.superblock import HEAD, Content, content_of

UUID = uuid.UUID("0f0e0d0c-0b0a-0908-0706-050403020100")


def head(*parts: tuple[int, bytes]) -> bytes:
    made = bytearray(HEAD)
    for offset, what in parts:
        made[offset : offset + len(what)] = what
    return bytes(made)


def test_what_is_known() -> None:
    ext4 = head((0x438, b"\x53\xef"), (0x468, UUID.bytes), (0x460, b"\x40"))
    assert content_of(ext4) == Content("ext4", str(UUID))
    ext3 = head((0x438, b"\x53\xef"), (0x468, UUID.bytes), (0x45C, b"\x04"))
    assert content_of(ext3) == Content("ext3", str(UUID))
    assert content_of(head((0, b"XFSB"), (32, UUID.bytes))) == Content("xfs", str(UUID))
    assert content_of(head((0x10040, b"_BHRfS_M"), (0x10020, UUID.bytes))) == Content("btrfs", str(UUID))
    luks = content_of(head((0, b"LUKS\xba\xbe"), (168, b"1234-abcd")))
    assert str(luks) == "LUKS 1234-abcd"


def test_nothing_and_noise_are_nothing_known() -> None:
    assert content_of(b"") is None
    assert content_of(bytes(HEAD)) is None
    assert content_of(b"just some text" * 1000) is None


@given(st.binary(max_size=600))
def test_any_beginning_has_an_answer_that_can_be_printed(raw: bytes) -> None:
    found = content_of(raw)
    assert found is None or str(found).isprintable()
