"""Options that many commands share, and what becomes of the errors that all of them can meet."""

from __future__ import annotations

import os
import shlex
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any, TypeVar

import click
from click.core import ParameterSource

from labstore.assembly import ExportsRoom, Hands, SiteSource, StateElsewhere, cluster_here, from_site_file, history_file
from labstore.cli.exit import Exit, Stop
from labstore.config.load import DEFAULT
from labstore.exports.history import History
from labstore.model.site import Cluster, Site
from labstore.reconcile.runner import StepFailed
from labstore.reports.in_file import BadFile
from labstore.reports.report import OVERRIDE_HELP, Override
from labstore.reports.state import StateUnusable
from labstore.system.identity import become_owner_of, node_name, person
from labstore.system.locks import Locked
from labstore.telemetry import logs

_CHOSEN = "labstore.chosen"
F = TypeVar("F", bound=Callable[..., Any])


@dataclass(frozen=True)
class Chosen:
    """The site file, and which cluster of it on which node a command is about."""

    file: Path = DEFAULT
    cluster: str | None = None
    node: str | None = None
    given: tuple[str, ...] = ()
    """The options of the command line that chose these."""

    def command(self, *words: str) -> str:
        """A command line about the same exports, to be pasted."""
        return shlex.join(("labstore", "exports", *words, *self.given))

    @property
    def node_name(self) -> str:
        return self.node or node_name()

    def source(self) -> SiteSource:
        """Raises BadFile."""
        return SiteSource(from_site_file(self.file), self.file)

    def here(self, site: Site) -> Cluster:
        """Raises BadFile."""
        return cluster_here(site, self.cluster, self.node, str(self.file))

    def room(self, who: str | None = None) -> ExportsRoom:
        """The exports of the chosen cluster; as root, work goes on as the owner of the state directory.

        Raises BadFile, OSError.
        """
        asked_by = who or person(host=self.node_name)
        source = self.source()
        cluster = self.here(source())
        become_owner_of(source().state_dir)
        return ExportsRoom(source, cluster.name, asked_by, node=self.node_name, hands=hands())

    def history(self, site: Site, cluster: str) -> History | None:
        """The generations, to be read; None where there are none yet. Raises sqlite3.Error."""
        path = history_file(site, cluster)
        return History(path, read_only=True) if path.exists() else None


def hands() -> Hands:
    """What makes a site concrete for the command that runs: the real things, or what it was called with."""
    context = click.get_current_context(silent=True)
    return (context.find_object(Hands) if context else None) or Hands()


def site_options(command: F) -> F:
    """`--site`, `--cluster` and `--node`, handed to the command as `chosen`."""

    @click.option(
        "--site",
        "file",
        type=click.Path(dir_okay=False, path_type=Path),
        default=DEFAULT,
        envvar="LABSTORE_SITE",
        help="The site file; /etc/labstore/site.yaml, or what LABSTORE_SITE says.",
    )
    @click.option("--cluster", envvar="LABSTORE_CLUSTER", help="Which cluster; only needed where a node has several.")
    @click.option("--node", envvar="LABSTORE_NODE", help="The node's name; this machine's host name otherwise.")
    @click.option("--debug", is_flag=True, help="Log every step, and every program that is run, to standard error.")
    @wraps(command)
    def with_site(*args: Any, file: Path, cluster: str | None, node: str | None, debug: bool, **kwargs: Any) -> Any:
        logs.configure("debug" if debug else "warning")
        chosen = Chosen(file, cluster, node, _given(("file", "--site"), ("cluster", "--cluster"), ("node", "--node")))
        click.get_current_context().meta[_CHOSEN] = chosen
        return command(*args, chosen=chosen, **kwargs)

    return with_site  # type: ignore[return-value]


def _given(*options: tuple[str, str]) -> tuple[str, ...]:
    context = click.get_current_context()
    typed = (pair for pair in options if context.get_parameter_source(pair[0]) is ParameterSource.COMMANDLINE)
    return tuple(word for name, flag in typed for word in (flag, str(context.params[name])))


json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON; its fields are stable.")


def override_options(*offered: Override) -> Callable[[F], F]:
    """One flag for each of these overrides, handed to the command as the set `overrides`."""

    def decorated(command: F) -> F:
        @wraps(command)
        def with_overrides(*args: Any, **kwargs: Any) -> Any:
            given = frozenset(override for override in offered if kwargs.pop(_parameter(override)))
            return command(*args, overrides=given, **kwargs)

        wrapped: Any = with_overrides
        for override in reversed(offered):
            help_text = f"Once: {OVERRIDE_HELP[override]}."
            wrapped = click.option(f"--{override}", _parameter(override), is_flag=True, help=help_text)(wrapped)
        return wrapped  # type: ignore[no-any-return]

    return decorated


def _parameter(override: Override) -> str:
    return override.value.replace("-", "_")


def unusable(error: sqlite3.Error) -> StateUnusable:
    """What is to be said about the history of the chosen cluster."""
    chosen = click.get_current_context().meta.get(_CHOSEN, Chosen())
    try:
        site = chosen.source()()
        file = str(history_file(site, chosen.here(site).name))
    except BadFile:
        file = "the history of exports"
    return StateUnusable(file, str(error))


@contextmanager
def told() -> Iterator[None]:
    """Turns what can go wrong in the world into an exit status and words on what to do next; defects go on up."""
    try:
        yield
    except BadFile as error:
        raise Stop.because(Exit.CONFIGURATION, error.reports) from None
    except Locked as error:
        raise Stop(Exit.LOCKED, f"error: {error}", "wait for it to end, or look at it: labstore status") from None
    except StateElsewhere as error:
        message = f"standby: {error}"
        raise Stop(Exit.STANDBY, message, "run it on the active node (labstore failover status)") from None
    except StepFailed as error:
        raise Stop.because(Exit.FAILED, [error.report]) from None
    except sqlite3.Error as error:
        raise Stop.because(Exit.FAILED, [unusable(error)]) from None
    except BrokenPipeError:
        raise  # whoever was reading has read enough
    except PermissionError as error:
        message = f"error: {error.filename or 'a file'}: {error.strerror}"
        who = "as root, with sudo" if os.geteuid() != 0 else "as a user that may"
        raise Stop(Exit.FAILED, message, f"run it {who}") from None
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        raise Stop(
            Exit.FAILED, f"error: {where}{error.strerror or error}", "put that right, then run it again"
        ) from None


class Told(click.Group):
    """A group whose commands end as `told` says. Its list of commands shows each one's first sentence whole."""

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        found = ((name, self.get_command(ctx, name)) for name in self.list_commands(ctx))
        shown = [(name, command) for name, command in found if command and not command.hidden]
        rows = [(name, command.get_short_help_str(limit=1000)) for name, command in shown]
        with formatter.section("Commands"):
            formatter.write_dl(rows)

    def invoke(self, ctx: click.Context) -> Any:
        with told():
            return super().invoke(ctx)
