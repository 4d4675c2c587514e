"""zstd: what is sent may be packed. Loaded by whoever packs or unpacks something, which many runs never do."""

from __future__ import annotations

from collections.abc import Callable

import zstandard

from labstore.blocksync.digests import Bytes
from labstore.blocksync.wire import BadFrame

_MEMORY = 8 << 20
"""Bytes that unpacking may need at most."""


def packer() -> Callable[[bytes], bytes]:
    """Packs one piece after another, fast; not for two threads at a time."""
    return zstandard.ZstdCompressor(level=1, write_content_size=True).compress


def unpacked(content: Bytes, length: int) -> bytes:
    """What was packed, which is of this length. Raises BadFrame; nothing is unpacked before that is certain."""
    try:
        if zstandard.frame_content_size(content) != length:
            raise BadFrame("packed data of another length than its blocks")
        if zstandard.get_frame_parameters(content).window_size > _MEMORY:
            raise BadFrame("packed data that needs too much memory")
        return zstandard.ZstdDecompressor().decompress(content, max_output_size=length, allow_extra_data=False)
    except zstandard.ZstdError as error:
        raise BadFrame(f"packed data is broken: {error}") from None
