"""From the site file to the binds of one cluster on this node."""

from __future__ import annotations

from pathlib import Path

from labstore.assembly import failover_lock, private_run
from labstore.binds.apply import Hands
from labstore.binds.cycle import BindCycle
from labstore.binds.observe import Observer
from labstore.cli.options import hands
from labstore.model.site import Cluster, Site
from labstore.system.lock_holder import holder
from labstore.system.mounts import Mounts
from labstore.system.run import LocalHost


def cycle_of(site: Site, cluster: Cluster, directories: bool = True, moving: bool = False) -> BindCycle:
    """`moving`: this is part of the move itself, so nobody else's is looked for."""
    real, host = hands(), LocalHost()
    observer = Observer(real.node(real.clock), host, real.clock, Mounts(host).here)
    lock = failover_lock(site, cluster.name)
    watched = Hands(cluster) if moving else Hands(cluster, lambda: holder(lock))
    return BindCycle(site, cluster, observer, watched, directories)


def binds_lock(site: Site, cluster: str) -> Path:
    return private_run(site) / f"{cluster}.binds.lock"
