"""One table of exit statuses, in the code and in the reference."""

import re
from pathlib import Path

import click
from click.testing import CliRunner

from labstore.cli.exit import MEANING, Exit, Stop, of_state
from labstore.reconcile.record import State
from labstore.reports.exports import NotServed

REFERENCE = Path(__file__).parents[3] / "docs/reference/exit-statuses.md"


def test_the_reference_page_is_the_table() -> None:
    rows = re.findall(r"^\| (\d) \| (\w+) \| (.+) \|$", REFERENCE.read_text(), re.MULTILINE)
    assert rows == [(str(int(status)), status.name.lower(), MEANING[status]) for status in Exit]


def test_every_state_has_a_status_of_its_own() -> None:
    assert len({of_state(state) for state in State}) == len(State)


def test_an_end_is_told_on_standard_error_with_what_to_do_next() -> None:
    @click.command()
    def command() -> None:
        raise Stop(Exit.LOCKED, "it is locked", "wait")

    result = CliRunner().invoke(command)
    assert (result.exit_code, result.stdout, result.stderr) == (6, "", "it is locked\n    -> wait\n")


def test_an_end_with_reports_shows_each_with_its_remedy() -> None:
    @click.command()
    def command() -> None:
        raise Stop.because(Exit.FAILED, [NotServed("knfsd")])

    result = CliRunner().invoke(command)
    assert result.exit_code == 1
    assert "warning: knfsd is not running" in result.stderr
    assert "-> start it" in result.stderr
