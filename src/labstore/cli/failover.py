"""`labstore failover`: how a pair is, and moving its service from node to node."""

from __future__ import annotations

import sys

import click

from labstore.cli import failover_screens as screens
from labstore.cli.exit import Exit, Stop
from labstore.cli.failover_inner import agent, announce, boot, fence_peer_command
from labstore.cli.failover_parts import close, parts
from labstore.cli.failover_runs import agreed, dry_run, moving, proof_of, run_verb, yes
from labstore.cli.failover_setup import adjust, init
from labstore.cli.options import Chosen, Told, json_option, override_options, site_options
from labstore.cli.output import emit, line, reports
from labstore.failover.cluster import Wish
from labstore.failover.handover import BadHandover
from labstore.failover.reclaim import read_certificate
from labstore.failover.resolve import discard as give_up
from labstore.failover.resolve import find, reconnect
from labstore.failover.states import PairState, name_state
from labstore.model.names import HostName
from labstore.reports.report import Override, Severity

_STATUS_EXIT = {
    PairState.HEALTHY: Exit.DONE,
    PairState.VERIFYING: Exit.DONE,
    PairState.RESYNCING: Exit.HOLDING,
    PairState.SERVING_ALONE: Exit.HOLDING,
    PairState.DOWN: Exit.STANDBY,
}

down_overrides = override_options(Override.ALLOW_OUTAGE, Override.EVICT)
up_overrides = override_options(Override.ACCEPT_DATA_LOSS)
switch_overrides = override_options(Override.ALLOW_CONFIG_DRIFT, Override.EVICT)


@click.group(cls=Told)
def failover() -> None:
    """The two nodes of a pair: how they are, and moving the service between them.

    \b
    Examples:
      labstore failover status
      labstore failover switchover --dry-run
      labstore failover up --partner-is-off labstore1005
    """


for command in (init, adjust, boot, agent, announce, fence_peer_command):
    failover.add_command(command)


# --- looking ---------------------------------------------------------------------------------------------------------


@failover.command()
@json_option
@site_options
def status(as_json: bool, chosen: Chosen) -> None:
    """How the pair is, seen from both nodes, and the next command. Safe at any time, from either node or a third one.

    Ends with 0 if all is well, 4 if the service has no second copy, 7 if nobody serves, 1 for anything worse.

    \b
    Example:
      labstore failover status
    """
    mover = parts(chosen).mover()
    try:
        view = mover.view()
    finally:
        close(mover.own, mover.partner)
    named = name_state(view)
    emit(screens.status_words(view, named)) if as_json else screens.status(view, named)
    worst = any(report.severity is Severity.ERROR for report in named.reports)
    sys.exit(Exit.FAILED if worst and named.state is not PairState.DOWN else _STATUS_EXIT.get(named.state, Exit.FAILED))


@failover.command()
@click.argument("which", required=False)
@json_option
@site_options
def certificate(which: str | None, as_json: bool, chosen: Chosen) -> None:
    """Show what clients held before the last move and what they got back; with WHICH an earlier one by its time.

    Safe at any time; on the active node, where the certificates are.

    \b
    Example:
      labstore failover certificate
    """
    here = parts(chosen)
    directory = here.places(here.pair).certificates
    found = sorted(directory.glob("*.json")) if directory.is_dir() else []
    wanted = [path for path in found if which is None or path.stem.startswith(which)]
    if not wanted:
        remedy = "they are on the state volume: look on the active node"
        raise Stop(Exit.FAILED, f"error: there is no certificate{f' of {which}' if which else ''}", remedy)
    try:
        shown = read_certificate(wanted[-1])
    except BadHandover as error:
        raise Stop(Exit.FAILED, f"error: {error}") from None
    emit(screens.certificate_words(shown)) if as_json else screens.certificate(shown, wanted[-1].stem)
    sys.exit(Exit.DONE if shown.lossless else Exit.FAILED)


# --- moving ----------------------------------------------------------------------------------------------------------


@failover.command()
@up_overrides
@click.option(
    "--partner-is-off",
    metavar="NODE",
    help="Your word that NODE, the silent partner, is switched off and stays so. If it is not, data is lost.",
)
@click.option("--fence", is_flag=True, help="Run the configured fence command on a silent partner as proof.")
@dry_run
@yes
@json_option
@site_options
def up(
    partner_is_off: str | None,
    fence: bool,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    overrides: frozenset[Override],
    chosen: Chosen,
) -> None:
    """Let this node serve: promote, mount, exports, NFS server, address, in that order, each seen to be so.

    A node that already serves is left as it is; one that is half up is finished. Refused while the partner serves, or
    is silent without proof that it is off.

    \b
    Example:
      labstore failover up --dry-run
    """
    here = parts(chosen)
    with moving(here, as_json) as mover:
        proof = proof_of(here, mover, partner_is_off, fence, dry_run, overrides, yes, as_json)
        wish = Wish(overrides, proof)
        run_verb(mover, "up", wish, dry_run, yes, as_json)


@failover.command()
@down_overrides
@dry_run
@yes
@json_option
@site_options
def down(dry_run: bool, yes: bool, as_json: bool, overrides: frozenset[Override], chosen: Chosen) -> None:
    """Take this node out of service: clients wait, nothing of theirs is lost, and the partner can take over.

    Who holds a volume is found before a client is cut off. Stuck half-way: `labstore failover abort` goes back.

    \b
    Example:
      labstore failover down --dry-run
    """
    with moving(parts(chosen), as_json, ahead=False) as mover:
        run_verb(mover, "down", Wish(overrides), dry_run, yes, as_json)


@failover.command()
@switch_overrides
@click.option("--to", metavar="NODE", help="Where to; else away from the node that serves.")
@dry_run
@yes
@json_option
@site_options
def switchover(
    to: str | None, dry_run: bool, yes: bool, as_json: bool, overrides: frozenset[Override], chosen: Chosen
) -> None:
    """Move the service to the other node, driving both: `down` here, `up` there, nothing begun unless both may be.

    One that was cut off goes on in the same direction when it is run again.

    \b
    Example:
      labstore failover switchover --dry-run
    """
    with moving(parts(chosen), as_json) as mover:
        run_verb(mover, "switchover", Wish(overrides), dry_run, yes, as_json, HostName(to) if to else None)


@failover.command()
@down_overrides
@dry_run
@yes
@json_option
@site_options
def abort(dry_run: bool, yes: bool, as_json: bool, overrides: frozenset[Override], chosen: Chosen) -> None:
    """Go back to serving from this node, after a `down` or a switchover that got stuck.

    Run it on the node that shall serve again: what the other one has taken up without serving is taken from it first.

    \b
    Example:
      labstore failover abort
    """
    with moving(parts(chosen), as_json) as mover:
        run_verb(mover, "abort", Wish(overrides), dry_run, yes, as_json)


@failover.command()
@click.option("--discard", metavar="NODE", help="Give up what NODE wrote since the sides parted.")
@yes
@json_option
@site_options
def resolve(discard: str | None, yes: bool, as_json: bool, chosen: Chosen) -> None:
    """Find out why the sides of a resource do not connect, show what each choice loses, and connect them again.

    Sides of which only one was written are connected without loss. After a split brain nothing is done without
    --discard, and then a snapshot of the side that is given up is kept where that can be.

    \b
    Example:
      labstore failover resolve
    """
    with moving(parts(chosen), as_json) as mover:
        found = find(mover)
        emit(screens.finding_words(found)) if as_json else screens.findings(found)
        if not found.partings:
            sys.exit(Exit.DONE)
        if found.split and discard is None:
            sys.exit(Exit.REFUSED)
        if discard is not None and discard not in [str(node.name) for node in mover.pair.cluster.nodes]:
            raise Stop(Exit.USAGE, f"error: {discard} is no node of {mover.pair.cluster.name}")
        agreed(yes)
        with mover.own.hold("labstore failover resolve"), mover.partner.hold("labstore failover resolve"):
            said = give_up(mover, found, HostName(discard)) if found.split and discard else reconnect(mover, found)
        if not as_json:
            reports(said)
            line("connected; next: labstore failover status", fg="green")
