"""`labstore config`: is the site file right, what does it say, and how may it be written."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from labstore.cli.exit import Exit, Stop
from labstore.config.explain import Explained, explained
from labstore.config.load import DEFAULT, Loaded, load
from labstore.config.reference import page
from labstore.config.schema import json_schema
from labstore.config.settings import settings
from labstore.formats.findings import did_you_mean
from labstore.reports.in_file import BadFile
from labstore.reports.report import Report

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group()
def config() -> None:
    """The site file: check it, explain it, describe it to an editor.

    Nothing here changes anything.

    \b
    Example:
      labstore config check /etc/labstore/site.yaml
    """


@config.command()
@click.argument("file", type=_FILE, default=DEFAULT, envvar="LABSTORE_SITE")
@click.option("--json", "as_json", is_flag=True, help="Print problems and notices as JSON.")
def check(file: Path, as_json: bool) -> None:
    """Check the site file FILE and the mounts files it names.

    Prints every problem at once, one per line, as `file:line:column: problem; remedy`. Ends with status 0 if the file
    can be taken and 5 if not. Safe at any time: nothing is asked, nothing is written.

    \b
    Example:
      labstore config check ./site.yaml
    """
    try:
        loaded = load(file)
    except BadFile as error:
        _print_problems(error.reports, as_json)
        sys.exit(Exit.CONFIGURATION)
    if as_json:
        click.echo(json.dumps({"file": str(file), "ok": True, "problems": [], **_notices(loaded)}, indent=2))
        return
    for notice in loaded.notices:
        click.echo(notice.text())
    click.echo(_summary(loaded))


def _print_problems(problems: Sequence[Report], as_json: bool) -> None:
    if as_json:
        found = [problem.to_dict() for problem in problems]
        click.echo(json.dumps({"ok": False, "problems": found, "notices": []}, indent=2))
        return
    for problem in problems:
        click.echo(problem.text())


def _notices(loaded: Loaded) -> dict[str, object]:
    return {"notices": [notice.to_dict() for notice in loaded.notices]}


def _summary(loaded: Loaded) -> str:
    site = loaded.site
    wanted = [export for cluster in site.clusters for export in site.wanted(cluster.name)]
    private = sum(not export.public for export in wanted)
    return (
        f"{loaded.path}: fine: {len(site.clusters)} clusters, {len(site.projects)} projects, "
        f"{private} private and {len(wanted) - private} public exports"
    )


@config.command()
@click.argument("setting", required=False)
@click.option("--site", "--file", "file", type=_FILE, default=DEFAULT, envvar="LABSTORE_SITE", help="The site file.")
@click.option("--json", "as_json", is_flag=True, help="Print the settings as JSON.")
def explain(setting: str | None, file: Path, as_json: bool) -> None:
    """Show every setting with its value, where the value comes from, its unit and its meaning.

    With SETTING (`exports.poll`) that one and those below it. Safe at any time.

    \b
    Example:
      labstore config explain exports.brake
    """
    try:
        loaded = load(file)
    except BadFile as error:
        raise Stop.because(Exit.CONFIGURATION, error.reports) from None
    rows = explained(loaded, setting)
    if not rows and setting is not None:
        known = {row.setting for row in explained(loaded)} | {known.path[0] for known in settings()}
        raise click.UsageError(f"There is no setting {setting!r}: {did_you_mean(setting, known)}")
    if as_json:
        click.echo(json.dumps([dataclasses.asdict(row) for row in rows], indent=2))
        return
    _print_settings(rows)


def _print_settings(rows: Sequence[Explained]) -> None:
    for row in rows:
        click.echo(f"{row.setting} = {row.value}    ({row.origin})")
        click.echo(f"    {row.meaning}" + (f" [{row.unit}]" if row.unit else ""))


@config.command()
@click.option("--page", "as_page", is_flag=True, help="Print the reference page (Markdown) instead.")
def schema(as_page: bool) -> None:
    """Print the JSON Schema of the site file, for editors that complete and check while typing.

    \b
    Example:
      labstore config schema > site.schema.json
    """
    click.echo(page() if as_page else json.dumps(json_schema(), indent=2), nl=not as_page)
