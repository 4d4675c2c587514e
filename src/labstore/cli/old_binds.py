"""What `nfs-manage-binds` does."""

from __future__ import annotations

import os
from pathlib import Path

import click

from labstore.assembly import cluster_here
from labstore.binds.facts import Seen
from labstore.cli.binds import apply_binds
from labstore.cli.binds_parts import cycle_of
from labstore.cli.exit import Exit, Stop
from labstore.cli.options import Chosen, told
from labstore.config.load import DEFAULT
from labstore.model.binds import Kind
from labstore.model.site import Cluster, Site
from labstore.reconcile.facts import Fact
from labstore.telemetry import logs


def binds(directories: bool, disk_path: Path | None, debug: bool, listing: bool) -> Exit:
    """With which status it ends. A share that has no directory yet holds up nothing: that was a warning."""
    logs.configure("debug" if debug else "warning")
    with told():
        chosen = Chosen(
            Path(os.environ.get("LABSTORE_SITE", DEFAULT)),
            os.environ.get("LABSTORE_CLUSTER"),
            os.environ.get("LABSTORE_NODE"),
        )
        site = chosen.source()()
        cluster = cluster_here(site, chosen.cluster, chosen.node, str(chosen.file))
        _is_so(cluster, disk_path)
        if listing:
            return _listed(site, cluster)
        cycle = cycle_of(site, cluster, directories)
        ended = apply_binds(site, cluster, cycle, frozenset(), yes=True, as_json=False)
        return Exit.DONE if ended is Exit.HOLDING and not directories else ended


def _is_so(cluster: Cluster, disk_path: Path | None) -> None:
    """The volumes' places are the site file's to say; another word is not passed over."""
    if disk_path is None:
        return
    outside = [volume.mount for volume in cluster.volumes if not Path(volume.mount).is_relative_to(disk_path)]
    if outside:
        where = "the site file says where volumes are mounted; leave -disk_path out"
        raise Stop(Exit.USAGE, f"error: {', '.join(outside)} is not below {disk_path}", where)


def _listed(site: Site, cluster: Cluster) -> Exit:
    found = cycle_of(site, cluster, directories=False).propose().facts
    mounted = [
        thing
        for thing in found.wanted
        if thing.kind is Kind.BIND
        and isinstance(answer := found.found.get(thing.key), Fact)
        and answer.value.state is Seen.THERE
    ]
    for thing in mounted:
        click.echo(f"{thing.source} on {thing.path}")
    return Exit.DONE if mounted else Exit.FAILED
