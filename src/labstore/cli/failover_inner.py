"""What others call: the partner over ssh, systemd at boot, DRBD when a node loses its partner."""

from __future__ import annotations

import os
import sys

import click

from labstore.cli import failover_screens as screens
from labstore.cli.exit import Exit
from labstore.cli.failover_parts import parts
from labstore.cli.failover_runs import as_root, ends, moving
from labstore.cli.options import Chosen, json_option, site_options
from labstore.cli.output import emit, line, reports
from labstore.failover.agent import Agent
from labstore.failover.boot import boot as at_boot
from labstore.failover.fence import fence_peer
from labstore.telemetry import logs


@click.command(hidden=True)
@site_options
def agent(chosen: Chosen) -> None:
    """Answer a partner over standard input and output. Started over ssh by the other commands.

    \b
    Example:
      labstore failover agent --cluster primary
    """
    as_root()
    logs.configure("warning")
    Agent(parts(chosen).local(), sys.stdin.buffer, sys.stdout.buffer).serve()


@click.command()
@json_option
@site_options
def boot(as_json: bool, chosen: Chosen) -> None:
    """Start replication after a boot, and the service if it is certain that nobody else has it.

    Run by labstore-failover.service; running it again does no harm.

    \b
    Example:
      labstore failover boot
    """
    with moving(parts(chosen), as_json) as mover:
        run, said = at_boot(mover)
        if as_json:
            emit({"run": screens.run_words(run) if run else None, "reports": [report.to_dict() for report in said]})
        else:
            reports(said)
            if run is not None:
                screens.run(run)
        sys.exit(Exit.DONE if run is None else ends(run))


@click.command("fence-peer", hidden=True)
@site_options
def fence_peer_command(chosen: Chosen) -> None:
    """DRBD's fence handler: outdate the partner's data, or say what is proven of it. Called by drbdadm.

    \b
    Example:
      labstore failover fence-peer --cluster primary
    """
    here = parts(chosen)
    resource = os.environ.get("DRBD_RESOURCE", "")
    outcome = fence_peer(here.local().observer, here.mover(ahead=False).partner, resource)
    line(f"fence-peer {resource}: {outcome.name}")
    sys.exit(outcome.value)


@click.command(hidden=True)
@site_options
def announce(chosen: Chosen) -> None:
    """Tell the network once more where the service addresses are, if they are here.

    \b
    Example:
      labstore failover announce
    """
    as_root()
    parts(chosen).local().hands.announce()
