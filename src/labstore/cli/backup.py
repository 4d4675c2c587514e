"""`labstore backup`: what is copied, what is kept of it, whether it restores, and getting it back."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict
from typing import Any

import click

from labstore.backup.cycle import step_words
from labstore.backup.plan import ahead
from labstore.cli.backup_asked import generation_of, generations_of, in_json, job_of, jobs_of, parts_of, when
from labstore.cli.backup_looking import list_files, mount, restore, unmount
from labstore.cli.backup_parts import Backups, keep_proof, keep_record
from labstore.cli.backup_serve import serve
from labstore.cli.beside import interruptible, limits_from, shown, size, span
from labstore.cli.exit import Exit, Stop, of_state
from labstore.cli.options import Chosen, Told, json_option, override_options, site_options
from labstore.cli.output import Column, emit, line, reports, table, waiting
from labstore.model.backup import Generation, Sort, Verdict
from labstore.model.backup_settings import BackupSettings, Job, JobName
from labstore.model.block_sync import PERMIT_HELP, Permit
from labstore.reconcile.plan import Verb
from labstore.reconcile.record import Outcome, Record, State, state_of
from labstore.reports.backup import Waiting
from labstore.reports.report import Override

overrides_option = override_options(Override.ALLOW_MASS_REMOVAL)


@click.group(cls=Told)
def backup() -> None:
    """Backups: what is copied, what is kept, whether it restores, and how to get it back.

    Reading is always safe. A timer runs `apply`; docs/operations/backup.md says what to do when something is lost.

    \b
    Examples:
      labstore backup show
      labstore backup plan
      labstore backup mount tools
      labstore backup restore tools shared/tools/project/x --to /srv/restored
    """


for command in (mount, unmount, list_files, restore, serve):
    backup.add_command(command)


# --- the cycle -------------------------------------------------------------------------------------------------------


@backup.command()
@click.argument("jobs", nargs=-1)
@click.option("--now", is_flag=True, help="As if a new generation were asked for: what `run` would do.")
@json_option
@overrides_option
@site_options
@in_json
def plan(jobs: tuple[str, ...], now: bool, as_json: bool, overrides: frozenset[Override], chosen: Chosen) -> None:
    """Show what `apply` would do: copies that are due, proofs, and what goes. Safe at any time.

    \b
    Example:
      labstore backup plan tools --now
    """
    parts, settings = parts_of(chosen)
    with waiting("asking the sources"):
        proposal = parts.cycle.propose(jobs_of(settings, jobs), now, overrides)
    found = proposal.plan
    said = [*found.reports, *(refusal.report for refusal in found.refusals)]
    state = state_of(found, (), found.reports, missing=False)
    if as_json:
        refusals = [{"keys": list(each.keys), "report": each.report.to_dict()} for each in found.refusals]
        emit(
            {
                "state": state.value,
                "steps": [step_words(step) for step in found.steps],
                "untouched": dict(found.untouched),
                "refusals": refusals,
                "reports": [report.to_dict() for report in found.reports],
            }
        )
    else:
        for step in found.steps:
            line(f"{step.verb.value:7} {step.key}: {step.why}")
        for key, why in found.untouched.items():
            line(f"leave   {key}: {why}")
        if not found.steps and not said:
            line("nothing is to be done")
        reports(said)
    raise SystemExit(int(of_state(state)))


@backup.command()
@click.argument("jobs", nargs=-1)
@json_option
@overrides_option
@site_options
@in_json
def apply(jobs: tuple[str, ...], as_json: bool, overrides: frozenset[Override], chosen: Chosen) -> None:
    """Do what is due, job by job: the timer runs this.

    \b
    Example:
      labstore backup apply
    """
    _cycle(jobs, False, as_json, overrides, chosen)


@backup.command()
@click.argument("jobs", nargs=-1, required=True)
@click.option(
    "--permit",
    type=click.Choice([str(each) for each in Permit]),
    multiple=True,
    help="Once, where a run was refused: " + "; ".join(f"{each}: {PERMIT_HELP[each]}" for each in Permit) + ".",
)
@json_option
@overrides_option
@site_options
@in_json
def run(
    jobs: tuple[str, ...], permit: tuple[str, ...], as_json: bool, overrides: frozenset[Override], chosen: Chosen
) -> None:
    """Make a new generation of JOBS now, whether one is due or not.

    What an interrupted run has written and read back is not sent again. Ctrl-C ends it orderly.

    \b
    Example:
      labstore backup run tools
    """
    _cycle(jobs, True, as_json, overrides, chosen, frozenset(map(Permit, permit)))


def _cycle(
    names: tuple[str, ...],
    asked: bool,
    as_json: bool,
    overrides: frozenset[Override],
    chosen: Chosen,
    permits: frozenset[Permit] = frozenset(),
) -> None:
    """Each job with a record of its own, so that what one says is not gone when the next one ends."""
    parts, settings = parts_of(chosen, permits)
    records: dict[JobName, Record] = {}
    with interruptible(parts.engine):
        for name in jobs_of(settings, names):
            with limits_from(settings.control, parts.engine, settings.jobs[name].limits), shown(parts.engine):
                records[name] = parts.cycle.run((name,), asked, overrides)
            keep_record(parts, records[name], name, chosen.node_name)
            if not as_json:
                _told(records[name])
    if as_json:
        emit([record.to_dict() | {"job": name} for name, record in records.items()])
    raise SystemExit(int(_status(tuple(records.values()))))


def _status(records: Sequence[Record]) -> Exit:
    worst = max((record.state for record in records), key=tuple(State).index, default=State.CONVERGED)
    locked = any(isinstance(report, Waiting) for record in records for report in record.reports)
    return Exit.LOCKED if locked and worst is State.HOLDING else of_state(worst)


_DONE = {(Verb.ADD, Sort.GENERATION): "made", (Verb.CHANGE, Sort.GENERATION): "proven"}
_DONE |= {(Verb.REMOVE, Sort.GENERATION): "removed", (Verb.REMOVE, Sort.MOUNT): "unmounted"}


def _told(record: Record) -> None:
    kinds = {str(step["key"]): (Verb(step["verb"]), Sort(step["what"])) for step in record.steps}
    for result in record.results:
        line(f"{_became(kinds.get(result.key), result.outcome):11} {result.key}")
    if not record.results and not record.reports:
        line("nothing was to be done")
    reports(record.reports)


def _became(kind: tuple[Verb, Sort] | None, outcome: Outcome) -> str:
    """What became of a generation or a mount, in a word or two; one that failed its proof was made all the same."""
    if kind is None or (outcome is Outcome.FAILED and kind[0] is Verb.ADD):
        return outcome.value
    if outcome is Outcome.SKIPPED:
        return "kept"
    return _DONE[kind] if outcome is Outcome.DONE else f"not {_DONE[kind]}"


# --- what is there ---------------------------------------------------------------------------------------------------


@backup.command()
@click.argument("job", required=False)
@json_option
@site_options
@in_json
def show(job: str | None, as_json: bool, chosen: Chosen) -> None:
    """Show jobs and the age of their newest proven generation; with JOB its generations. Safe at any time.

    \b
    Example:
      labstore backup show tools
    """
    parts, settings = parts_of(chosen)
    if job is not None:
        _show_job(parts, job_of(settings, job), as_json)
    else:
        _show_jobs(parts, settings, as_json)


def _show_jobs(parts: Backups, settings: BackupSettings, as_json: bool) -> None:
    rows = [_job_words(parts, job) for job in settings.jobs.values()]
    if as_json:
        emit(rows)
        return
    if not rows:
        line("no job is declared")
        return
    columns = (Column("job"), Column("source", loose=True), Column("kept", right=True), Column("newest proven"))
    ages = (f"{span(row['proven_age'])} ago" if row["proven_age"] is not None else "never" for row in rows)
    late = ("  LATE" if row["late"] else "" for row in rows)
    table(
        columns,
        ((r["job"], r["source"], r["generations"], a + m) for r, a, m in zip(rows, ages, late, strict=True)),
    )


def _job_words(parts: Backups, job: Job) -> dict[str, Any]:
    there = generations_of(parts, job)
    now = parts.cycle.observer.clock.now()
    proven = [each.at for each in there if each.verdict is Verdict.PROVEN and not ahead(each, now)]
    age = (now - max(proven)).total_seconds() if proven else None
    return {
        "job": job.name,
        "source": str(job.source),
        "target": str(job.target),
        "generations": len(there),
        "newest_proven": max(proven, default=None),
        "proven_age": age,
        "alert_after": job.alert_after,
        "late": age is None or age > job.alert_after,
    }


def _show_job(parts: Backups, job: Job, as_json: bool) -> None:
    there = generations_of(parts, job)
    if as_json:
        emit([_generation_words(parts, job, each) for each in there])
        return
    if not there:
        line(f"{job.name} has no generation yet")
        return
    columns = (Column("generation"), Column("made"), Column("from"), Column("changed", right=True), Column("proof"))
    table(columns, ((g.name, when(g.at), g.node, size(g.changed), g.verdict.value) for g in there))
    for each in parts.mounts.all():
        if each.job == job.name:
            line(f"{each.generation} is mounted at {each.point} until {when(each.until)}")


def _generation_words(parts: Backups, job: Job, generation: Generation) -> dict[str, object]:
    return asdict(generation) | {"at": generation.at, "made": parts.manifests.read(job.name, generation.name)}


@backup.command()
@click.argument("job")
@click.argument("generation", required=False)
@json_option
@site_options
@in_json
def prove(job: str, generation: str | None, as_json: bool, chosen: Chosen) -> None:
    """Show once more that a generation restores (the newest, if none is named).

    One that does not is no proven one from then on, and `labstore check backup` says so.

    \b
    Example:
      labstore backup prove tools
    """
    parts, settings = parts_of(chosen)
    wanted = job_of(settings, job)
    name = generation or max((each.name for each in generations_of(parts, wanted)), default=None)
    with waiting("proving"):
        proof, record = parts.cycle.prove(wanted.name, generation_of(parts, wanted, name).name)
    keep_proof(parts, record, wanted.name, chosen.node_name)
    if proof is None:
        raise Stop.because(Exit.FAILED, record.reports)
    if as_json:
        emit({"job": wanted.name, "generation": proof.generation, "at": proof.at, "held": dict(proof.checks)})
        return
    for check, held in proof.checks.items():
        line(f"{check}: {held}")
