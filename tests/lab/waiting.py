"""Waiting, always with an end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


class TooLate(AssertionError):
    """What was waited for did not come about in time."""


def patient(seconds: float) -> float:
    """A deadline, stretched by LABSTORE_LAB_PATIENCE on hosts that are slower or busier than two free cores."""
    return seconds * float(os.environ.get("LABSTORE_LAB_PATIENCE", "1"))


def wait_until(condition: Callable[[], T], deadline: float, what: str, every: float = 0.2) -> T:
    """The first true answer of `condition`. Raises TooLate, with `what` and the last answer."""
    end = time.monotonic() + patient(deadline)
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() >= end:
            raise TooLate(f"{what}: not within {patient(deadline):g} s; the last answer was {answer!r}")
        time.sleep(every)
