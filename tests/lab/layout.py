"""The lab's usual machines: two storage nodes and clients, a network for all and a link for replication alone."""

from __future__ import annotations

from tests.lab.machine import Attachment, Spec

FRONT, LINK = "front", "link"
SERVICE = "10.77.0.10"
"""The service address, on whichever node is active."""
NAMES = {"10.77.0.11": "alpha", "10.77.0.12": "beta", "10.77.0.21": "client", SERVICE: "nfs-tools"}
DATA_DISK = 1024
MTU = 9000
"""Emulated machines are slow per frame."""


def node(name: str, number: int) -> Spec:
    """A storage node with one data disk, /dev/vdc."""
    interfaces = (Attachment(FRONT, f"10.77.0.{number}/24", MTU), Attachment(LINK, f"10.78.0.{number}/24", MTU))
    return Spec(name, interfaces, disks=(DATA_DISK,), hosts=NAMES)


def client(name: str = "client", number: int = 21) -> Spec:
    """A machine that mounts."""
    return Spec(name, (Attachment(FRONT, f"10.77.0.{number}/24", MTU),), hosts=NAMES)


ALPHA, BETA, CLIENT = node("alpha", 11), node("beta", 12), client()
PAIR = (ALPHA, BETA)
ALL = (ALPHA, BETA, CLIENT)
