"""What a node can say about itself: the addresses it holds and what is mounted where."""

from __future__ import annotations

from collections.abc import Sequence
from enum import StrEnum
from typing import Protocol

from labstore.model.address import Client
from labstore.model.site import Volume
from labstore.reconcile.facts import Answer


class VolumeState(StrEnum):
    """How a volume was found at its mount point."""

    FIT = "mounted as it should be"
    NOT_MOUNTED = "not mounted"
    WRONG_FILESYSTEM = "another file system is mounted there"
    READ_ONLY = "mounted read-only"


class Node(Protocol):
    def holds(self, addresses: Sequence[Client]) -> Answer[bool]:
        """Whether all of these addresses are on this node's interfaces; true for none at all."""

    def volume(self, volume: Volume) -> Answer[VolumeState]:
        """How the volume's mount point was found. A volume with `mounted: false` need only be a directory."""
