"""The status page as a process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.cli_world import CliWorld
from tests.support.exportd_lab import LABSTORE


@pytest.fixture
def page(tmp_path: Path) -> Iterator[str]:
    world = CliWorld.of(tmp_path)
    assert world.run("exports", "apply", "--yes").exit_code == 0
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [str(LABSTORE), "web", "run", "--listen", f"127.0.0.1:{port}", "--site", str(world.site_file)]
    process = subprocess.Popen(command, stderr=subprocess.DEVNULL, env=dict(os.environ))
    try:
        yield f"http://127.0.0.1:{port}"
    finally:
        process.send_signal(signal.SIGTERM)
        assert process.wait(20) in (0, -signal.SIGTERM)


def test_it_answers_and_refuses_strange_names(page: str) -> None:
    words = json.loads(_get(f"{page}/api/status"))
    assert words["rooms"][0]["facts"]["served_clients"] == 8
    assert "<h1>wikicloud" in _get(page)
    with pytest.raises(urllib.error.HTTPError, match="400"):
        _get(page, host="evil.example")


def _get(url: str, host: str | None = None) -> str:
    request = urllib.request.Request(url, headers={"Host": host} if host else {})
    until = time.monotonic() + 30
    while True:
        try:
            with urllib.request.urlopen(request, timeout=10) as answer:
                return str(answer.read().decode())
        except urllib.error.HTTPError:
            raise
        except OSError:
            if time.monotonic() > until:
                raise
            time.sleep(0.1)
