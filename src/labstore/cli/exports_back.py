"""`labstore exports rollback|resume`: a former generation served again, for a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import click

from labstore.assembly import ExportsRoom
from labstore.cli import exports_screens as screens
from labstore.cli.exports_asked import (
    Asked,
    apply_asked,
    as_shown,
    end,
    exports_overrides,
    propose,
    state_unapplied,
    why_option,
    yes_option,
)
from labstore.cli.options import Chosen, hands, json_option, site_options
from labstore.cli.output import emit, line
from labstore.exports.cycle import AsPinned, Proposal
from labstore.exports.history import GenerationState, History, Pin
from labstore.exports.observe import figures
from labstore.formats.units import Unfit, duration, duration_text
from labstore.reports.render import moment
from labstore.reports.report import Override
from labstore.telemetry.exports import difference_words, plan_words

LONGEST_PIN = 30 * 86400.0
"""Seconds; whoever means longer changes the site file."""


@click.command()
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
    chosen_number = generation_of(kept, number, at)
    must_be_applied(kept, chosen_number)
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
    apply_asked(room, asked, yes, lambda cycle: cycle.observer.history.set_pin(pin))


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
    proposal = propose(room, asked)
    words = difference_words(newest, number, kept.diff(newest, number), _stays_out(proposal))
    shown = as_shown(proposal, asked)
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
    end(state_unapplied(room, proposal, asked))


def _stays_out(proposal: Proposal) -> dict[tuple[str, str], str]:
    """What of the former generation is not served again, with the reason."""
    return {
        (str(path), str(client)): why
        for path, wanted in proposal.goal.exports.items()
        for client, (_, why) in wanted.lost.items()
    }


@click.command()
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
    apply_asked(room, asked, yes, lambda cycle: cycle.observer.history.set_pin(None))


# --- which generation -------------------------------------------------------------------------------------------------


def generation_of(kept: History, number: int | None, at: str | None) -> int:
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


def must_be_applied(kept: History, number: int) -> None:
    generation = kept.generation(number)
    if generation is None or generation.state is not GenerationState.APPLIED:
        known = [each.number for each in kept.generations(5) if each.state is GenerationState.APPLIED]
        newest = f"; the newest are {', '.join(map(str, known))}" if known else ""
        raise click.UsageError(f"There is no applied generation {number}{newest}.")
