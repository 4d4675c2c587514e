"""`labstore exports`: who may mount what, why, and what would change."""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta

import click

from labstore.assembly import ExportsRoom, exports_lock
from labstore.cli import exports_screens as screens
from labstore.cli.adopt import adopt
from labstore.cli.exit import Exit, Reported, Stop, of_state
from labstore.cli.options import Chosen, Told, hands, json_option, override_options, site_options, unusable
from labstore.cli.output import emit, line, reports, waiting
from labstore.exports.cycle import AsPinned, ExportCycle, Proposal
from labstore.exports.history import GenerationState, History, Pin
from labstore.exports.observe import figures
from labstore.formats.units import Unfit, duration, duration_text
from labstore.model.address import Client
from labstore.model.names import ExportPath
from labstore.model.site import Cluster, Site
from labstore.ports.inventory import Inventory
from labstore.reconcile.facts import Fact, Missing
from labstore.reconcile.record import Record, State
from labstore.reconcile.runner import StepFailed
from labstore.reports.render import moment
from labstore.reports.report import Override, Report
from labstore.reports.state import StateUnusable
from labstore.system.identity import become_owner_of, program
from labstore.telemetry import logs, records
from labstore.telemetry.exports import Shown, difference_words, generation_words, pin_words, plan_words
from labstore.telemetry.exports import why as reasons

LONGEST_PIN = 30 * 86400.0
"""Seconds; whoever means longer changes the site file."""
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


@click.group(cls=Told)
def exports() -> None:
    """Who may mount what: show, plan, apply, roll back, explain.

    Reading is always safe. What writes shows first what it would do.

    \b
    Examples:
      labstore exports show tools
      labstore exports plan
      labstore exports why 172.16.1.5 /srv/misc/shared/maps
    """


# --- looking ---------------------------------------------------------------------------------------------------------


@exports.command()
@click.argument("project", required=False)
@click.option("--at", "at", metavar="TIME", help="As it was then: 14:05, 2h ago, 2026-05-29T11:54.")
@click.option("--generation", "number", metavar="N", type=int, help="As it was in that generation.")
@json_option
@site_options
def show(project: str | None, at: str | None, number: int | None, as_json: bool, chosen: Chosen) -> None:
    """Show what is exported to whom; a PROJECT's clients one by one.

    PROJECT may be public_NAME. Reads the newest generation (or the one that is asked for) and what the server says.
    Safe at any time.

    \b
    Examples:
      labstore exports show tools
      labstore exports show tools --at "2h ago"
    """
    shown = _now(chosen) if at is None and number is None else _then(chosen, at, number)
    site = chosen.source()()
    owners = {str(export.owner) for export in shown.table.exports.values()}
    if project is not None and project not in owners:
        raise Stop(Exit.FAILED, f"error: nothing is exported for {project}", _hint(site, project))
    emit(shown.words(project)) if as_json else screens.show(shown, project)
    if isinstance(shown.served, Missing):
        sys.exit(Exit.FAILED)


def _now(chosen: Chosen) -> Shown:
    """Without a history that can be read, what the server's files say."""
    site, cluster = _look_only(chosen)
    real = hands()
    served = real.server(site, cluster, real.clock).observe()
    try:
        return Shown.of(cluster.name, chosen.history(site, cluster.name), served)
    except sqlite3.Error as error:
        reports([unusable(error)], err=True)
        return Shown.of(cluster.name, None, served)


def _then(chosen: Chosen, at: str | None, number: int | None) -> Shown:
    _, cluster, kept = _with_history(chosen)
    wanted = _generation_of(kept, number, at)
    _known(kept, wanted)
    return Shown.past(cluster.name, kept, wanted)


def _hint(site: Site, project: str) -> str:
    if project in {each.name for each in site.projects}:
        return f"it is declared; `labstore exports plan` says why nothing is exported for {project}"
    return "no file declares it; `labstore exports show` lists what is exported"


@exports.command()
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1), help="How many, newest first.")
@json_option
@site_options
def history(limit: int, as_json: bool, chosen: Chosen) -> None:
    """Show the applied generations: when, by whom, what changed and why. Safe at any time.

    \b
    Example:
      labstore exports history --limit 5
    """
    _, kept = _history(chosen)
    words = [generation_words(generation) for generation in kept.generations(limit)]
    if as_json:
        emit({"generations": words, "pin": pin_words(kept.pin())})
    else:
        screens.history(words, pin_words(kept.pin()))


@exports.command()
@click.argument("a", type=int)
@click.argument("b", type=int, required=False)
@json_option
@site_options
def diff(a: int, b: int | None, as_json: bool, chosen: Chosen) -> None:
    """Show what generation B (the newest, if left out) has that A had not, and the reverse. Safe at any time.

    \b
    Example:
      labstore exports diff 41 57
    """
    _, kept = _history(chosen)
    later = b if b is not None else kept.newest() or 0
    for number in (a, later):
        _known(kept, number)
    words = difference_words(a, later, kept.diff(a, later))
    emit(words) if as_json else screens.difference(words)


@exports.command()
@click.argument("address")
@click.argument("path", required=False)
@json_option
@site_options
def why(address: str, path: str | None, as_json: bool, chosen: Chosen) -> None:
    """Say who may mount PATH from ADDRESS, since when, by which instance, and what ended earlier grants.

    Without PATH: everything that ADDRESS may mount. Safe at any time.

    \b
    Example:
      labstore exports why 172.16.1.5 /srv/misc/shared/maps
    """
    try:
        client, place = Client(address), ExportPath(path) if path else None
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    site, cluster, kept = _with_history(chosen)
    words = reasons(kept, client, place).words()
    notes = _notes(site, cluster.name, address)
    if as_json:
        emit({**words, "notes": notes})
    else:
        screens.why(words, notes, hands().clock.now())


def _notes(site: Site, cluster: str, address: str) -> list[str]:
    """What the newest cycle said about this address: why it is held, or not admitted."""
    try:
        record = records.read(records.place(site.run_dir, "exports", cluster))
    except (records.BadRecord, OSError):
        return []
    said = [report.message for report in record.reports] + [f"{k}: {why}" for k, why in record.untouched.items()]
    return [text for text in said if address in text.replace(",", " ").replace("(", " ").replace(")", " ").split()]


def _look_only(chosen: Chosen) -> tuple[Site, Cluster]:
    site = chosen.source()()
    cluster = chosen.here(site)
    become_owner_of(site.state_dir)
    return site, cluster


def _with_history(chosen: Chosen) -> tuple[Site, Cluster, History]:
    site, cluster = _look_only(chosen)
    kept = chosen.history(site, cluster.name)
    if kept is None:
        message = f"error: nothing was applied by labstore on cluster {cluster.name} of this node yet"
        raise Stop(Exit.FAILED, message, "labstore exports apply, or start the daemon")
    return site, cluster, kept


def _history(chosen: Chosen) -> tuple[Site, History]:
    site, _, kept = _with_history(chosen)
    return site, kept


def _known(kept: History, number: int) -> None:
    generation = kept.generation(number)
    if generation is None or generation.state is not GenerationState.APPLIED:
        known = [each.number for each in kept.generations(5) if each.state is GenerationState.APPLIED]
        newest = f"; the newest are {', '.join(map(str, known))}" if known else ""
        raise click.UsageError(f"There is no applied generation {number}{newest}.")


# --- planning and applying -------------------------------------------------------------------------------------------


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


yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
why_option = click.option("--why", "because", metavar="TEXT", help="The reason, for the history.")


@exports.command()
@exports_overrides
@json_option
@site_options
def plan(overrides: frozenset[Override], as_json: bool, chosen: Chosen) -> None:
    """Show what `apply` would do, by the same code. Changes nothing.

    Ends with 0 if it could be done, 3 if a guard holds part of it back (the override is named), 4 if something is
    missing or in doubt.

    \b
    Example:
      labstore exports plan --allow-mass-removal
    """
    room = chosen.room()
    room.dry = True
    asked = Asked(overrides, as_json, "plan", chosen.command("apply"))
    proposal = _propose(room, asked)
    _show_plan(room, proposal, asked)
    if not as_json and proposal.plan.steps:
        line()
        line(f"to do it: {asked.doing()}")
    _end(_state(room, proposal, asked))


@exports.command()
@exports_overrides
@yes_option
@why_option
@json_option
@site_options
def apply(overrides: frozenset[Override], yes: bool, because: str | None, as_json: bool, chosen: Chosen) -> None:
    """Show the plan, ask, and do just that.

    The daemon does this by itself every few seconds; by hand it is for overrides and for the first time.

    \b
    Example:
      labstore exports apply --allow-mass-removal --why "maps was emptied"
    """
    given = ("--why", because) if because else ()
    _apply(chosen.room(), Asked(overrides, as_json, because or "apply", chosen.command("apply", *given)), yes)


def _nothing(_cycle: ExportCycle) -> None:
    pass


def _apply(room: ExportsRoom, asked: Asked, yes: bool, first: Callable[[ExportCycle], None] = _nothing) -> None:
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
        _show_plan(room, _propose(room, asked), asked)
        raise Stop(Exit.USAGE, "error: there is nobody to ask, so nothing was done", "say --yes to do it")
    shown = None if yes else _agreed(room, asked)
    while True:
        with exports_lock(room.source(), room.cluster, f"exports {asked.why}", PATIENCE):
            proposal = _propose(room, asked, full=shown is None)
            if shown is None or proposal.plan.steps == shown.plan.steps:
                if shown is None and not asked.as_json:
                    _show_plan(room, proposal, asked)
                _whole_or_not_at_all(proposal, asked)
                _end(_carry_out(room, proposal, asked, first))
        line("meanwhile it has become another plan:", bold=True)
        shown = _agreed(room, asked, proposal)


def _agreed(room: ExportsRoom, asked: Asked, proposal: Proposal | None = None) -> Proposal:
    """The plan that a person saw and agreed to; ends the command where there is nothing to do or the answer is no."""
    proposal = proposal or _propose(room, asked)
    _show_plan(room, proposal, asked)
    if not proposal.plan.steps and asked.supposing is None:
        _end(_state(room, proposal, asked))
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


def _propose(room: ExportsRoom, asked: Asked, full: bool = True) -> Proposal:
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


def _show_plan(room: ExportsRoom, proposal: Proposal, asked: Asked) -> None:
    shown = _as_shown(proposal, asked)
    words = plan_words(room.cluster, shown, figures(shown.facts))
    emit(words) if asked.as_json else screens.plan(words, shown, asked.doing)


def _as_shown(proposal: Proposal, asked: Asked) -> Proposal:
    """A pin that is only supposed is no news."""
    return proposal if asked.supposing is None else replace(proposal, said=())


def _standby(proposal: Proposal, asked: Asked) -> bool:
    active = proposal.facts.active
    return isinstance(active, Fact) and not active.value and Override.ALLOW_STANDBY not in asked.overrides


def _state(room: ExportsRoom, proposal: Proposal, asked: Asked) -> State:
    """What a plan that is not carried out amounts to; on a standby node that is all there is to say."""
    if _standby(proposal, asked):
        return State.STANDBY
    words = plan_words(room.cluster, proposal, {})
    return State(words["state"])


def _end(state: State) -> None:
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


@exports.command()
@click.option("--once", is_flag=True, help="One cycle, then end with its status.")
@site_options
def run(once: bool, chosen: Chosen) -> None:
    """Follow the inventory in the foreground, as the daemon does.

    First what was last known good is served; nothing outside is asked for that. TERM and INT end it between two steps,
    HUP reads the site file again and lists everything anew.

    \b
    Example:
      labstore exports run --once
    """
    from labstore.daemons.exportd import NAME, serve  # noqa: PLC0415 - the daemon brings its metrics along

    debug = click.get_current_context().params.get("debug")
    logs.configure("debug" if debug else "info")
    state = serve(chosen.room(program(NAME, chosen.node_name)), once)
    sys.exit(Exit.DONE if state is None else of_state(state))


# --- going back ------------------------------------------------------------------------------------------------------


@exports.command()
@click.argument("number", type=int, required=False)
@click.option(
    "--at", "at", metavar="TIME", help="Instead of a number: the generation in force then (14:05, 2h ago, ISO)."
)
@click.option("--for", "for_", metavar="TIME", default="1h", show_default=True, help="How long it stays pinned.")
@click.option("--apply", "do", is_flag=True, help="Do it; otherwise the difference is shown.")
@exports_overrides
@yes_option
@why_option
@json_option
@site_options
def rollback(
    number: int | None,
    at: str | None,
    for_: str,
    do: bool,
    overrides: frozenset[Override],
    yes: bool,
    because: str | None,
    as_json: bool,
    chosen: Chosen,
) -> None:
    """Serve a former generation again, for a time, whatever the inventory says meanwhile.

    Shows the difference; with --apply it is pinned and served, until the time is over or `labstore exports resume`.
    Instances that the cloud positively says are deleted, and addresses that are another project's now, stay out.

    \b
    Examples:
      labstore exports rollback 41
      labstore exports rollback --at "2h ago" --for 4h --apply
    """
    seconds = _pinned_for(for_)
    room = chosen.room()
    room.dry = not do
    kept = room.cycle().observer.history
    chosen_number = _generation_of(kept, number, at)
    _known(kept, chosen_number)
    now = room.clock.now()
    pin = Pin(chosen_number, now + timedelta(seconds=seconds), room.who, because or "rollback")
    given = ("--why", because) if because else ()
    command = chosen.command("rollback", str(chosen_number), "--for", for_, "--apply", *given)
    asked = Asked(overrides, as_json, f"rollback to generation {chosen_number}", command, AsPinned(pin))
    if not do:
        _preview_rollback(room, asked, kept, chosen_number, for_)
        return
    if not as_json:
        line(f"generation {chosen_number} is to be served until {moment(pin.until)}", bold=True)
    _apply(room, asked, yes, lambda cycle: cycle.observer.history.set_pin(pin))


def _pinned_for(text: str) -> float:
    try:
        seconds = duration(text)
    except Unfit as error:
        raise click.UsageError(f"--for: {error}; {error.remedy}") from None
    if not 0 < seconds <= LONGEST_PIN:
        raise click.UsageError(f"--for: {text} is not a sensible time here; write 1m to {duration_text(LONGEST_PIN)}")
    return seconds


def _preview_rollback(room: ExportsRoom, asked: Asked, kept: History, number: int, for_: str) -> None:
    newest = kept.newest() or 0
    proposal = _propose(room, asked)
    words = difference_words(newest, number, kept.diff(newest, number), _stays_out(proposal))
    shown = _as_shown(proposal, asked)
    plan = plan_words(room.cluster, shown, figures(shown.facts))
    if asked.as_json:
        emit({"difference": words, "plan": plan})
    else:
        screens.difference(words)
        line()
        screens.plan(plan, shown)
        line()
        line(f"to do it for {duration_text(duration(for_))}:")
        line(f"  {asked.doing(screens.needed(proposal))}")
    _end(_state(room, proposal, asked))


def _stays_out(proposal: Proposal) -> dict[tuple[str, str], str]:
    """What of the former generation is not served again, with the reason."""
    return {
        (str(path), str(client)): why
        for path, wanted in proposal.goal.exports.items()
        for client, (_, why) in wanted.lost.items()
    }


def _generation_of(kept: History, number: int | None, at: str | None) -> int:
    if (number is None) == (at is None):
        raise click.UsageError("Say which generation: its number, or --at TIME.")
    if number is not None:
        return number
    generation = kept.at_time(moment_of(str(at), hands().clock.now()))
    if generation is None:
        raise click.UsageError(f"No generation was in force at {at}; see labstore exports history.")
    return generation.number


def moment_of(text: str, now: datetime) -> datetime:
    """UTC from `2h ago`, `14:05` (the last such time, local) or an ISO date and time. Raises UsageError."""
    try:
        if text.endswith(" ago"):
            return now - timedelta(seconds=duration(text.removesuffix(" ago").strip()))
        if ":" in text and "-" not in text and "T" not in text:
            clock = datetime.strptime(text, "%H:%M:%S" if text.count(":") == 2 else "%H:%M").time()  # noqa: DTZ007
            local = datetime.combine(now.astimezone().date(), clock).astimezone()
            return (local if local <= now else local - timedelta(days=1)).astimezone(UTC)
        return datetime.fromisoformat(text).astimezone(UTC)
    except ValueError:
        raise click.UsageError(f'{text!r} is not a time; write 14:05, "2h ago" or 2026-05-29T11:54.') from None


@exports.command()
@exports_overrides
@yes_option
@why_option
@json_option
@site_options
def resume(overrides: frozenset[Override], yes: bool, because: str | None, as_json: bool, chosen: Chosen) -> None:
    """End a pin: show what follows from the inventory, ask, and do it.

    \b
    Example:
      labstore exports resume --yes
    """
    room = chosen.room()
    if room.cycle().observer.history.pin() is None:
        line("no generation is pinned: nothing to do")
        return
    given = ("--why", because) if because else ()
    asked = Asked(overrides, as_json, because or "resume", chosen.command("resume", *given), AsPinned(None))
    _apply(room, asked, yes, lambda cycle: cycle.observer.history.set_pin(None))


exports.add_command(adopt)
