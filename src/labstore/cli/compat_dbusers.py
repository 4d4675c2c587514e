"""The old command name `maintain-dbusers`, with its actions and options.

What differs from the original, on purpose: `delete` suspends at once and drops after the waiting time, unless --now
is said; nothing is removed on account of a listing that is short; `--only-users` is for one run, not for ever;
statuses are those of docs/reference/exit-statuses.md.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path

import click

from labstore import __version__
from labstore.assembly import SiteFiles, SiteSource
from labstore.assembly_dbusers import AccountsRoom, accounts_of
from labstore.cli.dbusers import HARVESTED, carry_out, show_plan
from labstore.cli.dbusers_parts import alive, hands, ldap_at_hand, looking, meant_surely, project_of, written
from labstore.cli.exit import Exit, Stop, of_state
from labstore.cli.options import told
from labstore.cli.output import line
from labstore.config.builtin_accounts import builtin_accounts
from labstore.config.load import DEFAULT
from labstore.dbusers.turns import Act
from labstore.model.accounts import AccountKind
from labstore.model.dbusers_settings import DbusersSettings, Tls
from labstore.model.ledger import LedgerView, Request, RequestVerb
from labstore.system.identity import person, program
from labstore.telemetry import logs

NAME = "maintain-dbusers"
CONFIG = Path("/etc/dbusers.yaml")
STATE_DIR, RUN_DIR = Path("/var/lib/labstore"), Path("/run/labstore")
ACTIONS = ("harvest", "harvest-replicas", "maintain", "delete")
TYPES = ("all", *(kind.value for kind in AccountKind))
PLACES_ONLY: frozenset[Act] = frozenset()
"""A harvest of replicas plans no act: that it looked is enough for the table of servers."""


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 80})
@click.argument("action", type=click.Choice(ACTIONS))
@click.argument("name", required=False)
@click.option("--config", type=click.Path(dir_okay=False, path_type=Path), help="The old file; /etc/dbusers.yaml.")
@click.option("--account-type", "kind", type=click.Choice(TYPES), default="all", show_default=True)
@click.option("--dry-run", is_flag=True, help="Show what would be done.")
@click.option("--only-users", "only", multiple=True, metavar="NAME", help="Only these; may be given again.")
@click.option("--now", is_flag=True, help="delete: drop without the waiting time (ours).")
@click.option("--tls", type=click.Choice([each.value for each in Tls]), default="verify", help="With --config (ours).")
@click.option("--debug", is_flag=True, help="Log every step.")
@click.version_option(__version__, prog_name=NAME)
def maintain_dbusers(
    action: str,
    name: str | None,
    config: Path | None,
    kind: str,
    dry_run: bool,
    only: tuple[str, ...],
    now: bool,
    tls: str,
    debug: bool,
) -> None:
    """Keep database accounts of tools and users: the old name of `labstore dbusers`.

    With a site file (/etc/labstore/site.yaml, or LABSTORE_SITE) it does what that says. Without one, or with --config,
    the original's dbusers.yaml and what it had built in are enough.

    \b
    harvest           let an empty ledger learn from files and servers
    harvest-replicas  note which server has which account
    maintain          follow the directory until told to stop
    delete NAME       suspend, and drop after the waiting time

    \b
    Example:
      maintain-dbusers maintain --config /etc/dbusers.yaml
    """
    if dry_run and only:
        raise click.UsageError("--dry-run and --only-users exclude each other.")
    if (name is None) == (action == "delete"):
        raise click.UsageError("delete wants a NAME." if name is None else f"{action} takes no NAME.")
    logs.configure("debug" if debug else "info" if action == "maintain" else "warning")
    with told():
        here = _room(config, kind, Tls(tls))
        if action == "delete":
            assert name is not None
            _delete(here, name, now, dry_run)
        elif action == "maintain" and not (dry_run or only):
            _maintain(here)
        else:
            acts = {"harvest": HARVESTED, "harvest-replicas": PLACES_ONLY}.get(action)
            _once(here, only, dry_run, acts)


def _room(config: Path | None, kind: str, tls: Tls) -> AccountsRoom:
    """Raises BadFile."""
    file = Path(os.environ.get("LABSTORE_SITE", DEFAULT))
    path = config or CONFIG
    if config is None and file.exists():
        source = SiteSource(accounts_of(file), file)
    else:
        source = SiteSource(lambda: _builtin(path, tls), path)
    for notice in source.notices:
        click.echo(notice.text(), err=True)
    here = AccountsRoom(source, person(), hands(), _of_kind(kind))
    ldap_at_hand(here)
    return here


def _builtin(path: Path, tls: Tls) -> SiteFiles:
    """State and run time files go where systemd says (StateDirectory=, RuntimeDirectory=)."""
    state = Path(os.environ.get("STATE_DIRECTORY", STATE_DIR))
    run = Path(os.environ.get("RUNTIME_DIRECTORY", RUN_DIR))
    made = builtin_accounts(path, state, run, tls)
    return SiteFiles(made.site, (path,), made.notices, made.settings)


def _of_kind(kind: str) -> Callable[[DbusersSettings], DbusersSettings]:
    if kind == "all":
        return lambda settings: settings
    return lambda settings: replace(settings, kinds=settings.kinds & {AccountKind(kind)})


def _maintain(here: AccountsRoom) -> None:
    from labstore.daemons.dbusersd import serve  # noqa: PLC0415 - not for --help

    here.who = program(NAME, here.node)
    state = serve(here)
    sys.exit(Exit.DONE if state is None else of_state(state))


def _once(here: AccountsRoom, only: tuple[str, ...], dry_run: bool, acts: frozenset[Act] | None) -> None:
    if dry_run:
        show_plan(here, only, acts)
    else:
        carry_out(here, frozenset(), only, True, False, acts)


def _delete(here: AccountsRoom, name: str, now: bool, dry_run: bool) -> None:
    with looking(here) as (cycle, _):
        found = meant_surely(_among(cycle.observer.ledger.read(), here.settings.kinds), name, project_of(here))
    if found.row is None:
        raise Stop(Exit.FAILED, f"error: the ledger has no account of {name}", "labstore dbusers show --list")
    line(f"{found.user}, {found.row.kind.value} {found.row.name}: suspended" + (", then dropped" if now else ""))
    if dry_run:
        return
    options = {"now": True} if now else {}
    with written(here) as ledger:
        ledger.ask(Request(RequestVerb.REMOVE, found.user, here.who, here.clock.now(), options))
    if not alive(here):
        carry_out(here, frozenset(), (str(found.user),), True, False)


def _among(view: LedgerView, kinds: Collection[AccountKind]) -> LedgerView:
    """The ledger as far as it is about these kinds."""
    accounts = {user: row for user, row in view.accounts.items() if row.kind in kinds}
    stones = {user: stone for user, stone in view.tombstones.items() if stone.kind in kinds}
    return replace(view, accounts=accounts, tombstones=stones)
