"""Processes that die with this one, however it dies.

The kernel ends a child with the *thread* that started it (PR_SET_PDEATHSIG), so all are started by one thread that
lives as long as the process.
"""

from __future__ import annotations

import os
import queue
import subprocess
import threading
from concurrent.futures import Future
from typing import Any

_requests: queue.Queue[tuple[Future[subprocess.Popen[bytes]], list[str], dict[str, Any]]] = queue.Queue()
_starter: threading.Thread | None = None
_guard = threading.Lock()


def start(argv: list[str], nice: int = 0, **options: Any) -> subprocess.Popen[bytes]:
    """Popen, killed with us. `options` are Popen's."""
    global _starter  # noqa: PLW0603 (one per process)
    with _guard:
        if _starter is None or _starter.ident is None or not _starter.is_alive():
            _starter = threading.Thread(target=_serve, name="leash", daemon=True)
            _starter.start()
    future: Future[subprocess.Popen[bytes]] = Future()
    niced = ["nice", "-n", str(nice)] if nice else []
    _requests.put((future, ["setpriv", "--pdeathsig", "KILL", "--", *niced, *argv], options))
    return future.result(30)


def _serve() -> None:
    while True:
        future, argv, options = _requests.get()
        try:
            future.set_result(subprocess.Popen(argv, **options))
        except OSError as error:
            future.set_exception(error)


def end(process: subprocess.Popen[bytes], patience: float = 10.0) -> None:
    """Kill it, also if it is stopped, and wait until it is gone."""
    if process.poll() is None:
        process.kill()
    process.wait(patience)


def niceness() -> int:
    """What to add so that machines do not take this host from its other work (LABSTORE_LAB_NICE)."""
    return max(0, int(os.environ.get("LABSTORE_LAB_NICE", "15")) - os.nice(0))
