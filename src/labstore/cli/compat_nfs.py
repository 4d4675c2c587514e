"""The old command names `nfs-manage` and `nfs-manage-binds`, with their old verbs and options.

What differs from the original, on purpose: `up` and `down` look before they act, stop at the first surprise and say
what to do; statuses are those of docs/reference/exit-statuses.md; `status` compares both nodes. `nfs-manage-binds`
ends with an error where a mount fails (the original ended with 0), and mounts nothing without an export_root.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from labstore import __version__

VERBS = ("status", "up", "down")
USAGE = "usage: nfs-manage status|up|down"
_PREVIEW = frozenset({"--dry-run", "--help", "-h"})
_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 80}


@click.command(context_settings={**_SETTINGS, "ignore_unknown_options": True, "allow_interspersed_args": False})
@click.argument("verb", required=False)
@click.argument("options", nargs=-1, type=click.UNPROCESSED)
@click.version_option(__version__, prog_name="nfs-manage")
def nfs_manage(verb: str | None, options: tuple[str, ...]) -> None:
    """Bring up or take down DRBD, mounts, exports and NFS on this node: status, up or down.

    The old name of `labstore failover`, whose options may follow; `up` and `down` do not ask. Statuses are those of
    labstore, but 1 for a verb that there is not, as ever. Anything else (switchover, abort, resolve ...): labstore
    failover --help.

    \b
    Examples:
      nfs-manage status
      nfs-manage down --dry-run
    """
    if verb not in VERBS:
        click.echo(USAGE, err=True)
        sys.exit(1)
    from labstore.cli.failover import failover  # noqa: PLC0415 - not for --help

    answered = ("--yes",) if verb != "status" and not _PREVIEW & set(options) else ()
    failover.main([verb, *answered, *options], prog_name="labstore failover", obj=click.get_current_context().obj)


@click.command(context_settings=_SETTINGS)
@click.option("-f", "directories", is_flag=True, help="Make directories that are missing.")
@click.option("-disk_path", "disk_path", type=click.Path(path_type=Path), help="Where volumes are; must be so.")
@click.option("-debug", "debug", is_flag=True, help="Log every step.")
@click.option("-binds", "listing", is_flag=True, help="Print what is mounted; 1 if nothing is.")
@click.version_option(__version__, prog_name="nfs-manage-binds")
def nfs_manage_binds(directories: bool, disk_path: Path | None, debug: bool, listing: bool) -> None:
    """Mount the export tree, and make what new projects lack: the old name of `labstore binds apply`.

    Reads the site file (/etc/labstore/site.yaml, or LABSTORE_SITE). It does not ask. A share without its directory is
    a warning, as ever.

    \b
    Examples:
      nfs-manage-binds -f
      nfs-manage-binds -binds
    """
    from labstore.cli import old_binds  # noqa: PLC0415 - not for --help

    sys.exit(old_binds.binds(directories, disk_path, debug, listing))
