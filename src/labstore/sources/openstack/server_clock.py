"""What time it is at a region, as far as its answers tell."""

from __future__ import annotations

from datetime import UTC, datetime
from email.utils import parsedate_to_datetime

from labstore.ports.clock import Clock

OVERLAP = 60.0
"""Seconds by which two looks overlap: for transactions that commit late and for the clocks of several conductors."""


class ServerClock:
    """A lower bound of a region's time of day.

    changes-since is compared with stamps that the region's own services wrote. A stamp that arrived cannot lie in that
    region's future, so the newest one (and a Date header, where there is one: uwsgi sends none) bounds its clock from
    below, and that bound then goes on with our monotonic clock. A bound that is too low only repeats records; one that
    is too high would miss changes, so a stamp from our own future (a conductor gone wrong) is not believed.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._offset: float | None = None

    def date(self, header: str | None, received: float) -> None:
        """Note a Date header; `received` is monotonic."""
        if not header:
            return
        try:
            self._note(parsedate_to_datetime(header).timestamp() - received)
        except ValueError:
            return

    def stamp(self, stamp: datetime | None, received: float) -> None:
        """Note a time that the region wrote; `received` is monotonic."""
        if stamp is not None and stamp <= self._latest(received):
            self._note(stamp.timestamp() - received)

    def since(self, moment: float) -> str | None:
        """What to ask for to get all changes after the monotonic `moment`: whole seconds, since Nova compares with
        times in whole seconds and does not cut the fraction off what it is asked. None while nothing is known."""
        time = self._at(moment - OVERLAP)
        return None if time is None else time.strftime("%Y-%m-%dT%H:%M:%SZ")

    def _latest(self, moment: float) -> datetime:
        """The latest that it may be there: by its own word or by our clock."""
        own, told = self._clock.now(), self._at(moment)
        return own if told is None else max(own, told)

    def _note(self, offset: float) -> None:
        self._offset = offset if self._offset is None else max(self._offset, offset)

    def _at(self, moment: float) -> datetime | None:
        return None if self._offset is None else datetime.fromtimestamp(moment + self._offset, tz=UTC)
