"""`labstore backup` and `labstore snapshots`: jobs, generations, proof, looking into them and restoring."""

from __future__ import annotations

import os
from dataclasses import asdict
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import click

from labstore.backup.cycle import step_words
from labstore.backup.source_nodes import STATUS, status_text
from labstore.cli.backup_parts import Backups, agent, backups, snapshots_at
from labstore.cli.blocksync import size, span
from labstore.cli.exit import Exit, Stop, of_state
from labstore.cli.options import Chosen, Told, json_option, override_options, site_options
from labstore.cli.output import Column, emit, line, reports, table
from labstore.formats.units import Unfit, duration
from labstore.model.backup import Generation
from labstore.model.backup_settings import BackupSettings, Job, path_of, volume
from labstore.model.block_sync import DevicePath, Role
from labstore.model.site import Site
from labstore.ports.snapshots import Snapshot
from labstore.reconcile.facts import Missing
from labstore.reconcile.record import Record
from labstore.reports.backup import NoGeneration
from labstore.reports.blocksync import NoHelper, SyncFailed
from labstore.reports.report import Override


@click.group(cls=Told)
def backup() -> None:
    """Backups: what is copied, what is kept, and how to get it back.

    Reading is always safe. What writes shows first what it would do.

    \b
    Examples:
      labstore backup show
      labstore backup plan
      labstore backup mount tools
      labstore backup restore tools project/x --to /srv/restored
    """


# --- what is needed --------------------------------------------------------------------------------------------------


def _site(chosen: Chosen) -> tuple[Site, BackupSettings]:
    site = chosen.source()()
    if site.backup is None:
        raise Stop(Exit.CONFIGURATION, f"error: {chosen.file} has no `backup:`", "labstore config explain backup")
    return site, site.backup


def _parts(chosen: Chosen) -> tuple[Backups, BackupSettings]:
    site, settings = _site(chosen)
    try:
        return backups(site, settings, chosen.file), settings
    except ImportError as error:
        raise Stop.because(Exit.CONFIGURATION, [NoHelper(error.name or "blake3")]) from None


def _job(settings: BackupSettings, name: str) -> Job:
    found = settings.jobs.get(name)  # type: ignore[call-overload]
    if found is None:
        known = ", ".join(settings.jobs) or "none"
        raise Stop(Exit.USAGE, f"error: there is no job {name}", f"known are: {known}")
    assert isinstance(found, Job)
    return found


def _generations(parts: Backups, job: Job) -> tuple[Generation, ...]:
    answer = parts.cycle.observer.generations(job)
    if isinstance(answer, Missing):
        raise Stop.because(Exit.HOLDING, [answer.report])
    return answer.value


def _generation(parts: Backups, job: Job, name: str | None) -> Generation:
    """The generation of this name, or the newest that is proven. Raises Stop."""
    there = _generations(parts, job)
    proven = [each for each in there if each.verdict.value == "proven"]
    chosen = [each for each in there if each.name == name] if name else (proven or list(there))[-1:]
    if not chosen:
        raise Stop.because(
            Exit.FAILED, [NoGeneration(job.name, name or "at all", tuple(map(str, (g.name for g in there))))]
        )
    return chosen[-1]


# --- the cycle -------------------------------------------------------------------------------------------------------


@backup.command()
@click.argument("jobs", nargs=-1)
@click.option("--now", is_flag=True, help="As if a new generation were asked for.")
@json_option
@site_options
def plan(jobs: tuple[str, ...], now: bool, as_json: bool, chosen: Chosen) -> None:
    """Show what `apply` would do: copies that are due, proofs, and what goes. Safe at any time."""
    parts, settings = _parts(chosen)
    proposal = parts.cycle.propose([_job(settings, name).name for name in jobs], now)
    words = [step_words(step) for step in proposal.plan.steps]
    if as_json:
        said = [refusal.report.to_dict() for refusal in proposal.plan.refusals]
        emit({"steps": words, "untouched": dict(proposal.plan.untouched), "refusals": said})
        return
    for step in words:
        line(f"{step['verb']:7} {step['key']}: {step['why']}")
    for key, why in proposal.plan.untouched.items():
        line(f"leave   {key}: {why}")
    if not words and not proposal.plan.refusals:
        line("nothing is to be done")
    reports([*proposal.plan.reports, *(refusal.report for refusal in proposal.plan.refusals)])


@backup.command()
@click.argument("jobs", nargs=-1)
@json_option
@override_options(Override.ALLOW_MASS_REMOVAL)
@site_options
def apply(jobs: tuple[str, ...], as_json: bool, overrides: frozenset[Override], chosen: Chosen) -> None:
    """Do what is due: the timer calls this."""
    _cycle(jobs, False, as_json, overrides, chosen)


@backup.command()
@click.argument("jobs", nargs=-1, required=True)
@json_option
@override_options(Override.ALLOW_MASS_REMOVAL)
@site_options
def run(jobs: tuple[str, ...], as_json: bool, overrides: frozenset[Override], chosen: Chosen) -> None:
    """Make a new generation of JOBS now, whether one is due or not."""
    _cycle(jobs, True, as_json, overrides, chosen)


def _cycle(jobs: tuple[str, ...], asked: bool, as_json: bool, overrides: frozenset[Override], chosen: Chosen) -> None:
    parts, settings = _parts(chosen)
    record = parts.cycle.run([_job(settings, name).name for name in jobs], asked, overrides)
    emit(record.to_dict()) if as_json else _told(record)
    raise SystemExit(int(of_state(record.state)))


def _told(record: Record) -> None:
    for result in record.results:
        line(f"{result.outcome.value:8} {result.key}")
    if not record.results and not record.reports:
        line("nothing was to be done")
    reports(record.reports)


@backup.command()
@click.argument("job", required=False)
@json_option
@site_options
def show(job: str | None, as_json: bool, chosen: Chosen) -> None:
    """Show jobs and the age of their newest proven generation; with JOB its generations. Safe at any time."""
    parts, settings = _parts(chosen)
    if job is not None:
        _show_job(parts, _job(settings, job), as_json)
        return
    rows = []
    now = parts.cycle.observer.clock.now()
    for each in settings.jobs.values():
        there = _generations(parts, each)
        proven = [g.at for g in there if g.verdict.value == "proven"]
        age = (now - max(proven)).total_seconds() if proven else None
        rows.append({"job": each.name, "source": each.source, "generations": len(there), "proven_age": age,
                     "late": age is None or age > each.alert_after})  # fmt: skip
    if as_json:
        emit(rows)
        return
    columns = (Column("job"), Column("source"), Column("generations", right=True), Column("newest proven"), Column(""))
    shown = (
        (r["job"], r["source"], r["generations"], _age(r["proven_age"]), "LATE" if r["late"] else "") for r in rows
    )
    table(columns, shown)


def when(moment: datetime) -> str:
    """A moment for people, in local time."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S}"


def _age(seconds: Any) -> str:
    return "never" if seconds is None else f"{span(float(seconds))} ago"


def _show_job(parts: Backups, job: Job, as_json: bool) -> None:
    there = _generations(parts, job)
    if as_json:
        emit([asdict(each) | {"made": parts.manifests.read(job.name, each.name)} for each in there])
        return
    columns = (Column("generation"), Column("made"), Column("from"), Column("changed", right=True), Column("proof"))
    table(columns, ((g.name, when(g.at), g.node, size(g.changed), g.verdict.value) for g in there))


@backup.command()
@click.argument("job")
@click.argument("generation", required=False)
@site_options
def prove(job: str, generation: str | None, chosen: Chosen) -> None:
    """Show once more that a generation restores (the newest, if none is named)."""
    parts, settings = _parts(chosen)
    wanted = _job(settings, job)
    proof = parts.cycle.applier.prove(wanted, _generation(parts, wanted, generation).name)
    for check, found in proof.checks.items():
        line(f"{check}: {found}")


# --- looking and restoring -------------------------------------------------------------------------------------------


@backup.command()
@click.argument("job")
@click.argument("generation", required=False)
@click.option("--for", "time", help="How long (12h, 3d); backup.mount_for otherwise.")
@site_options
def mount(job: str, generation: str | None, time: str | None, chosen: Chosen) -> None:
    """Mount a generation read-only, to look into it. It goes away by itself and is in nobody's way."""
    parts, settings = _parts(chosen)
    wanted = _job(settings, job)
    try:
        seconds = duration(time) if time else settings.mount_for
    except Unfit as error:
        raise Stop(Exit.USAGE, f"error: {error}", error.remedy) from None
    until = parts.cycle.observer.clock.now() + timedelta(seconds=seconds)
    made = parts.mounts.mount(wanted.name, _generation(parts, wanted, generation).name, until)
    line(f"{made.point} until {when(made.until)}")


@backup.command()
@click.argument("job")
@click.argument("generation", required=False)
@site_options
def unmount(job: str, generation: str | None, chosen: Chosen) -> None:
    """Unmount a generation, or all of JOB that are mounted."""
    parts, settings = _parts(chosen)
    name = _job(settings, job).name
    for each in parts.mounts.all():
        if each.job == name and generation in (None, each.generation):
            parts.mounts.unmount(each.point)
            line(f"{each.point} is gone")


@backup.command(name="ls")
@click.argument("job")
@click.argument("path", required=False, default="")
@click.option("--generation", help="Which one; the newest proven otherwise.")
@site_options
def list_files(job: str, path: str, generation: str | None, chosen: Chosen) -> None:
    """List a directory of a generation. It is mounted for an hour."""
    from labstore.backup.restore import within  # noqa: PLC0415 - used by this command alone

    parts, settings = _parts(chosen)
    wanted = _job(settings, job)
    until = parts.cycle.observer.clock.now() + timedelta(hours=1)
    made = parts.mounts.mount(wanted.name, _generation(parts, wanted, generation).name, until)
    folder = Path(made.point) / within(Path(made.point), path) if path.strip("/.") else Path(made.point)
    for entry in sorted(os.scandir(folder), key=lambda each: each.name):
        line(entry.name + ("/" if entry.is_dir(follow_symlinks=False) else ""))


@backup.command()
@click.argument("job")
@click.argument("paths", nargs=-1)
@click.option("--generation", help="Which one; the newest proven otherwise.")
@click.option("--to", type=click.Path(path_type=Path), help="A directory into which PATHS are copied.")
@click.option("--onto", help="A device that nobody uses, which becomes the whole volume.")
@site_options
def restore(
    job: str, paths: tuple[str, ...], generation: str | None, to: Path | None, onto: str | None, chosen: Chosen
) -> None:
    """Bring back files or directories (--to), or the whole volume (--onto)."""
    parts, settings = _parts(chosen)
    if (onto is None) == (to is None) or bool(paths) != (to is not None):
        raise Stop(Exit.USAGE, "error: PATHS go --to a directory, a whole volume goes --onto a device", "--help")
    wanted = _job(settings, job)
    found = _generation(parts, wanted, generation)
    if to is not None:
        parts.restorer.files(wanted, found.name, paths, to)
        line(f"{len(paths)} of {wanted.name} as of {when(found.at)} are in {to}")
        return
    try:
        device = DevicePath(onto or "")
    except ValueError as error:
        raise Stop(Exit.USAGE, f"error: {error}", "write its absolute path") from None
    result = parts.restorer.volume(wanted, found.name, device, parts.snapshots_of(wanted))
    took = f"{size(result.size)} in {span(result.seconds)}, all read back"
    line(f"{device} is {wanted.name} as of {when(found.at)}; {took}")


# --- the source's side -----------------------------------------------------------------------------------------------


@backup.command()
@click.option("--job", "name", required=True)
@click.argument("word", required=False)
@site_options
def serve(name: str, word: str | None, chosen: Chosen) -> None:
    """The source's side of one job: what a backup key's forced command runs.

    \b
      restrict,command="labstore backup serve --job tools" ssh-ed25519 AAAA...

    Of what the caller asks ssh to run, only whether it ends in the word `status` is looked at.
    """
    site, settings = _site(chosen)
    job, state = _job(settings, name), site.state_dir / "backup"
    if word == STATUS or os.environ.get("SSH_ORIGINAL_COMMAND", "").endswith(f" {STATUS}"):
        click.echo(status_text(agent(site, job, state).status()))
        return
    try:
        from labstore.blocksync.serve import Jail  # noqa: PLC0415 - needs the extra `backup`
        from labstore.blocksync.serve import serve as be_called  # noqa: PLC0415 - as above
    except ImportError as error:
        raise Stop.because(Exit.CONFIGURATION, [NoHelper(error.name or "blake3")]) from None
    jail = Jail(
        Role.SOURCE, frozenset({path_of(job.source)}), label=str(job.name), provide=agent(site, job, state).provide
    )
    try:
        be_called(0, 1, state / "blocksync", jail)
    except SyncFailed as failure:
        click.echo(failure.report.message(), err=True)
        raise SystemExit(int(Exit.FAILED)) from None


# --- snapshots -------------------------------------------------------------------------------------------------------


@click.group(cls=Told)
def snapshots() -> None:
    """Snapshots of a volume: GROUP/NAME, or the path of an image. Only those that labstore took are ever removed."""


def _volume(text: str) -> Any:
    try:
        return volume(text)
    except ValueError as error:
        raise Stop(Exit.USAGE, f"error: {error}", "write GROUP/NAME, or an absolute path") from None


STATE = Path("/var/lib/labstore/backup")


def _found(where: str) -> tuple[Any, tuple[Snapshot, ...]]:
    made = snapshots_at(_volume(where), STATE)
    answer = made.snapshots()
    if isinstance(answer, Missing):
        raise Stop.because(Exit.HOLDING, [answer.report])
    return made, answer.value


@snapshots.command(name="show")
@click.argument("where", metavar="VOLUME")
@json_option
def show_snapshots(where: str, as_json: bool) -> None:
    """Show the snapshots of VOLUME, ours and others', and how full they are. Safe at any time."""
    _, there = _found(where)
    if as_json:
        emit([asdict(each) | {"ours": each.ours} for each in there])
        return
    columns = (Column("snapshot"), Column("taken"), Column("full", right=True), Column("whose"))
    full = ("overflowed" if not s.valid else "" if s.full is None else f"{s.full:.0%}" for s in there)
    table(columns, ((s.name, when(s.created), f, "ours" if s.ours else "") for s, f in zip(there, full, strict=True)))


@snapshots.command()
@click.argument("where", metavar="VOLUME")
@click.argument("name")
@click.option("--room", help="How large it may become (20G); only thick snapshots need it.")
@click.option("--max-age", help="An older one of ours (1d) is replaced; a younger one is left as it is.")
def ensure(where: str, name: str, room: str | None, max_age: str | None) -> None:
    """See that there is a snapshot NAME of VOLUME."""
    from labstore.backup.source_agent import room_for  # noqa: PLC0415 - used by this command alone
    from labstore.blocksync.throttle import amount  # noqa: PLC0415 - as above
    from labstore.system.clock import SystemClock  # noqa: PLC0415 - as above

    made, there = _found(where)
    try:
        wanted, oldest = (amount(room) if room else None), duration(max_age) if max_age else None
    except ValueError as error:
        raise Stop(Exit.USAGE, f"error: {error}", "write 20G, 1d") from None
    before = next((each for each in there if each.name == name), None)
    if before is not None:
        age = (SystemClock().now() - before.created).total_seconds()
        if before.valid and (oldest is None or age < oldest):
            line(f"{name} is there, {span(age)} old")
            return
        made.remove(name)
    made.take(name, {"job": "by-hand", "kind": "manual"}, room_for(made, wanted))
    line(f"{name} was taken")


@snapshots.command()
@click.argument("where", metavar="VOLUME")
@click.argument("name")
def remove(where: str, name: str) -> None:
    """Remove a snapshot of ours; anything else is refused."""
    made, _ = _found(where)
    made.remove(name)
    line(f"{name} is gone")


if __name__ == "__main__":  # the child that reads a source on this machine, without loading other commands
    backup(prog_name="labstore backup")
