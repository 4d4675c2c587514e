"""How well a room is, what waits for a person and what to do next: one judgement for every view."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import IntEnum
from pathlib import Path
from typing import Any

from labstore.reconcile.record import State
from labstore.reports.report import Severity
from labstore.system.locks import is_held
from labstore.telemetry import backup
from labstore.telemetry.records import Kept, Said, read_all
from labstore.telemetry.words import ago, plural


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


_DOWN = frozenset({"not-served"})
"""Reports of something that a client notices at once."""
DAEMON = "labstore-exportd"
DAEMONS: Mapping[str, str] = {"exports": DAEMON, "dbusers": "labstore-dbusersd", "backup": "labstore-backup.timer"}


@dataclass(frozen=True)
class Limits:
    """Seconds since the last complete listing from which on a room is not well."""

    warning: float
    critical: float

    @classmethod
    def of(cls, kept: Kept) -> Limits:
        """Three listings missed, and twelve."""
        every = float(kept.facts.get("listing_every") or 300.0)
        return cls(max(3 * every, 60.0), max(12 * every, 600.0))


@dataclass(frozen=True)
class RoomStatus:
    """One room's record, judged. `silent` says why no newer record is to be expected, None where all is well.
    `waiting` are the reports that need a person, worst first; `notices` the others."""

    kept: Kept
    health: Health
    headline: str
    silent: str | None
    waiting: tuple[Said, ...]
    notices: tuple[Said, ...]

    @property
    def what(self) -> str:
        return f"{self.kept.room} {self.kept.name}"

    @property
    def next(self) -> tuple[str, ...]:
        """What to do, in order, each once."""
        daemon = DAEMONS[self.kept.room]
        first = (f"see why: systemctl status {daemon}; journalctl -u {daemon}",) if self.silent else ()
        return first + tuple(dict.fromkeys(said.remedy for said in self.waiting if said.remedy))

    def to_dict(self) -> dict[str, Any]:
        return {
            "health": self.health.name,
            "headline": self.headline,
            "silent": self.silent,
            "next": list(self.next),
            **self.kept.to_dict(),
        }


def judged(kept: Kept, now: datetime, alive: bool | None = None, limits: Limits | None = None) -> RoomStatus:
    """What a record means at this moment. `alive` says whether its daemon runs, None where that cannot be told."""
    silent = _silent(kept, now, alive)
    waiting = tuple(said for said in kept.reports if said.severity is not Severity.NOTICE)
    health = max(_OF_STATE[kept.state], Health.WARNING if waiting else Health.OK)
    if silent or any(said.code in _DOWN for said in waiting):
        health = Health.CRITICAL
    age = listing_age(kept, now)
    if age is not None and kept.state is not State.STANDBY:
        bounds = limits or Limits.of(kept)
        health = max(health, Health.CRITICAL if age > bounds.critical else Health.OK)
        health = max(health, Health.WARNING if age > bounds.warning else Health.OK)
    if kept.room == "backup" and backup.is_late(kept, now):
        health = Health.CRITICAL
    return RoomStatus(
        kept,
        health,
        backup.headline(kept, now) if kept.room == "backup" else _headline(kept, silent),
        silent,
        tuple(sorted(waiting, key=lambda said: said.severity is not Severity.ERROR)),
        tuple(said for said in kept.reports if said.severity is Severity.NOTICE),
    )


def _silent(kept: Kept, now: datetime, alive: bool | None) -> str | None:
    if kept.due is None:
        return None  # a command left it, or a daemon that was told to stop
    said = f"last word {ago((now - kept.ended).total_seconds())} ago"
    if alive is False:
        return f"its daemon does not run ({said})"
    if now > kept.due + GRACE:
        return f"its daemon {'hangs' if alive else 'does not run, or hangs'} ({said})"
    return None


def look(run_dir: Path, now: datetime) -> tuple[tuple[RoomStatus, ...], tuple[str, ...]]:
    """Every room that has reported, judged, and what could not be read."""
    found, unreadable = read_all(run_dir)
    return tuple(judged(kept, now, alive_of(run_dir, kept)) for kept in found), unreadable


def alive_of(run_dir: Path, kept: Kept) -> bool | None:
    """Whether the daemon that keeps this record runs on this machine: it holds a lock for as long as it lives."""
    return is_held(run_dir / kept.room / f"{kept.name}.daemon")


def worst(rooms: Iterable[RoomStatus]) -> Health:
    """UNKNOWN where there is nothing to judge."""
    return max((room.health for room in rooms), default=Health.UNKNOWN)


def listing_age(kept: Kept, now: datetime) -> float | None:
    """Seconds since the inventory last gave everything, None where that is not known."""
    when = kept.facts.get("complete")
    return (now - datetime.fromisoformat(str(when))).total_seconds() if when else None


def _headline(kept: Kept, silent: str | None) -> str:
    if silent:
        return silent
    down = next((said for said in kept.reports if said.code in _DOWN), None)
    if down is not None:
        return down.message
    facts = kept.facts
    if kept.state is State.STANDBY:
        return "standby: another node serves"
    if kept.room == "dbusers":
        return _accounts(kept)
    served = ", ".join(plural(int(facts.get(f"served_{word}s") or 0), word) for word in ("export", "client"))
    return {
        State.CONVERGED: f"converged: {served}",
        State.HOLDING: f"holding: {served} as they were; {_holding(facts)}",
        State.REFUSED: f"refused: {plural(len(kept.refused), 'decision')} needed; {served}",
        State.FAILED: f"failed: {served} still served" if "served_exports" in facts else "failed",
    }[kept.state]


def _holding(facts: Mapping[str, Any]) -> str:
    missing, held = int(facts.get("missing_count") or 0), int(facts.get("held_clients") or 0)
    parts = [f"{plural(missing, 'answer')} missing"] if missing else []
    parts += [f"{plural(held, 'client')} in doubt"] if held else []
    return ", ".join(parts) or "something is in doubt"


def _accounts(kept: Kept) -> str:
    """The headline of database accounts."""
    facts = kept.facts
    if "accounts" not in facts:
        return kept.state.value
    total = sum(facts["accounts"].values())
    here = f"{plural(total, 'account')} on {plural(len(facts['hosts']), 'server')}"
    away = [host for host, words in facts["hosts"].items() if not words["answers"]]
    doubts = [f"{', '.join(away[:3])} away"] if away else []
    doubts += [f"{source} not listed" for source, count in facts["listed"].items() if count is None]
    doubts += [f"{facts['untouched']} left alone"] if facts.get("untouched") else []
    return {
        State.CONVERGED: f"converged: {here}",
        State.HOLDING: f"holding: {here}; {', '.join(doubts) or 'something is in doubt'}",
        State.REFUSED: f"refused: {plural(len(kept.refused), 'decision')} needed; {here}",
        State.FAILED: f"failed: {plural(int(facts.get('failed') or 0), 'step')} of {facts.get('steps')}; {here}",
    }[kept.state]
