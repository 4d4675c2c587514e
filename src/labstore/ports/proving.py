"""Showing that a copy restores, by restoring it."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Protocol

from labstore.model.backup_settings import ProofSettings


class Prover(Protocol):
    def clear(self, name: str) -> None:
        """Let go of what a proof that was killed left of a generation's copies: they could not be made anew. Raises
        StepFailed."""

    def prove(
        self, device: str, settings: ProofSettings, moment: datetime, samples: Mapping[int, str], block_size: int
    ) -> tuple[Mapping[str, str], Mapping[str, str]]:
        """Check a device that may be written for this: what held, and what did not, each with what was found.

        `samples` are SHA-256 digests of blocks of the source by number. Never raises for what the device holds.
        """
