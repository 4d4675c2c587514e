"""Block sync as the rooms use it (ports.block_engine)."""

from __future__ import annotations

import contextlib
from pathlib import Path

from labstore.blocksync.devices import Device
from labstore.blocksync.index import IndexFolder, Unreadable, target_index
from labstore.blocksync.meter import Meter
from labstore.blocksync.session import CHILD, Job, Run
from labstore.model.block_sync import Limits, SyncResult
from labstore.ports.block_engine import Order
from labstore.reports.blocksync import SyncFailed


class OurEngine:
    """See ports.block_engine.BlockEngine."""

    def __init__(self, state: Path, attempts: int = 5) -> None:
        self._state, self._attempts = state, attempts
        self._run: Run | None = None
        self._stopped: str | None = None
        self._limits: Limits | None = None

    @property
    def meter(self) -> Meter | None:
        """How far the copy is that is under way."""
        run = self._run
        return run.meter if run is not None else None

    def sync(self, order: Order) -> SyncResult:
        self._run = Run(
            Job(
                source=order.source,
                target=order.target,
                options=order.options,
                limits=self._limits or order.limits,
                state=self._state,
                label=order.label,
                here=order.remote or CHILD,
                there=order.remote,
                attempts=self._attempts,
                allow=order.allow,
            )
        )
        if self._stopped is not None:
            self._run.interrupt(self._stopped)
        try:
            return self._run.result()
        finally:
            self._run = None

    def complete(self, target: str) -> str | None:
        try:
            state = IndexFolder(target_index(self._state, target)).load()
            if state is None or not state.closed or state.root is None:
                return None
            with contextlib.closing(Device(target)) as device:
                return state.root if device.witness() == state.witness else None
        except (Unreadable, OSError, SyncFailed):
            return None

    def stranger(self, target: str) -> str | None:
        try:
            if IndexFolder(target_index(self._state, target)).load() is not None:
                return None
        except Unreadable:
            pass  # what is not readable says nothing for it
        if not Path(target).exists():
            return None
        device = Device(target)
        try:
            return device.holds()
        finally:
            device.close()

    def set_limits(self, limits: Limits) -> None:
        self._limits = limits
        if self._run is not None:
            self._run.set_limits(limits)

    def interrupt(self, why: str) -> None:
        """End the copy that is under way, orderly, and begin no other."""
        self._stopped = why
        if self._run is not None:
            self._run.interrupt(why)
