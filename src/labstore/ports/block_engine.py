"""What copies a volume: ours, and the fake of the tests."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from labstore.model.block_sync import DEFAULTS, UNLIMITED, Limits, Options, Place, SyncResult


@dataclass(frozen=True)
class Order:
    """One copy. `label` names the source's volume where its path is a snapshot's; `remote` is how to reach another
    machine: the words of a command line, in which `{host}` stands for it. `allow` is asked before so many bytes are
    written to a target here, where something fills up by that: it gives how many may be, no fewer than were asked for,
    until it is asked again, or raises SyncFailed."""

    source: Place
    target: Place
    label: str = ""
    options: Options = DEFAULTS
    limits: Limits = UNLIMITED
    remote: tuple[str, ...] = ()
    allow: Callable[[int], int] | None = None


class BlockEngine(Protocol):
    def sync(self, order: Order) -> SyncResult:
        """Make the target what the source is, and prove it. Raises SyncFailed; then the target is not to be called
        good, and the next call goes on from what is there."""

    def complete(self, target: str) -> str | None:
        """The root of the state that the target was last brought to in full, None while it is between two."""

    def stranger(self, target: str) -> str | None:
        """What a target holds that was never written by this engine; None where it is ours, blank or not there."""

    def set_limits(self, limits: Limits) -> None:
        """From now on, for the copy that is under way too."""
