"""Digests of blocks, and which of them differ."""

from __future__ import annotations

import random

import pytest

from labstore.blocksync.digests import SIZE, differences


@pytest.mark.parametrize("count", [1, 2, 63, 64])
@pytest.mark.parametrize("part", [0.0, 0.02, 0.5, 1.0])
def test_exactly_the_blocks_that_differ_are_named_in_order(count: int, part: float) -> None:
    chance = random.Random(count)
    for _ in range(20):
        before = [chance.choice((bytes(SIZE), chance.randbytes(SIZE))) for _ in range(count)]
        changed = [at for at in range(count) if chance.random() < part]
        now = list(before)
        for at in changed:
            one = chance.randrange(SIZE)
            now[at] = bytes(sign ^ (where == one) for where, sign in enumerate(before[at]))
        assert list(differences(b"".join(now), b"".join(before))) == changed
