"""The tree of digests: the root is a function of the digests alone, however they came there."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labstore.blocksync.digests import block_hasher
from labstore.blocksync.store import DigestStore
from labstore.model.block_sync import Algorithm

KEY = bytes(range(32))
BLOCK = 4096
MOST = 64 * 64 + 70


def store(folder: Path, blocks: int, fresh: bool = False) -> DigestStore:
    return DigestStore(folder, Algorithm.BLAKE3, KEY, BLOCK, blocks * BLOCK, fresh)


def root_of(digests: list[bytes]) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        made = store(Path(folder), len(digests), fresh=True)
        made.put(0, b"".join(digests))
        root = made.root()
        made.close()
        return root


CHANGES = st.lists(
    st.tuples(
        st.sampled_from(["put", "zeros", "resize", "root", "reopen"]), st.integers(0, MOST - 1), st.integers(1, 130)
    ),
    max_size=12,
)


@given(st.integers(1, MOST), CHANGES)
def test_the_root_depends_on_nothing_but_the_digests(blocks: int, changes: list[tuple[str, int, int]]) -> None:
    with tempfile.TemporaryDirectory() as name:
        folder, known = Path(name), [bytes(16)] * blocks
        made = store(folder, blocks)
        for number, (what, anywhere, many) in enumerate(changes):
            at = anywhere % len(known)
            count = min(many, len(known) - at)
            if what == "put":
                digests = [(number * 1000 + each + 1).to_bytes(16) for each in range(count)]
                made.put(at, b"".join(digests))
                known[at : at + count] = digests
            elif what == "zeros":
                made.put_zeros(at, count)
                known[at : at + count] = [bytes(16)] * count
            elif what == "root":
                assert made.root() == root_of(known)
            else:
                made.root()
                made.close()
                if what == "resize":
                    known = (known + [bytes(16)] * 5000)[: at + 1]
                made = store(folder, len(known))
        assert made.get(0, len(known)) == b"".join(known)
        assert made.root() == root_of(known)
        made.close()


def test_the_root_stands_for_the_size_and_the_algorithm(tmp_path: Path) -> None:
    roots = set()
    for number, (algorithm, size) in enumerate(
        [(Algorithm.BLAKE3, BLOCK * 4), (Algorithm.BLAKE3, BLOCK * 4 - 1), (Algorithm.XXH3, BLOCK * 4)]
    ):
        folder = tmp_path / str(number)
        folder.mkdir()
        made = DigestStore(folder, algorithm, KEY, BLOCK, size, fresh=True)
        roots.add(made.root())
        made.close()
    assert len(roots) == 3


def test_zeros_have_the_digest_of_zeros_whatever_their_length() -> None:
    for algorithm in Algorithm:
        digests = block_hasher(algorithm, KEY, BLOCK)
        full, short = memoryview(bytes(BLOCK)), memoryview(bytes(100))
        assert digests([full, full, short]) == bytes(48)
        almost = bytearray(BLOCK)
        almost[-1] = 1
        assert digests([memoryview(almost)]) != bytes(16)
        almost[-1], almost[0] = 0, 1
        assert digests([full, memoryview(almost)])[16:] != bytes(16)


def test_the_digests_of_an_empty_device_take_no_room(tmp_path: Path) -> None:
    made = DigestStore(tmp_path, Algorithm.BLAKE3, KEY, 16384, 8 << 40, fresh=True)
    made.put_zeros(0, 1 << 20)
    made.put(123456, b"x" * 16)
    made.root()
    made.sync()
    made.close()
    assert sum(each.stat().st_blocks for each in tmp_path.iterdir()) * 512 < 1 << 20


@pytest.mark.parametrize("gap", [1, 2, 15, 16, 17, 18, 255, 256, 257, 1000, 64 * 64])
def test_a_root_is_the_same_however_far_apart_what_changed_lies(tmp_path: Path, gap: int) -> None:
    """Groups between two that changed are read with them or are not."""
    groups = 64 * 64 + 300
    (tmp_path / "by steps").mkdir()
    made = store(tmp_path / "by steps", groups * 64, fresh=True)
    known = [bytes(16)] * (groups * 64)
    for group in range(groups // 2 % gap, groups, gap):
        known[group * 64 + group % 64] = group.to_bytes(16)
        made.put(group * 64 + group % 64, group.to_bytes(16))
    first = made.root()
    known[groups * 64 - 1] = known[17 * 64] = b"x" * 16
    made.put(groups * 64 - 1, b"x" * 16)
    made.put(17 * 64, b"x" * 16)
    assert made.root() == root_of(known) != first
    made.close()
