"""Metrics are views of records, with bounded labels, and the reference page is true."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from prometheus_client import generate_latest

from labstore.reconcile.record import State
from labstore.reports.report import Severity
from labstore.telemetry.metrics import ExportMetrics
from labstore.telemetry.records import Kept, Said

NOW = datetime(2026, 5, 29, 12, 0, tzinfo=UTC)
REFERENCE = Path(__file__).parents[3] / "docs/reference/metrics.md"
HELD = Said("mass-removal", Severity.ERROR, "all", "too many", None, "allow-mass-removal")
FACTS = {
    "served_exports": 4,
    "served_clients": 12,
    "served_projects": 3,
    "instances": 20,
    "missing_count": 1,
    "held_clients": 2,
    "generation": 57,
    "running": True,
    "listing_seconds": 1.5,
    "complete": NOW.isoformat(),
    "calls": 2,
}
RECORD = Kept(
    *("exports", "primary", "n1", "w", 1, NOW, NOW + timedelta(seconds=2), NOW, None, State.REFUSED, FACTS),
    refused=(HELD,),
)


def samples(metrics: ExportMetrics) -> dict[str, float]:
    text = generate_latest(metrics.registry).decode()
    return {m[1]: float(m[2]) for m in re.finditer(r"^(\S+) (\S+)$", text, re.MULTILINE) if not m[1].startswith("#")}


def test_a_record_becomes_figures() -> None:
    metrics = ExportMetrics(now=lambda: NOW.timestamp() + 30)
    metrics.seen(RECORD)
    found = samples(metrics)
    wanted = {
        'labstore_exports_clients{cluster="primary"}': 12,
        'labstore_exports_generation{cluster="primary"}': 57,
        'labstore_exports_server_running{cluster="primary"}': 1,
        'labstore_exports_cycles_total{cluster="primary",state="refused"}': 1,
        'labstore_exports_state{cluster="primary",state="refused"}': 1,
        'labstore_exports_state{cluster="primary",state="converged"}': 0,
        'labstore_exports_refusals{cluster="primary",code="mass-removal"}': 1,
        'labstore_exports_server_calls_total{cluster="primary"}': 2,
        'labstore_exports_complete_listing_age_seconds{cluster="primary"}': 30,
        'labstore_exports_last_success_timestamp_seconds{cluster="primary"}': (NOW + timedelta(seconds=2)).timestamp(),
    }
    assert {name: found.get(name) for name in wanted} == wanted


def test_a_refusal_that_is_over_goes_to_nought() -> None:
    metrics = ExportMetrics()
    metrics.seen(RECORD)
    metrics.seen(replace(RECORD, state=State.CONVERGED, refused=()))
    assert samples(metrics)['labstore_exports_refusals{cluster="primary",code="mass-removal"}'] == 0


def test_a_failed_cycle_is_no_success_and_leaves_what_it_did_not_find_out() -> None:
    metrics = ExportMetrics()
    metrics.seen(RECORD)
    later = NOW + timedelta(hours=1)
    metrics.seen(replace(RECORD, state=State.FAILED, ended=later, facts={}))
    found = samples(metrics)
    assert found['labstore_exports_clients{cluster="primary"}'] == 12
    assert found['labstore_exports_last_success_timestamp_seconds{cluster="primary"}'] < later.timestamp()


def test_defects_and_pins_are_counted() -> None:
    metrics = ExportMetrics()
    defect = Said("defect", Severity.ERROR, "x", "boom", None, None)
    pinned = Said("pinned", Severity.WARNING, "3", "pinned", None, None)
    metrics.seen(replace(RECORD, state=State.FAILED, reports=(defect, pinned)))
    found = samples(metrics)
    assert found['labstore_exports_defects_total{cluster="primary"}'] == 1
    assert found['labstore_exports_pinned{cluster="primary"}'] == 1


def test_no_label_comes_from_the_inventory() -> None:
    """upstream #60: labels per account grew without end."""
    metrics = ExportMetrics()
    metrics.seen(RECORD)
    labels = {label for family in metrics.registry.collect() for sample in family.samples for label in sample.labels}
    assert labels == {"cluster", "state", "code", "le", "version"}


def test_the_reference_page_names_every_metric_and_no_other() -> None:
    metrics = ExportMetrics()
    metrics.seen(RECORD)
    families = {family.name + ("_total" if family.type == "counter" else "") for family in metrics.registry.collect()}
    page = REFERENCE.read_text().split("\n## ")[0]
    rows = set(re.findall(r"^\| `(labstore_\w+)` ", page, re.MULTILINE))
    assert rows == families
