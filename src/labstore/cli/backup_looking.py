"""`labstore backup mount|unmount|ls|restore`: looking into generations, and bringing back what is in them."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

import click

from labstore.cli.backup_asked import generation_of, in_json, job_of, parts_of, when
from labstore.cli.backup_parts import Backups
from labstore.cli.beside import interruptible, shown, size, span
from labstore.cli.blocksync import REMOTE, ssh_words
from labstore.cli.exit import Exit, Stop
from labstore.cli.options import Chosen, json_option, site_options
from labstore.cli.output import emit, line, waiting
from labstore.formats.long_time import long_time
from labstore.formats.units import Unfit
from labstore.model.backup import Generation, RestoreMount
from labstore.model.backup_settings import Job
from labstore.model.block_sync import Permit, Place
from labstore.reconcile.runner import StepFailed
from labstore.reports.backup import RestoreHolds

_NAMED = 20
"""Files that were replaced are named, up to so many."""
generation_option = click.option("--generation", help="Which one; the newest that is proven otherwise.")


@click.command()
@click.argument("job")
@click.argument("generation", required=False)
@click.option("--for", "time", help="How long (12h, 3d); backup.mount_for otherwise.")
@json_option
@site_options
@in_json
def mount(job: str, generation: str | None, time: str | None, as_json: bool, chosen: Chosen) -> None:
    """Mount a generation read-only, to look into it. It goes away by itself and is in nobody's way.

    Without GENERATION the newest that is proven. What is mounted is a copy, so jobs run as ever.

    \b
    Example:
      labstore backup mount tools --for 12h
    """
    parts, settings = parts_of(chosen)
    wanted = job_of(settings, job)
    try:
        seconds = long_time(time) if time is not None else settings.mount_for
    except Unfit as error:
        raise Stop(Exit.USAGE, f"error: {error}", error.remedy) from None
    until = parts.cycle.observer.clock.now() + timedelta(seconds=seconds)
    with waiting("mounting a copy"):
        made = parts.mounts.mount(wanted.name, generation_of(parts, wanted, generation).name, until)
    emit(_words(made)) if as_json else line(f"{made.point} until {when(made.until)}")


@click.command()
@click.argument("job")
@click.argument("generation", required=False)
@json_option
@site_options
@in_json
def unmount(job: str, generation: str | None, as_json: bool, chosen: Chosen) -> None:
    """Unmount a generation, or all of JOB that are mounted.

    \b
    Example:
      labstore backup unmount tools
    """
    parts, settings = parts_of(chosen)
    theirs = [each for each in parts.mounts.all() if each.job == job]
    if not theirs:
        job_of(settings, job)  # one that is not in the site file any more may still have mounts, and only then
    going = [each for each in theirs if generation in (None, each.generation)]
    for each in going:
        parts.mounts.unmount(each.point)
        if not as_json:
            line(f"{each.point} is gone")
    if as_json:
        emit([_words(each) for each in going])
    elif not going:
        line("nothing of it is mounted")


def _words(mount: RestoreMount) -> dict[str, object]:
    return {"job": mount.job, "generation": mount.generation, "point": mount.point, "until": mount.until}


@click.command(name="ls")
@click.argument("job")
@click.argument("path", required=False, default="")
@generation_option
@json_option
@site_options
@in_json
def list_files(job: str, path: str, generation: str | None, as_json: bool, chosen: Chosen) -> None:
    """List a directory of a generation. It is mounted for an hour.

    \b
    Example:
      labstore backup ls tools shared/tools/project
    """
    from labstore.backup.restore import within  # noqa: PLC0415 - used by this command alone

    parts, settings = parts_of(chosen)
    wanted = job_of(settings, job)
    found = generation_of(parts, wanted, generation)
    until = parts.cycle.observer.clock.now() + timedelta(hours=1)
    with waiting("mounting a copy"):
        point = Path(parts.mounts.mount(wanted.name, found.name, until).point)
    folder = point if path.rstrip("/") in ("", ".") else point / within(wanted.name, point, path)
    if folder.is_symlink() or not folder.is_dir():
        raise Stop(Exit.FAILED, f"error: {path} is no directory", f"labstore backup restore {job} {path} --to DIR")
    names = sorted(entry.name + ("/" if entry.is_dir(follow_symlinks=False) else "") for entry in os.scandir(folder))
    if as_json:
        emit({"job": wanted.name, "generation": found.name, "names": names})
        return
    for name in names:
        line(name)


@click.command()
@click.argument("job")
@click.argument("paths", nargs=-1)
@generation_option
@click.option("--to", type=click.Path(path_type=Path), help="A directory into which PATHS are copied.")
@click.option("--onto", help="A device that nobody uses, here or as [USER@]HOST:DEVICE; it becomes the whole volume.")
@click.option(
    "--permit",
    type=click.Choice([str(Permit.ADOPT_TARGET)]),
    help="With --onto: overwrite a device that holds something.",
)
@click.option(
    "--ssh-config", type=click.Path(resolve_path=True), help="The configuration file for ssh, with --onto HOST:DEVICE."
)
@click.option("--remote", default=REMOTE, show_default=True, help="What is run on that machine.")
@json_option
@site_options
@in_json
def restore(
    job: str,
    paths: tuple[str, ...],
    generation: str | None,
    to: Path | None,
    onto: str | None,
    permit: str | None,
    ssh_config: str | None,
    remote: str,
    as_json: bool,
    chosen: Chosen,
) -> None:
    """Bring back files or directories (--to), or the whole volume (--onto).

    Files keep owner, mode, times and attributes; nothing in the directory is removed, and what is replaced there is
    named. A device is refused while anybody uses it, where it is part of the backups, and, unless that is permitted,
    where it holds something; every byte that is written to it is read back. On another machine that wants your own ssh
    rights: the key of the backups opens nothing there but reading.

    \b
    Examples:
      labstore backup restore tools shared/tools/project/x --to /srv/restored
      labstore backup restore tools --onto root@nfs1:/dev/drbd/by-res/tools/0
    """
    parts, settings = parts_of(chosen)
    if (onto is None) == (to is None) or bool(paths) != (to is not None):
        raise Stop(Exit.USAGE, "error: PATHS go --to a directory, a whole volume goes --onto a device", "--help")
    wanted = job_of(settings, job)
    found = generation_of(parts, wanted, generation)
    if to is not None:
        _files(parts, wanted, found, paths, to, as_json)
    else:
        there = ssh_words({"identity": None, "port": None, "ssh_config": ssh_config, "remote": remote})
        given = frozenset({Permit(permit)}) if permit else frozenset[Permit]()
        _volume(parts, wanted, found, _place(onto or ""), there, given, as_json)


def _files(parts: Backups, job: Job, found: Generation, paths: tuple[str, ...], to: Path, as_json: bool) -> None:
    with waiting("copying"):
        replaced = parts.restorer.files(job, found.name, paths, to.absolute())
    if as_json:
        said = {"paths": list(paths), "to": str(to.absolute()), "replaced": list(replaced)}
        emit({"job": job.name, "generation": found.name, **said})
        return
    for name in replaced[:_NAMED]:
        line(f"replaced {to / name}")
    if len(replaced) > _NAMED:
        line(f"replaced {len(replaced) - _NAMED} more")
    count = "1 path" if len(paths) == 1 else f"{len(paths)} paths"
    line(f"{count} of {job.name} as of {when(found.at)} in {to}")


def _place(onto: str) -> Place:
    try:
        return Place.parse(onto)
    except ValueError as error:
        raise Stop(Exit.USAGE, f"error: {error}", "write its absolute path, or HOST:PATH") from None


def _volume(
    parts: Backups,
    job: Job,
    found: Generation,
    onto: Place,
    there: tuple[str, ...],
    given: frozenset[Permit],
    as_json: bool,
) -> None:
    snapshots, remote = parts.snapshots_of(job), there if onto.host else ()
    try:
        with interruptible(parts.engine), shown(parts.engine):
            result = parts.restorer.volume(job, found.name, onto, snapshots, remote, given)
    except StepFailed as failure:
        if isinstance(failure.report, RestoreHolds):
            raise Stop.because(Exit.REFUSED, [failure.report]) from None
        raise
    if as_json:
        said = {"size": result.size, "seconds": round(result.seconds, 3), "root": result.root}
        emit({"job": job.name, "generation": found.name, "onto": str(onto), **said})
        return
    took = f"{size(result.size)} in {span(result.seconds)}, all read back"
    line(f"{onto} is {job.name} as of {when(found.at)}; {took}")
