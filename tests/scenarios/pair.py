"""The stages on which failover is tested: two nodes with LVM and a replication link, set up by labstore itself."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from tests.lab.lab import Lab
from tests.lab.layout import FRONT, SERVICE
from tests.lab.load import Load
from tests.lab.machine import Machine
from tests.lab.ssh import Result
from tests.lab.stages import Stage, Stages
from tests.scenarios.conftest import INSTALLED, NODES

ADDRESSES = {"alpha": "10.77.0.11", "beta": "10.77.0.12"}
SHARE = "/srv/tools/shared/tools"
STATE = "/srv/state/.labstore"
MOUNT = "/mnt"
SITE = f"""
site: lab
clusters:
  primary:
    backend: knfsd
    service_addresses: [{SERVICE}]
    nodes: {{alpha: {{address: {ADDRESSES["alpha"]}}}, beta: {{address: {ADDRESSES["beta"]}}}}}
    volumes:
      state: {{mount: /srv/state, filesystem: ext4}}
      tools: {{mount: /srv/tools, filesystem: ext4}}
shares:
  project: {{cluster: primary, volume: tools, path: "shared/{{project}}", squash: none}}
projects:
  tools: {{gid: 50380, shares: {{project: true}}, expect: any}}
inventory: {{source: file, file: /etc/labstore/inventory.yaml}}
exports: {{poll: 1s}}
failover:
  primary:
    state: state
    scope: nfs-tools
    interfaces: eth1
    threads: 8
    lease: 30
    grace: 90
    channel: {{connect_deadline: 60s, answer_deadline: 3m}}
    deadlines: {{units: 2m, server: 2m, unmount: 1m, promote: 2m, demote: 1m, exports: 2m, verify: 4m}}
    replication:
      resources:
        state: {{minor: 0, port: 7790, disk: /dev/lab/state}}
        tools: {{minor: 1, port: 7791, disk: /dev/lab/tools}}
      addresses: {{alpha: 10.78.0.11, beta: 10.78.0.12}}
      timeout: 3s
      ping_interval: 3s
      ping_timeout: 2s
"""
SLOW = 280.0
"""Seconds for one command of labstore: an emulated machine takes most of a minute to load it where others are busy."""


def other(name: str) -> str:
    return "beta" if name == "alpha" else "alpha"


def failover(node: Machine, arguments: str, check: bool = True, deadline: float = SLOW) -> Result:
    return node.run(f"labstore failover {arguments}", deadline, check)


def words(result: Result) -> str:
    """What was said, in one line."""
    return " ".join((result.stdout + " " + result.stderr).split())


def status(node: Machine) -> dict[str, Any]:
    """What `status --json` says, whatever it ends with."""
    return dict(json.loads(failover(node, "status --json", check=False).stdout))


def prepare(lab: Lab) -> None:
    """What an administrator does before `init`: volumes, the site file, a secret, keys for ssh."""
    keys, hosts = {}, {}
    for name in NODES:
        node = lab[name]
        node.run(
            "pvcreate -q /dev/vdc && vgcreate -q lab /dev/vdc && lvcreate -q -y -n state -L 64M lab && "
            "lvcreate -q -y -n tools -L 300M lab && mkdir -p /etc/labstore /root/.ssh && "
            "ssh-keygen -q -t ed25519 -N '' -f /etc/labstore/failover_key",
            60,
        )
        node.put("/etc/labstore/drbd.secret", "a-secret-of-the-lab-0123456789\n", 0o600)
        node.put("/etc/labstore/site.yaml", SITE)
        inventory = {"projects": {"tools": {"instances": {"client": lab["client"].ip(FRONT)}}}}
        node.put("/etc/labstore/inventory.yaml", json.dumps(inventory))
        keys[name] = node.out("cat /etc/labstore/failover_key.pub")
        hosts[name] = " ".join(node.out("cat /etc/ssh/ssh_host_ed25519_key.pub").split()[:2])
    for name in NODES:
        there = other(name)
        lab[name].run(f"echo '{keys[there]}' >>/root/.ssh/authorized_keys")
        lab[name].put("/etc/labstore/failover_known_hosts", f"{ADDRESSES[there]} {hosts[there]}\n")


def build(lab: Lab) -> None:
    prepare(lab)
    failover(lab["alpha"], "init --yes --disks-are-equal", deadline=600)
    failover(lab["alpha"], "up --yes", deadline=600)
    lab["alpha"].run(f"mkdir -p {SHARE} && chmod 777 {SHARE}")


PAIR = Stage("pair", build, before=INSTALLED)


def serve(lab: Lab) -> None:
    """Wait until the share is exported, then mount it."""
    lab["alpha"].wait_until(f"grep -q '^{SHARE}' /var/lib/nfs/etab", 240, "the project's share is exported", every=1)
    client = lab["client"]
    client.run(f"mkdir -p {MOUNT} && mount -t nfs4 -o vers=4.2,hard {SERVICE}:{SHARE} {MOUNT}", 90)


def serving(stages: Stages) -> Lab:
    """alpha serves, beta stands by, the client has the share mounted."""
    return stages.at(SERVING)


SERVING = Stage("serving", serve, before=PAIR)


def gaps(load: Load) -> list[float]:
    """The waits so far, in seconds."""
    return [float(wait["seconds"]) for wait in load.report()["waits"]]


def untouched(load: Load) -> None:
    """Nobody on the client has noticed anything but by waiting."""
    report = load.report()
    assert report["errors"] == []
    assert report["lost_locks"] == []
    assert report["wrong_content"] == []


def kept(load: Load, server: Machine) -> dict[str, int]:
    """Stop the load; every promise is compared with what the server has. Gives the totals."""
    load.stop()
    untouched(load)
    totals = load.check(server, SHARE)
    assert totals["acknowledged"] > 0
    assert (totals["lost"], totals["broken"], totals["twice"]) == (0, 0, 0), totals
    return totals


@dataclass(frozen=True)
class Held:
    """What a certificate says in sum: before, and carried over."""

    opens: tuple[int, int]
    locks: tuple[int, int]
    fates: frozenset[str]


def certificate(node: Machine) -> Held:
    """The newest one, on the active node."""
    said = node.out(f"cat $(ls {STATE}/certificates/*.json | tail -1)")
    lines = json.loads(said)["lines"]
    return Held(
        (sum(line["opens"] for line in lines), sum(line["opens_reclaimed"] for line in lines)),
        (sum(line["locks"] for line in lines), sum(line["locks_reclaimed"] for line in lines)),
        frozenset(line["fate"] for line in lines),
    )


BARE_DOWN = (
    f"systemctl stop nfs-server; systemctl stop nfsdcld; ip address del {SERVICE}/32 dev eth1; "
    "umount /srv/tools; umount /srv/state; drbdadm secondary all"
)
BARE_UP = (
    "drbdadm primary all; mount -t ext4 -o noatime /dev/drbd0 /srv/state; "
    "mount -t ext4 -o noatime /dev/drbd1 /srv/tools; systemctl start nfsdcld; exportfs -r; "
    "touch /run/labstore-failover/primary.serving; systemctl start nfs-server; "
    f"ip address add {SERVICE}/32 dev eth1"
)


def bare(node: Machine, commands: str) -> float:
    """Seconds that the commands take by hand, one after the other, on that machine."""
    began, ended = node.out(f"date +%s.%N; {{ {commands}; }} >/dev/null 2>&1; date +%s.%N", 200).split()
    return float(ended) - float(began)
