"""A source that somebody prepares for one copy and takes away after it: a snapshot, most of the time."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass

from labstore.model.change_hints import Hints


@dataclass(frozen=True)
class Provided:
    """The device to read. `token` names the moment it stands for. `check` is called now and then and when all was
    read; it raises SyncFailed as soon as what was read can no longer be trusted."""

    path: str
    token: str | None = None
    hints: Hints | None = None
    check: Callable[[], None] = lambda: None


Provider = Callable[[], AbstractContextManager[Provided]]
"""Leaving the context with an exception means that the copy failed and may be gone on with."""
