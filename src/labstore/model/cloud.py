"""What an inventory knows: projects, instances and their addresses, as OpenStack speaks of them."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from labstore.model.address import Client


class AddressKind(StrEnum):
    FIXED = "fixed"
    FLOATING = "floating"


@dataclass(frozen=True, slots=True)
class InstanceAddress:
    address: Client
    kind: AddressKind


@dataclass(frozen=True, slots=True)
class Instance:
    """One instance as one listing showed it.

    `addresses` is None where the cloud did not say (an UNKNOWN server of a cell that is down, a server still being
    built, an empty info cache): that is doubt, never an instance without addresses.
    `created` is when the cloud made it (UTC): it decides who owns an address that two projects show.
    """

    id: str
    name: str
    project_id: str
    region: str
    status: str
    addresses: tuple[InstanceAddress, ...] | None
    created: datetime | None = None


@dataclass(frozen=True, slots=True)
class Project:
    """A project: `name` is what people write, `id` is what it is."""

    id: str
    name: str
    enabled: bool = True
    subnets: tuple[Client, ...] = ()
    """Networks that belong wholly to this project, so that one client entry may stand for all its instances."""


class Presence(StrEnum):
    """The answer to "is this one instance still there?"."""

    PRESENT = "present"
    GONE = "gone"
    UNKNOWN = "unknown"
