"""How the commands of failover carry a run out: what is shown before, asked, followed and proven."""

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
from labstore.cli.failover_parts import Parts, close, pair_hands
from labstore.cli.output import emit, line
from labstore.failover.agent import RemoteNode
from labstore.failover.cluster import PairMover, Proposal, Run, Wish
from labstore.failover.fence import fenced
from labstore.model.failover import Proof
from labstore.model.names import HostName
from labstore.reports.report import Override
from labstore.system.identity import person
from labstore.system.locks import Locked
from labstore.system.run import LocalHost

dry_run = click.option("--dry-run", is_flag=True, help="Show the steps, how long each takes, and why not; do nothing.")
yes = click.option("--yes", is_flag=True, help="Do not ask; for scripts.")


@contextlib.contextmanager
def moving(here: Parts, as_json: bool, ahead: bool = True) -> Iterator[PairMover]:
    """Both nodes for one command of root's; `ahead` as Parts.mover has it."""
    as_root()
    mover = here.mover(lambda _progress: None if as_json else screens.progress(_progress), ahead)
    try:
        yield mover
    finally:
        close(mover.own, mover.partner)


def as_root() -> None:
    if os.geteuid() != 0 and pair_hands().storage_node is None:
        raise Stop(Exit.USAGE, "error: only root can move the service", "run it with sudo")


def run_verb(
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
            agreed(yes)
    run = _carried_out(mover, verb, wish, to)
    emit(screens.run_words(run)) if as_json else screens.run(run)
    sys.exit(ends(run))


def _reached(node: object) -> bool:
    return not isinstance(node, RemoteNode) or node.reached


def _proposal(mover: PairMover, verb: str, wish: Wish, to: HostName | None) -> Proposal | None:
    if verb == "up":
        return mover.propose_up(wish)
    if verb == "down":
        return mover.propose_down(wish)
    return mover.propose_switchover(to, wish) if verb == "switchover" else mover.propose_abort(wish)


def agreed(yes: bool) -> None:
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


def ends(run: Run) -> Exit:
    if run.done:
        return Exit.DONE
    return Exit.REFUSED if run.refused else Exit.FAILED


# --- proof -----------------------------------------------------------------------------------------------------------


def proof_of(
    here: Parts,
    mover: PairMover,
    word: str | None,
    fence: bool,
    dry_run: bool,
    overrides: frozenset[Override] = frozenset(),
    yes: bool = False,
    as_json: bool = False,
) -> Proof | None:
    """A person's typed word, or a fence command that succeeded; None where neither was asked for, and where the
    partner need not be fenced."""
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
    if not mover.propose_up(Wish(overrides, None)).refusals:
        return None
    assumed = mover.propose_up(Wish(overrides, Proof(HostName(partner), "not fenced yet", person(), _now())))
    if assumed.refusals:  # it serves, or what is here must not serve: nobody is switched off for that
        emit(screens.proposal_words(assumed, {})) if as_json else screens.proposal(assumed, {})
        sys.exit(Exit.REFUSED)
    agreed(yes)
    return fenced(LocalHost(), settings, HostName(partner), person(), _now())


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
