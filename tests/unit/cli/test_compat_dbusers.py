"""`maintain-dbusers`: the old actions and options, with a site file and with the original's dbusers.yaml alone."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from labstore.cli.compat_dbusers import maintain_dbusers
from labstore.config.builtin_accounts import builtin_accounts
from labstore.model.accounts import AccountKind, DbUser
from labstore.model.dbusers_settings import LedgerSettings, Tls
from labstore.reports.in_file import BadFile
from tests.support.accounts_world import AccountsWorld
from tests.unit.config.test_dbusers_section import ORIGINAL

WIKIBUGS, ALICE = DbUser("s52788"), DbUser("u2170")


@pytest.fixture
def world(tmp_path: Path) -> AccountsWorld:
    return AccountsWorld(tmp_path)


def run(world: AccountsWorld, *words: str) -> Result:
    return world.run(*words, command=maintain_dbusers)


def test_a_dry_run_shows_a_plan_and_does_nothing(world: AccountsWorld) -> None:
    result = run(world, "maintain", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "3 x issue a password" in result.stdout
    assert not world.files.files


def test_only_some_users_for_one_run(world: AccountsWorld) -> None:
    result = run(world, "maintain", "--only-users", "tools.wikibugs")
    assert result.exit_code == 0, result.output
    assert set(world.files.files) == {WIKIBUGS}


def test_only_accounts_of_a_type(world: AccountsWorld) -> None:
    result = run(world, "maintain", "--account-type", "user", "--only-users", "alice")
    assert result.exit_code == 0, result.output
    assert set(world.files.files) == {ALICE}


def test_delete_suspends_first(world: AccountsWorld) -> None:
    world.run("dbusers", "apply", "--yes")
    result = run(world, "delete", "tools.wikibugs")
    assert result.exit_code == 0, result.output
    assert world.replica("db1.example.org").accounts[WIKIBUGS].locked
    assert WIKIBUGS in world.files.files, "its file stays for the waiting time"


def test_delete_now_drops(world: AccountsWorld) -> None:
    world.run("dbusers", "apply", "--yes")
    for _ in range(3):
        run(world, "delete", "tools.wikibugs", "--now")
    assert WIKIBUGS not in world.replica("db1.example.org").accounts
    assert WIKIBUGS not in world.files.files


def test_delete_with_another_type_says_so(world: AccountsWorld) -> None:
    """upstream #50: the original silently did nothing."""
    world.run("dbusers", "apply", "--yes")
    result = run(world, "delete", "alice", "--account-type", "tool")
    assert result.exit_code == 1
    assert "no account of alice" in result.stderr


@pytest.fixture
def twice(world: AccountsWorld) -> AccountsWorld:
    """After a first cycle, where a user has the name of a tool."""
    world.add(AccountKind.USER, "wikibugs", 2999)
    world.run("dbusers", "apply", "--yes")
    return world


def accounts(world: AccountsWorld) -> set[str]:
    return set(world.replica("db1.example.org").accounts)


@pytest.mark.parametrize("words", [["--now"], ["--account-type", "all"]], ids=" ".join)
def test_delete_of_a_name_of_a_tool_and_a_user_wants_to_know_which(twice: AccountsWorld, words: list[str]) -> None:
    result = run(twice, "delete", "wikibugs", *words)
    assert result.exit_code == 2
    assert "say which: s52788 or u2999" in result.stderr
    assert not any(found.locked for found in twice.replica("db1.example.org").accounts.values())


@pytest.mark.parametrize(
    ("words", "gone"),
    [
        (["wikibugs", "--account-type", "user"], "u2999"),
        (["wikibugs", "--account-type", "tool"], "s52788"),
        (["tools.wikibugs"], "s52788"),
        (["u2999"], "u2999"),
    ],
    ids=str,
)
def test_delete_takes_the_account_that_was_said(twice: AccountsWorld, words: list[str], gone: str) -> None:
    before = accounts(twice)
    for _ in range(3):
        run(twice, "delete", *words, "--now")
    assert before - accounts(twice) == {gone}


def test_a_harvest_learns_from_files(world: AccountsWorld) -> None:
    world.run("dbusers", "apply", "--yes")
    for path in (world.base / "state/dbusers").iterdir():
        path.unlink()
    passwords = dict(world.files.passwords)
    assert run(world, "harvest").exit_code == 0
    assert world.files.passwords == passwords
    assert world.json("show")["accounts"] == {"tool": 2, "user": 1}


def test_a_harvest_of_replicas_notes_where_accounts_are(world: AccountsWorld) -> None:
    world.run("dbusers", "apply", "--yes")
    world.run("dbusers", "remove", "alice", "--yes")
    assert run(world, "harvest-replicas").exit_code == 0
    assert not world.replica("db1.example.org").accounts[ALICE].locked, "nothing else is done"
    assert [host["present"] for host in world.json("show")["hosts"]] == [3, 3]


@pytest.mark.parametrize(
    "words",
    [
        ["delete"],
        ["maintain", "alice"],
        ["purge"],
        [],
        ["maintain", "--dry-run", "--only-users", "alice"],
        ["maintain", "--account-type", "robot"],
    ],
)
def test_command_lines_that_are_none(world: AccountsWorld, words: list[str]) -> None:
    assert run(world, *words).exit_code == 2


# --- without a site file ---------------------------------------------------------------------------------------------


def old_file(tmp_path: Path, text: str = ORIGINAL) -> Path:
    path = tmp_path / "dbusers.yaml"
    path.write_text(text)
    return path


def test_the_original_s_file_alone_is_enough(tmp_path: Path) -> None:
    made = builtin_accounts(old_file(tmp_path), tmp_path / "state", tmp_path / "run")
    assert made.settings.kinds == set(AccountKind)
    assert [str(host.key) for host in made.settings.hosts] == ["s1.web.example.org:3311", "tools.example.org"]
    assert made.settings.files.bases == {}, "services keep all files"
    assert made.settings.ledger.host == "m5.example.org"
    assert made.settings.ledger.tls is Tls.VERIFY
    assert (made.settings.metrics_host, made.settings.metrics_port) == ("0.0.0.0", 9191), "as it was asked before"


def test_the_form_of_2020_has_homes_here_and_no_paws(tmp_path: Path) -> None:
    text = ORIGINAL.split("replica_cnf:")[0]
    made = builtin_accounts(old_file(tmp_path, text), tmp_path / "state", tmp_path / "run", Tls.OFF)
    assert made.settings.kinds == {AccountKind.TOOL, AccountKind.USER}
    assert made.settings.files.bases[AccountKind.TOOL] == Path("/srv/tools/shared/tools/project")
    assert [str(each) for each in made.settings.service_addresses] == ["10.64.37.18"]
    assert isinstance(made.settings.ledger, LedgerSettings)
    assert {made.settings.ledger.tls, *(host.tls for host in made.settings.hosts)} == {Tls.OFF}


def test_problems_of_the_file_are_said_with_their_places(tmp_path: Path) -> None:
    path = old_file(tmp_path, ORIGINAL.replace("grant-type: legacy", "grant-type: other"))
    result = CliRunner().invoke(maintain_dbusers, ["maintain", "--dry-run", "--config", str(path)])
    assert result.exit_code == 5
    assert "dbusers.yaml:8" in result.stderr
    with pytest.raises(BadFile):
        builtin_accounts(tmp_path / "none.yaml", tmp_path, tmp_path)


def test_a_file_without_hosts_is_no_configuration(tmp_path: Path) -> None:
    path = old_file(tmp_path, "ldap: {hosts: [ldap1.example.org]}\n")
    result = CliRunner().invoke(maintain_dbusers, ["maintain", "--dry-run", "--config", str(path)])
    assert result.exit_code == 5
    assert "no replica server" in result.stderr


def test_an_old_file_runs_on_a_ledger_of_this_machine(world: AccountsWorld) -> None:
    """With --config nothing of the site file is asked, even if there is one."""
    text = ORIGINAL.split("accounts-backend:")[0] + "variances: {s52788: 12}\n"
    path = old_file(world.base, text)
    environment: dict[str, Any] = {
        "LABSTORE_SITE": str(world.site_file),
        "STATE_DIRECTORY": str(world.base / "own"),
        "RUNTIME_DIRECTORY": str(world.base / "ownrun"),
    }
    words = ["maintain", "--config", str(path), "--only-users", "tools.wikibugs"]
    result = CliRunner(env=environment).invoke(maintain_dbusers, words, obj=world.hands)
    assert result.exit_code == 0, result.output
    assert (world.base / "own/dbusers/ledger.sqlite").exists()
    limits = world.replica("s1.web.example.org:3311").accounts[WIKIBUGS].limits
    assert limits.max_connections == 12
    assert json.loads((world.base / "ownrun/dbusers/local.json").read_text())["name"] == "local"
