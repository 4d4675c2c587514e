"""Unit tests start no processes: what they need of a host they script."""

from __future__ import annotations

import subprocess
from typing import Any, NoReturn

import pytest


@pytest.fixture(autouse=True)
def no_process(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    """Fails a unit test that starts a process. `@pytest.mark.starts_processes` is for the tests of the door itself."""

    def refuse(*arguments: Any, **_: Any) -> NoReturn:
        pytest.fail(f"a unit test started a process: {arguments}")

    if request.node.get_closest_marker("starts_processes") is None:
        monkeypatch.setattr(subprocess, "Popen", refuse)
