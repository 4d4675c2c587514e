"""How long something is kept: not for seconds, nor for longer than disks last."""

from __future__ import annotations

from labstore.formats.units import Unfit, duration
from labstore.model.names import shown

REMEDY = "write 1m to 520w, with the unit: 30m, 12h, 3d, 8w"


def long_time(text: object) -> float:
    """Seconds. Raises Unfit."""
    try:
        found = duration(text)
    except Unfit as error:
        raise Unfit(str(error), REMEDY) from None
    if not 60 <= found <= 520 * 7 * 86400:
        raise Unfit(f"{shown(text)} is not a sensible time here", REMEDY)
    return found
