"""Prometheus metrics of accounts: views of the room's records. The original's counters are kept without their label of
account names, which made a series for each (upstream 1.7)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, disable_created_metrics

from labstore import __version__
from labstore.dbusers.turns import Act
from labstore.reconcile.record import State
from labstore.telemetry.records import Kept

PREFIX = "labstore_dbusers_"
BUCKETS = (0.03, 0.1, 0.3, 1, 3, 10, 30, 100, 300)
GAUGES: Mapping[str, tuple[str, str]] = {
    "tombstones": ("tombstones", "Accounts that were removed."),
    "unconverged": ("unconverged", "Accounts on their way, and servers that lack one."),
    "untouched": ("untouched", "Accounts that are left alone although something differs."),
    "refused": ("refused", "Steps that guards hold back."),
}
"""Name of the gauge: the record's figure that it shows, and its help."""
POPULATED = {Act.CONFIRM: "created", Act.ADOPT: "created", Act.BURY: "deleted"}
"""What the original counted when an account was new in, or gone from, its ledger."""
CREATED = {Act.CREATE: "created", Act.DROP: "deleted"}


@dataclass
class AccountMetrics:
    """`seen` takes every record. `registry` is our own, so nothing else gets in; `build` says the version in it."""

    registry: CollectorRegistry = field(default_factory=CollectorRegistry)
    build: bool = True
    _codes: set[str] = field(default_factory=set, init=False)
    _pairs: set[tuple[str, str]] = field(default_factory=set, init=False)

    def __post_init__(self) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]
        if self.build:
            build = Gauge("labstore_build_info", "The version that runs.", ["version"], registry=self.registry)
            build.labels(__version__).set(1)
        self._populate = self._original("populate", "Accounts new in, or gone from, the ledger.", "account_type")
        self._create = self._original("create", "Accounts made on, or dropped from, a server.", "account_type", "host")
        self._errors = Counter(
            "maintain_dbusers_create_connection_errors",
            "Cycles in which a server gave no answer.",
            ["host"],
            registry=self.registry,
        )
        self._last_run = Gauge("maintain_dbusers_last_run", "End of the newest cycle.", registry=self.registry)
        self._cycles = self._counter("cycles", "Cycles by the state that they left.", "state")
        self._defects = self._counter("defects", "Cycles that ended in a defect of labstore.")
        self._ended = self._counter("ended", "Reports of statements and sessions ended over a limit.", "what")
        self._seconds = Histogram(f"{PREFIX}cycle_seconds", "How long cycles took.", [], registry=self.registry,
                                  buckets=BUCKETS)  # fmt: skip
        self._gauges = {name: self._gauge(name, words) for name, (_, words) in GAUGES.items()}
        self._accounts = self._gauge("accounts", "Accounts by kind and state.", "kind", "state")
        self._places = self._gauge("account_hosts", "Accounts by server: present or absent.", "host", "status")
        self._up = self._gauge("host_up", "Whether a server answered in the newest cycle.", "host")
        self._host_seen = self._gauge("host_last_seen_timestamp_seconds", "When a server last answered.", "host")
        self._state = self._gauge("state", "1 for the state that the newest cycle left.", "state")
        self._refusals = self._gauge("refusals", "What guards hold back now, by code.", "code")
        self._success = self._gauge("last_success_timestamp_seconds", "End of the newest cycle that did not fail.")
        self._oldest = self._gauge(
            "oldest_unconverged_seconds", "For how long the oldest account on its way has been so."
        )

    def seen(self, kept: Kept) -> None:
        """Take in one record."""
        self._cycles.labels(kept.state.value).inc()
        self._seconds.observe(kept.seconds)
        self._last_run.set(kept.ended.timestamp())
        for state in State:
            self._state.labels(state.value).set(state is kept.state)
        if kept.state is not State.FAILED:
            self._success.set(kept.ended.timestamp())
        if any(said.code == "defect" for said in kept.reports):
            self._defects.inc()
        self._count_refusals(kept)
        if "hosts" in kept.facts:
            self._figures(kept.facts)

    def _figures(self, facts: Mapping[str, Any]) -> None:
        """Those of a cycle that came to its own."""
        for name, (figure, _) in GAUGES.items():
            self._gauges[name].set(float(facts.get(figure) or 0))
        self._oldest.set(float(facts.get("oldest_unconverged") or 0))
        pairs = {(words[0], words[1]): n for key, n in facts["accounts"].items() if len(words := key.split(" ")) == 2}
        for kind, state in self._pairs | pairs.keys():
            self._accounts.labels(kind, state).set(pairs.get((kind, state), 0))
        self._pairs |= pairs.keys()
        for host, words in facts["hosts"].items():
            self._host(host, words)
        self._count_acts(facts)

    def _host(self, host: str, words: Mapping[str, Any]) -> None:
        for status in ("present", "absent"):
            self._places.labels(host, status).set(float(words[status]))
        self._up.labels(host).set(bool(words["answers"]))
        errors = self._errors.labels(host)
        if not words["answers"]:
            errors.inc()
        if words["last_seen"]:
            self._host_seen.labels(host).set(datetime.fromisoformat(words["last_seen"]).timestamp())

    def _count_acts(self, facts: Mapping[str, Any]) -> None:
        for key, count in facts["acts"].items():
            act, kind, outcome = key.rsplit(" ", 2)
            if status := POPULATED.get(Act(act)):
                self._populate.labels(kind, status if outcome == "done" else "errored").inc(count)
            elif Act(act) in (Act.PUBLISH, Act.ISSUE) and outcome != "done":
                self._populate.labels(kind, "errored").inc(count)
        for key, count in facts["created"].items():
            host, kind, act, outcome = key.split(" ", 3)
            status = CREATED[Act(act)] if outcome == "done" else "errored"
            self._create.labels(kind, host, status).inc(count)

    def _count_refusals(self, kept: Kept) -> None:
        """Codes are those of labstore's own reports, so there are few; one that is over goes to 0."""
        counts = dict.fromkeys(self._codes, 0)
        for said in kept.refused:
            counts[said.code] = counts.get(said.code, 0) + 1
        for code, count in counts.items():
            self._refusals.labels(code).set(count)
        self._codes |= counts.keys()
        for said in kept.reports:
            if said.code in ("statements-ended", "sessions-ended"):
                self._ended.labels(said.code.partition("-")[0]).inc()

    def _original(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(f"maintain_dbusers_{name}", words, [*labels, "status"], registry=self.registry)

    def _gauge(self, name: str, words: str, *labels: str) -> Gauge:
        return Gauge(PREFIX + name, words, list(labels), registry=self.registry)

    def _counter(self, name: str, words: str, *labels: str) -> Counter:
        return Counter(PREFIX + name, words, list(labels), registry=self.registry)
