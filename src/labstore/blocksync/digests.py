"""Digests of blocks and of digests.

A block's digest has 16 bytes; one of nothing but zeros has the digest of 16 zero bytes, so that the digests of an
empty device are a sparse file. 64 digests make a group; the digest of a group is a node; 64 nodes make a group again,
up to the root. Every level has its own key, so that no node can pass for a block.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache

from blake3 import blake3

from labstore.model.block_sync import Algorithm

SIZE = 16
FAN = 64
GROUP = FAN * SIZE
ZERO = bytes(SIZE)
KEY_SIZE = 32

Bytes = bytes | bytearray | memoryview
BlockHasher = Callable[[Sequence[memoryview]], bytes]
"""The digests of blocks, joined."""


def derived(key: bytes, purpose: str) -> bytes:
    """A key for one purpose."""
    return blake3(key, derive_key_context=f"labstore blocksync 1 {purpose}").digest()


def block_hasher(algorithm: Algorithm, key: bytes, block_size: int) -> BlockHasher:
    """Hashes blocks of one volume. Blocks shorter than `block_size` (the last one of a device) are admitted."""
    plain = _blake3(derived(key, "block")) if algorithm is Algorithm.BLAKE3 else _xxh3(derived(key, "block"))
    zero = plain([memoryview(bytes(block_size))])

    def digests(blocks: Sequence[memoryview]) -> bytes:
        joined = plain(blocks)
        if zero in joined:
            joined = joined.replace(zero, ZERO)
        if blocks and len(blocks[-1]) != block_size and not any(blocks[-1]):
            joined = joined[:-SIZE] + ZERO
        return joined

    return digests


def differences(one: bytes, other: bytes) -> Iterator[int]:
    """The numbers of the blocks whose digests differ, in rising order. What is equal costs next to nothing."""
    last, bits = len(one) // SIZE - 1, 8 * SIZE
    left = int.from_bytes(one) ^ int.from_bytes(other)
    while left:
        at = (left.bit_length() - 1) // bits
        yield last - at
        left &= (1 << at * bits) - 1


def _blake3(key: bytes) -> BlockHasher:
    def digests(blocks: Sequence[memoryview]) -> bytes:
        return b"".join([blake3(block, key=key).digest(SIZE) for block in blocks])

    return digests


def _xxh3(key: bytes) -> BlockHasher:
    from xxhash import xxh3_128_digest  # noqa: PLC0415 - most never ask for it

    seed = int.from_bytes(key[:8])

    def digests(blocks: Sequence[memoryview]) -> bytes:
        return b"".join([xxh3_128_digest(block, seed) for block in blocks])

    return digests


class NodeHasher:
    """Hashes groups of digests into nodes, and the top into the root."""

    def __init__(self, key: bytes) -> None:
        self._key = key
        self._level = lru_cache(maxsize=32)(lambda level: derived(key, f"node {level}"))

    def renew(self, level: int, groups: bytes, marks: bytes, nodes: memoryview) -> None:
        """Put the nodes above those groups of digests of `level` into `nodes` that are marked (1, one byte each)."""
        key = self._level(level)
        for number, marked in enumerate(marks):
            if marked:
                group = groups[number * GROUP : (number + 1) * GROUP]
                node = blake3(group, key=key).digest(SIZE) if group.strip(b"\0") else ZERO
                nodes[number * SIZE : (number + 1) * SIZE] = node

    def root(self, algorithm: Algorithm, block_size: int, size: int, top: Bytes) -> bytes:
        """The root, which also stands for the size, the block size and the algorithm."""
        said = f"{algorithm} {block_size} {size} ".encode()
        return blake3(said + bytes(top), key=derived(self._key, "root")).digest()
