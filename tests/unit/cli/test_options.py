"""What can go wrong in the world ends a command with a status and what to do next; a defect does not hide."""

from __future__ import annotations

import errno
import sqlite3
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from labstore.assembly import StateElsewhere
from labstore.cli.options import Told, override_options
from labstore.reconcile.runner import StepFailed
from labstore.reports.exports import ApplyFailed
from labstore.reports.in_file import BadFile, Origin
from labstore.reports.report import Override
from labstore.system.locks import Locked


def ends(error: BaseException) -> tuple[int, str, BaseException | None]:
    @click.group(cls=Told)
    def group() -> None: ...

    @group.command()
    def command() -> None:
        raise error

    result = CliRunner().invoke(group, ["command"])
    return result.exit_code, result.stderr, result.exception


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (BadFile([Origin("site.yaml", 3, 1).problem("is wrong", "write it right")]), 5, "-> write it right"),
        (Locked(Path("/run/x.lock"), "exports apply, pid 7"), 6, "exports apply, pid 7"),
        (StateElsewhere("misc", "not mounted"), 7, "labstore failover status"),
        (StepFailed(ApplyFailed("knfsd", "no")), 1, "knfsd: no"),
        (sqlite3.OperationalError("database is locked"), 1, "-> "),
        (PermissionError(errno.EACCES, "Permission denied", "/var/lib/labstore"), 1, "-> run it as"),
        (OSError(errno.ENOSPC, "No space left on device", "/var"), 1, "/var: No space left on device"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_what_the_world_does_is_told_with_a_remedy(error: BaseException, status: int, words: str) -> None:
    found, text, _ = ends(error)
    assert (found, "Traceback" in text) == (status, False)
    assert words in text


def test_a_defect_goes_on_up() -> None:
    assert isinstance(ends(ZeroDivisionError())[2], ZeroDivisionError)


def test_a_reader_that_has_read_enough_is_no_error() -> None:
    _, text, _ = ends(BrokenPipeError(errno.EPIPE, "Broken pipe"))
    assert text == ""


def test_overrides_are_flags_and_come_as_a_set() -> None:
    @click.command()
    @override_options(Override.ALLOW_EMPTY, Override.ALLOW_STANDBY)
    def command(overrides: frozenset[Override]) -> None:
        click.echo(",".join(sorted(overrides)))

    run = CliRunner().invoke
    assert run(command, ["--allow-standby"]).stdout == "allow-standby\n"
    assert run(command, []).stdout == "\n"
    assert run(command, ["--allow-mass-removal"]).exit_code == 2
