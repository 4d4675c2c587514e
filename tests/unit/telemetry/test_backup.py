"""What is watched of backups is the age of the newest copy that was shown to restore (upstream #37, #40)."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from labstore.reconcile.record import State
from labstore.telemetry.backup import BackupMetrics, headline
from labstore.telemetry.records import Kept
from labstore.telemetry.status import Health, judged

NOW = datetime(2026, 5, 29, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
FACTS = {
    "generations": 3,
    "newest": NOW.isoformat(),
    "newest_proven": NOW.isoformat(),
    "alert_after": 2 * DAY.total_seconds(),
    "takes": 1 << 30,
    "mounts": 1,
}
RECORD = Kept("backup", "tools", "backup1", "w", 1, NOW, NOW, NOW, None, State.CONVERGED, FACTS)
REFERENCE = (Path(__file__).parents[3] / "docs/reference/metrics.md").read_text()


def samples(record: Kept, now: datetime) -> dict[str, float]:
    metrics = BackupMetrics(now)
    metrics.seen(record)
    text = generate_latest(metrics.registry).decode()
    return {m[1]: float(m[2]) for m in re.finditer(r"^(\S+) (\S+)$", text, re.MULTILINE)}


@pytest.mark.parametrize(
    ("record", "later", "health", "said"),
    [
        (RECORD, DAY, Health.OK, "proven to restore 24 h ago; 3 generations"),
        (RECORD, 3 * DAY, Health.CRITICAL, "proven to restore 3 d ago, more than 2 d; 3 generations"),
        (replace(RECORD, facts={**FACTS, "newest_proven": None}), DAY, Health.CRITICAL, "nothing is proven to restore"),
        (RECORD, -DAY, Health.CRITICAL, "its newest proven generation is dated after now; 3 generations"),
        (replace(RECORD, state=State.FAILED), DAY, Health.CRITICAL, "failed: proven to restore 24 h ago"),
        (replace(RECORD, state=State.REFUSED), DAY, Health.WARNING, "refused: proven to restore 24 h ago"),
        (replace(RECORD, facts={"generations": None, "alert_after": 1.0}), DAY, Health.CRITICAL, "not be listed"),
    ],
)
def test_a_job_is_as_well_as_its_newest_proof_is_young(
    record: Kept, later: timedelta, health: Health, said: str
) -> None:
    """A timer that died writes no record: the age alone tells."""
    room = judged(record, NOW + later)
    assert room.health is health
    assert said in room.headline
    assert headline(record, NOW + later) == room.headline


def test_the_age_of_the_newest_proof_is_the_metric() -> None:
    found = samples(RECORD, NOW + 3 * DAY)
    assert found['labstore_backup_proven_age_seconds{job="tools"}'] == 3 * DAY.total_seconds()
    assert found['labstore_backup_last_proven_timestamp_seconds{job="tools"}'] == NOW.timestamp()
    assert found['labstore_backup_late{job="tools"}'] == 1
    assert found['labstore_backup_state{job="tools",state="converged"}'] == 1
    never = samples(replace(RECORD, facts={**FACTS, "newest_proven": None}), NOW)
    assert 'labstore_backup_proven_age_seconds{job="tools"}' not in never
    assert never['labstore_backup_late{job="tools"}'] == 1


def test_every_metric_is_on_the_reference_page_and_every_one_there_is_one() -> None:
    named = set(re.findall(r"^\| `(labstore_backup_[a-z_]+)`", REFERENCE, re.MULTILINE))
    assert named == {name.partition("{")[0] for name in samples(RECORD, NOW)}
