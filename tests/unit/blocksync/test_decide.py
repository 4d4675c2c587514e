"""What a run believes and what it refuses: a table over what may have happened since the last one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from labstore.blocksync.decide import LEAST_BRAKE, Found, decide, refusal
from labstore.blocksync.index import IndexState
from labstore.blocksync.messages import Offer
from labstore.model.block_sync import Algorithm, Options, Permit
from labstore.reports import blocksync_target as said

SIZE = 1000 * 16384
NOW = 1_000_000.0
STATE = IndexState(
    volume="a" * 32, key="b" * 64, algorithm=Algorithm.BLAKE3, block_size=16384, size=SIZE, closed=True, known=1000,
    generation=7, root="c" * 64, target="dm LVM-1", content="ext4 1", token="moment 1", witness="w", synced=NOW - 60,
    read_whole=NOW - 3600,
)  # fmt: skip
FOUND = Found("/dev/backup/home", SIZE, True, "dm LVM-1", "w", "ext4 1", "d" * 64)
OFFER = Offer("/dev/vg/home", SIZE, "e" * 64, "ext4 1", "moment 2", "moment 1")
PLAIN = Options()
NONE: frozenset[Permit] = frozenset()


def test_what_nobody_touched_is_believed() -> None:
    decision = decide(STATE, FOUND, OFFER, PLAIN, NOW)
    assert decision.state == STATE
    assert (decision.start, decision.believe_hints, decision.resize) == (0, True, None)
    assert decision.why == "the index is believed"


@pytest.mark.parametrize(
    ("state", "found", "options", "why"),
    [
        (None, FOUND, PLAIN, "no index yet"),
        (STATE, FOUND, replace(PLAIN, full=True), "full pass was asked for"),
        (STATE, FOUND, replace(PLAIN, algorithm=Algorithm.XXH3), "made with blake3"),
        (STATE, FOUND, replace(PLAIN, block_size=4096), "made with blake3 and 16384"),
        (replace(STATE, closed=False), FOUND, PLAIN, "the last run was killed"),
        (STATE, replace(FOUND, identity="dm LVM-2"), PLAIN, "another device"),
        (STATE, replace(FOUND, witness="x"), PLAIN, "was written"),
        (STATE, replace(FOUND, witness=None), PLAIN, "nothing can prove"),
        (replace(STATE, witness=None), replace(FOUND, witness=None), PLAIN, "nothing can prove"),
        (replace(STATE, known=0, root=None), FOUND, PLAIN, "nothing is known"),
    ],
)
def test_any_doubt_has_both_sides_read(state: IndexState | None, found: Found, options: Options, why: str) -> None:
    decision = decide(state, found, OFFER, options, NOW)
    assert decision.state.known == 0
    assert decision.state.root is None
    assert decision.start == 0
    assert not decision.believe_hints
    assert why in decision.why


def test_a_new_algorithm_gets_a_new_key_and_keeps_the_count() -> None:
    decision = decide(STATE, FOUND, OFFER, replace(PLAIN, algorithm=Algorithm.XXH3), NOW)
    assert decision.state.key != STATE.key
    assert decision.state.generation == 7


def test_an_interrupted_run_goes_on_only_at_the_same_moment_of_the_source() -> None:
    partial = replace(STATE, root=None, token="moment 2", position=400)
    assert decide(partial, FOUND, OFFER, PLAIN, NOW).start == 400
    assert decide(partial, FOUND, replace(OFFER, token="moment 3"), PLAIN, NOW).start == 0
    assert decide(partial, FOUND, replace(OFFER, token=None), PLAIN, NOW).start == 0
    assert decide(partial, replace(FOUND, witness="x"), OFFER, PLAIN, NOW).start == 0


@pytest.mark.parametrize(
    ("state", "offer"),
    [
        (replace(STATE, token="moment 0"), OFFER),
        (STATE, replace(OFFER, hints_from=None)),
        (replace(STATE, read_whole=NOW - 8 * 86400), OFFER),
        (replace(STATE, read_whole=NOW + 5), OFFER),
        (replace(STATE, root=None), OFFER),
    ],
    ids=["since another moment", "none", "no full pass for a week", "a clock that went back", "between two states"],
)
def test_hints_are_not_believed(state: IndexState, offer: Offer) -> None:
    assert not decide(state, FOUND, offer, PLAIN, NOW).believe_hints


@pytest.mark.parametrize(
    ("state", "why"),
    [
        (replace(STATE, token="moment 0"), "since another moment"),
        (replace(STATE, read_whole=0.0), "read the whole source"),
    ],
)
def test_it_is_said_why_hints_are_not_believed(state: IndexState, why: str) -> None:
    assert why in decide(state, FOUND, OFFER, PLAIN, NOW).why
    assert "hints" not in decide(state, FOUND, replace(OFFER, hints_from=None), PLAIN, NOW).why


BEFORE = replace(STATE, target="file 7", synced=NOW)
"""As it was written when files were known by their number alone; it is January 12, 1970, 13:46:40."""


@pytest.mark.parametrize(
    ("state", "identity", "known"),
    [
        (BEFORE, "file 7 born 1970-01-12T13:46:39.999999999Z", True),
        (BEFORE, "file 7 born 1970-01-12T13:46:40.000000001Z", False),
        (BEFORE, "file 7 born 2026-11-23T01:44:45.000000000Z", False),
        (BEFORE, "file 7 version 12", True),
        (BEFORE, "file 7", True),
        (BEFORE, "file 77 born 1970-01-01T00:00:00.000000000Z", False),
        (BEFORE, "file 77 version 12", False),
        (replace(BEFORE, synced=0.0), "file 7 born 2026-11-23T01:44:45.000000000Z", True),
        (replace(BEFORE, target="loop over 7"), "loop over 7 born 1970-01-12T13:46:39.000000000Z", True),
        (replace(BEFORE, target="loop over 7"), "loop over 7 born 1970-01-12T13:46:41.000000000Z", False),
        (replace(BEFORE, target="file 7 version 11"), "file 7 version 12", False),
        (replace(BEFORE, target="file 7 born 1970-01-01T00:00:00.000000000Z"), "file 7", False),
    ],
)
def test_a_file_with_the_number_of_another_is_not_that(state: IndexState, identity: str, known: bool) -> None:
    found = replace(FOUND, identity=identity, block=False)
    decision = decide(state, found, OFFER, PLAIN, NOW)
    if known:
        assert refusal(state, found, OFFER, NONE) is None
        assert decision.state.known == 1000
    else:
        assert isinstance(refusal(state, found, OFFER, NONE), said.TargetSwapped)
        assert decision.state.known == 0
    assert decision.state.target == identity, "from then on it is known by all of it"


def test_growth_leaves_known_what_was_whole() -> None:
    found = replace(FOUND, size=SIZE + 5000, witness="w")
    decision = decide(replace(STATE, size=SIZE - 100), found, replace(OFFER, size=SIZE + 5000), PLAIN, NOW)
    assert decision.state.known == 999
    assert decision.state.root is None
    assert decision.state.blocks == 1001


def test_a_file_is_resized_a_device_never() -> None:
    grown = replace(OFFER, size=SIZE * 2)
    assert decide(STATE, replace(FOUND, block=False), grown, PLAIN, NOW).resize == SIZE * 2
    assert decide(STATE, replace(FOUND, size=SIZE * 2), grown, PLAIN, NOW).resize is None


def test_the_brake() -> None:
    half = replace(PLAIN, max_change=0.5)
    assert decide(STATE, FOUND, OFFER, half, NOW).max_changed == 500
    assert decide(STATE, FOUND, OFFER, replace(PLAIN, max_change=0.001), NOW).max_changed == LEAST_BRAKE
    assert decide(replace(STATE, generation=0), FOUND, OFFER, half, NOW).max_changed == 1000
    permitted = replace(half, permits=frozenset({Permit.MASS_CHANGE}))
    assert decide(STATE, FOUND, OFFER, permitted, NOW).max_changed == 1000


INTERRUPTED = replace(STATE, root=None, token="moment 2", position=400)
KILLED = replace(STATE, closed=False)
FIRST = replace(INTERRUPTED, content=None, generation=0)


@pytest.mark.parametrize(
    ("state", "found", "offer", "fault", "permit"),
    [
        (STATE, FOUND, replace(OFFER, size=0), said.SourceEmpty, None),
        (STATE, FOUND, replace(OFFER, size=SIZE - 1), said.SourceShrunk, Permit.SHRINK),
        (STATE, FOUND, replace(OFFER, content="xfs 2"), said.SourceSwapped, Permit.NEW_SOURCE),
        (STATE, FOUND, replace(OFFER, content=None), said.SourceSwapped, Permit.NEW_SOURCE),
        (STATE, replace(FOUND, identity="dm LVM-2"), OFFER, said.TargetSwapped, Permit.NEW_TARGET),
        (STATE, FOUND, replace(OFFER, size=SIZE + 1), said.TargetTooSmall, None),
        (STATE, replace(FOUND, block=False, fixed=True), replace(OFFER, size=SIZE + 1), said.TargetTooSmall, None),
        (STATE, replace(FOUND, block=False, size=SIZE + 1), OFFER, said.TargetTooLarge, Permit.SHRINK),
        (None, replace(FOUND, content="ext4 9"), OFFER, said.ForeignTarget, Permit.ADOPT_TARGET),
        (None, replace(FOUND, content=None), OFFER, said.ForeignTarget, Permit.ADOPT_TARGET),
        (STATE, replace(FOUND, content="xfs 9"), OFFER, said.ForeignTarget, Permit.ADOPT_TARGET),
        (replace(STATE, content=None), replace(FOUND, content="xfs 9"), OFFER, said.ForeignTarget, Permit.ADOPT_TARGET),
        (INTERRUPTED, replace(FOUND, content="xfs 9"), OFFER, said.ForeignTarget, Permit.ADOPT_TARGET),
        (KILLED, replace(FOUND, content="xfs 9"), OFFER, said.ForeignTarget, Permit.ADOPT_TARGET),
        (FIRST, replace(FOUND, content="xfs 9"), OFFER, said.ForeignTarget, Permit.ADOPT_TARGET),
    ],
)
def test_what_is_refused_and_what_permits_it(
    state: IndexState | None, found: Found, offer: Offer, fault: type[said.Fault], permit: Permit | None
) -> None:
    refused = refusal(state, found, offer, NONE)
    assert isinstance(refused, fault)
    assert isinstance(refusal(state, found, offer, frozenset(Permit) - {permit}), fault), "no other permit will do"
    assert refused.to_dict()["override"] == (f"permit {permit}" if permit else None)
    if permit is not None:
        assert f"--permit {permit}" in (refused.remedy() or "")
        assert refusal(state, found, offer, frozenset({permit})) is None


NEW = replace(OFFER, content="xfs 2")


@pytest.mark.parametrize(
    ("state", "found", "offer"),
    [
        (INTERRUPTED, FOUND, OFFER),
        (INTERRUPTED, replace(FOUND, content="xfs 2"), NEW),
        (INTERRUPTED, FOUND, NEW),
        (KILLED, replace(FOUND, content="xfs 2"), NEW),
        (KILLED, replace(FOUND, head=None, content=None), OFFER),
        (FIRST, FOUND, OFFER),
        (FIRST, replace(FOUND, content=None), OFFER),
        (STATE, replace(FOUND, content=None), OFFER),
        (INTERRUPTED, replace(FOUND, content=None), OFFER),
        (replace(STATE, content=None), replace(FOUND, content=None), replace(OFFER, content=None)),
    ],
)
def test_what_a_run_that_did_not_end_has_left_may_be_written(state: IndexState, found: Found, offer: Offer) -> None:
    assert refusal(state, found, offer, frozenset({Permit.NEW_SOURCE})) is None


@pytest.mark.parametrize(
    "found",
    [replace(FOUND, head=None, content=None), replace(FOUND, head=OFFER.head), FOUND, replace(FOUND, size=SIZE * 2)],
    ids=["blank", "begins as the source does", "the same file system", "larger"],
)
def test_a_target_that_may_be_written(found: Found) -> None:
    assert refusal(None, found, OFFER, NONE) is None
    assert refusal(STATE, FOUND, OFFER, NONE) is None
