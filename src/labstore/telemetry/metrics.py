"""Prometheus metrics: views of the exports room's records. No label's values come from the inventory (upstream #60)."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from labstore import __version__
from labstore.reconcile.record import State
from labstore.telemetry.records import Kept

PREFIX = "labstore_exports_"
BUCKETS = (0.01, 0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
GAUGES: Mapping[str, tuple[str, str]] = {
    "exports": ("served_exports", "Exports that are served."),
    "clients": ("served_clients", "Pairs of export and client that are served."),
    "projects": ("served_projects", "Projects of which something is served."),
    "instances": ("instances", "Instances that the inventory showed."),
    "missing_sources": ("missing_count", "Answers of the inventory that are missing."),
    "held_clients": ("held_clients", "Clients that stay although they were not seen."),
    "generation": ("generation", "The generation that is served."),
    "server_running": ("running", "Whether the NFS server answers."),
    "listing_seconds": ("listing_seconds", "How long the newest complete look at the inventory took."),
}
"""Name of the gauge: the record's figure that it shows, and its help."""


@dataclass
class ExportMetrics:
    """`seen` takes every record; the rest is the client library's. `registry` is our own, so nothing else gets in."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    now: Callable[[], float] = time.time
    _codes: set[tuple[str, str]] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        build = Gauge("labstore_build_info", "The version that runs.", ["version"], registry=self.registry)
        build.labels(__version__).set(1)
        self._cycles = self._counter("cycles", "Cycles by the state that they left.", "state")
        self._calls = self._counter("server_calls", "How often the NFS server was told something.")
        self._defects = self._counter("defects", "Cycles that ended in a defect of labstore.")
        self._seconds = Histogram(
            f"{PREFIX}cycle_seconds", "How long cycles took.", ["cluster"], registry=self.registry, buckets=BUCKETS
        )
        self._gauges = {name: self._gauge(name, words) for name, (_, words) in GAUGES.items()}
        self._state = self._gauge("state", "1 for the state that the newest cycle left.", "state")
        self._refusals = self._gauge("refusals", "What guards hold back now, by code.", "code")
        self._pinned = self._gauge("pinned", "Whether a person pinned a generation.")
        self._success = self._gauge("last_success_timestamp_seconds", "End of the newest cycle that did not fail.")
        self._listed = self._gauge("last_complete_listing_timestamp_seconds", "When the inventory last gave all.")
        self._age = self._gauge("complete_listing_age_seconds", "Seconds since the inventory last gave all.")

    def seen(self, kept: Kept) -> None:
        """Take in one record."""
        cluster, facts = kept.name, kept.facts
        self._cycles.labels(cluster, kept.state.value).inc()
        self._seconds.labels(cluster).observe(kept.seconds)
        self._calls.labels(cluster).inc(float(facts.get("calls") or 0))
        for name, (figure, _) in GAUGES.items():
            if facts.get(figure) is not None:
                self._gauges[name].labels(cluster).set(float(facts[figure]))
        for state in State:
            self._state.labels(cluster, state.value).set(state is kept.state)
        self._pinned.labels(cluster).set(any(said.code == "pinned" for said in kept.reports))
        if kept.state is not State.FAILED:
            self._success.labels(cluster).set(kept.ended.timestamp())
        if any(said.code == "defect" for said in kept.reports):
            self._defects.labels(cluster).inc()
        self._count_refusals(kept)
        self._note_listing(cluster, facts)

    def _count_refusals(self, kept: Kept) -> None:
        """Codes are those of labstore's own reports, so there are few; one that is over goes to 0."""
        counts = {(kept.name, code): 0 for cluster, code in self._codes if cluster == kept.name}
        for said in kept.refused:
            counts[kept.name, said.code] = counts.get((kept.name, said.code), 0) + 1
        for (cluster, code), count in counts.items():
            self._refusals.labels(cluster, code).set(count)
        self._codes |= counts.keys()

    def _note_listing(self, cluster: str, facts: Mapping[str, Any]) -> None:
        if not facts.get("complete"):
            return
        when = datetime.fromisoformat(str(facts["complete"])).timestamp()
        self._listed.labels(cluster).set(when)
        self._age.labels(cluster).set_function(lambda: max(0.0, self.now() - when))

    def _gauge(self, name: str, words: str, *labels: str) -> Gauge:
        return Gauge(PREFIX + name, words, ["cluster", *labels], registry=self.registry)

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, words, ["cluster", *labels], registry=self.registry)
