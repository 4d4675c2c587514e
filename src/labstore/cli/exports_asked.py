"""What `labstore exports` was asked to do: proposed, shown, agreed to, carried out and recorded."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import datetime

import click

from labstore.assembly import ExportsRoom, exports_lock
from labstore.cli import exports_screens as screens
from labstore.cli.exit import Exit, Reported, Stop, of_state
from labstore.cli.options import override_options, unusable
from labstore.cli.output import emit, line, reports, waiting
from labstore.exports.cycle import AsPinned, ExportCycle, Proposal
from labstore.exports.observe import figures
from labstore.ports.inventory import Inventory
from labstore.reconcile.facts import Fact, Missing
from labstore.reconcile.record import Record, State
from labstore.reconcile.runner import StepFailed
from labstore.reports.report import Override, Report
from labstore.reports.state import StateUnusable
from labstore.telemetry import records
from labstore.telemetry.exports import plan_words

PATIENCE = 30.0
"""Seconds for which a command waits for the daemon's cycle to end."""
OVERRIDES = (
    Override.ALLOW_MASS_REMOVAL,
    Override.ALLOW_LAST_CLIENT,
    Override.ALLOW_PROJECT_IDENTITY,
    Override.ALLOW_EMPTY,
    Override.ALLOW_STANDBY,
    Override.ALLOW_UNMOUNTED,
)
exports_overrides = override_options(*OVERRIDES)
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
why_option = click.option("--why", "because", metavar="TEXT", help="The reason, for the history.")


@dataclass(frozen=True)
class Asked:
    """What a person asked for, how the plan is to be shown, and the command that would do it."""

    overrides: frozenset[Override]
    as_json: bool
    why: str
    command: str
    supposing: AsPinned | None = None

    def doing(self, needed: Iterable[Override] = ()) -> str:
        """The whole command line, with the overrides that were given and those that it needs."""
        return self.command + "".join(f" --{override}" for override in sorted({*self.overrides, *needed}))


class NotDone(Reported):
    """Nothing can be proposed."""

    def __init__(self, reports: tuple[Report, ...]) -> None:
        super().__init__(Exit.FAILED, reports)


def _nothing(_cycle: ExportCycle) -> None:
    pass


def apply_asked(room: ExportsRoom, asked: Asked, yes: bool, first: Callable[[ExportCycle], None] = _nothing) -> None:
    """Do what was asked for; what came to nothing leaves a record too."""
    started = room.clock.now()
    try:
        _shown_and_done(room, asked, yes, first)
    except NotDone as error:
        _keep_failure(room, started, error.reports)
        raise
    except StepFailed as error:
        _keep_failure(room, started, (error.report,))
        raise
    except sqlite3.Error as error:
        _keep_failure(room, started, (unusable(error),))
        raise
    except PermissionError:
        raise  # whoever may not do it has nothing to report
    except OSError as error:
        _keep_failure(room, started, (StateUnusable(str(error.filename or "a file"), error.strerror or str(error)),))
        raise


def _shown_and_done(room: ExportsRoom, asked: Asked, yes: bool, first: Callable[[ExportCycle], None]) -> None:
    """Show, ask, take the lock, look again, and do it if it is still what was shown. `first` is done under the lock,
    just before."""
    if not yes and (asked.as_json or not sys.stdin.isatty()):
        show_plan(room, propose(room, asked), asked)
        raise Stop(Exit.USAGE, "error: there is nobody to ask, so nothing was done", "say --yes to do it")
    shown = None if yes else _agreed(room, asked)
    while True:
        with exports_lock(room.source(), room.cluster, f"exports {asked.why}", PATIENCE):
            proposal = propose(room, asked, full=shown is None)
            if shown is None or proposal.plan.steps == shown.plan.steps:
                if shown is None and not asked.as_json:
                    show_plan(room, proposal, asked)
                _whole_or_not_at_all(proposal, asked)
                end(_carry_out(room, proposal, asked, first))
        line("meanwhile it has become another plan:", bold=True)
        shown = _agreed(room, asked, proposal)


def _agreed(room: ExportsRoom, asked: Asked, proposal: Proposal | None = None) -> Proposal:
    """The plan that a person saw and agreed to; ends the command where there is nothing to do or the answer is no."""
    proposal = proposal or propose(room, asked)
    show_plan(room, proposal, asked)
    if not proposal.plan.steps and asked.supposing is None:
        end(state_unapplied(room, proposal, asked))
    _whole_or_not_at_all(proposal, asked)
    line()
    if not click.confirm("Do this?", default=False):
        raise Stop(Exit.FAILED, "nothing was done")
    return proposal


def _whole_or_not_at_all(proposal: Proposal, asked: Asked) -> None:
    """Half a former generation is nobody's wish: a rollback of which something is refused is not begun."""
    refusals = [refusal.report for refusal in proposal.plan.refusals]
    if refusals and asked.supposing is not None and asked.supposing.pin is not None:
        raise Stop.because(Exit.REFUSED, refusals)


def _carry_out(room: ExportsRoom, proposal: Proposal, asked: Asked, first: Callable[[ExportCycle], None]) -> State:
    cycle = room.cycle()
    first(cycle)
    with waiting("telling the server"):
        record = cycle.carry_out(proposal, asked.why)
    if _standby(proposal, asked):
        record = replace(record, state=State.STANDBY)
    _keep(room, record)
    if asked.as_json:
        emit(record.to_dict())
    else:
        line()
        screens.outcome(record)
        reports([result.report for result in record.results if result.report and result.outcome.value == "failed"])
    return record.state


def propose(room: ExportsRoom, asked: Asked, full: bool = True) -> Proposal:
    cycle = room.cycle()
    before = _last_record(room)
    expected = before.facts.get("listing_seconds") if before else None
    with waiting("asking the inventory", expected, _calls_of(cycle.observer.inventory)):
        answer = cycle.propose(full, asked.overrides, asked.supposing)
    if isinstance(answer, Missing):
        raise NotDone((answer.report,))
    return answer.value


def _calls_of(inventory: Inventory) -> Callable[[], int] | None:
    """How many calls a look has made up to now, where the source counts them."""
    if not hasattr(inventory, "requests"):
        return None
    before = int(inventory.requests)
    return lambda: int(inventory.requests) - before


def show_plan(room: ExportsRoom, proposal: Proposal, asked: Asked) -> None:
    shown = as_shown(proposal, asked)
    words = plan_words(room.cluster, shown, figures(shown.facts))
    emit(words) if asked.as_json else screens.plan(words, shown, asked.doing)


def as_shown(proposal: Proposal, asked: Asked) -> Proposal:
    """A pin that is only supposed is no news."""
    return proposal if asked.supposing is None else replace(proposal, said=())


def _standby(proposal: Proposal, asked: Asked) -> bool:
    active = proposal.facts.active
    return isinstance(active, Fact) and not active.value and Override.ALLOW_STANDBY not in asked.overrides


def state_unapplied(room: ExportsRoom, proposal: Proposal, asked: Asked) -> State:
    """What a plan that is not carried out amounts to; on a standby node that is all there is to say."""
    if _standby(proposal, asked):
        return State.STANDBY
    words = plan_words(room.cluster, proposal, {})
    return State(words["state"])


def end(state: State) -> None:
    sys.exit(of_state(state))


def _last_record(room: ExportsRoom) -> records.Kept | None:
    try:
        return records.read(records.place(room.source().run_dir, "exports", room.cluster))
    except (records.BadRecord, OSError):
        return None


def _keep_failure(room: ExportsRoom, started: datetime, found: tuple[Report, ...]) -> None:
    before = _last_record(room)
    facts = {key: value for key, value in (before.facts if before else {}).items() if key in records.LASTING}
    number = before.number + 1 if before else 1
    _keep(room, Record("exports", number, started, room.clock.now(), State.FAILED, facts, reports=found))


def _keep(room: ExportsRoom, record: Record) -> None:
    """Leave the record for `status`, unless a daemon keeps it: its word comes with the next cycle."""
    before = _last_record(room)
    if before is not None and before.due is not None and before.due > record.ended:
        return
    try:
        kept = records.kept(record, room.cluster, room.node, room.who, before=before)
        records.write(room.source().run_dir, kept)
    except OSError as error:
        click.echo(f"warning: the record for `labstore status` could not be written: {error}", err=True)
