"""What the commands about accounts have in common: the room, whose account is meant, the word left for the leader."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from importlib.util import find_spec
from typing import Any

import click

from labstore.assembly import SiteSource
from labstore.assembly_dbusers import ROOM, AccountHands, AccountsRoom, accounts_of, alive_file
from labstore.cli.exit import Exit, Stop, not_installed
from labstore.cli.options import Chosen
from labstore.cli.output import line, waiting
from labstore.dbusers.cycle import DbCycle, Proposal
from labstore.formats.findings import did_you_mean
from labstore.formats.units import Unfit, duration
from labstore.model.accounts import DbUser, account_name
from labstore.model.database import FoundAccount, HostKey
from labstore.model.dbusers_settings import LdapSettings
from labstore.model.ledger import AccountRow, LedgerView
from labstore.ports.credential_writer import FileOwner
from labstore.ports.ledger import Ledger, LedgerFailed, SchemaUnfit
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reports.dbusers import LedgerDown
from labstore.reports.report import Override
from labstore.sources.ledger.preview import preview
from labstore.system.files import make_directory
from labstore.system.identity import person
from labstore.system.locks import is_held
from labstore.telemetry import records
from labstore.telemetry.records import Kept

PATIENCE = 90.0
"""Seconds for which a command waits until the daemon's cycle on this machine is over."""
OVERRIDES = (
    Override.ALLOW_MASS_REMOVAL,
    Override.ALLOW_ACCOUNT_IDENTITY,
    Override.ALLOW_ROTATION_GAP,
)


def hands() -> AccountHands:
    """What makes the room concrete for the command that runs: the real things, or what it was called with."""
    context = click.get_current_context(silent=True)
    return (context.find_object(AccountHands) if context else None) or AccountHands()


def room(chosen: Chosen, files_only: bool = False) -> AccountsRoom:
    """The accounts of the site; `files_only` for a machine that keeps files for a daemon elsewhere. Raises BadFile."""
    source = SiteSource(accounts_of(chosen.file), chosen.file)
    here = AccountsRoom(source, person(host=chosen.node_name), hands(), node=chosen.node_name)
    if not files_only:
        if not here.settings.hosts:
            message = "error: this machine keeps files for a daemon elsewhere, and knows no replica servers"
            raise Stop(Exit.CONFIGURATION, message, "run it where dbusers.hosts are written")
        ldap_at_hand(here)
    return here


def ldap_at_hand(here: AccountsRoom) -> None:
    """Ends the command where the site asks LDAP and the package for that is missing."""
    if isinstance(here.settings.directory, LdapSettings) and find_spec("ldap") is None:
        raise not_installed("python-ldap", pinned=False)


@contextlib.contextmanager
def ledger_told() -> Iterator[None]:
    """A ledger that does not work ends the command in words."""
    try:
        yield
    except (LedgerFailed, SchemaUnfit) as error:
        raise Stop.because(Exit.FAILED, [LedgerDown(str(error))]) from None


@contextlib.contextmanager
def looking(here: AccountsRoom) -> Iterator[tuple[DbCycle, tuple[str, ...]]]:
    """A cycle that can propose and leaves no trace, with what preparing its ledger would do."""
    with ledger_told(), preview(here.settings.ledger, here.clock) as shown:
        cycle = here.hands.cycle(here.settings, here.clock, here.hands.node(here.clock))
        cycle.observer.ledger.close()
        cycle.observer = replace(cycle.observer, ledger=shown.ledger)
        try:
            yield cycle, shown.changes
        finally:
            cycle.observer.crew.close()


@contextlib.contextmanager
def written(here: AccountsRoom) -> Iterator[Ledger]:
    """The ledger, prepared, to leave a word in."""
    make_directory(here.settings.state_dir, 0o750)
    with ledger_told():
        ledger = here.cycle().observer.ledger
        try:
            ledger.prepare()
            yield ledger
        finally:
            here.close()


def proposed(cycle: DbCycle, overrides: frozenset[Override] = frozenset()) -> Proposal:
    with ledger_told(), waiting("asking directory, servers and homes"):
        return cycle.propose(overrides)


def newest(here: AccountsRoom) -> Kept | None:
    """The record of the newest cycle on this machine."""
    try:
        return records.read(records.place(here.source().run_dir, ROOM, here.name))
    except (records.BadRecord, OSError):
        return None


def alive(here: AccountsRoom) -> bool | None:
    """Whether the daemon runs on this machine."""
    return is_held(alive_file(here.source()))


# --- whose account ---------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Meant:
    """An account by any of its names; `row` None where the ledger has none."""

    user: DbUser
    row: AccountRow | None


def meant(view: LedgerView, text: str, project: str) -> Meant:
    """`s52788`, `tools.wikibugs`, `wikibugs` (a tool before a user), `alice`. Ends the command where it is nobody."""
    if DbUser.grammar.fullmatch(text) is not None:
        user = DbUser(text)
        return Meant(user, view.accounts.get(user))
    names = {row.name: row for row in view.accounts.values()}
    row = names.get(f"{project}.{text}") or names.get(text)
    if row is None:
        stone = next((s for s in view.tombstones.values() if s.name in (text, f"{project}.{text}")), None)
        if stone is not None:
            return Meant(stone.user, None)
        raise Stop(Exit.FAILED, f"error: the ledger has no account of {text}", did_you_mean(text, names))
    return Meant(row.user, row)


def meant_surely(view: LedgerView, text: str, project: str) -> Meant:
    """As `meant`, for what changes something: a name that is a tool's and a user's is nobody's yet. Ends the command
    where the ledger has no such account."""
    found = meant(view, text, project)
    others = [row for row in view.accounts.values() if row.name == text and row.user != found.user]
    if found.row is not None and others and text != found.user:
        message = f"error: {text} is {found.row.name} ({found.user}) and {others[0].name} ({others[0].user})"
        raise Stop(Exit.USAGE, message, f"say which: {found.user} or {others[0].user}")
    if found.row is None and found.user not in view.tombstones:
        raise Stop(Exit.FAILED, f"error: the ledger has no account {found.user}", "labstore dbusers show --list")
    return found


def user_of(proposal: Proposal, text: str, project: str) -> DbUser:
    """As `meant`, and newcomers by their name in the directory."""
    for answer in proposal.facts.listings.values():
        if isinstance(answer, Fact):
            for user, entry in answer.value.entries.items():
                if text in (entry.name, str(entry.name).removeprefix(f"{project}.")):
                    return user
    return meant(proposal.facts.ledger, text, project).user


def project_of(here: AccountsRoom) -> str:
    return here.settings.directory.project


def owner_of(row: AccountRow) -> FileOwner | None:
    if not row.name_known:
        return None
    try:
        return FileOwner(row.kind, account_name(row.kind, row.name), row.uid, row.user)
    except ValueError:
        return None


def places(cycle: DbCycle, user: DbUser) -> dict[HostKey, Answer[FoundAccount | None]]:
    """One account on every server, as it is now, all asked at once."""
    servers = cycle.observer.crew.servers
    with waiting("asking the servers"), ThreadPoolExecutor(len(servers) or 1, "look") as pool:
        answers = list(pool.map(lambda server: server.look([user]), servers))
    found: dict[HostKey, Answer[FoundAccount | None]] = {}
    for server, answer in zip(servers, answers, strict=True):
        if isinstance(answer, Missing):
            found[server.key] = answer
        else:
            found[server.key] = Fact(answer.value.get(user), answer.source, answer.at)
    return found


# --- times, and what comes of a word ---------------------------------------------------------------------------------


def until(text: str | None, now: datetime) -> datetime | None:
    """`30d` from now, or the end of a day. Raises click.UsageError."""
    if text is None:
        return None
    with contextlib.suppress(ValueError):
        end = datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC) + timedelta(days=1)
        if end <= now:
            raise click.UsageError(f"--until: {text} is over.")
        return end
    try:
        seconds = duration(text)
    except Unfit as error:
        raise click.UsageError(f"--until: {error}; {error.remedy}, or a date: 2027-01-31") from None
    return now + timedelta(seconds=seconds)


def will_be_done(here: AccountsRoom) -> str:
    """When the leader does what was asked for."""
    if alive(here):
        return "the daemon does it within seconds"
    return "no daemon runs on this machine: the one that leads does it, or: labstore dbusers apply"


def tell_when(here: AccountsRoom) -> None:
    line(will_be_done(here))


def sum_up(words: Mapping[str, Any]) -> str:
    """`12 x create, 3 x lock`."""
    return ", ".join(f"{count} x {act}" for act, count in words.items())
