"""The tree of bind mounts from which a cluster may export, as a node that takes over needs it: made of what is on the
volumes, with nobody asked."""

from __future__ import annotations

from typing import Protocol

from labstore.ports.storage_node import BindsFound
from labstore.reconcile.facts import Answer
from labstore.reports.report import Report


class ExportTree(Protocol):
    def found(self) -> Answer[BindsFound]:
        """How much of it is mounted. Changes nothing."""

    def put_in_place(self) -> tuple[Report, ...]:
        """Mount what is not. A share whose directory is not there holds up nothing and is reported. Raises
        StepFailed where a mount that could be made is not."""
