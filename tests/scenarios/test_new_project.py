"""A project gets NFS: an entry of the mounts file, its directory, its export, a mount on its instance; and it moves
with the rest."""

from __future__ import annotations

import json

import pytest

from tests.lab.lab import Lab
from tests.lab.layout import FRONT
from tests.lab.load import Load
from tests.lab.stages import Stages
from tests.lab.waiting import wait_until
from tests.scenarios.conftest import NODES
from tests.scenarios.instances import Instance
from tests.scenarios.pair import MOUNT, SLOW, failover, kept, serving
from tests.scenarios.witness import safe

GID = 50196
MAPS = "/srv/tools/shared/maps"
ADDRESS = "10.77.0.31"


@pytest.fixture
def lab(stages: Stages) -> Lab:
    return serving(stages)


@pytest.mark.deadline(1200)
def test_a_new_project_gets_its_share(lab: Lab) -> None:
    alpha, client = lab["alpha"], lab["client"]
    load = Load(client, MOUNT).start()
    instance = Instance(client, "maps-1", ADDRESS).create()
    known = {"tools": {"instances": {"client": client.ip(FRONT)}}, "maps": {"instances": {"maps-1": ADDRESS}}}
    for name in NODES:
        lab[name].put("/etc/labstore/nfs-mounts.yaml", f"private:\n  maps: {{gid: {GID}, mounts: {{project: true}}}}\n")
        lab[name].put("/etc/labstore/inventory.yaml", json.dumps({"projects": known}))
        lab[name].run("echo 'projects_file: nfs-mounts.yaml' >>/etc/labstore/site.yaml")
    print(alpha.run("labstore binds apply --yes", SLOW).stdout)
    assert alpha.out(f"stat -c '%u %g %a' {MAPS} {MAPS}/project").splitlines() == [f"0 {GID} 755", f"0 {GID} 2775"]
    wait_until(lambda: instance.mount(MAPS, deadline=60, check=False).ok, 180, "maps-1 is let in", every=2)
    instance.run("cd project && echo hello >greeting && sync greeting")
    assert alpha.out(f"stat -c %g {MAPS}/project/greeting") == str(GID), (
        "what is made there belongs to the project's group"
    )
    foreign = client.run(f"mkdir -p /mnt/foreign && mount -t nfs4 -o retry=0 10.77.0.10:{MAPS} /mnt/foreign", 60, False)
    assert not foreign.ok, "another project's instance is not let in"
    load.moves(60, "while all this happened")
    failover(alpha, "switchover --yes", deadline=600)
    assert safe(lab)["beta"].serving
    instance.run("cd project && test $(cat greeting) = hello && echo again >greeting && sync greeting", 150)
    kept(load, lab["beta"])
