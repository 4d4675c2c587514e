"""`labstore check drbd|role|address|nfs`: a node of a pair, as monitoring wants it. The node alone is looked at: a
check must not hang on a partner that is dead."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from labstore.cli.options import Chosen, json_option, site_options
from labstore.cli.output import emit
from labstore.telemetry.status import Health
from labstore.telemetry.words import safe

if TYPE_CHECKING:
    from labstore.telemetry.failover import Judged


@click.command()
@json_option
@site_options
def drbd(**given: Any) -> None:
    """Check replication: every resource connected, complete on both nodes, nothing suspended.

    WARNING while there is no second copy or it is being made, CRITICAL where data cannot be written or was parted.

    \b
    Example:
      labstore check drbd
    """
    _check("drbd", **given)


@click.command()
@json_option
@site_options
def role(**given: Any) -> None:
    """Check roles: all resources the same, one node Primary, the address with it.

    Nothing says beforehand which node that is, so that a failover needs no change of configuration.

    \b
    Example:
      labstore check role
    """
    _check("role", **given)


@click.command()
@json_option
@site_options
def address(**given: Any) -> None:
    """Check the service address: here with everything that it needs, or not here on the standby.

    \b
    Example:
      labstore check address
    """
    _check("address", **given)


@click.command()
@json_option
@site_options
def nfs(**given: Any) -> None:
    """Check the NFS server of the active node: it answers, under the right name, with exports and client records.

    \b
    Example:
      labstore check nfs
    """
    _check("nfs", **given)


CHECKS = (drbd, role, address, nfs)


def _check(name: str, as_json: bool, chosen: Chosen) -> None:
    """Whatever goes wrong, there is one line, and the status is one of the four."""
    from labstore.cli.failover_parts import parts  # noqa: PLC0415 - not for --help
    from labstore.reconcile.runner import StepFailed  # noqa: PLC0415 - as above
    from labstore.reports.in_file import BadFile  # noqa: PLC0415 - as above
    from labstore.telemetry.failover import CHECKS, Judged, judge  # noqa: PLC0415 - as above

    try:
        here = parts(chosen)
        facts = here.own().look(CHECKS[name].aspects)
        found = judge(CHECKS[name], facts, here.pair)
    except BadFile as error:
        found = Judged(Health.UNKNOWN, f"site file: {error.reports[0].message()}")
    except (click.ClickException, StepFailed, OSError) as error:
        message = error.message if isinstance(error, click.ClickException) else str(error)
        found = Judged(Health.UNKNOWN, message.removeprefix("error: "))
    if as_json:
        emit({"health": found.health.name, "text": found.text, "figures": dict(found.figures)})
    else:
        click.echo(_line(name, found))
    sys.exit(int(found.health))


def _line(name: str, found: Judged) -> str:
    text = safe(found.text).replace("|", "/")
    figures = " ".join(f"'{key}'={number}" for key, number in found.figures.items())
    return f"{name.upper()} {found.health.name} - {text} | {figures}".rstrip(" |")
