"""`labstore config`: is the site file right, what does it say, and how may it be written."""

from __future__ import annotations

import dataclasses
import json
import sys
from collections.abc import Sequence
from pathlib import Path

import click

from labstore.cli.exit import Exit, Stop
from labstore.cli.options import Told
from labstore.cli.output import WIDTH, folded
from labstore.config.explain import Explained, explained
from labstore.config.load import DEFAULT, Loaded, inventory_problems, load, people_problems
from labstore.config.load_accounts import load_accounts
from labstore.config.reference import page
from labstore.config.schema import json_schema
from labstore.config.settings import settings
from labstore.formats.findings import did_you_mean
from labstore.reports.in_file import BadFile
from labstore.reports.report import Report
from labstore.telemetry.words import plural

_FILE = click.Path(dir_okay=False, path_type=Path)


@click.group(cls=Told)
def config() -> None:
    """The site file: check it, explain it, describe it to an editor.

    Nothing here changes anything.

    \b
    Example:
      labstore config check /etc/labstore/site.yaml
    """


@config.command()
@click.argument("file", type=_FILE, required=False)
@click.option("--site", "site_file", type=_FILE, envvar="LABSTORE_SITE", help="The site file, instead of FILE.")
@click.option("--passwords", is_flag=True, help="Read the files with passwords for accounts too, as their daemon does.")
@click.option("--json", "as_json", is_flag=True, help="Print problems and notices as JSON.")
def check(file: Path | None, site_file: Path | None, passwords: bool, as_json: bool) -> None:
    """Check the site file and the files it names.

    FILE or --site, /etc/labstore/site.yaml where neither is given; with it the mounts files, the inventory file and the
    file of people that it names. Prints every problem at once, as `file:line:column: problem; remedy`, folded. Ends
    with status 0 if the files can be taken and 5 if not. Safe at any time: nothing is asked, nothing is written.

    \b
    Example:
      labstore config check ./site.yaml
    """
    file = file or site_file or DEFAULT
    try:
        loaded = load(file)
        problems = (*inventory_problems(loaded.site.inventory), *people_problems(loaded))
        if passwords and loaded.accounts is not None:
            load_accounts(file)
    except BadFile as error:
        problems = error.reports
    if problems:
        _print_problems(problems, as_json)
        sys.exit(Exit.CONFIGURATION)
    if as_json:
        click.echo(json.dumps({"file": str(file), "ok": True, "problems": [], **_notices(loaded)}, indent=2))
        return
    for notice in loaded.notices:
        folded(notice.text(), 0, 4)
    folded(_summary(loaded), 0, 4)


def _print_problems(problems: Sequence[Report], as_json: bool) -> None:
    if as_json:
        found = [problem.to_dict() for problem in problems]
        click.echo(json.dumps({"ok": False, "problems": found, "notices": []}, indent=2))
        return
    for problem in problems:
        folded(problem.text(), 0, 4)


def _notices(loaded: Loaded) -> dict[str, object]:
    return {"notices": [notice.to_dict() for notice in loaded.notices]}


def _summary(loaded: Loaded) -> str:
    site = loaded.site
    wanted = [export for cluster in site.clusters for export in site.wanted(cluster.name)]
    private = sum(not export.public for export in wanted)
    servers = len(loaded.accounts.hosts) if loaded.accounts else 0
    return (
        f"{loaded.path}: fine: {plural(len(site.clusters), 'cluster')}, {plural(len(site.projects), 'project')}, "
        f"{private} private and {plural(len(wanted) - private, 'public export')}"
        + (f", {plural(servers, 'replica server')}" if servers else "")
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
        whole = f"{row.setting} = {row.value}    ({row.origin})"
        if len(whole) <= WIDTH:
            click.echo(whole)
        else:
            folded(f"{row.setting} = {row.value}", 0, 4)
            folded(f"({row.origin})", 4)
        folded(row.meaning + (f" [{row.unit}]" if row.unit else ""), 4)


@config.command()
@click.option("--page", "as_page", is_flag=True, help="Print the reference page (Markdown) instead.")
def schema(as_page: bool) -> None:
    """Print the JSON Schema of the site file, for editors that complete and check while typing.

    \b
    Example:
      labstore config schema > site.schema.json
    """
    click.echo(page() if as_page else json.dumps(json_schema(), indent=2), nl=not as_page)
