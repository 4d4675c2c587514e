"""Programs that are there are read; one that is not, or that may not be read, stops nothing."""

from __future__ import annotations

from pathlib import Path

from labstore.system.read_ahead import read_ahead


def test_what_is_there_is_read(tmp_path: Path) -> None:
    (tmp_path / "one").write_bytes(b"#!/bin/sh\n")
    (tmp_path / "one").chmod(0o755)
    (tmp_path / "data").write_bytes(b"no program")
    assert read_ahead(["one", "data", "none"], str(tmp_path)) == 1
    assert read_ahead(["sh"]) == 1
