"""The live view of the demonstration, at 80 columns."""

from __future__ import annotations

import io
import os
from types import SimpleNamespace
from typing import Any

from rich.console import Console

from labstore.demo import __main__ as live


def stage() -> Any:
    names = {f"tools-k8s-worker-{number}": ("tools", f"127.77.1.{number - 80}") for number in range(101, 104)}
    machine = SimpleNamespace(may_mount=lambda _path: False)
    return SimpleNamespace(
        record=lambda: {"state": "converged", "facts": {"generation": 3, "served_clients": 1, "served_exports": 4}},
        cloud=SimpleNamespace(instances=names, path=lambda project: f"/srv/{project}"),
        at=lambda _address: machine,
    )


def test_every_row_can_be_told_from_the_others() -> None:
    console = Console(file=io.StringIO(), width=80)
    console.print(live._view(stage(), {"tools-bastion-12": ("tools", "127.77.1.11")}))
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "generation 3, 1 client of 4 exports" in text
    for name in ("tools-k8s-worker-101", "tools-k8s-worker-103", "tools-bastion-12"):
        (row,) = (line for line in text.splitlines() if line.split()[:1] == [name])
        assert row.split()[-2:] == ["refused", "refused"]


def test_the_program_can_be_called_from_anywhere() -> None:
    word = live.program().split()[0]
    assert word.startswith("/")
    assert os.access(word, os.X_OK)
