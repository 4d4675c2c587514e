"""Screens as files: what a command prints is compared with tests/cases/cli/NAME.txt.

LABSTORE_GOLDEN=write writes them anew; read the difference before committing it.
"""

from __future__ import annotations

import os
from pathlib import Path

CASES = Path(__file__).parents[1] / "cases/cli"
WIDTH = 80


def golden(name: str, text: str) -> None:
    """Fails where `text` is not the screen of that name, or does not fit 80 columns."""
    shown = "\n".join(line.rstrip() for line in text.rstrip().splitlines()) + "\n"
    wide = [line for line in shown.splitlines() if len(line) > WIDTH]
    assert not wide, f"wider than {WIDTH} columns: {wide}"
    path = CASES / f"{name}.txt"
    if os.environ.get("LABSTORE_GOLDEN") == "write":
        path.write_text(shown)
    assert path.exists(), f"no such screen: {path}; LABSTORE_GOLDEN=write writes it"
    assert shown == path.read_text()
