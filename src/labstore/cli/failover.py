"""`labstore failover`: how a pair is, and moving its service from node to node."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Iterator
from datetime import UTC, datetime
from pathlib import Path

import click

from labstore.cli import failover_screens as screens
from labstore.cli.exit import Exit, Stop
from labstore.cli.failover_parts import Parts, close, pair_hands, parts
from labstore.cli.options import Chosen, Told, json_option, override_options, site_options
from labstore.cli.output import emit, line, reports
from labstore.failover.agent import Agent
from labstore.failover.boot import boot as at_boot
from labstore.failover.cluster import PairMover, Proposal, Run, Wish
from labstore.failover.fence import fence_peer, fenced
from labstore.failover.handover import BadHandover
from labstore.failover.init import Setter, Task, adjust_tasks, in_service, init_tasks, unfit
from labstore.failover.reclaim import read_certificate
from labstore.failover.resolve import discard as give_up
from labstore.failover.resolve import find, reconnect
from labstore.failover.states import PairState, name_state
from labstore.model.failover import Proof
from labstore.model.names import HostName
from labstore.reports.report import Override, Report, Severity
from labstore.system.identity import person
from labstore.system.locks import Locked
from labstore.system.run import LocalHost
from labstore.telemetry import logs

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
dry_run = click.option("--dry-run", is_flag=True, help="Show the steps, how long each takes, and why not; do nothing.")
yes = click.option("--yes", is_flag=True, help="Do not ask; for scripts.")


@click.group(cls=Told)
def failover() -> None:
    """The two nodes of a pair: how they are, and moving the service between them.

    \b
    Examples:
      labstore failover status
      labstore failover switchover --dry-run
      labstore failover up --partner-is-off labstore1005
    """


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
    with _moving(here, as_json) as mover:
        proof = _proof(here, mover, partner_is_off, fence, dry_run)
        wish = Wish(overrides, proof)
        _run(mover, "up", wish, dry_run, yes, as_json)


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
    with _moving(parts(chosen), as_json) as mover:
        _run(mover, "down", Wish(overrides), dry_run, yes, as_json)


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
    with _moving(parts(chosen), as_json) as mover:
        _run(mover, "switchover", Wish(overrides), dry_run, yes, as_json, HostName(to) if to else None)


@failover.command()
@down_overrides
@yes
@json_option
@site_options
def abort(yes: bool, as_json: bool, overrides: frozenset[Override], chosen: Chosen) -> None:
    """Go back to serving from this node, after a `down` or a switchover that got stuck.

    \b
    Example:
      labstore failover abort
    """
    with _moving(parts(chosen), as_json) as mover:
        _run(mover, "abort", Wish(overrides), False, yes, as_json)


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
    with _moving(parts(chosen), as_json) as mover:
        found = find(mover)
        emit(screens.finding_words(found)) if as_json else screens.findings(found)
        if not found.partings:
            sys.exit(Exit.DONE)
        if found.split and discard is None:
            sys.exit(Exit.REFUSED)
        if discard is not None and discard not in [str(node.name) for node in mover.pair.cluster.nodes]:
            raise Stop(Exit.USAGE, f"error: {discard} is no node of {mover.pair.cluster.name}")
        _agreed(yes)
        with mover.own.hold("labstore failover resolve"), mover.partner.hold("labstore failover resolve"):
            said = give_up(mover, found, HostName(discard)) if found.split and discard else reconnect(mover, found)
        if not as_json:
            reports(said)
            line("connected; next: labstore failover status", fg="green")


@contextlib.contextmanager
def _moving(here: Parts, as_json: bool) -> Iterator[PairMover]:
    _as_root()
    mover = here.mover(lambda _progress: None if as_json else screens.progress(_progress))
    try:
        yield mover
    finally:
        close(mover.own, mover.partner)


def _as_root() -> None:
    if os.geteuid() != 0 and pair_hands().storage_node is None:
        raise Stop(Exit.USAGE, "error: only root can move the service", "run it with sudo")


def _run(
    mover: PairMover,
    verb: str,
    wish: Wish,
    dry_run: bool,
    yes: bool,
    as_json: bool,
    to: HostName | None = None,
) -> None:
    """Show the plan; unless it is all that was asked for, carry it out and end with what came of it."""
    if dry_run or not yes:
        proposal = _proposal(mover, verb, wish, to)
        if proposal is not None:
            expected = {str(node.name): node.expected() for node in (mover.own, mover.partner) if _reached(node)}
            if as_json and dry_run:
                emit(screens.proposal_words(proposal, expected))
            elif not as_json:
                screens.proposal(proposal, expected)
            if dry_run or proposal.refusals:
                sys.exit(Exit.REFUSED if proposal.refusals else Exit.DONE)
            _agreed(yes)
    run = _carried_out(mover, verb, wish, to)
    emit(screens.run_words(run)) if as_json else screens.run(run)
    sys.exit(_ends(run))


def _reached(node: object) -> bool:
    return getattr(node, "_piped", True) is not None


def _proposal(mover: PairMover, verb: str, wish: Wish, to: HostName | None) -> Proposal | None:
    if verb == "up":
        return mover.propose_up(wish)
    if verb == "down":
        return mover.propose_down(wish)
    return mover.propose_switchover(to, wish) if verb == "switchover" else None


def _agreed(yes: bool) -> None:
    if yes:
        return
    if not sys.stdin.isatty():
        raise Stop(Exit.USAGE, "error: nobody is there to be asked", "add --yes to do it, or --dry-run to see it only")
    if not click.confirm("Do it?", default=False):
        sys.exit(Exit.REFUSED)


def _carried_out(mover: PairMover, verb: str, wish: Wish, to: HostName | None) -> Run:
    """A run that is already under way on this node is shown, not doubled."""
    try:
        if verb == "up":
            return mover.up(wish)
        if verb == "down":
            return mover.down(wish)
        return mover.switchover(to, wish) if verb == "switchover" else mover.abort(wish)
    except Locked as error:
        line(f"another run is under way: {error.holder}")
        _follow(mover, error.path)
        raise Stop(Exit.LOCKED, f"error: {error}", "it has ended; look with: labstore failover status") from None


def _follow(mover: PairMover, lock: Path, patience: float = 600.0) -> None:
    """Show how far the other run is, until it ends."""
    from labstore.system.lock_holder import holder  # noqa: PLC0415 - only for a second run

    seen = ""
    ends = time.monotonic() + patience
    while holder(lock) and time.monotonic() < ends:
        said = screens.last_step(mover)
        if said and said != seen:
            line(said)
            seen = said
        time.sleep(0.5)


def _ends(run: Run) -> Exit:
    if run.done:
        return Exit.DONE
    return Exit.REFUSED if run.refused else Exit.FAILED


# --- proof -----------------------------------------------------------------------------------------------------------


def _proof(here: Parts, mover: PairMover, word: str | None, fence: bool, dry_run: bool) -> Proof | None:
    """A person's typed word, or a fence command that succeeded; None where neither was asked for."""
    partner = str(mover.partner.name)
    if word is not None:
        if word != partner:
            raise Stop(
                Exit.USAGE, f"error: the partner is {partner}, not {word}", "look twice at what you switched off"
            )
        return Proof(HostName(partner), "the operator's word", person(), _now())
    if not fence:
        return None
    settings = here.pair.settings.fence
    if settings is None:
        remedy = f"set failover.{here.pair.cluster.name}.fence.command, or say --partner-is-off {partner}"
        raise Stop(Exit.USAGE, "error: no fence command is set", remedy)
    if dry_run:
        line(f"would fence {partner} first: {' '.join(settings.command)} {partner}")
        return Proof(HostName(partner), "not fenced: a dry run", person(), _now())
    return fenced(LocalHost(), settings, HostName(partner), person(), _now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")


# --- setting up ------------------------------------------------------------------------------------------------------


@failover.command()
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
    with _moving(here, as_json) as mover:
        setter = Setter(mover.pair, (mover.own, mover.partner), mover.clock, mover.tell)
        with mover.own.hold("labstore failover init"), mover.partner.hold("labstore failover init"):
            first, second = setter.surveys()
            said = (*unfit(first, second), *in_service(mover.view()))
            tasks = init_tasks(mover.pair, first, second, disks_are_equal)
            _set_up(setter, tasks, said, dry_run, yes, as_json)


@failover.command()
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
    with _moving(here, as_json) as mover:
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
    _agreed(yes)
    setter.run(tasks)
    if not as_json:
        reports(setter.said)
        line("done; next: labstore failover status", fg="green")


# --- what others call ------------------------------------------------------------------------------------------------


@failover.command(hidden=True)
@site_options
def agent(chosen: Chosen) -> None:
    """Answer a partner over standard input and output. Started over ssh by the other commands.

    \b
    Example:
      labstore failover agent --cluster primary
    """
    _as_root()
    logs.configure("warning")
    Agent(parts(chosen).local(), sys.stdin.buffer, sys.stdout.buffer).serve()


@failover.command()
@json_option
@site_options
def boot(as_json: bool, chosen: Chosen) -> None:
    """Start replication after a boot, and the service if it is certain that nobody else has it.

    Run by labstore-failover.service; running it again does no harm.

    \b
    Example:
      labstore failover boot
    """
    with _moving(parts(chosen), as_json) as mover:
        run, said = at_boot(mover)
        if as_json:
            emit({"run": screens.run_words(run) if run else None, "reports": [report.to_dict() for report in said]})
        else:
            reports(said)
            if run is not None:
                screens.run(run)
        sys.exit(Exit.DONE if run is None else _ends(run))


@failover.command("fence-peer", hidden=True)
@site_options
def fence_peer_command(chosen: Chosen) -> None:
    """DRBD's fence handler: outdate the partner's data, or say what is proven of it. Called by drbdadm.

    \b
    Example:
      labstore failover fence-peer --cluster primary
    """
    here = parts(chosen)
    resource = os.environ.get("DRBD_RESOURCE", "")
    outcome = fence_peer(here.local().observer, here.mover().partner, resource)
    line(f"fence-peer {resource}: {outcome.name}")
    sys.exit(outcome.value)


@failover.command(hidden=True)
@site_options
def announce(chosen: Chosen) -> None:
    """Tell the network once more where the service addresses are, if they are here.

    \b
    Example:
      labstore failover announce
    """
    _as_root()
    parts(chosen).local().hands.announce()
