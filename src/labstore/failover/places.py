"""Where failover keeps things on a node: what a restart may lose, what it may not, and what goes with the service."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from labstore.failover.handover import Handovers
from labstore.model.failover import Pair


@dataclass(frozen=True, slots=True)
class Places:
    """`run` and `state` are root's alone: those of the site belong to the user of its daemons, who must not be able to
    put anything in the way of root."""

    pair: Pair
    run: Path = Path("/run/labstore-failover")
    state: Path = Path("/var/lib/labstore-failover")

    @property
    def lock(self) -> Path:
        """Held by a run on this node, whoever drives it."""
        return self.run / f"{self.pair.cluster.name}.lock"

    @property
    def serving(self) -> Path:
        """There while nfs-server may start here: its unit has this as a condition, so that no boot starts it."""
        return self.run / f"{self.pair.cluster.name}.serving"

    @property
    def units(self) -> Path:
        """There while the units of the active node may start here."""
        return self.run / f"{self.pair.cluster.name}.units"

    @property
    def verified(self) -> Path:
        return self.run / f"{self.pair.cluster.name}.verified"

    @property
    def proof(self) -> Path:
        """What the fence handler, which DRBD calls, is told about the partner."""
        return self.run / f"{self.pair.cluster.name}.proof"

    @property
    def probe(self) -> Path:
        """Where the service is mounted for a moment to see that it can be."""
        return self.run / f"{self.pair.cluster.name}.probe"

    @property
    def journal(self) -> Path:
        return self.state / f"{self.pair.cluster.name}.journal"

    @property
    def last_active(self) -> Path:
        """There if this node was the last to serve: it may serve by itself after a power cut of both."""
        return self.state / f"{self.pair.cluster.name}.last-active"

    # --- on the state volume ----------------------------------------------------------------------------------------

    @property
    def shared(self) -> Path:
        return self.pair.state_directory

    @property
    def handovers(self) -> Handovers:
        return Handovers(self.shared / "handover.json", self.run / f"{self.pair.cluster.name}.handover.json")

    @property
    def certificates(self) -> Path:
        return self.shared / "certificates"

    @property
    def records(self) -> Path:
        """What nfsdcld knew when the server was started, until clients are let in."""
        return self.shared / "client-records.sqlite"

    @property
    def journals(self) -> Path:
        """Copies of both nodes' journals."""
        return self.shared / "journals"
