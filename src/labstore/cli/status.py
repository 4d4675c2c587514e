"""`labstore status` for people and `labstore check` for monitoring: the records of all rooms, judged."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from textwrap import wrap

import click

from labstore.cli.check_backup import check_backup
from labstore.cli.check_failover import CHECKS
from labstore.cli.exit import Exit
from labstore.cli.options import Chosen, Told, hands, json_option, site_options
from labstore.cli.output import WIDTH, emit, line, reports
from labstore.model.site import Site
from labstore.reconcile.record import State
from labstore.reports.in_file import BadFile
from labstore.reports.render import moment
from labstore.reports.report import Report
from labstore.telemetry.records import Kept, read_all
from labstore.telemetry.status import Health, Limits, RoomStatus, alive_of, judged, listing_age, look, worst
from labstore.telemetry.words import ago, plural, safe

RUN_DIR = Path("/run/labstore")
_COLOUR = {Health.OK: "green", Health.WARNING: "yellow", Health.CRITICAL: "red", Health.UNKNOWN: "magenta"}


# --- status ----------------------------------------------------------------------------------------------------------


@click.command()
@json_option
@site_options
def status(as_json: bool, chosen: Chosen) -> None:
    """One screen: how everything is, what waits for a person, and what to do next.

    Reads the newest record of every room; asks nothing else. Ends with 0 if all is well, 1 if something failed or does
    not run, 3 if something waits for a decision, 4 if something is in doubt, 5 if the site file cannot be taken.

    \b
    Example:
      labstore status
    """
    run_dir, broken = _run_dir(chosen)
    now = hands().clock.now()
    rooms, unreadable = look(run_dir, now)
    if as_json:
        emit(
            {
                "node": chosen.node_name,
                "health": worst(rooms).name,
                "rooms": [room.to_dict() for room in rooms],
                "site_problems": [problem.to_dict() for problem in broken],
                "unreadable": list(unreadable),
            }
        )
    else:
        _screen(chosen.node_name, rooms, broken, unreadable, run_dir, now)
    sys.exit(_ends(rooms, broken, unreadable))


def _run_dir(chosen: Chosen) -> tuple[Path, tuple[Report, ...]]:
    """Where the records are; a broken site file is told and costs nothing else."""
    try:
        site: Site = chosen.source()()
    except BadFile as error:
        return RUN_DIR, error.reports
    return site.run_dir, ()


def _ends(rooms: Sequence[RoomStatus], broken: Sequence[Report], unreadable: Sequence[str]) -> Exit:
    if broken:
        return Exit.CONFIGURATION
    if unreadable or worst(rooms) >= Health.CRITICAL:
        return Exit.FAILED
    if any(room.kept.state is State.REFUSED for room in rooms):
        return Exit.REFUSED
    return Exit.HOLDING if worst(rooms) is Health.WARNING else Exit.DONE


def _screen(
    node: str,
    rooms: Sequence[RoomStatus],
    broken: Sequence[Report],
    unreadable: Sequence[str],
    run_dir: Path,
    now: datetime,
) -> None:
    health = worst(rooms)
    click.echo(f"{safe(node)}: " + click.style(health.name, fg=_COLOUR[health], bold=True))
    if broken:
        line()
        line("the site file cannot be taken as it is", bold=True)
        reports(broken)
    for text in unreadable:
        line(f"cannot be read: {text}", fg="red")
    if not rooms:
        line()
        line(f"nothing has reported in {run_dir} yet")
        line("-> systemctl status labstore-exportd, or once by hand: labstore exports apply")
    for room in rooms:
        line()
        _room(room, now)


def _room(room: RoomStatus, now: datetime) -> None:
    kept = room.kept
    headline = wrap(safe(room.headline), WIDTH - len(room.what) - 2) or [""]
    click.echo(click.style(room.what, bold=True) + "  " + click.style(headline[0], fg=_COLOUR[room.health]))
    for more in headline[1:]:
        click.secho(f"  {more}", fg=_COLOUR[room.health])
    line(f"  {kept.state.value} since {moment(kept.since)} ({ago((now - kept.since).total_seconds())}), on {kept.node}")
    for detail in _details(kept, now):
        line(f"  {detail}")
    if room.silent:
        line(f"  -> {room.next[0]}")
    if room.waiting:
        line()
        reports(room.waiting, limit=12)
    if room.notices:
        line()
        reports(room.notices, limit=5)


def _details(kept: Kept, now: datetime) -> list[str]:
    facts, found = kept.facts, []
    if kept.room == "dbusers":
        return _of_accounts(kept, now)
    if kept.room == "backup":
        return [f"looked at {ago((now - kept.ended).total_seconds())} ago, in {kept.seconds:.0f} s"]
    if facts.get("generation") is not None:
        found.append(
            f"generation {facts['generation']}; cycle {kept.number}, {ago((now - kept.ended).total_seconds())} ago"
        )
    age = listing_age(kept, now)
    if age is not None:
        instances = plural(int(facts.get("instances") or 0), "instance")
        found.append(f"{instances} by {facts.get('source')}; all listed {ago(age)} ago")
    if facts.get("untouched_count"):
        held = plural(int(facts.get("held_clients") or 0), "client")
        found.append(f"{held} kept in doubt; labstore exports plan lists them")
    return found


def _of_accounts(kept: Kept, now: datetime) -> list[str]:
    facts = kept.facts
    found = [f"cycle {kept.number}, {ago((now - kept.ended).total_seconds())} ago, in {kept.seconds:.1f} s"]
    if facts.get("unconverged"):
        age = ago(float(facts.get("oldest_unconverged") or 0))
        found.append(f"{facts['unconverged']} on their way, the oldest for {age}")
    if facts.get("untouched"):
        found.append(f"{plural(int(facts['untouched']), 'account')} left alone; labstore dbusers plan lists them")
    return found


# --- check -----------------------------------------------------------------------------------------------------------


@click.group(cls=Told)
def check() -> None:
    """One line for monitoring, with status 0, 1, 2 or 3.

    OK, WARNING, CRITICAL or UNKNOWN, a sentence, and performance data.

    \b
    Example:
      labstore check exports
    """


for other in (*CHECKS, check_backup):
    check.add_command(other)


@check.command()
@click.option("--warning", type=float, help="Seconds since the last complete listing; else three times its interval.")
@click.option("--critical", type=float, help="The same, for CRITICAL; else twelve times its interval.")
@json_option
@site_options
def exports(warning: float | None, critical: float | None, as_json: bool, chosen: Chosen) -> None:
    """Check the exports of this node's clusters, as monitoring wants it: one line and performance data.

    OK while all that can be done is done (a standby node too), WARNING when something waits for a person or is in
    doubt, CRITICAL when something failed or the daemon does not run, UNKNOWN when nobody has reported.

    \b
    Example:
      labstore check exports --warning 600
    """
    run_dir, broken = _run_dir(chosen)
    now = hands().clock.now()
    found, unreadable = read_all(run_dir, ("exports",))
    rooms = [_limited(kept, run_dir, now, warning, critical) for kept in found if chosen.cluster in (None, kept.name)]
    health = Health.UNKNOWN if unreadable and not rooms else worst(rooms)
    if broken:
        health = max(health, Health.CRITICAL) if rooms else Health.UNKNOWN
    texts = [f"{room.kept.name}: {room.headline}{_first_waiting(room)}" for room in rooms]
    texts += [f"site file: {problem.message()}" for problem in broken[:1]] + list(unreadable[:1])
    text = "; ".join(texts) or f"nothing has reported in {run_dir}"
    if as_json:
        emit({"health": health.name, "text": text, "rooms": [room.to_dict() for room in rooms]})
    else:
        click.echo(f"EXPORTS {health.name} - {_plain(text)} | {' '.join(_perfdata(rooms, now))}".rstrip(" |"))
    sys.exit(int(health))


@check.command("dbusers")
@click.option("--warning", type=float, default=1800.0, show_default=True, help="Age of the oldest account on its way.")
@click.option("--critical", type=float, default=14400.0, show_default=True, help="The same, for CRITICAL.")
@json_option
@site_options
def dbusers(warning: float, critical: float, as_json: bool, chosen: Chosen) -> None:
    """Check database accounts, as monitoring wants it: one line and performance data.

    OK while all that can be done is done, WARNING when something waits for a person, a server is away or an account is
    on its way for long, CRITICAL when something failed or the daemon does not run, UNKNOWN when nobody has reported.

    \b
    Example:
      labstore check dbusers --warning 600
    """
    run_dir, broken = _run_dir(chosen)
    now = hands().clock.now()
    found, unreadable = read_all(run_dir, ("dbusers",))
    rooms = [_aged(judged(kept, now, alive_of(run_dir, kept)), warning, critical) for kept in found]
    health = Health.UNKNOWN if unreadable or not rooms else worst(rooms)
    if broken:
        health = max(health, Health.CRITICAL) if rooms else Health.UNKNOWN
    texts = [f"{room.kept.name}: {room.headline}{_first_waiting(room)}" for room in rooms]
    texts += [f"site file: {problem.message()}" for problem in broken[:1]] + list(unreadable[:1])
    text = "; ".join(texts) or f"nothing has reported in {run_dir}"
    if as_json:
        emit({"health": health.name, "text": text, "rooms": [room.to_dict() for room in rooms]})
    else:
        perfdata = " ".join(each for room in rooms for each in _account_figures(room.kept))
        click.echo(f"DBUSERS {health.name} - {_plain(text)} | {perfdata}".rstrip(" |"))
    sys.exit(int(health))


def _aged(room: RoomStatus, warning: float, critical: float) -> RoomStatus:
    """One that is on its way for too long is told, whatever the cycle says."""
    age = float(room.kept.facts.get("oldest_unconverged") or 0)
    health = Health.CRITICAL if age > critical else Health.WARNING if age > warning else Health.OK
    return replace(room, health=max(room.health, health))


def _account_figures(kept: Kept) -> list[str]:
    facts = kept.facts
    if "accounts" not in facts:
        return [f"'cycle'={kept.seconds:.3f}s"]
    numbers = {
        "accounts": sum(facts["accounts"].values()),
        "unconverged": facts["unconverged"],
        "oldest_unconverged": f"{float(facts['oldest_unconverged']):.0f}s",
        "away": sum(not words["answers"] for words in facts["hosts"].values()),
        "refused": len(kept.refused),
        "cycle": f"{kept.seconds:.3f}s",
    }
    return [f"'{key}'={value}" for key, value in numbers.items()]


def _limited(kept: Kept, run_dir: Path, now: datetime, warning: float | None, critical: float | None) -> RoomStatus:
    usual = Limits.of(kept)
    limits = Limits(usual.warning if warning is None else warning, usual.critical if critical is None else critical)
    return judged(kept, now, alive_of(run_dir, kept), limits)


def _first_waiting(room: RoomStatus) -> str:
    """What a person is to look at, in as few words as fit a pager."""
    others = [said for said in room.waiting if said.message != room.headline]
    more = f" (and {len(others) - 1} more)" if len(others) > 1 else ""
    return f"; {others[0].message[:160]}{more}" if others else ""


def _plain(text: str) -> str:
    """One line without the sign that begins performance data."""
    return safe(text).replace("|", "/")


def _perfdata(rooms: Sequence[RoomStatus], now: datetime) -> list[str]:
    found = []
    for room in rooms:
        facts, name = room.kept.facts, room.kept.name
        numbers = {
            "exports": facts.get("served_exports"),
            "clients": facts.get("served_clients"),
            "missing": facts.get("missing_count"),
            "held": facts.get("held_clients"),
            "refused": len(room.kept.refused),
            "cycle": f"{room.kept.seconds:.3f}s",
        }
        age = listing_age(room.kept, now)
        if age is not None:
            numbers["listing_age"] = f"{age:.0f}s"
        found += [f"'{name}_{key}'={value}" for key, value in numbers.items() if value is not None]
    return found
