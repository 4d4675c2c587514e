"""Imports run downhill, and rooms do not import each other. This table is the map of the house."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import labstore

SOURCE = Path(labstore.__file__).parent
TIERS: tuple[frozenset[str], ...] = (
    frozenset({"model"}),
    frozenset({"formats", "reports"}),
    frozenset({"reconcile", "ports"}),
    frozenset({"system", "sources", "exports", "binds", "failover", "dbusers", "sync", "backup", "blocksync", "dumps"}),
    frozenset({"config"}),
    frozenset({"assembly", "assembly_dbusers", "telemetry"}),
    frozenset({"cli", "daemons", "web", "demo", "__main__"}),
)
"""From the bottom up. A package imports its own tier only where TOGETHER says so, and anything below."""

ROOMS = frozenset(
    {"exports", "binds", "failover", "dbusers", "sync", "backup", "blocksync", "dumps", "mounts", "shares"}
)
TOGETHER = {
    ("formats", "reports"),
    ("reconcile", "ports"),
    ("ports", "reconcile"),
    ("assembly", "telemetry"),
    ("assembly_dbusers", "assembly"),
    ("sources", "system"),
    ("cli", "daemons"),
    ("cli", "web"),
    ("cli", "demo"),
    ("daemons", "cli"),
    ("__main__", "cli"),
    ("demo", "cli"),
    ("demo", "web"),
    ("demo", "daemons"),
}
"""Neighbours of one tier that may meet, (importer, imported)."""
ROOMS_AND_HANDS = {(room, hands) for room in ROOMS for hands in ("system", "sources")}
"""A room uses the hands; its planners are pure all the same (see PURE)."""
PURE = ("model", "formats", "reports")
PURE_MODULES = ("plan.py", "desired.py", "guards.py", "facts.py")
IMPURE = frozenset({"os", "subprocess", "socket", "pathlib", "shutil", "threading", "time", "random", "sqlite3"})


def modules() -> list[Path]:
    return sorted(path for path in SOURCE.rglob("*.py") if path != SOURCE / "__init__.py")


def imported(path: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            found.add(node.module or "")
            found |= {f"{node.module}.{alias.name}" for alias in node.names if node.module == "labstore"}
    return found


def package(name: str) -> str:
    return name.split(".")[1] if name.count(".") else ""


def tier(name: str) -> int:
    return next((number for number, names in enumerate(TIERS) if name in names), -1)


@pytest.mark.parametrize("path", modules(), ids=lambda path: str(path.relative_to(SOURCE)))
def test_imports_run_downhill(path: Path) -> None:
    here = path.relative_to(SOURCE).parts[0].removesuffix(".py")
    assert tier(here) >= 0, f"{here} has no place in the table"
    for name in imported(path):
        if not name.startswith("labstore.") or package(name) in ("", here, "__version__"):
            continue
        there = package(name)
        allowed = tier(there) < tier(here) or (here, there) in TOGETHER | ROOMS_AND_HANDS
        assert allowed, f"{here} may not import {name}"
        assert not (here in ROOMS and there in ROOMS), f"room {here} imports room {there}"


@pytest.mark.parametrize(
    "path",
    [p for p in modules() if p.relative_to(SOURCE).parts[0] in PURE or p.name in PURE_MODULES],
    ids=lambda path: str(path.relative_to(SOURCE)),
)
def test_what_decides_does_no_input_or_output(path: Path) -> None:
    touched = {name.split(".")[0] for name in imported(path)} & IMPURE
    if path.relative_to(SOURCE).parts[0] in PURE:
        touched -= {"pathlib"}  # a path may be a value; nothing is opened
    assert not touched, f"{path.name} imports {touched}"


def test_processes_start_at_two_doors() -> None:
    """`run.py` for what ends by itself, `piped.py` for what is talked with."""
    starters = {
        str(path.relative_to(SOURCE))
        for path in modules()
        if {"subprocess", "os.system", "pty"} & imported(path) and path.relative_to(SOURCE).parts[0] != "demo"
    }
    assert starters == {"system/run.py", "system/piped.py"}


def test_structlog_is_loaded_at_two_places_and_never_at_a_start() -> None:
    """By the first line that is said: see system/log.py."""
    loaders = {str(path.relative_to(SOURCE)) for path in modules() if "structlog" in path.read_text()}
    loaders = {name for name in loaders if "structlog" in {n.split(".")[0] for n in imported(SOURCE / name)}}
    assert loaders == {"system/log.py", "telemetry/logs.py"}
    for name in loaders:
        body = ast.parse((SOURCE / name).read_text()).body
        top = {alias.name for node in body if isinstance(node, ast.Import) for alias in node.names}
        assert "structlog" not in top
