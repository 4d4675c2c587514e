"""kill -9 at every step of real moves: run again, each goes on from what it finds, and on the way there are never two
writers, never an address without everything behind it, and no client that notices anything but a wait."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from tests.lab import kill_at
from tests.lab.lab import Lab
from tests.lab.load import Load
from tests.lab.machine import Machine
from tests.lab.stages import Stages
from tests.scenarios.conftest import NODES
from tests.scenarios.pair import MOUNT, SLOW, failover, kept, serving, untouched
from tests.scenarios.witness import JOURNAL, journal, safe

PROGRAM = "/var/tmp/kill_at.py"
DOWN = (
    "stop-units",
    "block",
    "record",
    "stop-server",
    "stop-recovery",
    "remove-addresses",
    "unmount:tools",
    "unmount:state",
    "demote:state",
    "demote:tools",
)
UP = (
    "block",
    "promote:state",
    "promote:tools",
    "mount:state",
    "mount:tools",
    "start-recovery",
    "place-exports",
    "start-server",
    "add-addresses",
    "unblock",
    "start-units",
    "verify",
    "certify",
)


@pytest.fixture
def lab(stages: Stages) -> Lab:
    lab = serving(stages)
    for name in NODES:
        lab[name].put(PROGRAM, Path(kill_at.__file__))
    return lab


def planned(node: Machine, verb: str) -> tuple[str, ...]:
    """The steps that the command says it would take."""
    said = json.loads(failover(node, f"{verb} --dry-run --json").stdout)
    return tuple(step["key"] for part in said["parts"] for step in part["steps"])


def killed(node: Machine, arguments: str, step: str) -> None:
    """`labstore failover ARGUMENTS`, killed as `step` begins."""
    line = f"python3 {PROGRAM} --journal {JOURNAL} --step {step} -- labstore failover {arguments}"
    done = node.run(line, SLOW + 20, check=False)
    assert done.ok, f"{arguments} was not killed at {step}:\n{done}"
    last = journal(node)[-1]
    print(f"{node.name}: {arguments} killed; the journal ends with {last['event']} {last['step']}")


@pytest.mark.deadline(3000)
def test_down_and_up_killed_at_every_step(lab: Lab) -> None:
    """Each run is killed one step later than the one before, so that each goes on from what a dead one left."""
    alpha, beta = lab["alpha"], lab["beta"]
    load = Load(lab["client"], MOUNT).start()
    assert planned(alpha, "down") == DOWN, "the steps have changed: change the list here"
    for step in DOWN:
        killed(alpha, "down --yes", step)
        safe(lab)
    failover(alpha, "down --yes", deadline=600)
    assert safe(lab)["alpha"].idle
    assert planned(beta, "up") == UP[:-1], "the steps have changed; what to certify is seen when the volume is mounted"
    for step in UP:
        killed(beta, "up --yes", step)
        safe(lab)
    failover(beta, "up --yes", deadline=600)
    assert safe(lab)["beta"].serving
    load.moves(180, "on beta")
    untouched(load)
    kept(load, beta)


@pytest.mark.deadline(1800)
def test_a_switchover_killed_on_either_node_is_finished_by_the_next(lab: Lab) -> None:
    alpha, beta = lab["alpha"], lab["beta"]
    load = Load(lab["client"], MOUNT).start()
    agent_killed(alpha, beta, "block")
    assert safe(lab)["alpha"].serving
    killed(alpha, "switchover --yes", "stop-server")
    safe(lab)
    agent_killed(alpha, beta, "mount:tools")
    safe(lab)
    failover(alpha, "switchover --yes", deadline=600)
    assert safe(lab)["beta"].serving
    load.moves(180, "on beta")
    kept(load, beta)


def agent_killed(driver: Machine, node: Machine, step: str) -> None:
    """The switchover that `driver` drives, its agent on `node` killed as `step` begins there."""
    watch = f"python3 {PROGRAM} --journal {JOURNAL} --step {step} --other 'failover agent'"
    node.run(f"systemd-run --quiet --unit=watch --remain-after-exit bash -c {shlex.quote(watch)}")
    done = failover(driver, "switchover --yes", check=False, deadline=600)
    assert not done.ok, done
    node.run("systemctl is-active watch", 30)
    node.run("systemctl stop watch", 30)
