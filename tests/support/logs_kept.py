"""What a command does to the process's logging ends with it."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from labstore.system import log


@contextmanager
def logs_kept() -> Iterator[None]:
    root = logging.getLogger()
    before, handlers, level = structlog.get_config(), root.handlers[:], root.level
    setup = log.Setup(log.setup.level, log.setup.prepare)
    try:
        yield
    finally:
        log.setup.level, log.setup.prepare = setup.level, setup.prepare
        structlog.configure(**before)
        root.handlers[:] = handlers
        root.setLevel(level)
