"""The command `labstore`. Commands are loaded when they are asked for, so that help answers at once."""

from __future__ import annotations

import gc
import importlib
from collections.abc import Mapping
from dataclasses import dataclass

import click

from labstore import __version__


@dataclass(frozen=True)
class Place:
    """Where a command is, and its line in the list of commands."""

    module: str
    name: str
    short_help: str


COMMANDS: Mapping[str, Place] = {
    "backup": Place(
        "labstore.cli.backup",
        "backup",
        "Backups: what is copied, what is kept, whether it restores, and how to get it back.",
    ),
    "binds": Place(
        "labstore.cli.binds", "binds", "Directories for new projects, and the tree of bind mounts: show, plan, apply."
    ),
    "blocksync": Place(
        "labstore.cli.blocksync", "blocksync", "Make one block device or image file equal to another, and prove it."
    ),
    "check": Place("labstore.cli.status", "check", "One line for monitoring, with status 0, 1, 2 or 3."),
    "config": Place("labstore.cli.config", "config", "The site file: check it, explain it, describe it to an editor."),
    "dbusers": Place(
        "labstore.cli.dbusers",
        "dbusers",
        "Database accounts of tools and users: show, plan, apply, remove, rotate, limit.",
    ),
    "exports": Place("labstore.cli.exports", "exports", "Who may mount what: show, plan, apply, roll back, explain."),
    "failover": Place(
        "labstore.cli.failover",
        "failover",
        "The two nodes of a pair: how they are, and moving the service between them.",
    ),
    "snapshots": Place("labstore.cli.snapshots", "snapshots", "Snapshots of a volume: show, ensure, remove."),
    "status": Place(
        "labstore.cli.status", "status", "One screen: how everything is, what waits for a person, and what to do next."
    ),
    "web": Place("labstore.cli.web", "web", "The status page and its read-only API."),
}


EXTRAS = frozenset({"pymysql", "blake3", "xxhash", "zstandard"})
"""Packages that not every site needs."""


class Commands(click.Group):
    """Knows every command by name and imports the one that is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's signature
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's signature
        place = COMMANDS.get(cmd_name)
        if place is None:
            return None
        try:
            command = getattr(importlib.import_module(place.module), place.name)
        except ModuleNotFoundError as error:
            package = str(error.name).partition(".")[0]
            if package not in EXTRAS:
                raise
            from labstore.cli.exit import not_installed  # noqa: PLC0415 - where nothing is missing, nobody needs it

            raise not_installed(package) from None
        assert isinstance(command, click.Command)
        _collect_again()
        return command

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - as above
        with formatter.section("Commands"):
            formatter.write_dl([(name, COMMANDS[name].short_help) for name in sorted(COMMANDS)])


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.version_option(__version__, prog_name="labstore")
def labstore() -> None:
    """Shared storage for the projects of an OpenStack cloud.

    Reading is always safe. What moves the service, and what takes exports or accounts
    away, shows first what it would do; the help of each command says what it does.

    \b
    Examples:
      labstore status
      labstore exports plan
      labstore exports why 172.16.1.5
    """


def main() -> None:
    """Run it with the words of this process."""
    gc.disable()
    labstore(prog_name="labstore")


def _collect_again() -> None:
    """Garbage is collected from here on, where `main` has put it off: what is loaded stays, looking for garbage in it
    would take a tenth of the time, and later passes need not look at it again."""
    if not gc.isenabled():
        gc.freeze()
        gc.enable()
