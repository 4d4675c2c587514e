"""Backups in figures: what is watched is the age of the newest copy that was shown to restore, not how the last job
ended (upstream #37, #40)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Gauge

from labstore.reconcile.record import State
from labstore.telemetry.records import Kept
from labstore.telemetry.words import ago, plural

PREFIX = "labstore_backup_"
GAUGES: Mapping[str, tuple[str, str]] = {
    "generations": ("generations", "Generations that are kept."),
    "generations_bytes": ("takes", "What they take, where the storage can say."),
    "mounts": ("mounts", "Generations that are mounted to look into them."),
    "alert_after_seconds": ("alert_after", "The age of the newest proven generation at which somebody is told."),
}
"""Name of the gauge: the record's figure that it shows, and its help."""


_SKEW = 60.0
"""Seconds by which the clocks of what is kept and of who looks may differ."""


def proven_age(kept: Kept, now: datetime) -> float | None:
    """Seconds since the newest generation that is proven was made, None where there is none."""
    newest = kept.facts.get("newest_proven")
    return (now - datetime.fromisoformat(str(newest))).total_seconds() if newest else None


def is_late(kept: Kept, now: datetime) -> bool:
    """A copy that is dated after now says nothing of its age."""
    age = proven_age(kept, now)
    return age is None or not -_SKEW <= age <= float(kept.facts.get("alert_after") or 0)


def headline(kept: Kept, now: datetime) -> str:
    age, count = proven_age(kept, now), kept.facts.get("generations")
    if count is None:
        return "its generations could not be listed"
    said = f"proven to restore {ago(age)} ago" if age is not None else "nothing is proven to restore"
    if age is not None and age < -_SKEW:
        said = "its newest proven generation is dated after now"
    elif is_late(kept, now):
        said += f", more than {ago(float(kept.facts.get('alert_after') or 0))}" if age is not None else ""
    word = "" if kept.state is State.CONVERGED else f"{kept.state.value}: "
    return f"{word}{said}; {plural(int(count), 'generation')}"


def figures(kept: Kept, now: datetime) -> dict[str, str]:
    """Performance data of one job."""
    age, facts = proven_age(kept, now), kept.facts
    numbers = {
        "proven_age": f"{age:.0f}s" if age is not None else None,
        "generations": facts.get("generations"),
        "mounts": facts.get("mounts"),
        "run": f"{kept.seconds:.0f}s",
    }
    return {f"{kept.name}_{key}": str(value) for key, value in numbers.items() if value is not None}


@dataclass
class BackupMetrics:
    """`seen` takes every record, at the moment `now`. No label but the job's name, which the site file gives."""

    now: datetime
    registry: CollectorRegistry = field(default_factory=CollectorRegistry)

    def __post_init__(self) -> None:
        self._gauges = {name: self._gauge(name, words) for name, (_, words) in GAUGES.items()}
        self._proven = self._gauge(
            "last_proven_timestamp_seconds", "When the newest generation that is proven to restore was made."
        )
        self._age = self._gauge("proven_age_seconds", "Seconds since then; the alert.")
        self._ended = self._gauge("last_run_timestamp_seconds", "End of the newest look at the job.")
        self._late = self._gauge("late", "1 where the newest proven generation is older than is allowed, or none.")
        self._state = self._gauge("state", "1 for the state that the newest look left.", "state")

    def seen(self, kept: Kept) -> None:
        for name, (figure, _) in GAUGES.items():
            if kept.facts.get(figure) is not None:
                self._gauges[name].labels(kept.name).set(float(kept.facts[figure]))
        age = proven_age(kept, self.now)
        if age is not None:
            self._age.labels(kept.name).set(max(0.0, age))
            self._proven.labels(kept.name).set(self.now.timestamp() - age)
        self._ended.labels(kept.name).set(kept.ended.timestamp())
        self._late.labels(kept.name).set(is_late(kept, self.now))
        for state in State:
            self._state.labels(kept.name, state.value).set(state is kept.state)

    def _gauge(self, name: str, words: str, *labels: str) -> Gauge:
        return Gauge(PREFIX + name, words, ["job", *labels], registry=self.registry)


def page_figures(facts: Mapping[str, Any], age: float | None) -> list[tuple[str, str]]:
    """The figures of a job, with their names, as the page shows them."""
    found = [
        ("proven to restore", f"{ago(age)} ago" if age is not None else "never"),
        ("generations", facts.get("generations")),
        ("mounted", facts.get("mounts")),
    ]
    return [(name, str(value)) for name, value in found if value is not None]
