"""`labstore exports adopt`: take over the files that the original nfs-exportd wrote."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from labstore.assembly import ExportsRoom, exports_lock, exports_state
from labstore.cli.exit import Exit, Stop
from labstore.cli.options import Chosen, json_option, site_options
from labstore.cli.output import emit, folded, heading, line
from labstore.exports.adoption import SUFFIX, Adoption, adoption
from labstore.exports.backends.knfsd import FILE_LIMIT, Knfsd
from labstore.model.exports import Owner
from labstore.ports.export_server import Served
from labstore.reconcile.facts import Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.system.files import make_directory, read_limited, sync_directory, write_atomic
from labstore.telemetry.exports import export_words
from labstore.telemetry.words import plural

PATIENCE = 30.0


@dataclass(frozen=True)
class Takeover:
    """One cluster's kernel server, what it stores, and what would be taken over."""

    room: ExportsRoom
    server: Knfsd
    served: Served
    adoption: Adoption


@click.command()
@click.option("--apply", "do", is_flag=True, help="Do it; otherwise only what would be taken over is shown.")
@click.option("--yes", is_flag=True, help="The same as --apply.")
@json_option
@site_options
def adopt(do: bool, yes: bool, as_json: bool, chosen: Chosen) -> None:
    """Take over the files in exports.d that the original nfs-exportd wrote. Nobody loses access by it.

    Shows what would be taken over, file by file. With --apply the originals are copied below the state directory and
    replaced, one by one, by links of labstore with the same content. Files that cannot be read strictly, or of which
    the site file declares nothing, stay as they are.

    \b
    Example:
      labstore exports adopt --apply
    """
    room = chosen.room()
    room.dry = not (do or yes)
    if room.dry:
        found = _look(room)
        emit(_words(found.adoption, None)) if as_json else _screen(found.adoption, _directory(found))
        return
    found, originals = take_over(room)
    if as_json:
        emit(_words(found.adoption, originals))
    else:
        _done(found.adoption, originals)
    sys.exit(Exit.DONE)


def take_over(room: ExportsRoom) -> tuple[Takeover, Path | None]:
    """Take over what can be; also where the originals are now, None where there was nothing to take. Raises Locked,
    StepFailed, OSError, sqlite3.Error."""
    with exports_lock(room.source(), room.cluster, "exports adopt", PATIENCE):
        found = _look(room)
        return found, _carry_out(found) if found.adoption.taken else None


def _look(room: ExportsRoom) -> Takeover:
    cycle = room.cycle()
    server = cycle.observer.server
    if not isinstance(server, Knfsd):
        raise click.UsageError(f"Cluster {room.cluster} does not run the kernel's NFS server: it has no exports.d.")
    cycle.observer.history.settle(_number(server)) if not room.dry else None
    served = server.observe()
    if isinstance(served, Missing):
        raise Stop.because(Exit.FAILED, [served.report])
    wanted = room.source().wanted(room.cluster)
    now = room.clock.now()
    found = adoption(server.of_others(), served.value.stored, cycle.observer.granted(), wanted, now)
    return Takeover(room, server, served.value, found)


def _number(server: Knfsd) -> int | None:
    served = server.observe()
    return served.value.generation if isinstance(served, Fact) else None


def _carry_out(found: Takeover) -> Path:
    """Copy the originals, then let links of ours take their place. Returns where the copies are."""
    room, history = found.room, found.room.cycle().observer.history
    now = room.clock.now()
    kept = exports_state(room.source(), room.cluster) / "adopted" / now.strftime("%Y%m%dT%H%M%S.%fZ")
    _copy(_directory(found), found.adoption.taken, kept)
    number = found.served.generation
    if number is None or found.adoption.table != found.served.stored:
        facts = {"adopted": sorted(found.adoption.taken)}
        number = history.begin(found.adoption.grants, now, room.who, "adopt", facts, _steps(found.adoption))
    try:
        found.server.take_over(found.adoption.taken.keys(), found.adoption.table, number)
    except StepFailed:
        history.settle(_number(found.server))
        raise
    history.settle(number)
    return kept


def _copy(directory: Path, owners: Iterable[Owner], target: Path) -> None:
    make_directory(target, 0o750)
    for owner in owners:
        write_atomic(target / (owner + SUFFIX), read_limited(directory / (owner + SUFFIX), FILE_LIMIT))
    sync_directory(target.parent)


def _steps(found: Adoption) -> list[dict[str, Any]]:
    return [
        {
            "key": f"{export.path} adopt",
            "verb": "change",
            "owner": str(owner),
            "path": str(export.path),
            "adds": [str(client) for client in export.clients],
            "removes": {},
            "why": "found in exports.d",
        }
        for owner, exports in found.taken.items()
        for export in exports
    ]


def _directory(found: Takeover) -> Path:
    return found.server.paths.exports_dir


# --- screens ---------------------------------------------------------------------------------------------------------


def _words(found: Adoption, originals: Path | None) -> dict[str, Any]:
    return {
        "taken": [
            {
                "file": owner + SUFFIX,
                "exports": [{**export_words(export), "clients": list(export.clients)} for export in exports],
            }
            for owner, exports in found.taken.items()
        ],
        "left": [{"file": name, "reason": reason} for name, reason in found.left.items()],
        "notes": list(found.notes),
        "originals": str(originals) if originals else None,
    }


def _screen(found: Adoption, directory: Path) -> None:
    exports = sum(len(each) for each in found.taken.values())
    if not found.taken and not found.left:
        line(f"{directory}: every file is labstore's already; nothing to take over")
        return
    what = f"{plural(len(found.taken), 'file')}, {plural(exports, 'export')}, {plural(found.clients, 'client')}"
    heading(f"{directory}: to take over: {what}")
    line("nobody loses access by it")
    for owner, each in found.taken.items():
        for export in each:
            count = "everybody" if export.world else plural(len(export.clients), "client")
            line(f"+ {owner}{SUFFIX}  {export.path}  {count}", fg="green")
    _rest(found)
    if found.taken:
        line()
        line("to do it: labstore exports adopt --apply")


def _rest(found: Adoption) -> None:
    if found.left:
        line()
        heading("stays as it is")
        for name, reason in found.left.items():
            folded(f"{name}: {reason}", 2)
    if found.notes:
        line()
        heading("the next plan will want to change")
        for note in found.notes:
            folded(note, 2)


def _done(found: Adoption, originals: Path | None) -> None:
    if originals is None:
        line("nothing to take over")
    else:
        line(f"took over {plural(len(found.taken), 'file')}; the originals are in", bold=True)
        line(f"  {originals}")
    _rest(found)
    if originals is not None:
        line()
        line("see what follows: labstore exports plan")
