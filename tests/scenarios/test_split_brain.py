"""Split brain, made for real: both networks between the nodes are cut, the operator says what is not so, both sides
are written. It is named, nothing is moved while it lasts, and one command ends it as a person decides."""

from __future__ import annotations

import pytest

from labstore.cli.exit import Exit
from tests.lab.lab import Lab
from tests.lab.machine import Machine
from tests.lab.stages import Stages
from tests.lab.waiting import wait_until
from tests.scenarios.conftest import NODES
from tests.scenarios.pair import MOUNT, SHARE, failover, serving, status, words
from tests.scenarios.witness import await_whole, replication, safe, seen


@pytest.fixture
def lab(stages: Stages) -> Lab:
    return serving(stages)


def write(node: Machine, name: str) -> None:
    node.run(f"dd if=/dev/urandom of={SHARE}/{name} bs=64k count=16 conv=fsync status=none")
    node.run(f"echo {node.name} >>{SHARE}/who; sync")


@pytest.mark.core
@pytest.mark.deadline(1500)
def test_a_split_brain_is_named_refused_and_ended_by_a_person(lab: Lab) -> None:
    alpha, beta = lab["alpha"], lab["beta"]
    write(alpha, "before")
    for network in ("front", "link"):
        lab.net.cut(network, "alpha", "beta")
    wait_until(lambda: all("Connected " not in each for each in replication(beta)), 60, "the link is seen to be cut")
    write(alpha, "of-alpha")
    failover(beta, "up --yes --partner-is-off alpha", deadline=600)
    write(beta, "of-beta")

    lab.net.heal_all()
    wait_until(lambda: any("StandAlone" in each for each in replication(beta)), 60, "DRBD refuses to connect them")
    said = status(beta)
    assert said["state"] in ("both primary", "service address on both"), said
    failover(beta, "down --yes --allow-outage", deadline=600)
    assert seen(beta).idle and safe(lab)["alpha"].serving
    said = status(beta)
    assert said["state"] == "split brain" and "labstore failover resolve" in said["next"], said
    refused = failover(alpha, "switchover --yes", check=False)
    assert refused.status == Exit.REFUSED and "written since they parted" in words(refused), refused
    assert seen(beta).idle and seen(alpha).serving

    shown = failover(beta, "resolve", check=False)
    assert shown.status == Exit.REFUSED and "SPLIT BRAIN" in shown.stdout, shown
    assert "shared/tools/of-alpha" in shown.stdout and "shared/tools/of-beta" in shown.stdout, shown
    print(shown.stdout)
    serves = failover(beta, "resolve --discard alpha --yes", check=False)
    assert not serves.ok and seen(alpha).serving, "the side that serves is not given up"
    failover(beta, "resolve --discard beta --yes", deadline=600)
    await_whole(alpha)
    assert safe(lab)["alpha"].serving
    assert status(beta)["state"] == "healthy"
    lab["client"].run(f"timeout 100 test -s {MOUNT}/of-alpha && ! test -e {MOUNT}/of-beta", 120)
    kept = beta.out("lvs --noheadings -o lv_name lab").split()
    snapshot = next(name for name in kept if name.startswith("tools-before-"))
    beta.run(f"mkdir /mnt/kept && mount -t ext4 -o ro,noload /dev/lab/{snapshot} /mnt/kept", 60)
    assert beta.out("cat /mnt/kept/shared/tools/who") == "alpha\nbeta", "what was given up can be read in the snapshot"


@pytest.mark.deadline(900)
def test_sides_of_which_one_was_written_connect_by_themselves(lab: Lab) -> None:
    """A cut link alone parts nothing: the active node has the other marked as outdated over the other network."""
    alpha, beta = lab["alpha"], lab["beta"]
    lab.net.cut("link", "alpha", "beta")
    wait_until(lambda: all(" Outdated/" in each for each in replication(beta)), 180, "beta is marked as outdated")
    write(alpha, "of-alpha")
    refused = failover(beta, "up --yes --partner-is-off alpha", check=False)
    assert refused.status == Exit.REFUSED, refused
    lab.net.heal_all()
    for name in NODES:
        await_whole(lab[name])
    assert safe(lab)["alpha"].serving
