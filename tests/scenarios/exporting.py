"""The stage on which exports are tested: alpha serves one volume from the kernel, by labstore's hand."""

from __future__ import annotations

import json
from collections.abc import Mapping

from tests.lab.lab import Lab
from tests.lab.layout import FRONT, SERVICE
from tests.lab.machine import Machine
from tests.lab.ssh import Result

VOLUME = "/srv/misc"
SITE = f"""
site: lab
clusters:
  primary:
    backend: knfsd
    service_addresses: [{SERVICE}]
    nodes: {{alpha: {{address: 10.77.0.11}}, beta: {{address: 10.77.0.12}}}}
    volumes: {{misc: {{mount: {VOLUME}, filesystem: ext4}}}}
shares:
  project: {{cluster: primary, volume: misc, path: "shared/{{project}}", squash: none}}
projects:
  maps: {{gid: 50196, shares: {{project: true}}, expect: any}}
  quarry: {{gid: 52243, shares: {{project: true}}, expect: any}}
inventory: {{source: file, file: /etc/labstore/inventory.yaml}}
exports: {{poll: 1s}}
"""
MAPS, QUARRY = f"{VOLUME}/shared/maps", f"{VOLUME}/shared/quarry"
FIRST = {"maps": {"maps-1": "10.77.0.31", "maps-2": "10.77.0.32"}, "quarry": {"quarry-1": "10.77.0.41"}}
STRANGER = "10.77.0.99"


def exporting(lab: Lab) -> None:
    """The volume, the address, the site, the kernel's server, and the first table in force."""
    alpha = lab["alpha"]
    alpha.run(
        "pvcreate -q /dev/vdc && vgcreate -q lab /dev/vdc && lvcreate -q -y -n misc -L 400M lab && "
        f"mkfs.ext4 -q /dev/lab/misc && mkdir -p {VOLUME} && mount /dev/lab/misc {VOLUME} && "
        f"mkdir -p {MAPS} {QUARRY} && chmod 777 {MAPS} {QUARRY} && "
        f"ip address add {SERVICE}/24 dev {alpha.device(FRONT)} && systemctl start nfs-server",
        60,
    )
    alpha.put("/etc/labstore/site.yaml", SITE)
    inventory(alpha, FIRST)
    labstore(alpha, "exports apply --yes --why 'the first table'")


def inventory(node: Machine, projects: Mapping[str, Mapping[str, str]]) -> None:
    """What the cloud knows from now on. The file has settled, as far as its time says."""
    known = {name: {"instances": dict(instances)} for name, instances in projects.items()}
    text = json.dumps({"projects": known})
    node.put("/etc/labstore/.inventory.new", text)
    node.run("mv /etc/labstore/.inventory.new /etc/labstore/inventory.yaml")


def labstore(node: Machine, arguments: str, deadline: float = 60, check: bool = True) -> Result:
    return node.run(f"labstore {arguments}", deadline, check)
