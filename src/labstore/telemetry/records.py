"""The newest record of every room, kept as a file in the run directory: what every view is a view of."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from labstore.reconcile.record import Record, State
from labstore.reports.report import Report, Severity
from labstore.system.files import FileTooLarge, make_directory, read_limited, write_atomic

VERSION = 1
LIMIT = 64 << 20
"""Bytes of one file that are read."""
MOST = 1000
"""Entries of each list that are kept; an outage of everything must not cost megabytes per cycle."""

ROOMS = ("exports", "dbusers", "backup")
"""The rooms that keep records, in the order in which they are shown."""
LASTING = frozenset(
    {"generation", "served_exports", "served_clients", "served_projects", "complete", "listing_every", "running"}
)
"""Figures that still hold after a cycle that did not get far enough to find them out."""


class BadRecord(Exception):
    """A file is there and holds no record; the text says why."""


@dataclass(frozen=True)
class Said:
    """A report as a record keeps it: its words as they were, whatever version of labstore wrote them."""

    code: str
    severity: Severity
    subject: str
    message: str
    remedy: str | None
    override: str | None

    @classmethod
    def of(cls, report: Report) -> Said:
        return cls.read(report.to_dict())

    @classmethod
    def read(cls, words: Mapping[str, Any]) -> Said:
        return cls(
            str(words["code"]),
            Severity(words["severity"]),
            str(words["subject"]),
            str(words["message"]),
            _text_or_none(words.get("remedy")),
            _text_or_none(words.get("override")),
        )

    def to_dict(self) -> dict[str, Any]:
        return {
            "code": self.code,
            "severity": self.severity.value,
            "subject": self.subject,
            "message": self.message,
            "remedy": self.remedy,
            "override": self.override,
        }


@dataclass(frozen=True)
class Kept:
    """One room's newest record, read back.

    `name` is what the room works on (a cluster), `node` and `who` wrote it. `since` is when the room came into the
    state it is in, `due` by when the next record is written unless something is wrong, None where none is to come.
    """

    room: str
    name: str
    node: str
    who: str
    number: int
    started: datetime
    ended: datetime
    since: datetime
    due: datetime | None
    state: State
    facts: Mapping[str, Any] = field(default_factory=dict)
    steps: tuple[Mapping[str, Any], ...] = ()
    untouched: Mapping[str, str] = field(default_factory=dict)
    refused: tuple[Said, ...] = ()
    reports: tuple[Said, ...] = ()

    @property
    def seconds(self) -> float:
        return (self.ended - self.started).total_seconds()

    def to_dict(self) -> dict[str, Any]:
        return {
            "version": VERSION,
            "room": self.room,
            "name": self.name,
            "node": self.node,
            "who": self.who,
            "number": self.number,
            "started": self.started.isoformat(),
            "ended": self.ended.isoformat(),
            "seconds": round(self.seconds, 3),
            "since": self.since.isoformat(),
            "due": self.due.isoformat() if self.due else None,
            "state": self.state.value,
            "facts": dict(self.facts),
            "steps": [dict(step) for step in self.steps],
            "untouched": dict(self.untouched),
            "refused": [said.to_dict() for said in self.refused],
            "reports": [said.to_dict() for said in self.reports],
        }


def kept(
    record: Record, name: str, node: str, who: str, due: datetime | None = None, before: Kept | None = None
) -> Kept:
    """The record as it is kept; `before` is the one that it replaces. Long lists are cut, their length stays known."""
    refused = dict.fromkeys(r.report for r in record.results if r.outcome.value == "refused" and r.report)
    since = before.since if before is not None and before.state is record.state else record.started
    lengths = {"steps_count": len(record.steps), "untouched_count": len(record.untouched)}
    return Kept(
        room=record.room,
        name=name,
        node=node,
        who=who,
        number=record.number,
        started=record.started,
        ended=record.ended,
        since=since,
        due=due,
        state=record.state,
        facts={**record.facts, **lengths},
        steps=record.steps[:MOST],
        untouched=dict(list(record.untouched.items())[:MOST]),
        refused=tuple(Said.of(report) for report in list(refused)[:MOST]),
        reports=tuple(Said.of(report) for report in record.reports[:MOST]),
    )


def place(run_dir: Path, room: str, name: str) -> Path:
    """Where the newest record of a room is kept."""
    return run_dir / room / f"{name}.json"


def write(run_dir: Path, record: Kept) -> None:
    """Replace the newest record; a reader sees the old one or this one. Raises OSError."""
    path = place(run_dir, record.room, record.name)
    make_directory(path.parent)
    write_atomic(path, json.dumps(record.to_dict(), separators=(",", ":"), default=str).encode())


def read(path: Path) -> Kept:
    """One record. Raises BadRecord, FileNotFoundError."""
    try:
        words = json.loads(read_limited(path, LIMIT))
        return _read(words)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError, FileTooLarge) as error:
        raise BadRecord(f"{path}: {type(error).__name__}: {error}") from error


def read_all(run_dir: Path, rooms: Iterable[str] = ROOMS) -> tuple[tuple[Kept, ...], tuple[str, ...]]:
    """The newest record of everything in these rooms, and what could not be read."""
    found: list[Kept] = []
    wrong: list[str] = []
    for room in rooms:
        for path in sorted((run_dir / room).glob("*.json")):
            try:
                found.append(read(path))
            except (BadRecord, FileNotFoundError) as error:
                wrong.append(str(error))
    return tuple(found), tuple(wrong)


def _read(words: Mapping[str, Any]) -> Kept:
    if words["version"] != VERSION:
        raise ValueError(f"written by another version of labstore (form {words['version']!r})")
    return Kept(
        room=str(words["room"]),
        name=str(words["name"]),
        node=str(words["node"]),
        who=str(words["who"]),
        number=int(words["number"]),
        started=datetime.fromisoformat(words["started"]),
        ended=datetime.fromisoformat(words["ended"]),
        since=datetime.fromisoformat(words["since"]),
        due=datetime.fromisoformat(words["due"]) if words["due"] else None,
        state=State(words["state"]),
        facts=dict(words["facts"]),
        steps=tuple(dict(step) for step in words["steps"]),
        untouched={str(key): str(why) for key, why in words["untouched"].items()},
        refused=tuple(Said.read(said) for said in words["refused"]),
        reports=tuple(Said.read(said) for said in words["reports"]),
    )


def _text_or_none(value: object) -> str | None:
    return None if value is None else str(value)
