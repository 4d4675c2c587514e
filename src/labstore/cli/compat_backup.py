"""The old command names `snapshot-manager` and `block_sync`, with their old arguments.

What differs from the original, on purpose: only snapshots that labstore took are ever replaced or removed, and they are
looked up within their volume group; a snapshot that could not be taken ends with an error (the original: 0);
`--max-age` is in seconds, as it always was compared. `block_sync` ends with 0 only where both sides came to the same
digest of everything and what was written was read back; a snapshot of a half-written target never replaces a good one;
the source's snapshot is removed once it was copied.
"""

from __future__ import annotations

import sys

import click

from labstore import __version__

_SETTINGS = {"help_option_names": ["-h", "--help"], "max_content_width": 80}


@click.command(context_settings=_SETTINGS)
@click.argument("action", type=click.Choice(["status", "create", "remove"]))
@click.argument("name")
@click.argument("volume", metavar="VG/LV")
@click.option("--size", default="1T", show_default=True, help="How large a thick snapshot may become.")
@click.option("--max-age", type=int, default=86400, show_default=True, help="Seconds; an older one is replaced.")
@click.option("--force", is_flag=True, help="Replace it whatever its age.")
@click.option("--debug", is_flag=True, help="Log every step.")
@click.version_option(__version__, prog_name="snapshot-manager")
def snapshot_manager(action: str, name: str, volume: str, size: str, max_age: int, force: bool, debug: bool) -> None:
    """Show, take or remove the snapshot NAME of a logical volume: the old name of `labstore snapshots`.

    \b
    Example:
      snapshot-manager create tools-snap misc/tools --size 1T --max-age 86400
    """
    from labstore.cli import old_backup  # noqa: PLC0415 - not for --help

    old_backup.logged(debug)
    sys.exit(old_backup.snapshot(action, name, volume, size, 0.0 if force else float(max_age)))


@click.command(context_settings=_SETTINGS)
@click.argument("r_host")
@click.argument("r_vg")
@click.argument("r_lv")
@click.argument("r_snapshot_name")
@click.argument("l_vg")
@click.argument("l_lv")
@click.argument("l_snapshot_name")
@click.argument("l_snapshot_size")
@click.option("--r_user", default="root", show_default=True, help="The user on the remote host.")
@click.option(
    "--engine",
    type=click.Choice(["labstore", "bdsync"]),
    default="labstore",
    show_default=True,
    help="bdsync: for a source that has not labstore yet.",
)
@click.option("--debug", is_flag=True, help="Log every step.")
@click.version_option(__version__, prog_name="block_sync")
def block_sync(
    r_host: str,
    r_vg: str,
    r_lv: str,
    r_snapshot_name: str,
    l_vg: str,
    l_lv: str,
    l_snapshot_name: str,
    l_snapshot_size: str,
    r_user: str,
    engine: str,
    debug: bool,
) -> None:
    """Copy a volume of R_HOST onto a volume here, by snapshots on both sides: one generation, without its proof.

    `labstore backup` does this by the site file, keeps more than one generation and shows that each restores.

    \b
    Example:
      block_sync labstore1005 misc tools tools-snap backup tools tools-keep 2T
    """
    from labstore.cli import old_backup  # noqa: PLC0415 - not for --help

    old_backup.logged(debug)
    source = old_backup.Far(r_host, r_user, r_vg, r_lv, r_snapshot_name)
    sys.exit(old_backup.copy(source, old_backup.Here(l_vg, l_lv, l_snapshot_name, l_snapshot_size), engine))
