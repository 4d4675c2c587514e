"""The exports that were last known good, as failover needs them: put in place before a server answers."""

from __future__ import annotations

from typing import Protocol

from labstore.ports.storage_node import ExportsFound
from labstore.reconcile.facts import Answer
from labstore.reports.report import Report


class LastKnownGood(Protocol):
    def found(self) -> Answer[ExportsFound]:
        """What is in place. Holds nothing open afterwards: the files lie on a volume that may have to go."""

    def put_in_place(self) -> tuple[Report, ...]:
        """Serve what was last known good, asking nobody outside (DESIGN law 3): no cloud, no directory, no resolver.
        Raises StepFailed."""
