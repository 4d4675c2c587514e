"""What is remembered of each generation beside its snapshot: how it was made, and its proof."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from labstore.model.backup import GenerationName, ProofResult
from labstore.model.backup_settings import JobName
from labstore.model.block_sync import SyncResult
from labstore.system.files import read_limited, write_atomic


@dataclass(frozen=True)
class Manifests:
    """One file per generation. Its loss costs nothing but the knowledge: snapshots carry what decisions need."""

    folder: Path

    def keep(self, job: JobName, generation: GenerationName, result: SyncResult, node: str) -> None:
        """Raises OSError."""
        self._write(job, generation, {"node": node, "result": dataclasses.asdict(result)})

    def keep_proof(self, job: JobName, proof: ProofResult) -> None:
        """Raises OSError."""
        said = {"at": proof.at.isoformat(), "held": dict(proof.checks), "failed": dict(proof.failed)}
        self._write(job, proof.generation, {**self.read(job, proof.generation), "proof": said})

    def samples(self, job: JobName, generation: GenerationName) -> tuple[Mapping[int, str], int]:
        """The SHA-256 digests of some of the source's blocks, and the size of a block."""
        result = self.read(job, generation).get("result", {})
        try:
            pairs = (each.split(" ") for each in result["samples"])
            return {int(number): digest for number, digest in pairs}, int(result["block_size"])
        except (KeyError, ValueError, TypeError):
            return {}, 0

    def read(self, job: JobName, generation: GenerationName) -> dict[str, Any]:
        """What is known, empty where nothing is."""
        try:
            return dict(json.loads(read_limited(self._path(job, generation), 1 << 20)))
        except (OSError, ValueError, TypeError):
            return {}

    def forget(self, job: JobName, generation: GenerationName) -> None:
        """Raises OSError."""
        self._path(job, generation).unlink(missing_ok=True)

    def _path(self, job: JobName, generation: GenerationName) -> Path:
        return self.folder / job / f"{generation}.json"

    def _write(self, job: JobName, generation: GenerationName, what: Mapping[str, Any]) -> None:
        path = self._path(job, generation)
        path.parent.mkdir(mode=0o750, parents=True, exist_ok=True)
        write_atomic(path, json.dumps(what, indent=1, default=str).encode(), mode=0o640)
