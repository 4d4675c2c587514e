"""Processes that die with this one, however it dies.

The kernel ends a child with the *thread* that started it (PR_SET_PDEATHSIG), so all are started by one thread that
lives as long as the process.
"""

from __future__ import annotations

import ctypes
import os
import queue
import signal
import subprocess
import threading
from concurrent.futures import Future
from functools import partial
from typing import Any

_requests: queue.Queue[tuple[Future[subprocess.Popen[bytes]], list[str], dict[str, Any]]] = queue.Queue()
_starter: threading.Thread | None = None
_guard = threading.Lock()
_prctl = ctypes.CDLL(None, use_errno=True).prctl
PR_SET_PDEATHSIG = 1


def start(argv: list[str], nice: int = 0, **options: Any) -> subprocess.Popen[bytes]:
    """Popen, killed with us. `options` are Popen's."""
    global _starter  # noqa: PLW0603 (one per process)
    with _guard:
        if _starter is None or _starter.ident is None or not _starter.is_alive():
            _starter = threading.Thread(target=_serve, name="leash", daemon=True)
            _starter.start()
    future: Future[subprocess.Popen[bytes]] = Future()
    niced = ["nice", "-n", str(nice)] if nice else []
    _requests.put((future, [*niced, *argv], options))
    return future.result(30)


def _serve() -> None:
    while True:
        future, argv, options = _requests.get()
        try:
            # Popen returns when the child has become the program, so the leash is on by then
            future.set_result(subprocess.Popen(argv, preexec_fn=partial(_bind, os.getpid()), **options))  # noqa: PLW1509
        except OSError as error:
            future.set_exception(error)


def _bind(us: int) -> None:
    """In the child, before it becomes the program."""
    _prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != us:
        os._exit(1)  # we were killed in between


def end(process: subprocess.Popen[bytes], patience: float = 10.0) -> None:
    """Kill it, also if it is stopped, and wait until it is gone."""
    if process.poll() is None:
        process.kill()
    process.wait(patience)


def niceness() -> int:
    """What to add so that machines do not take this host from its other work (LABSTORE_LAB_NICE)."""
    return max(0, int(os.environ.get("LABSTORE_LAB_NICE", "15")) - os.nice(0))
