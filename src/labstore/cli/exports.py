"""`labstore exports`: who may mount what, why, and what would change."""

from __future__ import annotations

import sqlite3
import sys

import click

from labstore.cli import exports_screens as screens
from labstore.cli.adopt import adopt
from labstore.cli.exit import Exit, Stop, of_state
from labstore.cli.exports_asked import (
    Asked,
    apply_asked,
    end,
    exports_overrides,
    propose,
    show_plan,
    state_unapplied,
    why_option,
    yes_option,
)
from labstore.cli.exports_back import generation_of, must_be_applied, resume, rollback
from labstore.cli.options import Chosen, Told, hands, json_option, site_options, unusable
from labstore.cli.output import emit, line, reports
from labstore.exports.history import History
from labstore.model.address import Client
from labstore.model.names import ExportPath
from labstore.model.site import Cluster, Site
from labstore.reconcile.facts import Missing
from labstore.reports.report import Override
from labstore.system.identity import become_owner_of, program
from labstore.telemetry import logs, records
from labstore.telemetry.exports import Shown, difference_words, generation_words, pin_words
from labstore.telemetry.exports import why as reasons


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
    wanted = generation_of(kept, number, at)
    must_be_applied(kept, wanted)
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
        must_be_applied(kept, number)
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


# --- planning and applying -------------------------------------------------------------------------------------------


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
    proposal = propose(room, asked)
    show_plan(room, proposal, asked)
    if not as_json and proposal.plan.steps:
        line()
        line(f"to do it: {asked.doing()}")
    end(state_unapplied(room, proposal, asked))


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
    apply_asked(chosen.room(), Asked(overrides, as_json, because or "apply", chosen.command("apply", *given)), yes)


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


exports.add_command(adopt)
exports.add_command(resume)
exports.add_command(rollback)
