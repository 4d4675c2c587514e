"""A daemon in a process of its own that is killed (-9) at a boundary: between any two things it changes.

What a daemon changes are commits of the ledger, statements to servers, and steps of a file. Inside a transaction
nothing is there yet, and reading changes nothing: killing before each change is killing everywhere.
"""

from __future__ import annotations

import os
import pickle
import re
import signal
import threading
import traceback
from collections import Counter
from collections.abc import Callable, Iterable
from typing import Any

from labstore.model.database import HostKey
from tests.support.dbusers import Hooks

Boundary = tuple[str, int]
"""What is about to be changed, and how often the same was changed before."""
KILLED = "killed"
_ON_SERVERS = re.compile(
    r"CALL `\w+`\.((?:create|alter|lock|drop|grant|end)_\w+)|"
    r"((?:CREATE|ALTER|DROP) USER|GRANT|SET DEFAULT ROLE|KILL|BEGIN)"
)
_IN_LEDGER = re.compile(r"\s*(INSERT|UPDATE|DELETE)")


def kill_me() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


class Marks:
    """The boundaries that a process passes; at the chosen one, `then` happens. With `looks`, a look at what was just
    changed is one too: a server may die when it has done what it was told and has not said so."""

    def __init__(self, at: Boundary | None = None, then: Callable[[], None] = kill_me, looks: bool = False) -> None:
        self.passed: list[Boundary] = []
        self._at, self._then, self._looks = at, then, looks
        self._counts: Counter[str] = Counter()
        self._lock = threading.Lock()
        self._writing = False

    @property
    def hooks(self) -> Hooks:
        return Hooks(self._server, self._ledger, lambda word: self._pass(f"file {word}"))

    def count(self, passed: Iterable[Boundary]) -> None:
        """These were passed before, by an earlier process of the same part."""
        self._counts.update(word for word, _ in passed)

    def _server(self, key: HostKey, sql: str) -> None:
        found = _ON_SERVERS.match(sql)
        if found is not None:
            self._pass(f"{key} {found[1] or found[2]}")
        elif self._looks and ("read_some" in sql or "User IN" in sql):
            self._pass(f"{key} look")

    def _ledger(self, sql: str) -> None:
        if sql == "COMMIT" and self._writing:
            self._writing = False
            self._pass("ledger commit")
        elif sql == "ROLLBACK":
            self._writing = False
        elif _IN_LEDGER.match(sql):
            self._writing = True

    def _pass(self, word: str) -> None:
        with self._lock:
            boundary = word, self._counts[word]
            self._counts[word] += 1
            self.passed.append(boundary)
            if boundary == self._at:
                self._then()


def in_child(act: Callable[[], Any]) -> Any:
    """What a function returns in a process of its own, or KILLED."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.close(reader)
            with os.fdopen(writer, "wb") as pipe:
                pickle.dump(act(), pipe)
            status = 0
        except BaseException:  # noqa: BLE001 - whatever it is, it must not reach pytest in this process
            traceback.print_exc()
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read()
    ended = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if ended == -signal.SIGKILL:
        return KILLED
    assert ended == 0, f"the daemon ended with {ended}"
    return pickle.loads(said)
