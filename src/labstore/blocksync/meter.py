"""How far a block sync is, for whoever watches it."""

from __future__ import annotations

import time
from dataclasses import dataclass, field


@dataclass
class Meter:
    """How far a run is; written by the ends, read by whoever shows it. In bytes, but for `changed` (blocks).
    `position` goes up to `total`, which is the `size` of the device unless less of it has to be looked at."""

    size: int = 0
    total: int = 0
    position: int = 0
    read: int = 0
    changed: int = 0
    phase: str = "starting"
    started: float = field(default_factory=time.monotonic)
