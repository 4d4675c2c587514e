"""Recorded HTTP answers: tests/captures/openstack."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ZED = Path(__file__).parents[1] / "captures" / "openstack" / "zed"


@dataclass(frozen=True)
class Capture:
    """`request` is its first line; header names are in lower case."""

    request: str
    status: int
    headers: Mapping[str, str]
    body: bytes


def capture(name: str) -> Capture:
    head, _, body = (ZED / f"{name}.http").read_bytes().partition(b"\n\n")
    lines = head.decode().splitlines()
    request = lines[0].removeprefix("> ")
    first, *headers = [line for line in lines if not line.startswith("> ")]
    pairs = (line.partition(": ") for line in headers)
    return Capture(request, int(first.split()[1]), {key.lower(): value for key, _, value in pairs}, body)
