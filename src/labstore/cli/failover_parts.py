"""From the site file to the two nodes of a pair: what the commands of failover are made of."""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path

from labstore.assembly import SEPARATE, ExportsRoom, Hands, SiteSource, exports_state
from labstore.binds.cycle import BindCycle
from labstore.cli.binds_parts import cycle_of
from labstore.cli.exit import Exit, Stop
from labstore.cli.options import Chosen, hands
from labstore.failover.agent import RemoteNode, over_ssh
from labstore.failover.cluster import PairMover
from labstore.failover.files import SystemFiles
from labstore.failover.mover import Progress
from labstore.failover.node import LocalNode
from labstore.failover.observe import Observer, Tools
from labstore.failover.places import Places
from labstore.model.cloud import Instance, Presence
from labstore.model.failover import Pair
from labstore.model.names import ExportPath, HostName
from labstore.model.site import Cluster, InventorySettings, Site
from labstore.ports.clock import Clock
from labstore.ports.inventory import Inventory, Snapshot
from labstore.ports.storage_node import BindsFound, ExportsFound, StorageNode
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.record import State
from labstore.reconcile.runner import StepFailed
from labstore.reports.exports import ApplyFailed
from labstore.reports.report import Override, Report
from labstore.reports.sources import SourceFailed
from labstore.system.drbdadm import Drbd
from labstore.system.run import LocalHost


@dataclass(frozen=True)
class PairHands(Hands):
    """With what makes a node of a pair, asked with the machine it is asked from; None for the real one."""

    storage_node: Callable[[Pair, HostName, HostName | None], StorageNode] | None = None


def pair_hands() -> PairHands:
    """See cli.options.hands."""
    found = hands()
    return found if isinstance(found, PairHands) else PairHands()


@dataclass(frozen=True)
class Parts:
    """One pair as the site file has it. `here` is which of its nodes this machine is, None for a third one."""

    source: SiteSource
    pair: Pair
    here: HostName | None
    clock: Clock

    @property
    def site(self) -> Site:
        return self.source()

    def places(self, pair: Pair) -> Places:
        site = self.site
        run, state = (path.with_name(path.name + SEPARATE) for path in (site.run_dir, site.state_dir))
        return Places(pair, run, state)

    def local(self) -> LocalNode:
        """This machine. Stops the command where it is none of the pair's nodes."""
        if self.here is None:
            names = " or ".join(str(node.name) for node in self.pair.cluster.nodes)
            raise Stop(Exit.USAGE, f"error: this machine is no node of {self.pair.cluster.name}", f"run it on {names}")
        return LocalNode(self.observer(self.here))

    def observer(self, node: HostName) -> Observer:
        pair = Pair(self.pair.cluster, self.pair.settings, node)
        places = self.places(pair)
        host = LocalHost()
        exports = LastExports(self.source, pair.cluster, self.clock)
        tree = TreeOfBinds(self.source, pair.cluster)
        return Observer(pair, places, Tools.of(host, self.clock, exports, self.files(pair), tree))

    def files(self, pair: Pair) -> SystemFiles:
        version = Drbd(LocalHost()).version()
        return SystemFiles(pair, own_command(), self.places(pair).run, version is not None and version >= (9,))

    def node(self, name: HostName) -> StorageNode:
        """That node: this machine itself, or the other one through its agent."""
        made = pair_hands().storage_node
        if made is not None:
            return made(self.pair, name, self.here)
        return self.local() if name == self.here else over_ssh(self.pair, name)

    def own(self) -> StorageNode:
        """This machine as a node. Stops the command where it is none."""
        return self.node(self.here) if self.here is not None else self.local()

    def mover(self, tell: Callable[[Progress], None] = lambda _progress: None, ahead: bool = True) -> PairMover:
        """Both nodes; `own` is this machine where it is one of them, else the first. `ahead`: the other one will be
        asked, so that its agent may load meanwhile."""
        first, second = (node.name for node in self.pair.cluster.nodes)
        if self.here == second:
            first, second = second, first
        own = Pair(self.pair.cluster, self.pair.settings, first)
        nodes = self.node(first), self.node(second)
        for node in nodes:
            if ahead and isinstance(node, RemoteNode):
                node.begin()
        return PairMover(own, *nodes, self.clock, tell)


def parts(chosen: Chosen) -> Parts:
    """The pair that is meant. Raises BadFile; stops the command where the cluster is no pair."""
    source = chosen.source()
    site = source()
    cluster = _cluster(chosen, site)
    settings = site.failover.get(cluster.name)
    if settings is None:
        remedy = f"write it under failover: as `{cluster.name}:` (labstore config explain failover)"
        raise Stop(Exit.CONFIGURATION, f"error: cluster {cluster.name} is no pair in {chosen.file}", remedy)
    here = own_node(cluster, chosen.node_name)
    return Parts(source, Pair(cluster, settings, here or cluster.nodes[0].name), here, hands().clock)


def _cluster(chosen: Chosen, site: Site) -> Cluster:
    """The one that was named, the only pair there is, or the one of this machine."""
    if chosen.cluster is None and len(site.failover) == 1:
        return site.cluster(next(iter(site.failover)))
    return chosen.here(site)


def own_node(cluster: Cluster, name: str) -> HostName | None:
    """Which of the cluster's nodes has this name; a full host name also means its first label."""
    names = {name, name.partition(".")[0]}
    return next((node.name for node in cluster.nodes if node.name in names), None)


def own_command() -> str:
    """`labstore` by its full path: what DRBD and systemd call."""
    program = Path(sys.argv[0])
    if program.name == "labstore" and program.is_absolute():
        return str(program)
    beside = Path(sys.executable).with_name("labstore")
    return shutil.which("labstore") or str(beside)


# --- exports ---------------------------------------------------------------------------------------------------------


def curable(drift: Collection[ExportPath]) -> frozenset[ExportPath]:
    """Of the paths that are served otherwise than they should be those that reading the files again puts right. A
    directory that leads elsewhere is served under the other name, whatever is done: that holds up no move."""
    leads = {path: os.path.realpath(path) for path in drift}
    misled = {path for path, where in leads.items() if where != path}
    return frozenset(drift) - misled - {ExportPath(leads[path]) for path in misled}


@dataclass(frozen=True)
class LastExports:
    """See ports.last_known_good.LastKnownGood: the exports room, asking nobody outside."""

    source: SiteSource
    cluster: Cluster
    clock: Clock

    def found(self) -> Answer[ExportsFound]:
        site = self.source()
        served = Hands().server(site, self.cluster, self.clock).observe()
        if isinstance(served, Missing):
            return served
        stored = served.value.stored
        canaries = [wanted for wanted in site.wanted(self.cluster.name) if wanted.owner == CANARY_OWNER]
        served_to = {path: set(export.clients) for path, export in stored.by_path.items()}
        found = ExportsFound(
            generation=served.value.generation,
            paths=len(stored),
            clients=stored.clients,
            drift=len(curable(served.value.drift)),
            canary=all(set(each.clients) <= served_to.get(each.path, set()) for each in canaries),
            digest=stored.digest,
        )
        return Fact(found, "exports", self.clock.now())

    def put_in_place(self) -> tuple[Report, ...]:
        """First what was last known good. Then, only where the canary is not among it (a new pair), what the site file
        alone declares: with nothing known of any project, nothing of a project changes."""
        directory = exports_state(self.source(), self.cluster.name)
        make_owned(directory, self.source().state_dir)
        room = ExportsRoom(
            self.source, self.cluster.name, "labstore-failover", hands=Hands(inventory=inventory_of_nobody)
        )
        try:
            cycle = room.cycle()
            said = tuple(result.report for result in cycle.serve_first().results if result.report)
            answer = self.found()
            if isinstance(answer, Fact) and answer.value.canary and answer.value.generation is not None:
                return said
            record = cycle.run("failover", full=True, overrides=frozenset({Override.ALLOW_STANDBY}))
        finally:
            room.close()
            give_away(directory)
        if record.state is State.FAILED:
            reasons = "; ".join(report.message() for report in record.reports) or "no reason was given"
            raise StepFailed(ApplyFailed(self.cluster.name, reasons[:500]))
        return ()


@dataclass(frozen=True)
class TreeOfBinds:
    """See ports.export_tree.ExportTree: the binds room, with mounts alone."""

    source: SiteSource
    cluster: Cluster

    def found(self) -> Answer[BindsFound]:
        facts = self._cycle().propose().facts
        binds = [(thing, facts.found.get(thing.key)) for thing in facts.wanted]
        unknown = next((answer for _, answer in binds if isinstance(answer, Missing)), None)
        if unknown is not None:
            return unknown
        missing = [
            thing.path
            for thing, answer in binds
            if thing.source not in facts.without_source and not (isinstance(answer, Fact) and answer.value.there)
        ]
        return Fact(BindsFound(len(binds), tuple(missing)), "binds", self._cycle().observer.clock.now())

    def put_in_place(self) -> tuple[Report, ...]:
        cycle = self._cycle()
        done = cycle.carry_out(cycle.propose())
        failed = next((result.report for result in done.results if result.report is not None), None)
        if failed is not None:
            raise StepFailed(failed)
        return done.reports

    def _cycle(self) -> BindCycle:
        return cycle_of(self.source(), self.cluster, directories=False, moving=True)


CANARY_OWNER = "public_labstore-canary"


@dataclass(frozen=True)
class NothingKnown:
    """See ports.inventory.Inventory: an inventory that was not asked. Nothing follows from it (DESIGN law 1)."""

    clock: Clock

    def listing(self) -> Snapshot:
        now = self.clock.now()
        nothing = Missing(SourceFailed("inventory", "projects", "it is not asked in a failover"), "nobody", now)
        return Snapshot(now, "nobody", nothing, {}, nothing)

    def changes(self, last: Snapshot) -> Snapshot:  # noqa: ARG002 - the protocol's
        return self.listing()

    def confirm(self, instances: Collection[Instance]) -> Mapping[str, Presence]:
        return {instance.id: Presence.UNKNOWN for instance in instances}


def make_owned(directory: Path, like: Path) -> None:
    """Make `directory` for the user to whom `like` belongs: the daemon that writes there is not root."""
    if not directory.is_dir():
        directory.mkdir(mode=0o750)
        with contextlib.suppress(FileNotFoundError):
            owner = like.stat()
            os.chown(directory, owner.st_uid, owner.st_gid)


def give_away(directory: Path) -> None:
    """What root left in the daemon's directory goes to the daemon's user. No link is followed."""
    owner = directory.stat()
    for _root, directories, files, descriptor in os.fwalk(directory, follow_symlinks=False):
        for name in (*directories, *files):
            with contextlib.suppress(FileNotFoundError):
                found = os.stat(name, dir_fd=descriptor, follow_symlinks=False)
                if (found.st_uid, found.st_gid) != (owner.st_uid, owner.st_gid):
                    os.chown(name, owner.st_uid, owner.st_gid, dir_fd=descriptor, follow_symlinks=False)


def inventory_of_nobody(_settings: InventorySettings, clock: Clock) -> Inventory:
    return NothingKnown(clock)


def close(*nodes: StorageNode) -> None:
    """Hang up."""
    for node in nodes:
        if isinstance(node, RemoteNode):
            node.close()
