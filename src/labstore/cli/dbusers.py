"""`labstore dbusers`: who has a database account, where, with which limits, and what would change."""

from __future__ import annotations

import sys
from dataclasses import replace

import click

from labstore.assembly_dbusers import AccountsRoom
from labstore.cli import dbusers_screens as screens
from labstore.cli.dbusers_asked import limit, remove, rotate
from labstore.cli.dbusers_parts import (
    OVERRIDES,
    PATIENCE,
    ledger_told,
    looking,
    meant,
    newest,
    owner_of,
    places,
    project_of,
    proposed,
    room,
    user_of,
)
from labstore.cli.dbusers_setup import host_setup
from labstore.cli.exit import Exit, Stop, of_state
from labstore.cli.options import Chosen, Told, json_option, override_options, site_options
from labstore.cli.output import emit, line, reports, waiting
from labstore.dbusers.cycle import Proposal
from labstore.dbusers.harvest import found_limits, learned
from labstore.dbusers.turns import Act
from labstore.model.accounts import AccountKind, DbUser
from labstore.model.ledger import AccountState
from labstore.ports.ledger import Ledger
from labstore.reconcile.record import Record, State
from labstore.reports.report import Override
from labstore.telemetry import records
from labstore.telemetry.dbusers import (
    Words,
    event_words,
    file_words,
    limit_words,
    listed_words,
    overview_words,
    place_words,
    plan_words,
    request_words,
    row_words,
    stone_words,
)

STATES = ("suspended", *(state.value for state in AccountState))
HARVESTED = frozenset({Act.ADOPT, Act.KNOW, Act.IDENTIFY, Act.CONFIRM})
"""What a harvest does: the ledger learns, servers and files stay as they are."""
account_overrides = override_options(*OVERRIDES)
yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
only_option = click.option("--only", "only", metavar="NAME", multiple=True, help="Only these accounts.")


@click.group(cls=Told)
def dbusers() -> None:
    """Database accounts of tools and users: show, plan, apply, remove, rotate, limit.

    Reading is always safe. `limit` writes at once; everything else that writes shows first what it would do.

    \b
    Examples:
      labstore dbusers show
      labstore dbusers why tools.wikibugs
      labstore dbusers limit s52788 --connections 40 --until 30d
    """


for command in (remove, rotate, limit, host_setup):
    dbusers.add_command(command)


# --- looking ---------------------------------------------------------------------------------------------------------


@dbusers.command()
@click.argument("name", required=False)
@click.option("--list", "listed", is_flag=True, help="The accounts one by one.")
@click.option("--kind", type=click.Choice([kind.value for kind in AccountKind]), help="Only these, one by one.")
@click.option("--state", type=click.Choice(STATES), help="Only these, one by one.")
@click.option("--verify", is_flag=True, help="Follow the chain of events from the first: was one edited?")
@json_option
@site_options
def show(
    name: str | None,
    listed: bool,
    kind: str | None,
    state: str | None,
    verify: bool,
    as_json: bool,
    chosen: Chosen,
) -> None:
    """Show how many accounts there are and where; or one, NAME, as every server has it.

    NAME is an account (s52788), a tool (wikibugs or tools.wikibugs) or a user. Asks the ledger, and for one account the
    servers. Safe at any time.

    \b
    Examples:
      labstore dbusers show
      labstore dbusers show --state suspended
      labstore dbusers show wikibugs
    """
    here = room(chosen)
    if name is not None:
        _one(here, name, as_json, whole=False)
        return
    with looking(here) as (cycle, _), ledger_told():
        if verify:
            _verify(cycle.observer.ledger, as_json)
            return
        view = cycle.observer.ledger.read()
        if listed or kind or state:
            rows = [
                row
                for row in view.accounts.values()
                if kind in (None, row.kind.value) and state in (None, row_words(row)["state"])
            ]
            words = listed_words(rows, view)
            emit({"accounts": words}) if as_json else screens.listed(words)
            return
        kept = newest(here)
        lease = cycle.observer.ledger.leader()
    overview = overview_words(here.name, here.settings, view, lease, kept.to_dict() if kept else None)
    emit(overview) if as_json else screens.overview(overview, here.clock.now())


def _verify(ledger: Ledger, as_json: bool) -> None:
    """Each event carries the digest of all before it."""
    with waiting("following the events"):
        broken = ledger.verify_events()
    if as_json:
        emit({"broken_at": broken})
    elif broken is None:
        line("every event is as it was written")
    else:
        line(f"event {broken}, or one before it, was changed or taken out after it was written", fg="red")
    if broken is not None:
        sys.exit(Exit.FAILED)


@dbusers.command()
@click.argument("name")
@json_option
@site_options
def why(name: str, as_json: bool, chosen: Chosen) -> None:
    """Say why the account NAME is as it is, what would be done about it next, and what was done before.

    Asks everything that a cycle asks. Safe at any time.

    \b
    Example:
      labstore dbusers why tools.wikibugs
    """
    _one(room(chosen), name, as_json, whole=True)


def _one(here: AccountsRoom, name: str, as_json: bool, whole: bool) -> None:
    """One account; `whole` with what a cycle would do, and its history."""
    with looking(here) as (cycle, _), ledger_told():
        view = cycle.observer.ledger.read()
        found = meant(view, name, project_of(here))
        row, now = found.row, here.clock.now()
        stone = view.tombstones.get(found.user)
        there = places(cycle, found.user)
        owner = owner_of(row) if row is not None else None
        answer = cycle.observer.writer.inspect([owner]).get(found.user) if owner is not None else None
        words: Words = {
            "account": str(found.user),
            "ledger": row_words(row) if row is not None else None,
            "removed": stone_words(stone) if stone is not None else None,
            "file": file_words(answer, row),
            "hosts": [
                place_words(row, host, there[host.key], here.settings, view.rules, now) for host in here.settings.hosts
            ],
            "requests": [request_words(r) for r in view.requests if r.account in (None, found.user)],
        }
        if whole:
            events = cycle.observer.ledger.events(found.user, 50)
            words |= {"events": [event_words(event) for event in events], **_next(proposed(cycle), found.user)}
    emit(words) if as_json else screens.one(words, now)
    if row is None and stone is None and not any(each["present"] for each in words["hosts"]):
        sys.exit(Exit.FAILED)


def _next(proposal: Proposal, user: DbUser) -> Words:
    """What a cycle would do about one account, and what it holds back."""
    plan = proposal.plan
    steps = [step for step in plan.steps if step.after is not None and step.after.user == user]
    mine = [each for each in plan.refusals if any(key.startswith((f"{user} ", f"{user}@")) for key in each.keys)]
    return {
        "steps": [
            {"act": step.after.act.value, "host": step.after.host, "why": step.why} for step in steps if step.after
        ],
        "untouched": plan.untouched.get(str(user)),
        "refusals": [each.report.to_dict() for each in mine],
    }


# --- planning and applying -------------------------------------------------------------------------------------------


@dbusers.command()
@only_option
@account_overrides
@json_option
@site_options
def plan(only: tuple[str, ...], overrides: frozenset[Override], as_json: bool, chosen: Chosen) -> None:
    """Show what a cycle would do, by the same code. Changes nothing.

    Ends with 0 if it could be done, 3 if a guard holds part of it back (the override is named), 4 if something is
    missing or in doubt.

    \b
    Example:
      labstore dbusers plan
    """
    here = room(chosen)
    proposal = _shown(here, overrides, only, as_json)
    if not as_json and proposal.plan.steps:
        line()
        line(f"to do it: {_doing(chosen, 'apply', overrides, only)}")
    sys.exit(of_state(State(plan_words(here.name, proposal)["state"])))


@dbusers.command()
@only_option
@account_overrides
@yes_option
@json_option
@site_options
def apply(only: tuple[str, ...], overrides: frozenset[Override], yes: bool, as_json: bool, chosen: Chosen) -> None:
    """Show the plan, ask, and do just that.

    The daemon does this by itself; by hand it is for overrides and for the first time.

    \b
    Example:
      labstore dbusers apply --allow-mass-removal
    """
    here = room(chosen)
    carry_out(here, overrides, only, yes, as_json)


@dbusers.command()
@yes_option
@json_option
@site_options
def harvest(yes: bool, as_json: bool, chosen: Chosen) -> None:
    """Let an empty or lost ledger learn from trusted files and from servers; neither is changed.

    Shows first what it would learn, and limits of single accounts that only servers know any more: to be written into
    the site file, before the next cycle ends them. What is left after it, `labstore dbusers plan` shows.

    \b
    Example:
      labstore dbusers harvest
    """
    carry_out(room(chosen), frozenset(), (), yes, as_json, HARVESTED)


def show_plan(here: AccountsRoom, only: tuple[str, ...], acts: frozenset[Act] | None) -> None:
    """What would be done, for the old name's --dry-run; ends with the status of that."""
    proposal = _shown(here, frozenset(), only, False, acts)
    sys.exit(of_state(State(plan_words(here.name, proposal)["state"])))


def carry_out(
    here: AccountsRoom,
    overrides: frozenset[Override],
    only: tuple[str, ...],
    yes: bool,
    as_json: bool,
    acts: frozenset[Act] | None = None,
) -> None:
    """Show, ask, do what was shown, and end with the status of what came of it."""
    proposal = _shown(here, overrides, only, as_json and not yes, acts, silent=as_json and yes)
    if not yes:
        if as_json or not sys.stdin.isatty():
            raise Stop(Exit.USAGE, "error: there is nobody to ask, so nothing was done", "say --yes to do it")
        if not proposal.plan.steps:
            sys.exit(of_state(State(plan_words(here.name, proposal)["state"])))
        line()
        if not click.confirm("Do this?", default=False):
            raise Stop(Exit.FAILED, "nothing was done")
    with waiting("at it"):
        record = here.patient(PATIENCE).run(overrides, only=proposal.plan)
    keep(here, record)
    here.close()
    if as_json:
        emit(record.to_dict())
    else:
        line()
        screens.outcome(record)
        reports([*record.reports, *(r.report for r in record.results if r.report and r.outcome.value == "failed")])
    sys.exit(of_state(record.state))


def keep(here: AccountsRoom, record: Record) -> None:
    """Leave the record for `status`, unless a daemon keeps it: its word comes with the next cycle."""
    before = newest(here)
    if record.state is State.STANDBY or (before is not None and before.due is not None and before.due > record.ended):
        return
    try:
        records.write(here.source().run_dir, records.kept(record, here.name, here.node, here.who, before=before))
    except OSError as error:
        click.echo(f"warning: the record for `labstore status` could not be written: {error}", err=True)


def _shown(
    here: AccountsRoom,
    overrides: frozenset[Override],
    only: tuple[str, ...],
    as_json: bool,
    acts: frozenset[Act] | None = None,
    silent: bool = False,
) -> Proposal:
    """The plan (of these accounts, or of these acts alone), shown."""
    with looking(here) as (cycle, changes):
        proposal = proposed(cycle, overrides)
    users = {user_of(proposal, name, project_of(here)) for name in only}
    steps = tuple(
        step for step in proposal.plan.steps if step.after is not None and (not only or step.after.user in users)
    )
    proposal = replace(proposal, plan=replace(proposal.plan, steps=learned(steps, acts) if acts is not None else steps))
    if not silent:
        words = plan_words(here.name, proposal)
        if acts is HARVESTED:
            limits = found_limits(proposal.facts, proposal.plan)
            words["limits"] = {str(user): limit_words(each) for user, each in limits.items()}
        emit(words) if as_json else screens.plan(words, changes)
    return proposal


def _doing(chosen: Chosen, verb: str, overrides: frozenset[Override], only: tuple[str, ...]) -> str:
    words = [f"labstore dbusers {verb}", *chosen.given, *(f"--only {name}" for name in only)]
    return " ".join([*words, *(f"--{override}" for override in sorted(overrides))])


# --- following -------------------------------------------------------------------------------------------------------


@dbusers.command()
@click.option("--once", is_flag=True, help="One cycle, then end with its status.")
@site_options
def run(once: bool, chosen: Chosen) -> None:
    """Follow directory, ledger, servers and homes, in the foreground; what the service does.

    \b
    Example:
      labstore dbusers run --once
    """
    from labstore.daemons.dbusersd import NAME, serve  # noqa: PLC0415 - not for --help
    from labstore.system.identity import program  # noqa: PLC0415 - as above
    from labstore.telemetry import logs  # noqa: PLC0415 - as above

    logs.configure("info")
    here = room(chosen)
    here.who = program(NAME, here.node)
    state = serve(here, once)
    sys.exit(Exit.DONE if state is None else of_state(state))


@dbusers.command()
@site_options
def writer(chosen: Chosen) -> None:
    """Keep credential files on this machine for a daemon elsewhere, over HTTPS; what that service does.

    \b
    Example:
      labstore dbusers writer
    """
    from labstore.daemons.writerd import serve  # noqa: PLC0415 - not for --help
    from labstore.telemetry import logs  # noqa: PLC0415 - as above

    logs.configure("info")
    serve(room(chosen, files_only=True))
