"""A site file with accounts, and the commands of labstore run on fakes of directory, servers and homes; the ledger is
a real one."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner, Result

from labstore.assembly import SiteSource
from labstore.assembly_dbusers import AccountHands, AccountsRoom, accounts_of
from labstore.cli.main import labstore
from labstore.dbusers import assemble
from labstore.dbusers.crew import Crew
from labstore.dbusers.cycle import DbCycle
from labstore.dbusers.observe import Observer
from labstore.model.accounts import AccountKind, DbUser, account_name
from labstore.model.dbusers_settings import DbusersSettings
from labstore.model.people import Entry
from labstore.ports.clock import Clock
from labstore.ports.node import Node
from tests.support.cli_world import in_utc
from tests.support.dbusers_fakes import FakeDirectory, FakeFiles, FakeReplica
from tests.support.fake_clock import FakeClock
from tests.support.fakes import FakeNode
from tests.support.logs_kept import logs_kept

SITE = """\
site: wikicloud
state_dir: {base}/state
run_dir: {base}/run
clusters:
  primary: {{service_addresses: [172.16.0.10], volumes: {{misc: {{mount: /srv/misc}}}}}}
inventory: {{source: file, file: inventory.yaml}}
dbusers:
  cluster: primary
  directory: {{source: file, file: people.yaml}}
  hosts:
    db1.example.org: {{group: web}}
    db2.example.org:3311: {{grants: legacy, group: tools}}
  files: {{tool: /srv/homes/tools, user: /srv/homes/people}}
  limits: {{variances: {{s52788: 48}}}}
  metrics: {{enabled: false}}
"""


@dataclass
class AccountsWorld:
    """`run` runs a command line as labstore1; the fakes are in the hands of the test."""

    base: Path
    clock: FakeClock = field(default_factory=FakeClock)
    replicas: dict[str, FakeReplica] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.site_file = self.base / "site.yaml"
        self.site_file.write_text(SITE.format(base=self.base))
        self.directory, self.files = FakeDirectory(self.clock), FakeFiles(self.clock)
        self.node = FakeNode(self.clock)
        self.add(AccountKind.TOOL, "tools.wikibugs", 52788)
        self.add(AccountKind.TOOL, "tools.admin", 52001)
        self.add(AccountKind.USER, "alice", 2170)

    def add(self, kind: AccountKind, name: str, uid: int, home: bool = True) -> DbUser:
        entry = Entry(kind, account_name(kind, name), uid, f"uuid-{uid}")
        self.directory.add(entry)
        if home:
            self.files.homes.add(entry.user)
        return entry.user

    def replica(self, name: str) -> FakeReplica:
        return self.replicas[name]

    def _cycle(self, settings: DbusersSettings, _clock: Clock, node: Node) -> DbCycle:
        for host in settings.hosts:
            self.replicas.setdefault(str(host.key), FakeReplica(host, self.clock))
        observer = Observer(
            settings,
            self.directory,
            assemble.ledger(settings.ledger, self.clock),
            Crew([self.replicas[str(host.key)] for host in settings.hosts], self.clock),
            self.files,
            self.clock,
        )
        return DbCycle(observer, node, "labstore1")

    @property
    def hands(self) -> AccountHands:
        return AccountHands(self.clock, self._cycle, lambda _: self.node)  # type: ignore[arg-type,return-value]

    def room(self) -> AccountsRoom:
        source = SiteSource(accounts_of(self.site_file), self.site_file)
        return AccountsRoom(source, "labstore-dbusersd@labstore1", self.hands, node="labstore1")

    def run(self, *arguments: str, answer: str | None = None, command: Any = labstore) -> Result:
        """Run `labstore ARGUMENTS`; `answer` is what a person types."""
        environment = {
            "LABSTORE_SITE": str(self.site_file),
            "LABSTORE_NODE": "labstore1",
            "SUDO_USER": "alice",
            "COLUMNS": "80",
        }
        with in_utc(), logs_kept():
            return CliRunner(env=environment).invoke(command, list(arguments), input=answer, obj=self.hands)

    def json(self, *arguments: str) -> Any:
        return json.loads(self.run("dbusers", *arguments, "--json").stdout)
