"""Volumes that something holds: `down` says who before a client is cut off, and what holds one later can be gone back
from."""

from __future__ import annotations

import pytest

from labstore.cli.exit import Exit
from tests.lab.lab import Lab
from tests.lab.load import Load
from tests.lab.machine import Machine
from tests.lab.stages import Stages
from tests.scenarios.pair import MOUNT, failover, gaps, kept, serving, untouched, words
from tests.scenarios.witness import safe, seen

VOLUME = "/srv/tools"
LATE = f"while [ $(cat /proc/fs/nfsd/threads) != 0 ]; do sleep 0.1; done; exec 3>{VOLUME}/late; exec sleep 1000"
"""Opens a file of the volume just when the server has stopped: nobody could see it beforehand."""
LOOK = LATE.replace("exec sleep 1000", f"sleep 1.8; mountpoint -q {VOLUME} && echo it was open >/run/looked")
"""The same, and is gone soon."""


@pytest.fixture
def lab(stages: Stages) -> Lab:
    return serving(stages)


def hold(alpha: Machine) -> None:
    """Everything that can hold a volume, each by a unit of its own."""
    alpha.start_unit("an-open-file", f"exec 3>{VOLUME}/opened; exec sleep 1000")
    alpha.start_unit("a-shell", "exec sleep 1000", WorkingDirectory=VOLUME)
    alpha.run(f"mkdir /mnt/lazy && mount --bind {VOLUME} /mnt/lazy")
    alpha.start_unit("a-lazy-unmount", "exec sleep 1000", WorkingDirectory="/mnt/lazy")
    alpha.start_unit("a-namespace", "exec unshare --mount --propagation private sleep 1000")
    alpha.wait_until("ls -l /proc/*/fd/3 2>/dev/null | grep -q opened", 30, "the holders hold")
    alpha.run("umount -l /mnt/lazy")
    alpha.run(
        f"lvcreate -q -y -s -n look -L 48M lab/tools && mkdir {VOLUME}/look && "
        f"mount -t ext4 -o ro,noload /dev/lab/look {VOLUME}/look",
        60,
    )


def release(alpha: Machine) -> None:
    alpha.run("systemctl stop an-open-file a-shell a-lazy-unmount a-namespace", 60)
    alpha.run(f"umount {VOLUME}/look && lvremove -q -y lab/look", 60)


@pytest.mark.core
@pytest.mark.deadline(1200)
def test_down_names_every_holder_before_a_client_is_cut_off(lab: Lab) -> None:
    alpha = lab["alpha"]
    load = Load(lab["client"], MOUNT).start()
    hold(alpha)
    refused = failover(alpha, "switchover --yes", check=False)
    said = words(refused)
    assert refused.status == Exit.REFUSED, refused
    for holder in (
        f"of an-open-file.service: fd 3 {VOLUME}/opened",
        f"of a-shell.service: cwd {VOLUME}",
        "of a-lazy-unmount.service: cwd /",
        f"of a-namespace.service: has it mounted at {VOLUME}",
        f"mount {VOLUME}/look: ext4 is mounted inside",
    ):
        assert holder in said, f"{holder} is not named:\n{said}"
    print(refused.stdout)
    now = seen(alpha)
    assert now.serving and not now.blocked
    load.moves(60, "as if nothing had been asked")
    release(alpha)
    failover(alpha, "switchover --yes", deadline=600)
    load.moves(120, "on beta")
    assert safe(lab)["beta"].serving
    kept(load, lab["beta"])


@pytest.mark.deadline(1200)
def test_a_down_that_gets_stuck_goes_back_to_serving(lab: Lab) -> None:
    alpha = lab["alpha"]
    load = Load(lab["client"], MOUNT).start()
    alpha.run("sed -i 's/unmount: 1m/unmount: 5s/' /etc/labstore/site.yaml")
    alpha.start_unit("late", LATE)
    stuck = failover(alpha, "down --yes", check=False, deadline=600)
    said = words(stuck)
    assert stuck.status == Exit.FAILED and f"of late.service: fd 3 {VOLUME}/late" in said, stuck
    assert "labstore failover abort" in said
    assert not safe(lab)["alpha"].serving
    before = len(gaps(load))
    failover(alpha, "abort --yes", deadline=600)
    load.moves(120, "on alpha again")
    untouched(load)
    assert safe(lab)["alpha"].serving
    assert len(gaps(load)) > before, "clients waited meanwhile"
    alpha.run("systemctl stop late", 60)
    kept(load, alpha)


@pytest.mark.deadline(900)
def test_somebody_who_only_looks_stops_no_move(lab: Lab) -> None:
    """What monitoring does: a file is open for a second, just when the volume is to be unmounted."""
    alpha = lab["alpha"]
    load = Load(lab["client"], MOUNT).start()
    alpha.start_unit("a-look", LOOK)
    failover(alpha, "switchover --yes", deadline=600)
    assert alpha.out("cat /run/looked") == "it was open"
    load.moves(120, "on beta")
    untouched(load)
    assert safe(lab)["beta"].serving
    kept(load, lab["beta"])
