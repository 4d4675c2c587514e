"""`labstore dbusers`: what it shows, what it does, how it ends; on a real ledger and fakes of the rest."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from dataclasses import replace
from pathlib import Path

import pytest

from labstore.model.accounts import AccountKind, DbUser, Limits
from labstore.ports.credential_writer import FileState
from labstore.reports.dbusers import SessionsEnded, StatementsEnded
from tests.support.accounts_world import AccountsWorld

WIKIBUGS, ADMIN, ALICE = DbUser("s52788"), DbUser("s52001"), DbUser("u2170")


@pytest.fixture
def world(tmp_path: Path) -> AccountsWorld:
    return AccountsWorld(tmp_path)


@pytest.fixture
def live(world: AccountsWorld) -> AccountsWorld:
    """After a first cycle."""
    assert world.run("dbusers", "apply", "--yes").exit_code == 0
    world.clock.advance(60)
    return world


# --- planning and applying -------------------------------------------------------------------------------------------


def test_a_plan_changes_nothing_and_makes_nothing(world: AccountsWorld) -> None:
    result = world.run("dbusers", "plan")
    assert result.exit_code == 0, result.output
    assert "ledger.sqlite is made" in " ".join(result.stdout.split())
    assert "3 x issue a password" in result.stdout
    assert "to do it: labstore dbusers apply" in result.stdout
    assert not world.files.files
    assert not (world.base / "state/dbusers/ledger.sqlite").exists()
    assert not (world.base / "run").exists()


def test_apply_makes_accounts_and_files_and_leaves_a_record(world: AccountsWorld) -> None:
    result = world.run("dbusers", "apply", "--yes")
    assert result.exit_code == 0, result.output
    assert "converged: " in result.stdout
    for user in (WIKIBUGS, ADMIN, ALICE):
        assert world.files.files[user].state is FileState.TRUSTED
        password = world.files.passwords[user].reveal()
        assert world.replica("db1.example.org").works(user, password)
        assert password not in result.output
    assert "converged: 3 accounts on 2 servers" in world.run("status").stdout
    check = world.run("check", "dbusers")
    assert (check.exit_code, check.stdout.split(" - ")[0]) == (0, "DBUSERS OK")
    assert "'accounts'=3" in check.stdout
    assert world.run("dbusers", "plan").stdout.startswith("wikicloud: nothing to do")


def test_apply_asks_and_takes_no_for_an_answer(world: AccountsWorld) -> None:
    result = world.run("dbusers", "apply")
    assert result.exit_code == 2, "nobody is there to be asked"
    assert "say --yes" in result.stderr
    assert not world.files.files


def test_only_some_accounts(world: AccountsWorld) -> None:
    """A newcomer is known by its name in the directory."""
    assert world.run("dbusers", "apply", "--only", "wikibugs", "--yes").exit_code == 0
    assert set(world.files.files) == {WIKIBUGS}
    assert set(world.json("plan")["acts"]) >= {"issue a password"}


def test_a_refusal_names_its_override_and_the_override_does_it(live: AccountsWorld) -> None:
    for number in range(10):
        live.add(AccountKind.TOOL, f"tools.t{number}", 53000 + number)
    assert live.run("dbusers", "apply", "--yes").exit_code == 0
    for user in list(live.directory.entries):
        if user.number >= 53000:
            del live.directory.entries[user]
    live.run("dbusers", "apply", "--yes", "--allow-mass-removal")
    live.clock.advance(4000)
    refused = live.run("dbusers", "plan")
    assert refused.exit_code in (3, 4), refused.output
    assert "--allow-mass-removal" in refused.stdout
    done = live.run("dbusers", "apply", "--yes", "--allow-mass-removal")
    assert done.exit_code == 0, done.output
    assert len(live.json("show", "--state", "suspended")["accounts"]) == 10


def test_a_standby_node_writes_nothing(world: AccountsWorld) -> None:
    world.node.active = False
    result = world.run("dbusers", "apply", "--yes")
    assert result.exit_code == 7
    assert not world.files.files


def test_a_ledger_that_does_not_work_is_told(world: AccountsWorld) -> None:
    (world.base / "state/dbusers").mkdir(parents=True)
    (world.base / "state/dbusers/ledger.sqlite").write_bytes(b"this is no database" * 100)
    for verb in ("show", "plan"):
        result = world.run("dbusers", verb)
        assert result.exit_code == 1
        assert "the ledger does not work" in result.stderr


# --- looking ---------------------------------------------------------------------------------------------------------


def test_show_counts_accounts_and_servers(live: AccountsWorld) -> None:
    text = live.run("dbusers", "show").stdout
    assert "wikicloud: 3 accounts (2 tool, 1 user)" in text
    rows = {line.split()[0]: line.split()[1:] for line in text.splitlines() if line.startswith("db")}
    assert rows["db1.example.org"][:4] == ["role", "web", "3", "0"]
    assert rows["db2.example.org:3311"][:4] == ["legacy", "tools", "3", "0"]
    assert "48 connections" in text, "the rules of the site file are rules"


def test_show_one_by_any_of_its_names(live: AccountsWorld) -> None:
    for name in ("s52788", "wikibugs", "tools.wikibugs"):
        result = live.run("dbusers", "show", name)
        assert result.exit_code == 0, result.output
        assert result.stdout.startswith("s52788: tool tools.wikibugs, live")
        assert "48 connections" in result.stdout
    assert live.run("dbusers", "show", "alice").stdout.startswith("u2170: user alice, live")


def test_a_name_that_nobody_has_is_an_error_with_a_guess(live: AccountsWorld) -> None:
    result = live.run("dbusers", "show", "tools.wikibug")
    assert result.exit_code == 1
    assert "did you mean 'tools.wikibugs'?" in result.stderr


def test_a_server_that_is_away_is_told(live: AccountsWorld) -> None:
    live.replica("db2.example.org:3311").away = True
    assert live.run("dbusers", "apply", "--yes").exit_code == 4
    shown = live.run("dbusers", "show").stdout
    assert "AWAY" in shown
    assert "never" not in shown, "this process has not seen it; that is no word about others"
    assert "db2.example.org:3311 away" in live.run("status").stdout
    assert live.run("check", "dbusers").exit_code == 1
    words = live.json("why", "wikibugs")
    assert [place["answers"] for place in words["hosts"]] == [True, False]


def test_why_tells_what_would_be_done_and_what_was(live: AccountsWorld) -> None:
    del live.replica("db1.example.org").accounts[WIKIBUGS]
    text = live.run("dbusers", "why", "wikibugs").stdout
    assert "create on db1.example.org: absent there" in text
    assert "issue a password: new in the directory" in text
    assert "nothing is left to do" in live.run("dbusers", "why", "alice").stdout


def test_nothing_that_is_printed_has_a_password_or_a_hash(live: AccountsWorld) -> None:
    live.run("dbusers", "rotate", "--all", "--yes")
    live.run("dbusers", "apply", "--yes")
    everything = "".join(
        live.run("dbusers", *words).output
        for words in (
            ["show", "--json"],
            ["show", "--list", "--json"],
            ["why", "wikibugs", "--json"],
            ["plan", "--json"],
            ["apply", "--yes", "--json"],
        )
    )
    for secret in live.files.passwords.values():
        assert secret.reveal() not in everything
    for fact in live.files.files.values():
        assert fact.verifier is not None
        assert fact.verifier.stored[1:] not in everything.lower()


@pytest.mark.parametrize("words", [["show"], ["show", "--list"], ["why", "wikibugs"], ["plan"], ["limit"]])
def test_screens_fit_80_columns(live: AccountsWorld, words: list[str]) -> None:
    live.add(AccountKind.TOOL, "tools.a-rather-long-name-of-a-tool-0", 59999)
    live.run("dbusers", "limit", "alice", "--connections", "3", "--why", "a reason that takes much more than one line")
    result = live.run("dbusers", *words)
    assert max(map(len, result.stdout.splitlines())) <= 80, result.stdout


def test_an_event_that_was_edited_is_found(live: AccountsWorld) -> None:
    assert "as it was written" in live.run("dbusers", "show", "--verify").stdout
    with contextlib.closing(sqlite3.connect(live.base / "state/dbusers/ledger.sqlite")) as ledger:
        ledger.execute("UPDATE event SET account = 's1' WHERE id = 2")
        ledger.commit()
    result = live.run("dbusers", "show", "--verify")
    assert result.exit_code == 1
    assert "event 2" in result.stdout


# --- asking ----------------------------------------------------------------------------------------------------------


def test_a_removal_is_a_suspension_first_and_can_be_taken_back(live: AccountsWorld) -> None:
    password = live.files.passwords[WIKIBUGS].reveal()
    asked = live.run("dbusers", "remove", "wikibugs", "--yes", "--why", "its maintainer asked")
    assert asked.exit_code == 0, asked.output
    assert "dropped after 40d unless restored" in asked.stdout
    assert "no daemon runs on this machine" in asked.stdout
    live.run("dbusers", "apply", "--yes")
    assert not live.replica("db1.example.org").works(WIKIBUGS, password)
    assert "suspended (asked)" in live.run("dbusers", "show", "--list").stdout
    live.run("dbusers", "remove", "wikibugs", "--restore", "--yes")
    live.run("dbusers", "apply", "--yes")
    assert live.replica("db1.example.org").works(WIKIBUGS, password)


ABSENT = [["remove", "s999"], ["remove", "s999", "--restore"], ["rotate", "s999"], ["limit", "s999", "--connections=1"]]


@pytest.mark.parametrize("words", ABSENT)
def test_an_account_that_there_is_not_is_not_asked_about(live: AccountsWorld, words: list[str]) -> None:
    result = live.run("dbusers", *words, *([] if words[0] == "limit" else ["--yes"]))
    assert result.exit_code == 1
    assert "no account s999" in result.stderr
    assert live.json("show")["requests"] == []
    assert [rule for rule in live.json("limit")["rules"] if rule["number"]] == []


@pytest.mark.parametrize("words", [["remove", "--yes"], ["rotate", "--yes"], ["limit", "--connections", "1"]])
def test_a_name_of_a_tool_and_a_user_changes_neither(live: AccountsWorld, words: list[str]) -> None:
    live.add(AccountKind.USER, "wikibugs", 2171)
    live.run("dbusers", "apply", "--yes")
    result = live.run("dbusers", words[0], "wikibugs", *words[1:])
    assert result.exit_code == 2
    assert "say which: s52788 or u2171" in result.stderr
    assert live.run("dbusers", words[0], "tools.wikibugs", *words[1:]).exit_code == 0


def test_removed_now_it_leaves_a_tombstone(live: AccountsWorld) -> None:
    live.run("dbusers", "remove", "s52001", "--now", "--yes")
    for _ in range(3):
        live.run("dbusers", "apply", "--yes")
        live.clock.advance(1)
    assert ADMIN not in live.files.files
    assert "tools.admin had it, removed" in live.run("dbusers", "show", "admin").stdout
    assert live.json("show")["tombstones"] == 1
    assert live.run("dbusers", "plan").exit_code == 0, "it is as a person wanted it"
    why = " ".join(live.run("dbusers", "why", "admin").stdout.split())
    assert "comes back by: labstore dbusers remove s52001 --restore" in why
    for words in (["remove", "admin"], ["rotate", "admin"]):
        assert "s52001 is removed" in live.run("dbusers", *words, "--yes").stderr
    restored = live.run("dbusers", "remove", "admin", "--restore", "--yes")
    assert "a new password and a new file, by apply --allow-account-identity" in restored.stdout
    live.run("dbusers", "apply", "--yes", "--allow-account-identity")
    assert live.files.files[ADMIN].state is FileState.TRUSTED


def test_a_rotation_leaves_both_passwords_good(live: AccountsWorld) -> None:
    old = live.files.passwords[WIKIBUGS].reveal()
    assert live.run("dbusers", "rotate", "wikibugs", "--yes").exit_code == 0
    live.run("dbusers", "apply", "--yes")
    new = live.files.passwords[WIKIBUGS].reveal()
    assert old != new
    for password in (old, new):
        assert all(replica.works(WIKIBUGS, password) for replica in live.replicas.values())
    assert "the old password is good as well" in live.run("dbusers", "show", "wikibugs").stdout


def test_a_password_that_leaked_during_a_rotation_ends_at_once_all_the_same(live: AccountsWorld) -> None:
    live.run("dbusers", "rotate", "wikibugs", "--yes")
    live.run("dbusers", "apply", "--yes")
    live.clock.advance(1)
    leaked = live.files.passwords[WIKIBUGS].reveal()
    later = live.run("dbusers", "rotate", "wikibugs", "--yes")
    assert "when the rotation that is under way is over" in " ".join(later.stdout.split())
    live.run("dbusers", "apply", "--yes")
    assert live.files.passwords[WIKIBUGS].reveal() == leaked, "one rotation after the other"
    assert live.run("dbusers", "rotate", "wikibugs", "--now", "--yes").exit_code == 0
    for _ in range(3):
        live.clock.advance(1)
        live.run("dbusers", "apply", "--yes")
    assert live.files.passwords[WIKIBUGS].reveal() != leaked
    assert not any(replica.works(WIKIBUGS, leaked) for replica in live.replicas.values())
    assert live.json("show")["requests"] == []


@pytest.mark.parametrize(
    "words", [["rotate"], ["rotate", "wikibugs", "--all"], ["remove", "alice", "--now", "--restore"]]
)
def test_what_cannot_be_meant_is_a_usage_error(live: AccountsWorld, words: list[str]) -> None:
    assert live.run("dbusers", *words, "--yes").exit_code == 2


def test_without_yes_and_without_a_person_nothing_is_asked_for(live: AccountsWorld) -> None:
    assert live.run("dbusers", "remove", "wikibugs").exit_code == 2
    assert live.json("show")["requests"] == []


def test_a_limit_reaches_every_server_and_ends_by_itself(live: AccountsWorld) -> None:
    made = live.run("dbusers", "limit", "alice", "--connections", "3", "--statement-time", "90s", "--until", "1d")
    assert made.exit_code == 0, made.output
    assert "limit set: max connections 3, statement seconds 90, until" in live.run("dbusers", "why", "alice").stdout
    live.run("dbusers", "apply", "--yes")
    for replica in live.replicas.values():
        limits = replica.accounts[ALICE].limits
        assert (limits.max_connections, limits.statement_seconds) == (3, 90)
    live.clock.advance(90000)
    live.run("dbusers", "apply", "--yes")
    assert live.replica("db1.example.org").accounts[ALICE].limits.max_connections == 10


def test_limits_of_a_kind_on_a_group(live: AccountsWorld) -> None:
    live.run("dbusers", "limit", "--kind", "tool", "--group", "web", "--queries-per-hour", "100")
    live.run("dbusers", "apply", "--yes")
    assert live.replica("db1.example.org").accounts[ADMIN].limits.queries_per_hour == 100
    assert live.replica("db2.example.org:3311").accounts[ADMIN].limits.queries_per_hour == 0
    (rule,) = [rule for rule in live.json("limit")["rules"] if rule["number"]]
    assert live.run("dbusers", "limit", "--end", str(rule["number"])).exit_code == 0
    assert live.run("dbusers", "limit", "--end", str(rule["number"])).exit_code == 1


@pytest.mark.parametrize(
    ("words", "part"),
    [
        (["--statement-time", "5", "alice"], "unit"),
        (["--connections", "1", "--group", "nowhere"], "known are: tools, web"),
        (["--kind", "tool"], "Say which limit"),
        (["alice", "--kind", "tool", "--connections", "1"], "NAME or --kind"),
        (["alice", "--connections", "1", "--until", "soon"], "--until"),
        (["alice", "--connections", "1", "--until", "1999-12-31"], "is over"),
        (["alice", "--connections", "-1"], "range"),
    ],
)
def test_limits_that_make_no_sense(live: AccountsWorld, words: list[str], part: str) -> None:
    result = live.run("dbusers", "limit", *words)
    assert result.exit_code == 2
    assert part in result.stderr


def test_the_governor_names_commands_that_there_are(live: AccountsWorld) -> None:
    said = (StatementsEnded("s52788", "db1", 1, 301.0, 300), SessionsEnded("s52788", "db1", 1, 10))
    for report in said:
        command = report.remedy().partition("labstore ")[2].replace(" TIME", " 10m").replace(" N", " 40").split()
        assert live.run(*command).exit_code == 0, command


# --- harvest ---------------------------------------------------------------------------------------------------------


def lose_the_ledger(live: AccountsWorld) -> None:
    for path in (live.base / "state/dbusers").iterdir():
        path.unlink()


def test_a_lost_ledger_is_harvested_without_a_change_of_files_or_servers(live: AccountsWorld) -> None:
    lose_the_ledger(live)
    passwords = dict(live.files.passwords)
    accounts = {name: dict(replica.accounts) for name, replica in live.replicas.items()}
    result = live.run("dbusers", "harvest", "--yes")
    assert result.exit_code == 0, result.output
    assert "3 x adopt the password of its file" in result.stdout
    assert live.files.passwords == passwords
    assert {name: dict(replica.accounts) for name, replica in live.replicas.items()} == accounts
    assert [host["present"] for host in live.json("show")["hosts"]] == [3, 3]
    assert live.run("dbusers", "plan").stdout.startswith("wikicloud: nothing to do")


def test_limits_that_only_servers_know_any_more_are_shown_as_the_site_file_has_them(live: AccountsWorld) -> None:
    live.run("dbusers", "limit", "alice", "--connections", "33", "--statement-time", "90s")
    live.run("dbusers", "limit", "admin", "--connections", "21")
    live.run("dbusers", "apply", "--yes")
    lose_the_ledger(live)
    shown = live.run("dbusers", "harvest", "--yes").stdout
    assert "      s52001: 21\n" in shown
    assert "      u2170: {max_connections: 33, statement_time: 90s}\n" in shown
    assert "s52788:" not in shown.split("variances:")[1], "what a rule gives is not lost"
    text = live.site_file.read_text().replace("{s52788: 48}", "{s52788: 48, s52001: 21}")
    live.site_file.write_text(text)
    live.run("dbusers", "apply", "--yes")
    replica = live.replica("db1.example.org")
    assert replica.accounts[ADMIN].limits.max_connections == 21, "written there it is kept"
    assert replica.accounts[ALICE].limits.max_connections == 10, "else it ends"


def test_what_no_rule_could_say_is_no_limit_that_a_rule_gave(live: AccountsWorld) -> None:
    """An administrator set -1 by hand, and an administrator's account has a name like ours."""
    replica = live.replica("db1.example.org")
    replica.accounts[ADMIN] = replace(replica.accounts[ADMIN], limits=Limits(-1))
    replica.accounts[ALICE] = replace(replica.accounts[ALICE], limits=Limits(99), touchable=False)
    lose_the_ledger(live)
    assert "variances" not in live.run("dbusers", "harvest", "--yes").stdout


def test_a_limit_that_only_some_servers_share_hides_no_other_one(live: AccountsWorld) -> None:
    live.site_file.write_text(live.site_file.read_text().replace("grants: legacy, ", ""))
    live.run("dbusers", "limit", "alice", "--connections", "33")
    live.run("dbusers", "limit", "--kind", "user", "--group", "web", "--statement-time", "5m")
    live.run("dbusers", "apply", "--yes")
    lose_the_ledger(live)
    assert "    variances:\n      u2170: 33\n" in live.run("dbusers", "harvest", "--yes").stdout


def test_a_harvest_shows_nothing_that_only_a_later_cycle_can_do(live: AccountsWorld) -> None:
    """An account without a file is new to a ledger that forgot its removal."""
    live.run("dbusers", "remove", "admin", "--now", "--yes")
    live.run("dbusers", "apply", "--yes")
    lose_the_ledger(live)
    shown = live.run("dbusers", "harvest", "--yes").stdout
    assert "2 x adopt the password of its file" in shown
    assert ADMIN not in shown


# --- host-setup ------------------------------------------------------------------------------------------------------


def test_host_setup_prints_statements_that_can_be_run(world: AccountsWorld) -> None:
    result = world.run("dbusers", "host-setup", "db1.example.org", "--source", "10.0.0.5")
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("DELIMITER $$\n")
    assert "'labstore'@'10.0.0.5'" in result.stdout
    assert "REQUIRE SSL" in result.stdout
    assert "GRANT EXECUTE ON `labstore_accounts`.*" in result.stdout


def test_host_setup_of_a_server_that_is_not_configured(world: AccountsWorld) -> None:
    result = world.run("dbusers", "host-setup", "db9.example.org", "--source", "10.0.0.5")
    assert result.exit_code == 1
    assert "dbusers.hosts" in result.stderr


def test_a_source_that_is_none_is_refused(world: AccountsWorld) -> None:
    assert world.run("dbusers", "host-setup", "db1.example.org", "--source", "x' OR").exit_code == 2


# --- without accounts ------------------------------------------------------------------------------------------------


def test_a_site_without_accounts(world: AccountsWorld) -> None:
    world.site_file.write_text(world.site_file.read_text().split("dbusers:")[0])
    result = world.run("dbusers", "show")
    assert result.exit_code == 5
    assert "no `dbusers:`" in result.stderr


def test_a_machine_that_only_keeps_files_says_where_the_rest_is(world: AccountsWorld) -> None:
    secret = world.base / "writer.password"
    secret.write_text("who may ask\n")
    secret.chmod(0o400)
    head = world.site_file.read_text().split("dbusers:")[0]
    files = {"tool": "/srv/homes", "user": "/srv/people"}
    section = {"files": files, "writer": {"password_file": str(secret)}}
    world.site_file.write_text(f"{head}dbusers: {json.dumps(section)}\n")
    for verb in ("show", "plan", "run"):
        result = world.run("dbusers", verb)
        assert result.exit_code == 5
        assert "keeps files for a daemon elsewhere" in result.stderr
