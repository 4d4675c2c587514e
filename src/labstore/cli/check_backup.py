"""`labstore check backup`: one line for monitoring."""

from __future__ import annotations

import sys

import click

from labstore.cli.options import Chosen, hands, json_option, site_options
from labstore.cli.output import emit
from labstore.model.backup_settings import JobName
from labstore.model.site import Site
from labstore.reports.in_file import BadFile
from labstore.telemetry.backup import figures
from labstore.telemetry.records import read_all
from labstore.telemetry.status import Health, RoomStatus, judged, worst
from labstore.telemetry.words import safe


@click.command("backup")
@json_option
@site_options
def check_backup(as_json: bool, chosen: Chosen) -> None:
    """Check backups, as monitoring wants it: one line and performance data.

    CRITICAL when the newest generation that is proven to restore is older than the job's alert_after, or there is none;
    when the last run failed; when a job has never reported. WARNING when something waits for a person. Run it on the
    backup host.

    \b
    Example:
      labstore check backup
    """
    now = hands().clock.now()
    try:
        site = chosen.source()()
    except BadFile as error:
        _say(Health.UNKNOWN, f"site file: {error.reports[0].message()}", [], {}, as_json)
    found, unreadable = read_all(site.run_dir, ("backup",))
    wanted = _jobs(site)
    rooms = [judged(kept, now) for kept in found if kept.name in wanted]
    silent = [name for name in wanted if name not in {room.kept.name for room in rooms}]
    health = worst(rooms) if wanted else Health.UNKNOWN
    if silent or unreadable:
        health = Health.CRITICAL
    texts = [f"{room.kept.name}: {room.headline}" for room in rooms]
    texts += [f"{name}: never reported" for name in silent] + list(unreadable[:1])
    perfdata = {key: value for room in rooms for key, value in figures(room.kept, now).items()}
    _say(health, "; ".join(texts) or "no job is declared", rooms, perfdata, as_json)


def _jobs(site: Site) -> tuple[JobName, ...]:
    return tuple(site.backup.jobs) if site.backup is not None else ()


def _say(health: Health, text: str, rooms: list[RoomStatus], perfdata: dict[str, str], as_json: bool) -> None:
    if as_json:
        emit({"health": health.name, "text": text, "rooms": [room.to_dict() for room in rooms]})
    else:
        numbers = " ".join(f"'{key}'={value}" for key, value in perfdata.items())
        click.echo(f"BACKUP {health.name} - {safe(text).replace('|', '/')} | {numbers}".rstrip(" |"))
    sys.exit(int(health))
