"""What the kernel's server does by itself, and labstore's order of steps is built on. If one of these fails on a new
kernel or nfs-utils, DESIGN ("The lab of real machines") and the failover steps have to be read again."""

from __future__ import annotations

import time

import pytest
from bench.figures import Figure, counted

from tests.lab.lab import Lab
from tests.lab.layout import FRONT, SERVICE
from tests.lab.load import Load
from tests.lab.machine import Machine
from tests.lab.stages import Stage, Stages
from tests.lab.waiting import wait_until
from tests.scenarios.conftest import LOGS

SHARE = "/srv/share"
EXPORT = f"{SHARE} 10.77.0.0/24(rw,sync,no_subtree_check,no_root_squash,fsid=77)\n"


def build(lab: Lab) -> None:
    for node in (lab["alpha"], lab["beta"]):
        node.run(f"mkdir -p {SHARE} && chmod 777 {SHARE}")
        node.put("/etc/exports.d/lab.exports", EXPORT)
    lab["alpha"].run(f"ip address add {SERVICE}/24 dev {lab['alpha'].device(FRONT)}")
    lab["client"].run("modprobe nfs; mkdir -p /mnt/share")


BY_HAND = Stage("exports by hand", build)


@pytest.fixture
def lab(stages: Stages) -> Lab:
    """Both nodes would export a directory of their own; alpha holds the service address; nfsd has never run."""
    return stages.at(BY_HAND)


def mount(client: Machine) -> None:
    client.run(f"mount -t nfs4 -o vers=4.2,hard {SERVICE}:{SHARE} /mnt/share", 60)


def grace_ended(server: Machine) -> bool:
    return server.out("cat /proc/fs/nfsd/v4_end_grace") == "Y"


def test_a_server_that_starts_without_exports_fails_the_applications(lab: Lab) -> None:
    """A takeover that only starts nfs-server hands errors to programs that would have waited (upstream #13)."""
    alpha, client = lab["alpha"], lab["client"]
    alpha.run("systemctl start nfs-server", 60)
    mount(client)
    load = Load(client, "/mnt/share", writers=1, holders=1, readers=1).start()
    alpha.run("systemctl stop nfs-server && mv /etc/exports.d/lab.exports /root/ && systemctl start nfs-server", 60)
    errors = wait_until(lambda: load.report()["errors"], 60, "an application gets an error")
    assert {error["name"] for error in errors} & {"EACCES", "ESTALE", "ENOENT", "EIO"}, errors
    print({(error["who"], error["name"], error["doing"]) for error in errors})


def test_stopping_the_server_leaves_its_helpers(lab: Lab) -> None:
    """nfsdcld holds its directory open after a stop: a volume with it on cannot be unmounted; mountd goes along."""
    alpha = lab["alpha"]
    alpha.run("systemctl start nfs-server", 60)
    alpha.run("systemctl stop nfs-server", 60)
    states = {
        unit: alpha.run(f"systemctl is-active {unit}", check=False).stdout.strip()
        for unit in ("nfs-server", "nfs-mountd", "nfsdcld")
    }
    assert states == {"nfs-server": "inactive", "nfs-mountd": "inactive", "nfsdcld": "active"}
    assert "/var/lib/nfs/nfsdcld" in alpha.out("ls -l /proc/$(pidof nfsdcld)/fd")


@pytest.mark.deadline(420)
def test_grace_after_the_first_start_and_after_a_restart(lab: Lab, figures: list[Figure]) -> None:
    """How long a lock has to wait: after the very first start, and after a restart when all clients are back."""
    alpha, client = lab["alpha"], lab["client"]
    alpha.run("systemctl start nfs-server", 60)
    started = time.monotonic()
    mount(client)
    client.run("cd /mnt/share && flock -x mine true", 150)
    first = time.monotonic() - started
    client.start_unit("holder", "cd /mnt/share && exec flock -x held sleep 1000")
    client.wait_until("! flock -xn /mnt/share/held true", 150)
    alpha.run("systemctl restart nfs-server", 60)
    started = time.monotonic()
    client.run("cd /mnt/share && flock -x mine true", 150)
    again = time.monotonic() - started
    log = alpha.out("dmesg | grep -i grace")
    print(log)
    figures += [
        counted("lock after the very first start", "s", first),
        counted("lock after a restart, all clients reclaiming", "s", again, at_most=60),
    ]
    assert again < 60, "a grace period that all clients have come back in should end early"
    assert not client.run("flock -xn /mnt/share/held true", check=False).ok, "the lock was reclaimed"


def test_the_scope_is_the_host_name_of_the_namespace_nfsd_was_started_in(lab: Lab) -> None:
    """nfs-utils 2.6.2 has no setting for it; a UTS namespace is how both nodes come to say the same."""
    alpha, client = lab["alpha"], lab["client"]
    alpha.run("systemctl start nfs-mountd nfsdcld; mount -t nfsd nfsd /proc/fs/nfsd || true; exportfs -r", 60)
    alpha.run("unshare --uts sh -c 'hostname shared-scope && rpc.nfsd 4'", 60)
    path = LOGS.absolute() / "scope.pcap"
    with lab.net.capture(FRONT, path):
        mount(client)
    said = path.read_bytes()
    path.unlink()
    assert b"shared-scope" in said
    alpha.run("rpc.nfsd 0")
