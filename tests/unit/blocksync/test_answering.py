"""What a target tells of its own digests keeps to the limits of the way as much as blocks do."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from labstore.blocksync.answering import Looking, Telling
from labstore.blocksync.channel import Channel
from labstore.blocksync.crew import Crew
from labstore.blocksync.devices import Device
from labstore.blocksync.digests import SIZE, block_hasher
from labstore.blocksync.messages import Geometry
from labstore.blocksync.store import DigestStore
from labstore.blocksync.throttle import Throttle
from labstore.blocksync.wire import HEADER_SIZE
from labstore.model.block_sync import UNLIMITED, Algorithm

KEY = bytes(32)
GEOMETRY = Geometry(64 << 20, 4096)
"""The first half holds data, the rest is a hole."""


class Counting(Throttle):
    """Remembers what was asked for."""

    asked = times = 0

    def sending(self, amount: int) -> None:
        self.asked += amount
        self.times += 1


@pytest.fixture
def looking(memory: Path, crew: Crew) -> Iterator[Looking]:
    (memory / "index").mkdir()
    (memory / "device").write_bytes(os.urandom(4096) * (GEOMETRY.blocks // 2))
    os.truncate(memory / "device", GEOMETRY.size)
    down, up = os.pipe()
    away, back = os.pipe()
    threading.Thread(target=drain, args=(down,), daemon=True).start()
    channel, device = Channel(away, up), Device(str(memory / "device"))
    store = DigestStore(memory / "index", Algorithm.BLAKE3, KEY, 4096, GEOMETRY.size, fresh=True)
    digests = block_hasher(Algorithm.BLAKE3, KEY, 4096)
    yield Looking(crew, channel, Counting(UNLIMITED), device, store, GEOMETRY, digests)
    store.close()
    device.close()
    channel.close()
    os.close(back)


def drain(descriptor: int) -> None:
    while os.read(descriptor, 1 << 16):
        pass
    os.close(descriptor)


@pytest.mark.parametrize("known", [0, GEOMETRY.blocks // 2, GEOMETRY.blocks], ids=["read", "half known", "known"])
def test_digests_keep_to_the_limit_of_the_way(looking: Looking, known: int) -> None:
    Telling(looking, 0).run()
    limit, before = looking.throttle, looking.channel.sent
    assert isinstance(limit, Counting)
    limit.asked, limit.times = 0, 0
    Telling(looking, known).run()
    assert limit.asked > GEOMETRY.blocks // 2 * SIZE
    assert limit.asked == looking.channel.sent - before - limit.times * HEADER_SIZE, "nothing passed it by"
