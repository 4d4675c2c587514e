"""Who may mount what, and why: the table of exports together with where each client comes from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property

from labstore.model.address import Client, in_order
from labstore.model.exports import Export, ExportTable
from labstore.model.names import ExportPath


@dataclass(frozen=True, slots=True)
class Grant:
    """One client of one export, with its origin.

    `source` is `instance`, `subnet` (the project owns the whole network), `declared` (a public share) or `adopted`
    (found in files written by another program; the instance is not known). `since` is when it was first granted (UTC).
    """

    path: ExportPath
    client: Client
    source: str
    since: datetime
    project_id: str = ""
    instance_id: str = ""
    instance_name: str = ""
    region: str = ""


@dataclass(frozen=True, slots=True)
class Doubt:
    """A client that a complete listing did not show. `listing` is the number of that listing, `since` its time."""

    path: ExportPath
    client: Client
    region: str
    listing: int
    since: datetime


@dataclass(frozen=True)
class GrantTable:
    """Exports (path, options, owner) and the grants of each. `exports` carry no clients of their own here."""

    exports: Mapping[ExportPath, Export] = field(default_factory=dict)
    grants: Mapping[ExportPath, Mapping[Client, Grant]] = field(default_factory=dict)

    @cached_property
    def table(self) -> ExportTable:
        """What a server is to serve: exports with at least one client."""
        full = (
            Export(e.owner, path, e.options, in_order(tuple(self.grants.get(path, ()))), e.world)
            for path, e in self.exports.items()
        )
        return ExportTable(tuple(export for export in full if not export.nobody))
