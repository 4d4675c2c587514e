"""What people ask of the leader: removal, return, new passwords, limits. It stands in the ledger until it is done."""

from __future__ import annotations

import sys
from collections.abc import Callable

import click

from labstore.cli import dbusers_screens as screens
from labstore.cli.dbusers_parts import Meant, looking, meant, meant_surely, project_of, room, tell_when, until, written
from labstore.cli.exit import Exit, Stop
from labstore.cli.options import Chosen, json_option, site_options
from labstore.cli.output import emit, line
from labstore.formats.units import Unfit, duration, duration_text
from labstore.model.accounts import LARGEST_LIMIT, AccountKind, DbUser, PartialLimits
from labstore.model.database import HostGroupName
from labstore.model.dbusers_settings import LimitRule
from labstore.model.ledger import AccountRow, AccountState, Cause, LedgerView, Request, RequestVerb
from labstore.telemetry.dbusers import request_words, rule_words
from labstore.telemetry.words import plural

yes_option = click.option("--yes", is_flag=True, help="Do not ask.")
why_option = click.option("--why", "because", metavar="TEXT", default="", help="The reason, for the history.")


@click.command()
@click.argument("name")
@click.option("--now", is_flag=True, help="Drop it as soon as its sessions are ended, without the waiting time.")
@click.option("--restore", is_flag=True, help="The reverse: let it work again, with the same password.")
@yes_option
@why_option
@json_option
@site_options
def remove(name: str, now: bool, restore: bool, yes: bool, because: str, as_json: bool, chosen: Chosen) -> None:
    """Remove the account NAME: suspended at once, dropped after the waiting time.

    It is locked and its sessions are ended on every server; its grants, databases and file stay for the waiting time
    (40 days), so that --restore gives all of it back with the same password. Databases are never dropped.

    \b
    Examples:
      labstore dbusers remove wikibugs --why "its maintainer asked"
      labstore dbusers remove wikibugs --restore
    """
    if now and restore:
        raise click.UsageError("--now and --restore exclude each other.")
    here = room(chosen)
    with looking(here) as (cycle, _):
        found = meant_surely(cycle.observer.ledger.read(), name, project_of(here))
    if found.row is None and not restore:
        raise Stop(Exit.FAILED, f"error: {found.user} is removed already", f"labstore dbusers show {found.user}")
    who = f"{found.row.kind.value} {found.row.name}, {found.user}" if found.row else f"{found.user}"
    wait = duration_text(here.settings.removal.wait)
    if restore and found.row is None:
        what = f"{who}: was dropped; gets a new password and a new file, by apply --allow-account-identity"
    elif restore:
        what = f"{who}: {_when_back(found.row)}"
    elif now:
        what = f"{who}: locked on every server, its sessions ended, then dropped, its file removed"
    else:
        what = f"{who}: locked on every server, its sessions ended; dropped after {wait} unless restored"
    verb = RequestVerb.RESTORE if restore else RequestVerb.REMOVE
    options: dict[str, object] = {"now": True} if now else {}
    _ask(chosen, verb, found.user, what, options, because, yes, as_json)


def _when_back(row: AccountRow | None) -> str:
    """What a person's wish to have it back can do, as far as the ledger knows what the directory says."""
    if row is not None and row.suspended and row.missing_since is not None:
        return "the directory lacks it; kept, locked, until it has it again, and not dropped meanwhile"
    if row is not None and row.cause is Cause.LOCKED:
        return "the directory says that it is disabled; kept, locked, until that ends"
    return "works again on every server, with the password in its file, unless the directory lacks or disables it"


@click.command()
@click.argument("name", required=False)
@click.option("--all", "everybody", is_flag=True, help="Every account.")
@click.option("--now", is_flag=True, help="The old password ends at once: it has leaked.")
@yes_option
@why_option
@json_option
@site_options
def rotate(
    name: str | None, everybody: bool, now: bool, yes: bool, because: str, as_json: bool, chosen: Chosen
) -> None:
    """Give the account NAME (or all) a new password that nobody notices.

    Servers accept the old and the new one, the file is replaced from one moment to the next, and the old one ends a day
    later (dbusers.rotation.overlap). A server that is away gets both first.

    \b
    Examples:
      labstore dbusers rotate wikibugs
      labstore dbusers rotate wikibugs --now --why "found in public code"
    """
    if (name is None) == (not everybody):
        raise click.UsageError("Give a NAME, or --all.")
    here = room(chosen)
    with looking(here) as (cycle, _):
        view = cycle.observer.ledger.read()
        found = meant_surely(view, name, project_of(here)) if name is not None else None
    if found is not None and found.row is None:
        raise Stop(Exit.FAILED, f"error: {found.user} is removed", f"labstore dbusers show {found.user}")
    whom = str(found.user) if found else f"all {plural(len(view.accounts), 'account')}"
    end = "ends at once" if now else f"ends {duration_text(here.settings.rotation.overlap)} after"
    what = f"{whom}: a new password in the file; the old one {end}"
    row = found.row if found is not None else None
    if row is not None and row.state is AccountState.OVERLAP and row.until is not None and not now:
        what = f"{whom}: begins {row.until:%Y-%m-%d %H:%M} UTC, when the rotation that is under way is over"
    options: dict[str, object] = {"now": True} if now else {}
    _ask(chosen, RequestVerb.ROTATE, found.user if found else None, what, options, because, yes, as_json)


def _ask(
    chosen: Chosen,
    verb: RequestVerb,
    user: DbUser | None,
    what: str,
    options: dict[str, object],
    because: str,
    yes: bool,
    as_json: bool,
) -> None:
    here = room(chosen)
    if not as_json:
        line(what, bold=True)
    if not yes:
        _sure(as_json)
    given = {**options, **({"why": because} if because else {})}
    with written(here) as ledger:
        request = ledger.ask(Request(verb, user, here.who, here.clock.now(), given))
    if as_json:
        emit(request_words(request))
    else:
        tell_when(here)


def _sure(as_json: bool) -> None:
    if as_json or not sys.stdin.isatty():
        raise Stop(Exit.USAGE, "error: there is nobody to ask, so nothing was done", "say --yes to do it")
    if not click.confirm("Do this?", default=False):
        raise Stop(Exit.FAILED, "nothing was done")


# --- limits ----------------------------------------------------------------------------------------------------------

_COUNT = click.IntRange(0, LARGEST_LIMIT)


@click.command()
@click.argument("name", required=False)
@click.option("--connections", type=_COUNT, metavar="N", help="Connections at a time; 0 for no limit.")
@click.option("--statement-time", metavar="TIME", help="How long a statement may take: 30m; 0s for no limit.")
@click.option("--queries-per-hour", type=_COUNT, metavar="N", help="Statements in an hour; 0 for no limit.")
@click.option("--kind", type=click.Choice([kind.value for kind in AccountKind]), help="For this kind, without a NAME.")
@click.option("--group", metavar="GROUP", help="Only on the servers of this group.")
@click.option("--until", "end", metavar="WHEN", help="It ends by itself: 30d, or 2027-01-31.")
@click.option("--end", "number", type=int, metavar="RULE", help="End this rule of the ledger.")
@why_option
@json_option
@site_options
def limit(
    name: str | None,
    connections: int | None,
    statement_time: str | None,
    queries_per_hour: int | None,
    kind: str | None,
    group: str | None,
    end: str | None,
    number: int | None,
    because: str,
    as_json: bool,
    chosen: Chosen,
) -> None:
    """Show the rules about limits, or make one: for NAME, a kind, or everybody.

    Servers follow within seconds. The more specific rule wins, limit by limit; one of the same scope is replaced. Rules
    with an end are forgotten by themselves.

    \b
    Examples:
      labstore dbusers limit
      labstore dbusers limit s52788 --connections 40 --until 30d --why "migration"
      labstore dbusers limit --kind tool --group web --statement-time 5m
      labstore dbusers limit --end 7
    """
    here = room(chosen)
    limits = PartialLimits(connections, _seconds(statement_time), queries_per_hour)
    if number is not None:
        _end(chosen, number, as_json)
        return
    if limits.nothing:
        if kind or group or end:
            raise click.UsageError("Say which limit: --connections, --statement-time or --queries-per-hour.")
        _show(chosen, name, as_json)
        return
    if name is not None and kind is not None:
        raise click.UsageError("Give a NAME or --kind.")
    user = _user(chosen, name, meant_surely)
    _known_group(chosen, group)
    rule = LimitRule(
        limits,
        AccountKind(kind) if kind else None,
        user,
        HostGroupName(group) if group else None,
        because,
        until(end, here.clock.now()),
    )
    with written(here) as ledger:
        made = ledger.add_rule(rule, here.who)
    if as_json:
        emit(rule_words(made))
    else:
        screens.rules([rule_words(made)])
        tell_when(here)


def _seconds(text: str | None) -> int | None:
    if text is None:
        return None
    try:
        return -int(-duration(text) // 1)
    except Unfit as error:
        raise click.UsageError(f"--statement-time: {error}; {error.remedy}") from None


def _user(chosen: Chosen, name: str | None, who: Callable[[LedgerView, str, str], Meant] = meant) -> DbUser | None:
    if name is None:
        return None
    here = room(chosen)
    with looking(here) as (cycle, _):
        return who(cycle.observer.ledger.read(), name, project_of(here)).user


def _known_group(chosen: Chosen, group: str | None) -> None:
    known = sorted({str(host.group) for host in room(chosen).settings.hosts if host.group is not None})
    if group is not None and group not in known:
        raise click.UsageError(f"No server is of group {group!r}; known are: {', '.join(known) or 'none'}.")


def _show(chosen: Chosen, name: str | None, as_json: bool) -> None:
    here = room(chosen)
    user = _user(chosen, name)
    with looking(here) as (cycle, _):
        every = [*here.settings.limits.rules, *cycle.observer.ledger.read().rules]
    concerned = [rule for rule in every if user is None or rule.account == user or _general(rule, user)]
    words = [rule_words(rule) for rule in concerned]
    emit({"rules": words}) if as_json else screens.rules(words)


def _general(rule: LimitRule, user: DbUser) -> bool:
    return rule.account is None and rule.kind in (None, user.kind)


def _end(chosen: Chosen, number: int, as_json: bool) -> None:
    here = room(chosen)
    with written(here) as ledger:
        ended = ledger.end_rule(number, here.who)
    if not ended:
        raise Stop(Exit.FAILED, f"error: the ledger has no rule {number}", "labstore dbusers limit shows them")
    if as_json:
        emit({"ended": number})
    else:
        line(f"rule {number} is ended")
        tell_when(here)
