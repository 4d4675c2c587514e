"""How a cloud is treated: whom we wait for, whom we leave alone for a while."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True)
class Manners:
    """All times in seconds.

    `pause` waits between two tries of one request. `fresh_token`: so long after its issue a token is not replaced; a
    401 with it is an answer, not an accident. `patience`: a region gets so long after another one has answered; then
    the others go on without it. `slow`: a failure that took longer makes the region rest for `rest`, after the first,
    the second ... such failure in a row.
    """

    pause: Callable[[float], None] = time.sleep
    fresh_token: float = 10.0
    patience: float = 5.0
    slow: float = 2.0
    rest: tuple[float, ...] = (5.0, 10.0, 20.0, 40.0, 60.0)
