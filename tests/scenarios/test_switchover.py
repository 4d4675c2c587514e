"""A planned switchover there and back under load: nobody notices but by waiting."""

from __future__ import annotations

import os

import pytest
from bench.figures import Figure, counted

from tests.lab.lab import Lab
from tests.lab.load import Load
from tests.lab.stages import Stages
from tests.scenarios.pair import (
    BARE_DOWN,
    BARE_UP,
    MOUNT,
    bare,
    certificate,
    failover,
    gaps,
    kept,
    other,
    serving,
    status,
    untouched,
)
from tests.scenarios.witness import safe

ROUNDS = int(os.environ.get("LABSTORE_SWITCHOVER_ROUNDS", "1"))
"""There and back so often; five are the acceptance."""


@pytest.fixture
def lab(stages: Stages) -> Lab:
    return serving(stages)


def bare_sum(lab: Lab) -> float:
    """The same move by hand, without anything around it, on machines that nobody uses."""
    lab["client"].run(f"umount {MOUNT}", 60)
    lab["alpha"].run("systemctl stop labstore-exportd", 60)
    return bare(lab["alpha"], BARE_DOWN) + bare(lab["beta"], BARE_UP)


@pytest.mark.core
@pytest.mark.deadline(600 + 800 * ROUNDS)
def test_switchover_there_and_back(lab: Lab, figures: list[Figure]) -> None:
    load = Load(lab["client"], MOUNT).start()
    active, longest = "alpha", 0.0
    for _ in range(2 * ROUNDS):
        before = len(gaps(load))
        print(failover(lab[active], "switchover --yes", deadline=600).stdout)
        active = other(active)
        load.moves(120, f"on {active}")
        untouched(load)
        assert safe(lab)[active].serving
        longest = max([longest, *gaps(load)[before:]])
        held = certificate(lab[active])
        assert held.fates <= {"carried over", "held nothing"}, held
        assert held.opens == (6, 6), "the load has six files open"
        assert held.locks == (2, 2), "the load holds two locks"
    for name in ("alpha", "beta"):
        said = status(lab[name])
        assert (said["state"], said["active"]) == ("healthy", "alpha"), said
    totals = kept(load, lab[active])
    by_hand = bare_sum(lab)
    figures += [
        counted("moves", "moves", 2 * ROUNDS),
        counted("client gap at its longest", "s", longest),
        counted("bare steps, by hand", "s", by_hand),
        counted("client gap over the bare steps", "times", longest / by_hand, 2.0),
        counted("application errors", "errors", len(load.report()["errors"]), 0),
        counted("lost locks", "locks", len(load.report()["lost_locks"]), 0),
        counted("acknowledged writes", "writes", totals["acknowledged"]),
        counted("lost acknowledged writes", "writes", totals["lost"], 0),
    ]


@pytest.mark.deadline(600)
def test_a_dry_run_shows_the_steps_and_moves_nothing(lab: Lab) -> None:
    before = safe(lab)
    said = failover(lab["alpha"], "switchover --dry-run").stdout
    assert "together about" in said and "let clients in" in said
    assert safe(lab) == before and before["alpha"].serving
