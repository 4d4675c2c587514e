"""After a power cut: the service comes up from what was last known good, with nobody to ask, and only where it is
certain that nobody else has newer data."""

from __future__ import annotations

import pytest

from tests.lab.lab import Lab
from tests.lab.load import Load
from tests.lab.machine import Machine
from tests.lab.stages import Stages
from tests.lab.waiting import wait_until
from tests.scenarios.conftest import NODES
from tests.scenarios.pair import MOUNT, failover, kept, other, serving, untouched
from tests.scenarios.witness import await_whole, safe, seen

DEAD = "10.77.0.250"
"""An address at which nobody answers."""


@pytest.fixture
def lab(stages: Stages) -> Lab:
    """As `serving`, and everything outside is dead: names, accounts, the cloud."""
    lab = serving(stages)
    for name in NODES:
        kill_the_outside(lab[name])
    return lab


def kill_the_outside(node: Machine) -> None:
    """DNS that never answers and is asked before the files; an inventory that is gone. There is no directory either."""
    node.put("/etc/resolv.conf", f"nameserver {DEAD}\n")
    node.run("sed -i 's/^hosts:.*/hosts: dns files/' /etc/nsswitch.conf && rm /etc/labstore/inventory.yaml; sync")
    node.run(f"! timeout 2 getent hosts keystone.example.org && ! ping -q -c 1 -W 1 {DEAD}", 30)


@pytest.mark.core
@pytest.mark.deadline(1500)
def test_cold_start_of_both_nodes(lab: Lab) -> None:
    load = Load(lab["client"], MOUNT).start()
    load.moves(60, "before")
    for name in NODES:
        lab[name].power_off()
    lab.boot(*NODES)
    wait_until(lambda: safe(lab)["alpha"].serving, 400, "alpha, which served last, serves by itself", every=3)
    load.moves(180, "after the power cut")
    untouched(load)
    await_whole(lab["alpha"])
    assert seen(lab["beta"]).idle
    kept(load, lab["alpha"])


@pytest.mark.deadline(1500)
@pytest.mark.parametrize("name", ["alpha", "beta"])
def test_cold_start_of_one_node(lab: Lab, name: str) -> None:
    """A node that comes back alone does not know whether the other has newer data: it serves on a person's word."""
    node, partner = lab[name], other(name)
    load = Load(lab["client"], MOUNT).start()
    load.moves(60, "before")
    for each in NODES:
        lab[each].power_off()
    lab.boot(name)
    said = node.wait_until("grep -c 'ro:Secondary/Unknown' /proc/drbd | grep -qx 2", 240, "DRBD is up")
    assert said.ok and seen(node).idle, "nothing is served by itself"
    failover(node, f"up --yes --partner-is-off {partner}", deadline=600)
    load.moves(180, f"on {name}")
    untouched(load)
    lab.boot(partner)
    await_whole(node, 300)
    assert safe(lab)[name].serving and seen(lab[partner]).idle
    kept(load, node)
