"""`labstore binds`: directories for new projects, and the tree of bind mounts. `nfs-manage-binds` is the old name."""

from __future__ import annotations

import os
import sys

import click

from labstore.assembly import cluster_here
from labstore.binds.cycle import BindCycle, Done, Proposal
from labstore.binds.plan import BindStep
from labstore.cli import binds_screens as screens
from labstore.cli.binds_parts import binds_lock, cycle_of
from labstore.cli.exit import Exit, Stop, of_state
from labstore.cli.options import Chosen, Told, hands, json_option, override_options, site_options
from labstore.cli.output import emit, line, waiting
from labstore.model.site import Cluster, Site
from labstore.reconcile.facts import Fact
from labstore.reconcile.record import state_of
from labstore.reports.report import Override
from labstore.system.files import make_directory
from labstore.system.locks import exclusive

overrides_option = override_options(Override.ALLOW_MASS_REMOVAL)
mounts_only = click.option("--mounts-only", is_flag=True, help="Make no directories.")


@click.group(cls=Told)
def binds() -> None:
    """Directories for new projects, and the tree of bind mounts: show, plan, apply.

    Directories that are there are never changed. Where a cluster has an export_root, every share is also mounted
    below that, and exported from there; `labstore failover down` unmounts it by itself.

    \b
    Examples:
      labstore binds plan
      labstore binds apply --yes
    """


@binds.command()
@click.argument("project", required=False)
@click.option("--all", "whole", is_flag=True, help="Also what is as it should be.")
@json_option
@site_options
def show(project: str | None, whole: bool, as_json: bool, chosen: Chosen) -> None:
    """Show what is not there, and a PROJECT's directories and mounts one by one.

    Safe at any time; of use on the active node, which has the volumes.

    \b
    Example:
      labstore binds show tools
    """
    site, cluster = _chosen(chosen)
    if project is not None and project not in {each.name for each in site.projects}:
        raise Stop(Exit.FAILED, f"error: there is no project {project}", "labstore config check lists the files read")
    found = cycle_of(site, cluster).propose()
    emit(screens.show_words(cluster.name, found)) if as_json else screens.show(cluster.name, found, project, whole)
    sys.exit(_status(found, cluster))


@binds.command()
@overrides_option
@mounts_only
@json_option
@site_options
def plan(overrides: frozenset[Override], mounts_only: bool, as_json: bool, chosen: Chosen) -> None:
    """Show what `apply` would do, by the same code. Changes nothing.

    \b
    Example:
      labstore binds plan
    """
    site, cluster = _chosen(chosen)
    found = cycle_of(site, cluster, not mounts_only).propose(overrides)
    emit(screens.plan_words(found)) if as_json else screens.plan(found)
    if found.plan.steps and not as_json:
        line()
        line("to do it: labstore binds apply")
    sys.exit(_status(found, cluster))


@binds.command()
@overrides_option
@mounts_only
@click.option("--yes", is_flag=True, help="Do not ask.")
@json_option
@site_options
def apply(overrides: frozenset[Override], mounts_only: bool, yes: bool, as_json: bool, chosen: Chosen) -> None:
    """Show the plan, ask, and do just that: directories with owner, group and mode, then mounts.

    One that fails stops no other; what was made stays, and running it again does the rest.

    \b
    Example:
      labstore binds apply
    """
    site, cluster = _chosen(chosen)
    sys.exit(apply_binds(site, cluster, cycle_of(site, cluster, not mounts_only), overrides, yes, as_json))


def apply_binds(
    site: Site, cluster: Cluster, cycle: BindCycle, overrides: frozenset[Override], yes: bool, as_json: bool
) -> Exit:
    """Show, ask, do, look again; with which status that ends. Raises Locked, OSError."""
    if os.geteuid() != 0:
        raise Stop(Exit.USAGE, "error: only root can make directories for others", "run it with sudo")
    if not yes and (as_json or not sys.stdin.isatty()):
        raise Stop(Exit.USAGE, "error: nobody is there to be asked", "add --yes to do it; `plan` shows it")
    lock = binds_lock(site, cluster.name)
    make_directory(lock.parent)
    with exclusive(lock, "labstore binds apply"):
        found = cycle.propose(overrides)
        if not as_json:
            screens.plan(found)
        if not found.plan.steps:
            if as_json:
                emit(screens.done_words(Done((), found)))
            return _status(found, cluster)
        if not yes and not click.confirm("Do this?", default=False):
            return Exit.REFUSED
        done = _with_progress(cycle, found, overrides)
    emit(screens.done_words(done)) if as_json else screens.done(done)
    return of_state(done.state)


def _with_progress(cycle: BindCycle, found: Proposal, overrides: frozenset[Override]) -> Done:
    taken: list[BindStep] = []
    with waiting(f"{len(found.plan.steps)} steps", done=lambda: len(taken)):
        return cycle.carry_out(found, overrides, taken.append)


def _chosen(chosen: Chosen) -> tuple[Site, Cluster]:
    site = chosen.source()()
    return site, cluster_here(site, chosen.cluster, chosen.node, str(chosen.file))


def _status(found: Proposal, cluster: Cluster) -> Exit:
    """A node that does not hold the service addresses has nothing to say about what is missing on it."""
    real = hands()
    role = real.node(real.clock).holds(cluster.service_addresses)
    if found.plan.refusals and isinstance(role, Fact) and not role.value:
        return Exit.STANDBY
    return of_state(state_of(found.plan, (), (), missing=False))
