"""The lock certificate: what clients held before, what they got back, what they lost."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from labstore.failover.certificate import Certificate, Fate, Watch, certificate
from labstore.failover.handover import BadHandover, Handover, from_json, read_handover, to_json, write_handover
from labstore.failover.reclaim import read_certificate, words, write_certificate
from labstore.model.nfsd import ClientState, Connection, FileId, NfsClient, StateKind


def state(kind: StateKind, inode: int, owner: str = "o1", name: str = "", access: str = "rw") -> ClientState:
    return ClientState(kind, FileId((147, 1), inode), access, "--", owner, name or f"shared/file{inode}")


def client(name: str, *states: ClientState, id_: str = "1", address: str = "10.77.0.21") -> NfsClient:
    return NfsClient(id_, f"Linux NFSv4.2 {name}", address, states=states)


OPEN, LOCK = state(StateKind.OPEN, 12), state(StateKind.LOCK, 12)


def certified(before: tuple[NfsClient, ...], *looks: tuple[NfsClient, ...], complete: bool = True) -> Certificate:
    watch = Watch()
    for look in looks:
        watch.see(look)
    return certificate(Handover("alpha", "2026-05-29T11:54:00+00:00", "r1", before), watch, "beta", complete, 4.5)


def test_what_is_back_is_carried_over() -> None:
    """The new server gives other ids; only the client's own name counts."""
    found = certified((client("c1", OPEN, LOCK),), (client("c1", OPEN, LOCK, id_="77"),))
    (line,) = found.lines
    assert line.fate is Fate.CARRIED and found.lossless
    assert (found.opens, found.locks) == ((1, 1), (1, 1))


def test_a_lock_that_is_lost_is_named() -> None:
    found = certified((client("c1", OPEN, LOCK),), (client("c1", OPEN),))
    (line,) = found.lines
    assert (line.fate, line.missing, line.locks, line.locks_reclaimed) == (Fate.LOST, ("lock shared/file12",), 1, 0)
    assert not found.lossless and "locks 0 of 1" in words(found)


def test_a_client_that_did_not_come_back_lost_all() -> None:
    found = certified((client("c1", OPEN, LOCK), client("c2", address="10.77.0.22")), ())
    assert [line.fate for line in found.lines] == [Fate.NOT_BACK, Fate.NOTHING]


def test_what_a_client_gave_back_of_itself_was_seen_before() -> None:
    found = certified((client("c1", OPEN, LOCK),), (client("c1", OPEN, LOCK),), (client("c1"),))
    assert found.lossless


def test_a_rename_or_another_access_is_no_loss() -> None:
    """A reclaim asks for all access at once; a file keeps its number whatever it is called."""
    after = client("c1", state(StateKind.OPEN, 12, name="shared/renamed", access="r"), LOCK)
    assert certified((client("c1", OPEN, LOCK),), (after,)).lossless


def test_two_locks_of_one_owner_are_two() -> None:
    found = certified((client("c1", LOCK, LOCK),), (client("c1", LOCK),))
    assert found.locks == (2, 1) and not found.lossless


def test_another_owner_s_lock_does_not_stand_for_it() -> None:
    other = state(StateKind.LOCK, 12, owner="o2")
    assert not certified((client("c1", LOCK),), (client("c1", other),)).lossless


def test_delegations_are_not_counted() -> None:
    assert certified((client("c1", state(StateKind.DELEGATION, 12)),), ()).lossless


def test_newcomers_are_counted_and_cost_nothing() -> None:
    found = certified((client("c1", OPEN),), (client("c1", OPEN), client("c9", LOCK)))
    assert found.newcomers == 1 and found.lossless


def test_a_watch_that_ended_early_says_so() -> None:
    found = certified((client("c1", OPEN),), (), complete=False)
    assert not found.complete and "too short" in words(found)


@given(st.lists(st.tuples(st.integers(1, 3), st.sampled_from((StateKind.OPEN, StateKind.LOCK)), st.integers(1, 4))))
def test_what_is_carried_and_lost_is_all_there_was(held: list[tuple[int, StateKind, int]]) -> None:
    """For any part that comes back."""
    before = tuple(client(f"c{n}", *(state(k, i) for m, k, i in held if m == n), id_=str(n)) for n in (1, 2, 3))
    after = tuple(NfsClient(c.id, c.name, c.address, states=c.states[::2]) for c in before)
    found = certified(before, after)
    for line, was, now in zip(sorted(found.lines, key=lambda x: x.client), before, after, strict=True):
        assert line.opens + line.locks == len(was.states)
        assert line.opens_reclaimed + line.locks_reclaimed == len(now.states)


# --- on disk ---------------------------------------------------------------------------------------------------------

HANDOVER = Handover(
    "alpha", "2026-05-29T11:54:00+00:00", "r1", (client("c1", OPEN, LOCK),), (Connection("10.77.0.10", 2049, "c", 700),)
)


def test_a_handover_comes_back_as_it_was(tmp_path: Path) -> None:
    write_handover(tmp_path / "d/handover.json", HANDOVER)
    assert read_handover(tmp_path / "d/handover.json") == HANDOVER
    assert (tmp_path / "d/handover.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"node": 1}', to_json(HANDOVER)[:-9], '{"clients": [[]]}'])
def test_what_is_no_handover_is_said(text: str, tmp_path: Path) -> None:
    with pytest.raises(BadHandover):
        from_json(text)
    (tmp_path / "h").write_text(text)
    with pytest.raises(BadHandover):
        read_certificate(tmp_path / "h")


@given(st.binary(max_size=60))
def test_rubbish_is_no_handover(text: bytes) -> None:
    with pytest.raises(BadHandover):
        from_json(text.decode("latin-1"))


def test_a_certificate_comes_back_as_it_was(tmp_path: Path) -> None:
    found = certified((client("c1", OPEN, LOCK),), (client("c1", OPEN),))
    write_certificate(tmp_path / "certificates/x.json", found)
    assert read_certificate(tmp_path / "certificates/x.json") == found
