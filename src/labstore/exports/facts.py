"""All that a decision about exports is made from: one look at the world, taken before anything is decided."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime

from labstore.exports.grants import Doubt, GrantTable
from labstore.model.address import Client
from labstore.model.cloud import Presence
from labstore.model.names import ExportPath, VolumeName
from labstore.model.site import ExportsSettings, WantedExport
from labstore.ports.export_server import Served
from labstore.ports.inventory import Snapshot
from labstore.ports.node import VolumeState
from labstore.reconcile.facts import Answer


@dataclass(frozen=True)
class ExportFacts:
    """What is declared, what the inventory says, what was granted, what is served, and what this node is.

    `presence` answers for instances that the listing lacks and that were asked for one by one. `identities` are the
    project ids to which paths were granted last, also where no grant is left. `unasked` instances are missing too, more
    at once than are asked for.
    """

    at: datetime
    cluster: str
    wanted: tuple[WantedExport, ...]
    settings: ExportsSettings
    snapshot: Snapshot
    granted: GrantTable
    served: Served
    active: Answer[bool]
    volumes: Mapping[VolumeName, Answer[VolumeState]]
    presence: Mapping[str, Presence] = field(default_factory=dict)
    unasked: int = 0
    doubts: Mapping[tuple[ExportPath, Client], Doubt] = field(default_factory=dict)
    identities: Mapping[ExportPath, str] = field(default_factory=dict)
