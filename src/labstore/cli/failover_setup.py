"""`labstore failover init|adjust`: setting a pair up, and bringing it in line with its site file."""

from __future__ import annotations

import sys

import click

from labstore.cli import failover_screens as screens
from labstore.cli.exit import Exit
from labstore.cli.failover_parts import parts
from labstore.cli.failover_runs import agreed, dry_run, moving, yes
from labstore.cli.options import Chosen, json_option, site_options
from labstore.cli.output import emit, line, reports
from labstore.failover.init import Setter, Task, adjust_tasks, in_service, init_tasks, unfit
from labstore.reports.report import Report, Severity


@click.command()
@click.option(
    "--disks-are-equal",
    is_flag=True,
    help="Your word that both backing devices are zero from end to end: no first copy. If not, files are garbage.",
)
@dry_run
@yes
@json_option
@site_options
def init(disks_are_equal: bool, dry_run: bool, yes: bool, as_json: bool, chosen: Chosen) -> None:
    """Set up a new pair: files, DRBD metadata, the first copy, file systems, state directory.

    Run it on the node whose side becomes the source of the first copy. A backing device that is not zero is refused;
    what is set up already is left as it is, so that a run that was cut off can be run again.

    \b
    Example:
      labstore failover init --dry-run
    """
    here = parts(chosen)
    here.local()
    with moving(here, as_json) as mover:
        setter = Setter(mover.pair, (mover.own, mover.partner), mover.clock, mover.tell)
        with mover.own.hold("labstore failover init"), mover.partner.hold("labstore failover init"):
            first, second = setter.surveys()
            said = (*unfit(first, second), *in_service(mover.view()))
            tasks = init_tasks(mover.pair, first, second, disks_are_equal)
            _set_up(setter, tasks, said, dry_run, yes, as_json)


@click.command()
@click.option("--here", "here_only", is_flag=True, help="This node alone.")
@dry_run
@yes
@json_option
@site_options
def adjust(here_only: bool, dry_run: bool, yes: bool, as_json: bool, chosen: Chosen) -> None:
    """Bring files and running resources of both nodes in line with the site file; shows first what would change.

    \b
    Example:
      labstore failover adjust --dry-run
    """
    here = parts(chosen)
    with moving(here, as_json) as mover:
        nodes = (mover.own, mover.own if here_only else mover.partner)
        setter = Setter(mover.pair, nodes, mover.clock, mover.tell)
        surveys = (nodes[0].survey(),) if here_only else setter.surveys()
        _set_up(setter, adjust_tasks(mover.pair, surveys), (), dry_run, yes, as_json)


def _set_up(
    setter: Setter, tasks: tuple[Task, ...], said: tuple[Report, ...], dry_run: bool, yes: bool, as_json: bool
) -> None:
    refused = any(report.severity is Severity.ERROR for report in said)
    if as_json:
        emit({"tasks": screens.task_words(tasks), "reports": [report.to_dict() for report in said], "refused": refused})
    else:
        screens.tasks(tasks)
        reports(said)
    if refused or dry_run or not tasks:
        sys.exit(Exit.REFUSED if refused else Exit.DONE)
    agreed(yes)
    setter.run(tasks)
    if not as_json:
        reports(setter.said)
        line("done; next: labstore failover status", fg="green")
