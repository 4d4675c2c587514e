"""What file system the beginning of a device holds, by its own superblock: type and identity, nothing guessed.

The prober of the system says "drbd" of a device with DRBD's data at its end, whatever lies at the beginning.
"""

from __future__ import annotations

from dataclasses import dataclass

HEAD = 128 << 10
"""Bytes of a device's beginning that are needed to tell."""


@dataclass(frozen=True, slots=True)
class Content:
    """A file system (or something else that labels its device) and its identity."""

    kind: str
    identity: str

    def __str__(self) -> str:
        return f"{self.kind} {self.identity}"


def content_of(head: bytes) -> Content | None:
    """What the beginning of a device says it is; None where it says nothing that is known here."""
    for offset, magic, kind, at in _UUIDS:
        if head[offset : offset + len(magic)] == magic and len(head) >= at + 16:
            return Content(_ext(head) if kind == "ext" else kind, _uuid(bytes(head[at : at + 16])))
    for offset, magic, kind, at, length in _TEXTS:
        if head[offset : offset + len(magic)] == magic:
            return Content(kind, _text(head[at : at + length]))
    return None


_UUIDS = (
    (0x438, b"\x53\xef", "ext", 0x468),
    (0, b"XFSB", "xfs", 32),
    (0x10040, b"_BHRfS_M", "btrfs", 0x10020),
    (4086, b"SWAPSPACE2", "swap", 0x40C),
)
_TEXTS = (
    (0, b"LUKS\xba\xbe", "LUKS", 168, 40),
    (512, b"LABELONE", "LVM physical volume", 544, 32),
    (510, b"\x55\xaa", "partition table", 440, 4),
)


def _ext(head: bytes) -> str:
    compatible, incompatible = head[0x45C], head[0x460]
    if incompatible & 0xC0 or head[0x461] & 0x02:
        return "ext4"
    return "ext3" if compatible & 0x04 else "ext2"


def _text(raw: bytes) -> str:
    text = raw.rstrip(b"\0")
    return text.decode() if text.isascii() and text.decode("ascii", "replace").isprintable() else text.hex()


def _uuid(content: bytes) -> str:
    """As RFC 9562 writes it, without a module that asks which platform this is."""
    text = content.hex()
    return "-".join((text[:8], text[8:12], text[12:16], text[16:20], text[20:]))
