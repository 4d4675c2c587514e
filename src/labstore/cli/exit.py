"""The exit statuses of every command: one table, the same as in docs/reference/exit-statuses.md (a test compares)."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from enum import IntEnum
from typing import TYPE_CHECKING

import click

from labstore.reports.render import lines
from labstore.reports.report import Report

if TYPE_CHECKING:
    from labstore.reconcile.record import State


class Exit(IntEnum):
    DONE = 0
    FAILED = 1
    USAGE = 2
    REFUSED = 3
    HOLDING = 4
    CONFIGURATION = 5
    LOCKED = 6
    STANDBY = 7


MEANING: Mapping[Exit, str] = {
    Exit.DONE: "done; nothing is left to do and nothing is in doubt",
    Exit.FAILED: "something that was to be done did not succeed, or could not be read",
    Exit.USAGE: "the command line is not right; nothing was looked at",
    Exit.REFUSED: "a guard holds something back until a person decides; the override is named",
    Exit.HOLDING: "part of what must be known is missing or in doubt; what it concerns stays as it was",
    Exit.CONFIGURATION: "the site file or a file that it names cannot be taken; every problem is listed",
    Exit.LOCKED: "another labstore process is at it; the holder is named",
    Exit.STANDBY: "not this node's turn: another one serves, and nothing was written",
}


def of_state(state: State) -> Exit:
    """The status with which a command ends whose cycle left this state."""
    from labstore.reconcile.record import State  # noqa: PLC0415 - who asks has it; commands without cycles start sooner

    return {
        State.CONVERGED: Exit.DONE,
        State.STANDBY: Exit.STANDBY,
        State.HOLDING: Exit.HOLDING,
        State.REFUSED: Exit.REFUSED,
        State.FAILED: Exit.FAILED,
    }[state]


class Stop(click.ClickException):
    """Ends the command with a status and, on standard error, what is wrong and what to do next."""

    def __init__(self, status: Exit, message: str, remedy: str | None = None) -> None:
        super().__init__(message)
        self.exit_code = int(status)  # type: ignore[misc]  # click reads it from the instance
        self.remedy = remedy

    @classmethod
    def because(cls, status: Exit, reports: Iterable[Report]) -> Stop:
        """Ends with these reports, each with its remedy."""
        return Reported(status, tuple(reports))

    def format_message(self) -> str:
        return self.message + (f"\n    -> {self.remedy}" if self.remedy else "")

    def show(self, file: object = None) -> None:  # noqa: ARG002 - errors go to standard error, whatever click asks
        click.echo(self.format_message(), err=True)


def not_installed(package: str, pinned: bool = True) -> Stop:
    """Ends the command for want of a package. What brings it is said whole: no index has labstore."""
    what = "--require-hashes -r requirements/run.txt" if pinned else package
    where = " in labstore's source (docs/operations/install.md)" if pinned else ""
    return Stop(Exit.FAILED, f"error: {package} is not installed", f"{sys.prefix}/bin/pip install {what}{where}")


class Reported(Stop):
    """Ends the command with these reports."""

    def __init__(self, status: Exit, reports: tuple[Report, ...]) -> None:
        self.reports = reports
        super().__init__(status, "\n".join(lines(reports)))
