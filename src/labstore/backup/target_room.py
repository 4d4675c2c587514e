"""Room for the generations of a thick volume while the next copy is written over it: each keeps what is overwritten,
and one that overflows is lost. So it is grown before, and where that cannot be the copy stops while it is whole."""

from __future__ import annotations

import contextlib
from dataclasses import dataclass

from labstore.backup.observe import is_generation
from labstore.backup.source_agent import EXTENT, TOO_FULL
from labstore.model.backup import Verdict
from labstore.model.backup_settings import Job
from labstore.ports.snapshots import Snapshot, Snapshots
from labstore.reconcile.facts import Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.backup import NoRoomToWrite
from labstore.reports.blocksync import SyncFailed

AMPLE = 1 << 60
_AHEAD = 256 << 20
"""Bytes for which room is made at a time."""
_OVERHEAD = 1.05
"""Of a snapshot's room part is taken by what it says about its chunks."""


@dataclass(frozen=True)
class TargetRoom:
    """See ports.block_engine.Order.allow. The newest generation that is proven stays whole whatever happens; older ones
    where room can be had for them."""

    job: Job
    snapshots: Snapshots

    def allow(self, size: int) -> int:
        """Raises SyncFailed."""
        there = self._thick()
        if not there:
            return AMPLE
        wanted = size + min(_AHEAD, there[0].size // 8)
        for each in reversed(there):  # the newest first: what room there is goes to those that count most
            if _spare(each) < wanted:
                with contextlib.suppress(StepFailed):  # there is no more room: what there is may suffice
                    self.snapshots.grow(each.name, _grown(each, wanted))
        there = self._thick()
        needed = _newest_proven(there)
        if needed is not None and _spare(needed) < size:
            raise SyncFailed(NoRoomToWrite(self.job.name, needed.name, needed.room or 0))
        return min((_spare(each) for each in there if _spare(each) >= size), default=AMPLE)

    def _thick(self) -> tuple[Snapshot, ...]:
        there = self.snapshots.snapshots()
        if isinstance(there, Missing):
            raise SyncFailed(there.report)
        return tuple(each for each in there.value if is_generation(each, self.job) and each.room is not None)


def _spare(each: Snapshot) -> int:
    """Bytes that may be overwritten before this one is too full to be trusted. One that has room for the whole volume
    and what it says about its chunks never is."""
    if (each.room or 0) * 256 >= each.size * 257:
        return AMPLE
    return int((each.room or 0) * (TOO_FULL - (each.full or 0.0)) / _OVERHEAD)


def _grown(each: Snapshot, wanted: int) -> int:
    """The room with which so many bytes may be overwritten."""
    taken = (each.room or 0) * (each.full or 0.0)
    return (int((taken + wanted * _OVERHEAD) / TOO_FULL) // EXTENT + 1) * EXTENT


def _newest_proven(there: tuple[Snapshot, ...]) -> Snapshot | None:
    proven = tuple(each for each in there if each.tags.get("proof") == Verdict.PROVEN)
    return next(reversed(proven or there), None)
