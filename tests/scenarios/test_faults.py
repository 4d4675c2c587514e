"""Faults of a node's own: a full disk, a server that cannot end, a copy that is not whole."""

from __future__ import annotations

import pytest

from labstore.cli.exit import Exit
from tests.lab.lab import Lab
from tests.lab.load import Load
from tests.lab.stages import Stages
from tests.lab.waiting import wait_until
from tests.scenarios.conftest import NODES
from tests.scenarios.pair import MOUNT, failover, kept, other, serving, status, untouched, words
from tests.scenarios.witness import await_whole, replication, safe, seen

STATE = "/var/lib/labstore-failover"
EXPORTED = "cut -d '(' -f 1 /var/lib/nfs/etab | sort"


@pytest.fixture
def lab(stages: Stages) -> Lab:
    return serving(stages)


@pytest.mark.deadline(1500)
def test_a_full_disk_under_the_journal_does_not_stop_a_move(lab: Lab) -> None:
    """The journal explains and never decides: without it the run goes on, and says so."""
    load = Load(lab["client"], MOUNT).start()
    for name in NODES:
        lab[name].run(
            f"mkdir -p {STATE} && cp -a {STATE} /run/kept && mount -t tmpfs -o size=64k none {STATE} && "
            f"cp -a /run/kept/. {STATE}/ && dd if=/dev/zero of={STATE}/full bs=4k status=none; "
            f"! echo x >{STATE}/more 2>/dev/null && rm -f {STATE}/more"
        )
    active = "alpha"
    for _ in range(2):
        moved = failover(lab[active], "switchover --yes", deadline=600)
        assert "the journal could not be written" in words(moved), moved
        active = other(active)
        load.moves(120, f"on {active}")
        untouched(load)
        assert safe(lab)[active].serving
    kept(load, lab[active])


@pytest.mark.deadline(1500)
def test_a_server_that_cannot_end_is_named_and_waited_for(lab: Lab) -> None:
    """The disk below does not answer, so nfsd's threads cannot end: nothing that depends on it is begun."""
    alpha = lab["alpha"]
    load = Load(lab["client"], MOUNT).start()
    alpha.run("sed -i 's/server: 2m/server: 15s/' /etc/labstore/site.yaml")
    alpha.run("dmsetup suspend lab-tools")
    alpha.wait_until("ps -eo stat,comm | grep -q '^D.*nfsd'", 60, "nfsd is stuck")
    stuck = failover(alpha, "down --yes", check=False, deadline=600)
    assert stuck.status == Exit.FAILED, stuck
    assert "stop the NFS server" in words(stuck)
    now = safe(lab)["alpha"]
    assert now.primary == 2 and now.mounted == 2 and now.blocked, "what depends on it was not begun"
    said = status(lab["beta"])
    assert said["state"] == "half down" and "on alpha: `labstore failover down` goes on" in said["next"], said
    alpha.run("dmsetup resume lab-tools")
    failover(alpha, "down --yes", deadline=600)
    assert safe(lab)["alpha"].idle
    failover(lab["beta"], "up --yes", deadline=600)
    load.moves(120, "on beta")
    kept(load, lab["beta"])


@pytest.mark.deadline(1500)
def test_a_unit_that_a_node_lacks_keeps_no_move_from_its_end(lab: Lab) -> None:
    """Masked on one node, and not there at all on the other but for the drop-in that `init` wrote."""
    alpha, beta, unit = lab["alpha"], lab["beta"], "labstore-exportd.service"
    load = Load(lab["client"], MOUNT).start()
    place = alpha.out(f"systemctl show --property=FragmentPath --value {unit}")
    beta.run(f"mv {place} /root/ && systemctl mask {unit}")
    failover(alpha, "switchover --yes", deadline=600)
    load.moves(120, "on beta")
    named = status(beta)
    assert named["state"] == "healthy" and f"beta: systemd has no {unit}, or it is masked" in str(named), named
    alpha.run(f"mv {place} /root/ && systemctl daemon-reload")
    assert alpha.out(f"systemctl show --property=LoadState --value {unit}") == "not-found"
    failover(beta, "switchover --yes", deadline=600)
    load.moves(120, "on alpha again")
    assert f"alpha: systemd has no {unit}" in str(status(alpha))
    alpha.run(f"mv /root/{unit} {place} && systemctl daemon-reload")
    beta.run(f"systemctl unmask {unit} && mv /root/{unit} {place} && systemctl daemon-reload")
    untouched(load)
    kept(load, alpha)


@pytest.mark.deadline(900)
def test_a_server_whose_threads_were_ended_by_hand_is_started_anew(lab: Lab) -> None:
    """Its unit takes it for started; starting it does nothing. Stopping it empties mountd's table."""
    alpha = lab["alpha"]
    load = Load(lab["client"], MOUNT).start()
    table = alpha.out(EXPORTED)
    alpha.run("rpc.nfsd 0", 60)
    assert alpha.out("systemctl is-active nfs-server") == "active"
    failover(alpha, "up --yes", deadline=600)
    assert alpha.out(EXPORTED) == table
    assert safe(lab)["alpha"].serving
    load.moves(180, "on alpha")
    kept(load, alpha)


@pytest.mark.deadline(1500)
def test_a_half_copied_side_is_never_served(lab: Lab) -> None:
    alpha, beta = lab["alpha"], lab["beta"]
    load = Load(lab["client"], MOUNT).start()
    for node in (alpha, beta):
        node.run("drbdsetup disk-options 1 --c-plan-ahead=0 --resync-rate=64 --c-min-rate=0 --c-max-rate=64", 30)
    beta.run("drbdadm invalidate tools", 60)
    wait_until(lambda: any("SyncTarget" in each for each in replication(beta)), 60, "beta is being overwritten")
    refused = failover(alpha, "switchover --yes", check=False)
    assert refused.status == Exit.REFUSED and "a resync is running" in words(refused), refused
    load.moves(60, "on alpha")
    assert status(beta)["state"] == "serving, resyncing"
    alpha.power_off()
    refused = failover(beta, "up --yes --partner-is-off alpha", check=False)
    assert refused.status == Exit.REFUSED and "half of a copy" in words(refused), refused
    refused = failover(beta, "up --yes --partner-is-off alpha --accept-data-loss", check=False)
    assert refused.status == Exit.REFUSED and seen(beta).idle, "no word of anybody makes half a copy whole"
    lab.boot("alpha")
    wait_until(lambda: safe(lab)["alpha"].serving, 400, "alpha serves by itself: beta cannot have newer data", every=3)
    load.moves(180, "on alpha again")
    untouched(load)
    beta.run("drbdadm adjust tools", 60)
    await_whole(alpha, 300)
    kept(load, alpha)
