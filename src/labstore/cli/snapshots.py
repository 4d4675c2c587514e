"""`labstore snapshots`: the snapshots of one volume; those that labstore did not take are shown and left alone."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from labstore.backup.source_agent import room_for
from labstore.cli.backup_asked import when
from labstore.cli.backup_parts import snapshots_at
from labstore.cli.beside import span
from labstore.cli.exit import Exit, Stop
from labstore.cli.options import Told, json_option
from labstore.cli.output import Column, emit, line, table
from labstore.formats.units import Unfit, duration
from labstore.model.backup_settings import LogicalVolume, Volume, volume
from labstore.model.names import Name
from labstore.ports.snapshots import Snapshot, Snapshots
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reports.sources import SourceFailed
from labstore.system.clock import SystemClock

STATE = Path("/var/lib/labstore/backup")


class SnapshotName(Name):
    """What a person calls a snapshot, on the command line."""

    __slots__ = ()
    what = "snapshot's name"


BY_HAND = {"job": "by-hand", "kind": "manual"}
"""The tags of a snapshot that a person took: no job touches it."""


@click.group(cls=Told)
def snapshots() -> None:
    """Snapshots of a volume: show, ensure, remove.

    VOLUME is GROUP/NAME of a logical volume, thick or thin, or the path of an image file. Only snapshots that labstore
    took are ever removed.

    \b
    Examples:
      labstore snapshots show misc/tools
      labstore snapshots ensure misc/tools before-upgrade --room 200G
      labstore snapshots remove misc/tools before-upgrade
    """


@snapshots.command()
@click.argument("where", metavar="VOLUME")
@json_option
def show(where: str, as_json: bool) -> None:
    """Show the snapshots of VOLUME, ours and others', and how full they are. Safe at any time.

    \b
    Example:
      labstore snapshots show misc/tools
    """
    _, there = found(where)
    if as_json:
        emit([snapshot_words(each) for each in there])
        return
    if not there:
        line(f"{where} has no snapshot")
        return
    columns = (Column("snapshot", loose=True), Column("taken"), Column("full", right=True), Column("whose"))
    table(columns, ((each.name, when(each.created), _full(each), "ours" if each.ours else "") for each in there))


def snapshot_words(each: Snapshot) -> dict[str, object]:
    return asdict(each) | {"ours": each.ours}


def _full(each: Snapshot) -> str:
    return "overflowed" if not each.valid else "" if each.full is None else f"{each.full:.0%}"


@snapshots.command()
@click.argument("where", metavar="VOLUME")
@click.argument("name")
@click.option("--room", help="How large it may become (20G); only thick snapshots need it. [a fifth of VOLUME]")
@click.option("--max-age", help="An older one of ours (1d) is replaced; a younger one is left as it is.")
@json_option
def ensure(where: str, name: str, room: str | None, max_age: str | None, as_json: bool) -> None:
    """See that there is a snapshot NAME of VOLUME that has not overflowed.

    \b
    Example:
      labstore snapshots ensure misc/tools before-upgrade --room 200G --max-age 1d
    """
    try:
        wanted, oldest = size_of(room), duration(max_age) if max_age is not None else None
    except (ValueError, Unfit) as error:
        raise Stop(Exit.USAGE, f"error: {error}", "write 20G, 1d") from None
    name = name_of(name)
    made, there = found(where)
    taken = ensured(made, there, name, wanted, oldest)
    now = next(each for each in found(where)[1] if each.name == name)
    if as_json:
        emit(snapshot_words(now) | {"taken": taken})
        return
    age = (SystemClock().now() - now.created).total_seconds()
    line(f"{name} was taken" if taken else f"{name} is there, {span(age)} old")


def ensured(made: Snapshots, there: tuple[Snapshot, ...], name: str, room: int | None, oldest: float | None) -> bool:
    """Whether a snapshot was taken; one that is younger than `oldest` seconds is good as it is. Raises StepFailed."""
    before = next((each for each in there if each.name == name), None)
    if before is not None:
        age = (SystemClock().now() - before.created).total_seconds()
        if before.valid and (oldest is None or age < oldest):
            return False
        made.remove(name)
    made.take(name, BY_HAND, room_for(made, room))
    return True


@snapshots.command()
@click.argument("where", metavar="VOLUME")
@click.argument("name")
@json_option
def remove(where: str, name: str, as_json: bool) -> None:
    """Remove a snapshot of ours; anything else is refused.

    \b
    Example:
      labstore snapshots remove misc/tools before-upgrade
    """
    name = name_of(name)
    made, there = found(where)
    made.remove(name)
    was = any(each.name == name for each in there)
    emit({"name": name, "removed": was}) if as_json else line(f"{name} is gone" if was else f"there is no {name}")


# --- what is asked ---------------------------------------------------------------------------------------------------


def volume_of(text: str) -> Volume:
    """Raises Stop."""
    try:
        return volume(text)
    except ValueError as error:
        raise Stop(Exit.USAGE, f"error: {error}", "write GROUP/NAME, or an absolute path") from None


def name_of(text: str) -> str:
    """The name of a snapshot. Raises Stop."""
    try:
        return SnapshotName(text)
    except ValueError as error:
        raise Stop(Exit.USAGE, f"error: {error}", "name it as before-upgrade") from None


def found(where: str) -> tuple[Snapshots, tuple[Snapshot, ...]]:
    """The snapshots of a volume that is there. Raises Stop."""
    place = volume_of(where)
    made = snapshots_at(place, STATE)
    answer = made.snapshots()
    if isinstance(answer, Fact) and not answer.value:
        answer = _there(place, made, answer)
    if isinstance(answer, Missing):
        remedy = "look at its name; there are: lvs" if isinstance(place, LogicalVolume) else "look at its path"
        raise Stop(Exit.FAILED, f"error: {answer.report.message()}", remedy)
    return made, answer.value


def _there(place: Volume, made: Snapshots, none: Fact[tuple[Snapshot, ...]]) -> Answer[tuple[Snapshot, ...]]:
    """That a volume has no snapshot, unless there is no such volume."""
    if isinstance(place, LogicalVolume):
        volume = made.volume()
        return volume if isinstance(volume, Missing) else none
    if Path(place).is_file():
        return none
    return Missing(SourceFailed("files", place, "there is no such file"), none.source, none.at)


def size_of(text: str | None) -> int | None:
    """Bytes from `20G`. Raises ValueError."""
    if text is None:
        return None
    scale = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}.get(text[-1:].upper())
    if scale is None or not (text[:-1].isascii() and text[:-1].isdigit()):
        raise ValueError(f"{text!r} is no size")
    return int(text[:-1]) * scale
