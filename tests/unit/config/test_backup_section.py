"""`backup:` of the site file: what it gives, and what is said of what cannot be meant."""

from __future__ import annotations

from pathlib import Path

import pytest

from labstore.config.load import load
from labstore.model.backup_settings import BackupSettings, JobName, LogicalVolume, PullFrom
from labstore.reports.in_file import BadFile

BEFORE = """
site: wikicloud
clusters:
  primary:
    service_addresses: [10.64.37.18]
    nodes: {alpha: {}, beta: {}}
    volumes: {misc: {mount: /srv/misc}}
inventory: {source: file, file: instances.yaml}
"""
JOB = "    tools: {source: misc/tools, target: backup/tools, cluster: primary%s}\n"


def site(tmp_path: Path, text: str) -> BackupSettings:
    path = tmp_path / "site.yaml"
    path.write_text(BEFORE + text)
    settings = load(path).site.backup
    assert settings is not None
    return settings


def test_a_job_needs_three_lines(tmp_path: Path) -> None:
    settings = site(tmp_path, "backup:\n  jobs:\n" + JOB % "")
    job = settings.jobs[JobName("tools")]
    assert (job.source, job.target) == (LogicalVolume.parse("misc/tools"), LogicalVolume.parse("backup/tools"))
    assert job.nodes == ("alpha", "beta")
    assert job.pull_from is PullFrom.STANDBY
    assert (job.every, job.keep.daily, job.proof.samples, job.room) == (86400.0, 14, 64, None)


def test_everything_can_be_said(tmp_path: Path) -> None:
    more = (
        ", every: 1h, alert_after: 3h, keep: {hourly: 5, budget: 2T}, room: 200G, max_change: 30%, algorithm: xxh3, "
        "limits: {send: 50M}, proof: {canary: .canary, samples: 0}, reach: {user: backup, ssh_config: /etc/x}"
    )
    job = site(tmp_path, "backup:\n  brake: 1\n  jobs:\n" + JOB % more).jobs[JobName("tools")]
    assert (job.every, job.keep.budget, job.room, job.limits.send) == (3600.0, 2 << 40, 200 << 30, 50 << 20)
    assert (job.options.max_change, job.options.algorithm, job.proof.canary) == (0.3, "xxh3", ".canary")


def test_without_the_section_nothing_is_backed_up_from_here(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    path.write_text(BEFORE)
    assert load(path).site.backup is None


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        (JOB % ", every: 2d", "somebody is told after"),
        (JOB % ", room: 200", "is not a size"),
        (JOB % ", proof: {canary: ../../etc/shadow}", "not a path within the volume"),
        (JOB % ", reach: {command: 'x; rm -rf /'}", "not a plain command"),
        ((JOB % "").replace("primary", "other"), "there is no cluster other"),
        ((JOB % "").replace("backup/tools", "backup"), "no logical volume"),
        ((JOB % "").replace("backup/tools", "/a/../b"), "not the path of a device"),
        ((JOB % "").replace("tools:", "Tools!:"), "not a backup job's name"),
        (JOB % "" + (JOB % "").replace("tools:", "again:"), "have the same target"),
        (JOB % ", keep: {least: 0}", "is less than 1"),
    ],
)
def test_what_cannot_be_meant_is_said_with_its_place(tmp_path: Path, text: str, problem: str) -> None:
    with pytest.raises(BadFile) as refused:
        site(tmp_path, "backup:\n  jobs:\n" + text)
    assert any(problem in report.message() for report in refused.value.reports), [
        report.message() for report in refused.value.reports
    ]
