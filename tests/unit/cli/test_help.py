"""Every command: an example in its help, JSON where it shows something, 80 columns, and an answer at once."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator

import click
import pytest
from click.testing import CliRunner

from labstore import __version__
from labstore.cli.compat import nfs_exportd
from labstore.cli.compat_dbusers import maintain_dbusers
from labstore.cli.compat_nfs import nfs_manage, nfs_manage_binds
from labstore.cli.dbusers_parts import OVERRIDES as ACCOUNT_OVERRIDES
from labstore.cli.exports_asked import OVERRIDES
from labstore.cli.main import COMMANDS, labstore
from labstore.reports import dbusers as reports_of_accounts
from labstore.reports import exports as reports_of_exports
from labstore.reports.report import OVERRIDE_HELP, Report
from tests.support.hang import HANGS

NO_JSON = {
    "labstore exports run": "follows, and shows nothing",
    "labstore dbusers run": "follows, and shows nothing",
    "labstore dbusers writer": "serves, and shows nothing",
    "labstore web run": "serves, and shows nothing",
    "labstore backup serve": "answers a program",
    "labstore blocksync serve": "answers a program",
    "labstore failover agent": "answers a program",
    "labstore failover fence-peer": "answers DRBD with its status",
    "labstore failover announce": "shows nothing",
    "labstore config schema": "prints JSON anyway",
}
"""Commands without --json, and why."""


def walk(command: click.Command, path: str, context: click.Context) -> Iterator[tuple[str, click.Command]]:
    yield path, command
    if isinstance(command, click.Group):
        for name in command.list_commands(context):
            sub = command.get_command(context, name)
            assert sub is not None
            yield from walk(sub, f"{path} {name}", context)


OLD_NAMES = {
    "maintain-dbusers": maintain_dbusers,
    "nfs-exportd": nfs_exportd,
    "nfs-manage": nfs_manage,
    "nfs-manage-binds": nfs_manage_binds,
}
"""With the old options, which know no --json."""
EVERY = [*walk(labstore, "labstore", click.Context(labstore)), *OLD_NAMES.items()]
ENDS = [(path, command) for path, command in EVERY if not isinstance(command, click.Group)]


def help_of(path: str, command: click.Command) -> str:
    root = OLD_NAMES.get(path, labstore)
    result = CliRunner().invoke(root, [*path.split()[1:], "--help"])
    assert result.exit_code == 0, result.output
    return result.output


@pytest.mark.parametrize(("path", "command"), EVERY, ids=[path for path, _ in EVERY])
def test_every_help_has_an_example(path: str, command: click.Command) -> None:
    text = help_of(path, command)
    assert "Example" in text
    example = text.split("Example", 1)[1]
    assert path.partition(" ")[0] in example


@pytest.mark.parametrize(("path", "command"), EVERY, ids=[path for path, _ in EVERY])
def test_every_help_fits_80_columns(path: str, command: click.Command) -> None:
    assert max(map(len, help_of(path, command).splitlines())) <= (90 if path == "nfs-exportd" else 80)


@pytest.mark.parametrize("group", ["binds", "dbusers", "exports", "config", "check"])
def test_a_list_of_commands_cuts_nothing(group: str) -> None:
    assert "..." not in help_of(f"labstore {group}", labstore).split("Commands:")[1]


@pytest.mark.parametrize(("path", "command"), ENDS, ids=[path for path, _ in ENDS])
def test_everything_that_shows_has_json(path: str, command: click.Command) -> None:
    options = {name for parameter in command.params for name in parameter.opts}
    if path in OLD_NAMES:
        return
    assert ("--json" in options) != (path in NO_JSON), path


def test_the_list_of_commands_says_what_each_says_of_itself() -> None:
    context = click.Context(labstore)
    for name, place in COMMANDS.items():
        command = labstore.get_command(context, name)  # type: ignore[attr-defined]
        assert command.get_short_help_str(limit=200) == place.short_help, name


@pytest.mark.parametrize("name", ["apply", "plan", "rollback", "resume"])
def test_every_override_that_a_refusal_of_exports_names_is_a_flag(name: str) -> None:
    text = " ".join(help_of(f"labstore exports {name}", labstore).split())
    named = {report.override for report in vars(reports_of_exports).values() if _is_report(report) and report.override}
    assert named == set(OVERRIDES)
    for override in OVERRIDES:
        assert f"--{override} Once: {OVERRIDE_HELP[override]}." in text


@pytest.mark.parametrize("name", ["apply", "plan"])
def test_every_override_that_a_refusal_of_accounts_names_is_a_flag(name: str) -> None:
    text = " ".join(help_of(f"labstore dbusers {name}", labstore).split())
    named = {report.override for report in vars(reports_of_accounts).values() if _is_report(report) and report.override}
    assert named == set(ACCOUNT_OVERRIDES)
    for override in ACCOUNT_OVERRIDES:
        assert f"--{override} Once: {OVERRIDE_HELP[override]}." in text


def _is_report(thing: object) -> bool:
    return isinstance(thing, type) and issubclass(thing, Report)


def test_version() -> None:
    assert CliRunner().invoke(labstore, ["--version"]).output == f"labstore, version {__version__}\n"


@pytest.mark.starts_processes
def test_help_answers_at_once_and_imports_nothing_heavy() -> None:
    code = (
        "import sys; from click.testing import CliRunner; from labstore.cli.main import labstore;"
        "r = CliRunner().invoke(labstore, ['--help']); assert r.exit_code == 0;"
        "heavy = {'openstack', 'jeepney', 'starlette', 'pydantic', 'rich', 'pyroute2', 'structlog', 'sqlite3'};"
        "print(sorted(heavy & {name.split('.')[0] for name in sys.modules}))"
    )
    subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    started = time.monotonic()
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
    assert time.monotonic() - started < HANGS
