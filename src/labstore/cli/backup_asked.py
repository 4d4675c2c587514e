"""What is asked of `labstore backup` on the command line: the site's jobs, their generations, moments for people."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import datetime
from functools import wraps
from typing import NoReturn, ParamSpec

from labstore.cli.backup_parts import Backups, backups
from labstore.cli.exit import Exit, Reported, Stop
from labstore.cli.options import Chosen
from labstore.cli.output import emit
from labstore.model.backup import Generation, Verdict
from labstore.model.backup_settings import BackupSettings, Job, JobName
from labstore.model.block_sync import Permit
from labstore.model.site import Site
from labstore.reconcile.facts import Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.backup import NoGeneration, NoJob
from labstore.reports.blocksync import NoHelper
from labstore.reports.report import Report

P = ParamSpec("P")


def in_json(command: Callable[P, None]) -> Callable[P, None]:
    """A command with --json prints what went wrong as the report that it is."""

    @wraps(command)
    def wrapped(*words: P.args, **given: P.kwargs) -> None:
        try:
            command(*words, **given)
        except StepFailed as failure:
            if not given["as_json"]:
                raise
            _end(Exit.FAILED, failure.report)
        except Reported as stop:
            if not given["as_json"]:
                raise
            _end(stop.exit_code, stop.reports[0])

    return wrapped


def _end(status: int, report: Report) -> NoReturn:
    emit(report.to_dict())
    raise SystemExit(int(status)) from None


def site_of(chosen: Chosen) -> tuple[Site, BackupSettings]:
    """Raises BadFile, Stop."""
    site = chosen.source()()
    if site.backup is None:
        raise Stop(Exit.CONFIGURATION, f"error: {chosen.file} has no `backup:`", "labstore config explain backup")
    return site, site.backup


def parts_of(chosen: Chosen, permits: frozenset[Permit] = frozenset()) -> tuple[Backups, BackupSettings]:
    """`permits` are a person's, for every job that is run now. Raises BadFile, Stop."""
    site, settings = site_of(chosen)
    jobs = {name: replace(job, options=replace(job.options, permits=permits)) for name, job in settings.jobs.items()}
    settings = replace(settings, jobs=jobs)
    try:
        return backups(site, settings, chosen.file), settings
    except ImportError as error:
        raise Stop.because(Exit.CONFIGURATION, [NoHelper(error.name or "blake3")]) from None


def job_of(settings: BackupSettings, name: str) -> Job:
    """Raises Stop."""
    found = next((job for known, job in settings.jobs.items() if known == name), None)
    if found is None:
        raise Stop.because(Exit.USAGE, [NoJob(name, tuple(settings.jobs))])
    return found


def jobs_of(settings: BackupSettings, names: tuple[str, ...]) -> tuple[JobName, ...]:
    """The jobs of these names, each once; all of them where none is named. Raises Stop."""
    return tuple(dict.fromkeys(job_of(settings, name).name for name in names)) or tuple(settings.jobs)


def generations_of(parts: Backups, job: Job) -> tuple[Generation, ...]:
    """Raises Stop."""
    answer = parts.cycle.observer.generations(job)
    if isinstance(answer, Missing):
        raise Stop.because(Exit.HOLDING, [answer.report])
    return answer.value


def generation_of(parts: Backups, job: Job, name: str | None) -> Generation:
    """The generation of this name; without one the newest that is proven, or the newest of all. Raises Stop."""
    there = generations_of(parts, job)
    proven = [each for each in there if each.verdict is Verdict.PROVEN]
    chosen = [each for each in there if each.name == name] if name else (proven or list(there))
    if not chosen:
        report = NoGeneration(job.name, name or "at all", tuple(str(each.name) for each in there))
        raise Stop.because(Exit.FAILED, [report])
    return chosen[-1]


def when(moment: datetime) -> str:
    """A moment for people, in local time."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"
