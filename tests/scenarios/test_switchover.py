"""A planned switchover there and back under load: nobody notices but by waiting."""

from __future__ import annotations

import pytest
from bench.figures import Figure, counted

from tests.lab.lab import Lab
from tests.lab.load import Load
from tests.lab.stages import Stages
from tests.lab.waiting import wait_until
from tests.scenarios.pair import (
    BARE_DOWN,
    BARE_UP,
    MOUNT,
    PAIR,
    SHARE,
    bare,
    certificate,
    failover,
    mount,
    other,
    status,
)

TIMES = 5


@pytest.fixture
def lab(stages: Stages) -> Lab:
    """alpha serves, beta stands by, the client has the share mounted."""
    lab = stages.at(PAIR)
    mount(lab["client"])
    return lab


def gaps(load: Load) -> list[float]:
    return [float(wait["seconds"]) for wait in load.report()["waits"]]


def untouched(load: Load) -> None:
    report = load.report()
    assert report["errors"] == []
    assert report["lost_locks"] == []
    assert report["wrong_content"] == []


def bare_sum(lab: Lab) -> float:
    """The same move by hand, without anything around it, on machines that nobody uses."""
    lab["client"].run(f"umount {MOUNT}", 60)
    lab["alpha"].run("systemctl stop labstore-exportd", 60)
    return bare(lab["alpha"], BARE_DOWN) + bare(lab["beta"], BARE_UP)


@pytest.mark.deadline(3000)
def test_switchover_there_and_back(lab: Lab, figures: list[Figure]) -> None:
    load = Load(lab["client"], MOUNT).start()
    active, longest = "alpha", 0.0
    for _ in range(2 * TIMES):
        before = len(gaps(load))
        failover(lab[active], "switchover --yes", deadline=600)
        active = other(active)
        load.moves(60, f"on {active}")
        untouched(load)
        longest = max([longest, *gaps(load)[before:]])
        held = certificate(lab[active])
        assert held.fates <= {"carried over", "held nothing"}, held
        assert held.opens[0] == held.opens[1] >= 6
        assert held.locks == (2, 2), "the load holds two locks"
    assert status(lab[active])["state"] == "healthy"
    load.stop()
    untouched(load)
    totals = load.check(lab[active], SHARE)
    assert totals["acknowledged"] > 0
    assert (totals["lost"], totals["broken"], totals["twice"]) == (0, 0, 0), totals
    assert active == "alpha"
    by_hand = bare_sum(lab)
    ratio = longest / by_hand
    figures += [
        counted("client gap at its longest", "s", longest),
        counted("bare steps, by hand", "s", by_hand),
        counted("client gap over the bare steps", "times", ratio, 2.0),
        counted("application errors", "errors", len(load.report()["errors"]), 0),
        counted("lost locks", "locks", len(load.report()["lost_locks"]), 0),
        counted("lost acknowledged writes", "writes", totals["lost"], 0),
    ]


@pytest.mark.deadline(1200)
def test_a_dry_run_shows_the_steps_and_moves_nothing(lab: Lab) -> None:
    said = failover(lab["alpha"], "switchover --dry-run").stdout
    assert "together about" in said and "let clients in" in said
    assert wait_until(lambda: status(lab["alpha"])["active"] == "alpha", 60, "alpha serves still")
