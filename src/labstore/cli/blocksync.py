"""`labstore blocksync`: make one block device or image file equal to another, here or over ssh."""

from __future__ import annotations

import dataclasses
import os
import stat
from collections.abc import Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import click

from labstore.blocksync.command import ready
from labstore.blocksync.session import Job, Run
from labstore.cli.beside import interruptible, limits_from, shown, size, span
from labstore.cli.exit import Exit, Stop
from labstore.cli.output import emit, line
from labstore.model.block_sync import (
    BLOCK_SIZES,
    PERMIT_HELP,
    STATE_DIR,
    Algorithm,
    Limits,
    Options,
    Pass,
    Permit,
    Place,
    ReadMode,
    SyncResult,
)
from labstore.reports.blocksync import AlreadyRunning, NoHelper, Refusal, SyncFailed
from labstore.reports.report import Report
from labstore.telemetry.words import plural

SSH = (
    *("ssh", "-o", "BatchMode=yes", "-o", "ServerAliveInterval=15", "-o", "ServerAliveCountMax=4"),
    *("-o", "Compression=no", "-o", "ControlPath=none", "-x", "-a"),
)
REMOTE = "labstore blocksync serve"


class _Blocksync(click.Group):
    """`blocksync SOURCE TARGET` is `blocksync run SOURCE TARGET`."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        if args and args[0] not in self.commands:
            args = ["run", *args]
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        if args and args[0].startswith("-") and args[0] not in ("-h", "--help"):
            args = ["run", *args]
        return super().parse_args(ctx, args)


def _not_empty(ctx: click.Context | None, param: click.Parameter | None, value: Any) -> Any:
    """An empty word is a variable of a script that was not set."""
    if value == "":
        raise click.BadParameter("it is empty; leave it out, or say what it is", ctx, param)
    return value


class _Path(click.Path):
    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        return super().convert(_not_empty(ctx, param, value), param, ctx)


@click.group(cls=_Blocksync)
def blocksync() -> None:
    """Make one block device or image file equal to another, and prove it.

    SOURCE and TARGET are paths, one of them possibly on another machine: [USER@]HOST:PATH. Only what differs is sent,
    and everything that is written is read back from the device.

    \b
    Examples:
      labstore blocksync /dev/vg/home-snap backup1:/dev/backup/home
      labstore blocksync nfs1:/dev/vg/home-snap /dev/backup/home
      labstore blocksync old.img new.img

    \b
    What can be said to a copy (--full, --hints, --permit, limits, ssh):
      labstore blocksync run --help
    """


@blocksync.command(short_help="Sync SOURCE to TARGET (the word `run` may be left out).")
@click.argument("source")
@click.argument("target")
@click.option("--xxh3", is_flag=True, help="Compare with XXH3: faster, but whoever writes blocks can fool it.")
@click.option(
    "--block-size", type=click.Choice([str(size) for size in BLOCK_SIZES]), default="16384", show_default=True
)
@click.option("--read", type=click.Choice([str(mode) for mode in ReadMode]), default="auto", show_default=True,
              help="What the page cache has and else around it; always around it; through it.")  # fmt: skip
@click.option("--full", is_flag=True, help="Compare every block on both sides, whatever the index says.")
@click.option(
    "--scrub",
    type=click.FloatRange(0, 1),
    metavar="PART",
    default=1 / 30,
    help="Part of the unchanged target to read again. [1/30]",
)
@click.option("--hints", type=_Path(), help="A file on the source's machine that says where it changed.")
@click.option("--no-cache", is_flag=True, help="Keep no copy of the index at the source.")
@click.option(
    "--max-change",
    type=click.FloatRange(0, 1, min_open=True),
    metavar="PART",
    default=1.0,
    help="Stop when a larger part than this differs. [1.0]",
)
@click.option("--permit", type=click.Choice([str(each) for each in Permit]), multiple=True,
              help="Once: " + "; ".join(f"{each}: {PERMIT_HELP[each]}" for each in Permit) + ".")  # fmt: skip
@click.option("--send-limit", metavar="AMOUNT", help="Bytes per second on the way (20M).")
@click.option("--read-limit", metavar="AMOUNT", help="Bytes per second read on either side.")
@click.option("--reads-limit", metavar="NUMBER", help="Reads per second on either side.")
@click.option(
    "--control", type=_Path(dir_okay=False, path_type=Path), help="A file with limits, read whenever it changes."
)
@click.option("--label", callback=_not_empty, help="Name of the source's volume, where SOURCE is one of its snapshots.")
@click.option("--state", type=_Path(file_okay=False, path_type=Path), default=STATE_DIR, show_default=True,
              help="Where digest indexes are kept.")  # fmt: skip
@click.option("--identity", type=_Path(), help="The key for ssh.")
@click.option("--port", type=click.IntRange(1, 65535), help="The port for ssh.")
@click.option("--ssh-config", type=_Path(), help="The configuration file for ssh.")
@click.option(
    "--remote", callback=_not_empty, default=REMOTE, show_default=True, help="What to run on the other machine."
)
@click.option("--attempts", type=click.IntRange(1, 100), default=5, show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON; its fields are stable.")
def run(**given: Any) -> None:
    """Make TARGET equal to SOURCE.

    Limits can be changed while it runs: write them to the --control file (`send 20M`, `read 100M`, `reads 500`,
    `pause`), one per line. A run that was interrupted goes on where it was when it is started again.

    \b
    Example:
      labstore blocksync run /dev/vg/home-snap backup1:/dev/backup/home
    """
    if find_spec("blake3") is None:
        raise Stop.because(Exit.CONFIGURATION, [NoHelper("blake3")])
    work = Run(Job(**_job(given)))
    with interruptible(work), limits_from(given["control"], work, work.job.limits), shown(work):
        try:
            result = work.result()
        except SyncFailed as failure:
            raise _stop(failure.report, given["as_json"]) from None
    emit(dataclasses.asdict(result)) if given["as_json"] else _tell(result)


def _job(given: dict[str, Any]) -> dict[str, Any]:
    """What the command line says, as the fields of a Job."""
    from labstore.blocksync.throttle import amount  # noqa: PLC0415 - as above

    try:
        source, target = _place(given["source"]), _place(given["target"])
        options = Options(
            algorithm=Algorithm.XXH3 if given["xxh3"] else Algorithm.BLAKE3,
            block_size=int(given["block_size"]),
            read=ReadMode(given["read"]),
            scrub=given["scrub"],
            full=given["full"],
            cache=not given["no_cache"],
            max_change=given["max_change"],
            hints=_hints(given["hints"], source),
            permits=frozenset(map(Permit, given["permit"])),
        )
        limits = (given[name] for name in ("send_limit", "read_limit", "reads_limit"))
        send, read, reads = (None if text is None else amount(text) for text in limits)
    except ValueError as error:
        raise Stop(Exit.USAGE, f"error: {error}", "labstore blocksync run --help") from None
    if source.host and target.host:
        raise Stop(Exit.USAGE, "error: one of the two has to be on this machine", "run it on one of the two")
    if not (source.host or target.host) and _same(source.path, target.path):
        raise Stop(Exit.USAGE, f"error: {source} and {target} are the same", "name another target")
    _will_be_read(given["control"])
    return {
        "source": source,
        "target": target,
        "options": options,
        "limits": Limits(send, read, reads),
        "state": given["state"].absolute(),
        "label": given["label"] or "",
        "there": ssh_words(given),
        "attempts": given["attempts"],
    }


def _hints(path: str | None, source: Place) -> str | None:
    """The file as the source's end finds it, which is started elsewhere."""
    if path is None or source.host is None:
        return path and str(Path(path).absolute())
    if not path.startswith("/"):
        raise ValueError(f"--hints names a file on {source.host}: write its absolute path")
    return path


def _will_be_read(control: Path | None) -> None:
    """A control file may come later, but not into a directory that is not there."""
    if control is None or control.exists():
        return
    if not control.absolute().parent.is_dir():
        raise Stop(
            Exit.USAGE, f"error: --control {control}: there is no such directory", "write where the file will be"
        )
    click.echo(f"note: {control} is not there yet; until it is, the limits of the command line hold", err=True)


def _same(one: str, other: str) -> bool:
    """Whether both paths lead to one device or file."""
    try:
        first, second = os.stat(one), os.stat(other)  # noqa: PTH116 - a device path is text here
    except OSError:
        return False  # what is not there is said when it is opened
    return os.path.samestat(first, second) or (
        stat.S_ISBLK(first.st_mode) and stat.S_ISBLK(second.st_mode) and first.st_rdev == second.st_rdev
    )


def _place(text: str) -> Place:
    """A place as people write it: a path here may be relative."""
    if ":" not in text.partition("/")[0] and not text.startswith("/"):
        text = os.path.normpath(Path.cwd() / text)
    return Place.parse(text)


def ssh_words(given: Mapping[str, Any]) -> tuple[str, ...]:
    """ssh to the other machine, by the options `identity`, `port`, `ssh_config` and `remote`."""
    more: list[str] = []
    for name, flag in (("identity", "-i"), ("port", "-p"), ("ssh_config", "-F")):
        if given[name] is not None:
            more += [flag, _for_ssh(name, str(given[name]))]
    return (*SSH, *more, "--", "{host}", given["remote"])


def _for_ssh(name: str, value: str) -> str:
    """ssh is started elsewhere: it gets whole paths. `none` as its configuration file is a word of its own."""
    return value if name == "port" or value == "none" else str(Path(value).absolute())


@blocksync.command(short_help="The other end, over ssh; as a forced command, for one job and nothing else.")
@click.option("--source", "sources", multiple=True, help="Only be the source, and only for this device.")
@click.option("--target", "targets", multiple=True, help="Only be the target, and only for this device.")
@click.option("--permit", type=click.Choice([str(each) for each in Permit]), multiple=True,
              help="With --target: what callers may permit themselves; nothing otherwise.")  # fmt: skip
@click.option("--hints", type=_Path(), help="With --source: the file that says where it changed.")
@click.option("--label", callback=_not_empty, help="With --source: the name of its volume.")
@click.option("--state", type=_Path(file_okay=False, path_type=Path), default=STATE_DIR, show_default=True)
def serve(
    sources: tuple[str, ...],
    targets: tuple[str, ...],
    permit: tuple[str, ...],
    hints: str | None,
    label: str | None,
    state: Path,
) -> None:
    """Speak the protocol on standard input and output.

    In authorized_keys this is the command of a key, which then can do nothing but read (or write) one device; put
    `restrict` before it.

    \b
    Example:
      command="labstore blocksync serve --source /dev/vg/snap",restrict ssh-...

    What the caller asks ssh to run is never looked at.
    """
    try:
        work = ready(sources, targets, permit, hints, label, str(state))
    except ImportError as error:
        raise Stop.because(Exit.CONFIGURATION, [NoHelper(error.name or "blake3")]) from None
    except ValueError as error:
        raise Stop(Exit.USAGE, f"error: {error}", "labstore blocksync serve --help") from None
    status = work()
    if status:
        raise SystemExit(status)


# --- what it says -----------------------------------------------------------------------------------------------------


_PASSES = {
    Pass.BOTH: "both sides were read in full",
    Pass.INDEX: "the source was read, the target's index was sent",
    Pass.CACHED: "the source was read, the target's index was known there",
    Pass.HINTED: "only what the hints say was read, and a sample of the rest",
}


def _tell(result: SyncResult) -> None:
    came = "of no one moment" if result.torn else "equal"
    line(f"{came}: {size(result.size)}, generation {result.generation}, root {result.root[:16]}")
    line(f"  {_PASSES[result.passed]} ({result.why})")
    changed = f"{plural(result.changed, 'block')} differed"
    changed += f", {result.zeroed} of them now zeros" if result.zeroed else ""
    way = size(result.sent + result.received)
    line(f"  {changed}; {size(result.read)} read, {way} on the way, {span(result.seconds)}")
    how = "from the device" if result.read_back == "direct" else "with the cache dropped, as its file system wants it"
    line(f"  every written block was read back {how}; {size(result.scrubbed)} of the rest looked at again")
    for note in result.notes:
        line(f"  note: {note}")


def _stop(report: Report, as_json: bool) -> BaseException:
    status = Exit.REFUSED if isinstance(report, Refusal) else Exit.FAILED
    if isinstance(report, AlreadyRunning):
        status = Exit.LOCKED
    if as_json:
        emit(report.to_dict())
        return SystemExit(int(status))
    return Stop.because(status, [report])
