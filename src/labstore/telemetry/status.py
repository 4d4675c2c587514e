"""How well a room is, what waits for a person and what to do next: one judgement for every view."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from typing import Any

from labstore.reconcile.record import State
from labstore.reports.report import Severity
from labstore.telemetry.records import Kept, Said


class Health(IntEnum):
    """The monitoring convention's words and numbers; a higher one of the first three is worse."""

    OK = 0
    WARNING = 1
    CRITICAL = 2
    UNKNOWN = 3


_OF_STATE: Mapping[State, Health] = {
    State.CONVERGED: Health.OK,
    State.STANDBY: Health.OK,
    State.HOLDING: Health.WARNING,
    State.REFUSED: Health.WARNING,
    State.FAILED: Health.CRITICAL,
}
GRACE = timedelta(seconds=30)
"""So long may a record be overdue: a busy machine is not a dead daemon."""


@dataclass(frozen=True)
class Limits:
    """Seconds since the last complete listing from which on a room is not well."""

    warning: float = 900.0
    critical: float = 3600.0


@dataclass(frozen=True)
class RoomStatus:
    """One room's record, judged. `waiting` are the reports that need a person, worst first; `notices` the others."""

    kept: Kept
    health: Health
    headline: str
    overdue: timedelta | None
    waiting: tuple[Said, ...]
    notices: tuple[Said, ...]

    @property
    def what(self) -> str:
        return f"{self.kept.room} {self.kept.name}"

    @property
    def next(self) -> tuple[str, ...]:
        """What to do, in order, each once."""
        first = ("start it: systemctl status labstore-exportd; journalctl -u labstore-exportd",) if self.overdue else ()
        return first + tuple(dict.fromkeys(said.remedy for said in self.waiting if said.remedy))

    def to_dict(self) -> dict[str, Any]:
        return {
            "health": self.health.name,
            "headline": self.headline,
            "overdue_seconds": round(self.overdue.total_seconds(), 1) if self.overdue else None,
            "next": list(self.next),
            **self.kept.to_dict(),
        }


def judged(kept: Kept, now: datetime, limits: Limits | None = None) -> RoomStatus:
    """What a record means at this moment."""
    overdue = now - kept.due if kept.due is not None and now > kept.due + GRACE else None
    age = listing_age(kept, now)
    health = Health.CRITICAL if overdue else _OF_STATE[kept.state]
    if limits is not None and age is not None and kept.state is not State.STANDBY:
        health = max(health, Health.CRITICAL if age > limits.critical else Health.OK)
        health = max(health, Health.WARNING if age > limits.warning else Health.OK)
    waiting = tuple(said for said in kept.reports if said.severity is not Severity.NOTICE)
    return RoomStatus(
        kept,
        health,
        _headline(kept, now, overdue),
        overdue,
        tuple(sorted(waiting, key=lambda said: said.severity is not Severity.ERROR)),
        tuple(said for said in kept.reports if said.severity is Severity.NOTICE),
    )


def worst(rooms: Iterable[RoomStatus]) -> Health:
    """UNKNOWN where there is nothing to judge."""
    return max((room.health for room in rooms), default=Health.UNKNOWN)


def listing_age(kept: Kept, now: datetime) -> float | None:
    """Seconds since the inventory last gave everything, None where that is not known."""
    when = kept.facts.get("complete")
    return (now - datetime.fromisoformat(str(when))).total_seconds() if when else None


def ago(seconds: float) -> str:
    """A length of time for people: `4 s`, `12 min`, `3 h 5 min`, `2 d 4 h`."""
    whole = max(0, round(seconds))
    if whole < 90:
        return f"{whole} s"
    minutes = round(whole / 60)
    if minutes < 90:
        return f"{minutes} min"
    hours, minutes = divmod(minutes, 60)
    if hours < 48:
        return f"{hours} h {minutes} min" if minutes else f"{hours} h"
    days, hours = divmod(hours, 24)
    return f"{days} d {hours} h" if hours else f"{days} d"


def _headline(kept: Kept, now: datetime, overdue: timedelta | None) -> str:
    if overdue:
        return f"no word for {ago((now - kept.ended).total_seconds())}: its daemon does not run, or hangs"
    facts = kept.facts
    if kept.state is State.STANDBY:
        return "standby: another node serves"
    served = f"{_count(facts, 'served_exports', 'export')}, {_count(facts, 'served_clients', 'client')}"
    return {
        State.CONVERGED: f"converged: {served}",
        State.HOLDING: f"holding: {served} as they were; {_holding(facts)}",
        State.REFUSED: f"refused: {len(kept.refused)} of its plans wait for a person; {served}",
        State.FAILED: f"failed: {served} still served" if "served_exports" in facts else "failed",
    }[kept.state]


def _holding(facts: Mapping[str, Any]) -> str:
    missing, held = int(facts.get("missing_count") or 0), int(facts.get("held_clients") or 0)
    parts = [f"{missing} answers missing"] if missing else []
    parts += [f"{held} clients in doubt"] if held else []
    return ", ".join(parts) or "something is in doubt"


def _count(facts: Mapping[str, Any], key: str, word: str) -> str:
    number = int(facts.get(key) or 0)
    return f"{number} {word}" + ("" if number == 1 else "s")
