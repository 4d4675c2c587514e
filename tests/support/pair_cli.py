"""A site file of a pair, and the commands of failover run on the modelled nodes of fake_cluster."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click
from click.testing import CliRunner, Result

from labstore.assembly import from_site_file
from labstore.cli.failover_parts import PairHands
from labstore.cli.main import labstore
from labstore.model.failover import Pair
from labstore.model.names import HostName
from tests.support.cli_world import in_utc
from tests.support.fake_cluster import FakeNode, World
from tests.support.logs_kept import logs_kept

SITE = """\
site: lab
state_dir: {base}/state
run_dir: {base}/run
clusters:
  primary:
    service_addresses: [10.77.0.10]
    nodes: {{alpha: {{address: 10.77.0.11}}, beta: {{address: 10.77.0.12}}}}
    exports_dir: {base}/exports.d
    volumes:
      state: {{mount: {base}/srv/state, filesystem: ext4}}
      tools: {{mount: {base}/srv/tools, filesystem: ext4}}
shares:
  project: {{cluster: primary, volume: tools, path: "shared/{{project}}"}}
  home: {{cluster: primary, volume: tools, path: "shared/{{project}}"}}
projects:
  tools: {{gid: 50380, shares: {{project: true, home: true}}, expect: any}}
inventory: {{source: file, file: inventory.yaml}}
failover:
  primary:
    state: state
    scope: nfs-tools
    units: [labstore-exports.service]
    replication:
      addresses: {{alpha: 10.78.0.11, beta: 10.78.0.12}}
      authenticate: false
      resources:
        state: {{minor: 0, port: 7790, disk: /dev/lab/state}}
        tools: {{minor: 1, port: 7791, disk: /dev/lab/tools}}
"""


@dataclass
class PairCli:
    """`run` runs a command line on a node of `world`."""

    base: Path
    world: World

    @classmethod
    def of(cls, base: Path) -> PairCli:
        file = base / "site.yaml"
        file.write_text(SITE.format(base=base))
        (base / "inventory.yaml").write_text("projects: {}\n")
        site = from_site_file(file)().site
        (cluster,) = site.clusters
        return cls(base, World(Pair(cluster, site.failover[cluster.name], HostName("alpha"))))

    def node(self, _pair: Pair, name: HostName, here: HostName | None) -> FakeNode:
        node = self.world.node(name)
        return node if name == here else node.over_network()

    def run(
        self,
        *arguments: str,
        node: str = "alpha",
        answer: str | None = None,
        command: click.Command = labstore,
    ) -> Result:
        """Run `labstore ARGUMENTS`, or another command, as `node`."""
        environment = {
            "LABSTORE_SITE": str(self.base / "site.yaml"),
            "LABSTORE_NODE": node,
            "SUDO_USER": "alice",
            "COLUMNS": "80",
        }
        hands = PairHands(clock=self.world.clock, storage_node=self.node)
        with in_utc(), logs_kept():
            return CliRunner(env=environment).invoke(command, list(arguments), input=answer, obj=hands)

    def json(self, *arguments: str, node: str = "alpha") -> Any:
        return json.loads(self.run(*arguments, "--json", node=node).stdout)
