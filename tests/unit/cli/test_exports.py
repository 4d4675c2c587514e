"""The commands about exports, on fakes of everything outside; each screen as a golden file at 80 columns."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import Result

from labstore.assembly import exports_lock
from labstore.cli import exports_screens
from labstore.cli.exports_back import moment_of
from labstore.config.load import load
from labstore.model.cloud import Project
from tests.support.cli_world import CliWorld
from tests.support.fakes import instance, refusing
from tests.support.golden import golden


@pytest.fixture
def world(tmp_path: Path) -> CliWorld:
    return CliWorld.of(tmp_path)


@pytest.fixture
def served(world: CliWorld) -> CliWorld:
    """Generation 1 is applied and a minute has passed."""
    assert world.run("exports", "apply", "--yes").exit_code == 0
    world.clock.advance(60)
    return world


def deleted(world: CliWorld, name: str) -> None:
    """An instance goes, and labstore follows a minute later."""
    world.inventory.delete(name)
    assert world.run("exports", "apply", "--yes", "--why", f"{name} is gone").exit_code == 0
    world.clock.advance(60)


def ended(result: Result) -> int:
    """The status, for a command that ended by itself and not by a defect."""
    assert result.exception is None or isinstance(result.exception, SystemExit), result.output
    return result.exit_code


# --- plan and apply --------------------------------------------------------------------------------------------------


def test_plan_shows_what_apply_would_do_and_changes_nothing(world: CliWorld) -> None:
    result = world.run("exports", "plan")
    assert ended(result) == 0
    golden("plan-first", result.stdout)
    assert world.server.calls == world.server.writes == 0
    assert not (world.base / "state").exists()  # upstream #16: looking leaves no trace


def test_apply_does_what_plan_showed(world: CliWorld) -> None:
    planned = world.json("exports", "plan")["steps"]
    done = world.json("exports", "apply", "--yes")
    assert done["steps"] == planned
    assert (done["state"], world.server.generation) == ("converged", 1)
    assert world.server.live.clients == 8


def test_apply_shows_what_it_did(world: CliWorld) -> None:
    golden("apply", world.run("exports", "apply", "--yes").stdout)


def test_apply_with_nobody_to_ask_shows_the_plan_and_does_nothing(world: CliWorld) -> None:
    result = world.run("exports", "apply")
    assert ended(result) == 2
    assert "4 steps would admit 8" in result.stdout
    assert "say --yes" in result.stderr
    assert world.server.writes == 0


def test_nothing_to_do_is_said(served: CliWorld) -> None:
    result = served.run("exports", "plan")
    assert (ended(result), result.stdout) == (0, "primary: nothing to do\n")


def test_a_person_s_name_and_reason_are_in_the_history(served: CliWorld) -> None:
    deleted(served, "tools-2")
    newest = served.json("exports", "history")["generations"][0]
    assert (newest["number"], newest["who"], newest["why"]) == (2, "alice@labstore1", "tools-2 is gone")
    assert (newest["admits"], newest["removes"]) == (0, 1)


def test_a_mass_removal_is_held_back_and_allowed_once(served: CliWorld) -> None:
    for number in range(1, 31):
        served.inventory.add(instance(f"more-{number}", "p-tools", f"172.16.4.{number}"))
    assert ended(served.run("exports", "apply", "--yes")) == 0
    for number in range(1, 21):
        served.inventory.delete(f"more-{number}")
    held = served.run("exports", "plan")
    assert ended(held) == 3
    golden("plan-refused", held.stdout)
    assert ended(served.run("exports", "apply", "--yes")) == 3
    assert served.server.live.clients == 38
    assert ended(served.run("exports", "apply", "--yes", "--allow-mass-removal")) == 0
    assert served.server.live.clients == 18


def test_a_source_that_fails_leaves_everything_and_says_so(served: CliWorld) -> None:
    served.inventory.broken.add("eqiad1-r")
    result = served.run("exports", "plan")
    assert ended(result) == 4  # upstream #1
    golden("plan-holding", result.stdout)


def test_a_server_that_refuses_is_a_failure_that_says_what_to_do(world: CliWorld) -> None:
    world.server.trouble = refusing("no space left")
    result = world.run("exports", "apply", "--yes")
    assert ended(result) == 1
    assert "no space left" in result.stdout
    assert "-> what was served before is still served" in result.stdout


def test_a_server_that_cannot_be_read_is_not_touched(world: CliWorld) -> None:
    world.server.unreadable = True
    result = world.run("exports", "apply", "--yes")
    assert ended(result) == 1
    assert "unreadable" in result.stderr
    assert world.server.writes == 0


def test_a_standby_node_writes_nothing(world: CliWorld) -> None:
    world.node.active = False
    result = world.run("exports", "apply", "--yes")
    assert ended(result) == 7
    assert "this node is standby" in result.stdout
    assert world.server.writes == 0
    assert ended(world.run("exports", "plan")) == 7


def test_option_changes_are_shown_word_by_word(served: CliWorld) -> None:
    text = served.site_file.read_text()
    served.site_file.write_text(text.replace('path: "shared/{project}"}', 'path: "shared/{project}", squash: none}'))
    result = served.run("exports", "plan")
    assert "options: loses root_squash; gains no_root_squash" in result.stdout


def test_a_lock_that_somebody_holds_ends_with_its_holder(world: CliWorld, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labstore.cli.exports_asked.PATIENCE", 0.0)
    with exports_lock(load(world.site_file).site, "primary", "a long cycle"):
        result = world.run("exports", "apply", "--yes")
    assert ended(result) == 6
    assert "a long cycle" in result.stderr


def test_a_broken_site_file_tells_every_problem_with_its_place(world: CliWorld) -> None:
    text = world.site_file.read_text()
    world.site_file.write_text(text.replace("gid: 50380", "gid: -1").replace("gid: 50196", "gid: x"))
    result = world.run("exports", "plan")
    assert ended(result) == 5
    assert result.stderr.count("site.yaml:") >= 2


def test_a_cluster_that_is_not_there_is_told_with_those_that_are(world: CliWorld) -> None:
    result = world.run("exports", "plan", "--cluster", "secondary")
    assert ended(result) == 5
    assert "known are: primary" in result.stderr


def test_a_node_of_no_cluster_is_told_how_to_say_which(world: CliWorld) -> None:
    result = world.run("exports", "plan", "--node", "elsewhere")
    assert ended(result) == 5
    assert "--cluster NAME" in result.stderr


# --- a person at a terminal ------------------------------------------------------------------------------------------


class Terminal:
    """Makes the runner's input look like a terminal."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("click.testing._NamedTextIOWrapper.isatty", lambda _: True, raising=False)


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Terminal:
    return Terminal(monkeypatch)


def test_a_person_is_asked_and_yes_applies_it(world: CliWorld, terminal: Terminal) -> None:
    result = world.run("exports", "apply", answer="y\n")
    assert ended(result) == 0
    assert world.server.live.clients == 8


def test_no_does_nothing(world: CliWorld, terminal: Terminal) -> None:
    result = world.run("exports", "apply", answer="n\n")
    assert ended(result) == 1
    assert world.server.writes == 0


def test_a_plan_that_changed_while_it_was_read_is_shown_again(world: CliWorld, terminal: Terminal) -> None:
    """What is applied is what was shown, or nothing."""
    listing = world.inventory.changes

    def meanwhile(last: Any) -> Any:
        if "id-new" not in world.inventory.instances:
            world.inventory.add(instance("new", "p-cvn", "172.16.3.99"))
        return listing(last)

    world.inventory.changes = meanwhile  # type: ignore[method-assign]
    result = world.run("exports", "apply", answer="y\ny\n")
    assert ended(result) == 0
    assert "meanwhile it has become another plan" in result.stdout
    assert result.stdout.count("Do this?") == 2
    assert "172.16.3.99" in result.stdout


# --- looking ---------------------------------------------------------------------------------------------------------


def test_show(served: CliWorld) -> None:
    golden("show", served.run("exports", "show").stdout)


def test_show_a_project(served: CliWorld) -> None:
    golden("show-project", served.run("exports", "show", "tools").stdout)


def test_show_says_what_the_server_answers_otherwise(served: CliWorld) -> None:
    served.server.live = served.server.live.replacing({next(iter(served.server.live.by_path)): None})
    result = served.run("exports", "show")
    assert "the server answers otherwise than its files" in result.stdout
    assert re.search(r"public_scratch .* NO", result.stdout)


def test_show_of_an_unknown_project_says_where_to_look(served: CliWorld) -> None:
    result = served.run("exports", "show", "nobody")
    assert ended(result) == 1
    assert "no file declares it" in result.stderr


def test_show_with_an_unreadable_server_shows_the_history_and_fails(served: CliWorld) -> None:
    served.server.unreadable = True
    result = served.run("exports", "show")
    assert ended(result) == 1
    assert "cannot be read" in result.stdout
    assert "/srv/misc/shared/tools" in result.stdout


def test_history(served: CliWorld) -> None:
    deleted(served, "tools-2")
    golden("history", served.run("exports", "history").stdout)


def test_history_before_anything_was_applied_says_so(world: CliWorld) -> None:
    result = world.run("exports", "history")
    assert ended(result) == 1
    assert "nothing was applied" in result.stderr


def test_diff(served: CliWorld) -> None:
    deleted(served, "tools-2")
    served.inventory.add(instance("cvn-2", "p-cvn", "172.16.3.12"))
    served.run("exports", "apply", "--yes")
    golden("diff", served.run("exports", "diff", "1", "3").stdout)


def test_diff_of_a_generation_that_is_not_there(served: CliWorld) -> None:
    result = served.run("exports", "diff", "1", "9")
    assert ended(result) == 2
    assert "no applied generation 9; the newest are 1" in result.stderr


def test_why(served: CliWorld) -> None:
    golden("why", served.run("exports", "why", "172.16.1.12", "/srv/misc/shared/tools/deep/below").stdout)


def test_why_not_any_more(served: CliWorld) -> None:
    deleted(served, "tools-2")
    golden("why-not", served.run("exports", "why", "172.16.1.12", "/srv/misc/shared/tools").stdout)


def test_why_of_a_stranger(served: CliWorld) -> None:
    result = served.run("exports", "why", "10.9.9.9")
    assert (ended(result), result.stdout) == (0, "10.9.9.9 may mount nothing\n")


@pytest.mark.parametrize("address", ["tools-1", "10.0.0.0/1", "*"])
def test_why_wants_an_address(served: CliWorld, address: str) -> None:
    assert ended(served.run("exports", "why", address)) == 2


def test_hostile_names_neither_colour_nor_forge_lines(served: CliWorld) -> None:
    """Tenants name their instances (DESIGN law 8)."""
    served.inventory.add(instance("evil\x1b[2J\nerror: all is lost [red]", "p-cvn", "172.16.3.66"))
    served.inventory.add(instance("\u202egnp.exe", "p-cvn", "172.16.3.67"))
    served.run("exports", "apply", "--yes")
    for command in (["show", "cvn"], ["why", "172.16.3.66"], ["diff", "1"], ["why", "172.16.3.67"]):
        text = served.run("exports", *command).stdout
        assert "\x1b" not in text
        assert "\u202e" not in text
        assert not re.search(r"^error", text, re.MULTILINE)


# --- going back ------------------------------------------------------------------------------------------------------


@pytest.fixture
def emptied(served: CliWorld) -> CliWorld:
    """A declaration was taken out by mistake in generation 2: cvn lost its share."""
    text = served.site_file.read_text()
    served.site_file.write_text(text.replace("  cvn: {gid: 50116, shares: {project: true}}\n", ""))
    assert ended(served.run("exports", "apply", "--yes")) == 0
    served.clock.advance(60)
    return served


def test_rollback_previews(emptied: CliWorld) -> None:
    result = emptied.run("exports", "rollback", "1")
    assert ended(result) == 0
    golden("rollback", result.stdout)
    assert emptied.server.generation == 2


def test_rollback_pins_and_resume_ends_it(emptied: CliWorld) -> None:
    done = emptied.run("exports", "rollback", "1", "--for", "2h", "--apply", "--yes", "--why", "cvn was lost")
    assert ended(done) == 0
    assert emptied.server.live.clients == 8
    emptied.clock.advance(3600)
    assert ended(emptied.run("exports", "apply", "--yes")) == 0
    assert emptied.server.live.clients == 8, "the pin holds"
    pin = emptied.json("exports", "history")["pin"]
    assert (pin["generation"], pin["who"], pin["why"]) == (1, "alice@labstore1", "cvn was lost")
    assert ended(emptied.run("exports", "resume", "--yes")) == 0
    assert emptied.server.live.clients == 7
    assert emptied.json("exports", "history")["pin"] is None


def test_a_pin_ends_by_itself(emptied: CliWorld) -> None:
    emptied.run("exports", "rollback", "1", "--apply", "--yes")
    emptied.clock.advance(3601)
    assert ended(emptied.run("exports", "apply", "--yes")) == 0
    assert emptied.server.live.clients == 7


def test_rollback_by_time(emptied: CliWorld) -> None:
    assert emptied.json("exports", "rollback", "--at", "90s ago")["difference"]["to"] == 1


def test_rollback_never_lets_a_deleted_instance_back_in(served: CliWorld) -> None:
    deleted(served, "tools-2")
    result = served.run("exports", "rollback", "1")
    assert "stays out: instance tools-2 is deleted" in result.stdout
    assert ended(served.run("exports", "rollback", "1", "--apply", "--yes")) == 0
    assert "172.16.1.12" not in str(served.server.live)


def test_rollback_is_whole_or_not_at_all(served: CliWorld) -> None:
    for number in range(1, 31):
        served.inventory.add(instance(f"more-{number}", "p-tools", f"172.16.4.{number}"))
    served.run("exports", "apply", "--yes")
    result = served.run("exports", "rollback", "1", "--apply", "--yes")
    assert ended(result) == 3
    assert "--allow-mass-removal" in result.stderr
    assert served.json("exports", "history")["pin"] is None


@pytest.mark.parametrize(
    "arguments",
    [
        [],
        ["1", "--at", "1h ago"],
        ["--at", "soon"],
        ["1", "--for", "5"],
        ["7"],
        ["1", "--for", "0s"],
        ["1", "--for", "31d"],
    ],
)
def test_rollback_wants_to_know_which_and_how_long(served: CliWorld, arguments: list[str]) -> None:
    assert ended(served.run("exports", "rollback", *arguments)) == 2


def test_a_rollback_that_is_only_shown_says_of_no_pin_that_it_is(emptied: CliWorld) -> None:
    assert "is pinned" not in emptied.run("exports", "rollback", "1").stdout
    assert emptied.json("exports", "rollback", "1")["plan"]["reports"] == []
    emptied.run("exports", "rollback", "1", "--apply", "--yes")
    assert "generation 1 is pinned until 2026-05-29 12:57 by" in " ".join(emptied.run("exports", "plan").stdout.split())


def test_the_preview_of_a_rollback_ends_with_the_whole_command(served: CliWorld) -> None:
    for number in range(1, 31):
        served.inventory.add(instance(f"more-{number}", "p-tools", f"172.16.4.{number}"))
    served.run("exports", "apply", "--yes")
    site = str(served.site_file)
    bare = served.run("exports", "rollback", "1", "--why", "look at it", "--site", site)
    command = f"labstore exports rollback 1 --for 1h --apply --why 'look at it' --site {site} --allow-mass-removal"
    assert bare.stdout.endswith(f"to do it for 1h:\n  {command}\n")
    given = served.run("exports", "rollback", "1", "--allow-mass-removal")
    assert given.stdout.endswith("\n  labstore exports rollback 1 --for 1h --apply --allow-mass-removal\n")


def test_what_is_held_back_names_the_first_clients(served: CliWorld) -> None:
    for number in range(1, 31):
        served.inventory.add(instance(f"more-{number}", "p-tools", f"172.16.4.{number}"))
    served.run("exports", "apply", "--yes")
    for number in range(1, 21):
        served.inventory.delete(f"more-{number}")
    text = " ".join(served.run("exports", "plan").stdout.split())
    assert "tools would lose 172.16.4.1 (more-1), " in text
    assert "and 16 more" in text


# --- the table of a past time ----------------------------------------------------------------------------------------


def test_the_table_of_a_former_generation(emptied: CliWorld) -> None:
    result = emptied.run("exports", "show", "--generation", "1")
    assert ended(result) == 0
    golden("show-past", result.stdout)
    assert emptied.run("exports", "show", "cvn", "--generation", "1").stdout.count("172.16.3.11") == 1
    assert ended(emptied.run("exports", "show", "cvn")) == 1
    assert emptied.json("exports", "show", "--generation", "1")["generation"] == 1


def test_the_table_of_a_past_time(emptied: CliWorld) -> None:
    assert emptied.json("exports", "show", "--at", "90s ago")["generation"] == 1
    assert emptied.json("exports", "show", "--at", "1s ago")["generation"] == 2


@pytest.mark.parametrize(
    "arguments", [["--at", "1d ago"], ["--generation", "9"], ["--generation", "1", "--at", "9:00"]]
)
def test_a_time_of_which_nothing_is_known(emptied: CliWorld, arguments: list[str]) -> None:
    assert ended(emptied.run("exports", "show", *arguments)) == 2


# --- what fails ------------------------------------------------------------------------------------------------------


def test_an_apply_that_fails_leaves_its_record(served: CliWorld) -> None:
    served.server.unreadable = True
    assert ended(served.run("exports", "apply", "--yes")) == 1
    (room,) = served.json("status")["rooms"]
    assert (room["state"], room["reports"][0]["message"][:11]) == ("failed", "fake server")
    assert room["headline"] == "failed: 4 exports, 8 clients still served"


def test_a_history_that_is_broken_is_told_with_what_to_do(served: CliWorld) -> None:
    file = served.base / "state/exports/primary/history.sqlite"
    for each in file.parent.glob("history.sqlite*"):
        each.unlink()
    file.write_bytes(b"no database at all" * 100)
    for arguments in (["history"], ["apply", "--yes"], ["why", "172.16.1.11"]):
        result = served.run("exports", *arguments)
        assert ended(result) == 1
        assert f"mv {file}*" in result.stderr
    assert served.json("status")["rooms"][0]["reports"][0]["code"] == "state-unusable"
    shown = served.run("exports", "show")
    assert (ended(shown), "4 exports, 8 clients" in shown.stdout, "move it away" in shown.stderr) == (0, True, True)


def test_resume_without_a_pin_says_so(served: CliWorld) -> None:
    result = served.run("exports", "resume")
    assert (ended(result), result.stdout) == (0, "no generation is pinned: nothing to do\n")


NOON = datetime(2026, 5, 29, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("2h ago", datetime(2026, 5, 29, 10, 0, tzinfo=UTC)),
        ("2026-05-28T10:00:00+00:00", datetime(2026, 5, 28, 10, 0, tzinfo=UTC)),
    ],
)
def test_moments(text: str, wanted: datetime) -> None:
    assert moment_of(text, NOON) == wanted


def test_a_time_of_day_is_the_last_such_time() -> None:
    later = (NOON.astimezone().replace(minute=30)).strftime("%H:%M")
    found = moment_of(later, NOON)
    assert 0 < (NOON - found).total_seconds() <= 86400


def test_what_is_no_moment_is_a_usage_error() -> None:
    with pytest.raises(click.UsageError, match="not a time"):
        moment_of("yesterday", NOON)


# --- identity --------------------------------------------------------------------------------------------------------


def test_a_new_project_of_an_old_name_is_held_back_with_its_override(served: CliWorld) -> None:
    served.inventory.projects = {"p-tools2": Project("p-tools2", "tools"), **served.inventory.projects}
    del served.inventory.projects["p-tools"]
    served.inventory.add(instance("stranger", "p-tools2", "172.16.5.1"))
    result = served.run("exports", "plan")
    assert ended(result) == 3
    assert "--allow-project-identity" in result.stdout


def test_json_is_json_and_nothing_else(served: CliWorld) -> None:
    for command in (["plan"], ["show"], ["history"], ["diff", "1"], ["why", "172.16.1.11"], ["adopt"]):
        result = served.run("exports", *command, "--json")
        if command != ["adopt"]:
            json.loads(result.stdout)


def test_a_step_of_nobody_names_its_path_alone(capsys: pytest.CaptureFixture[str]) -> None:
    exports_screens._step(
        {"verb": "remove", "owner": None, "path": "/srv/x", "adds": [], "removes": {}, "options": None, "why": "gone"}
    )
    assert capsys.readouterr().out == "- /srv/x\n    gone\n"
