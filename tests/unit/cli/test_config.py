"""`labstore config`: what is printed, and the exit status."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from labstore.cli.config import config
from tests.support.site_text import BASE

ROOT = Path(__file__).parents[3]
EXAMPLE = str(ROOT / "docs/examples/site.yaml")


def run(*arguments: str) -> Result:
    return CliRunner().invoke(config, arguments)


@pytest.fixture
def broken(tmp_path: Path) -> str:
    path = tmp_path / "site.yaml"
    path.write_text(BASE.replace("poll: 3s", "poll: 3").replace("volume: misc", "volume: mics"))
    return str(path)


def test_a_good_file_is_summed_up() -> None:
    result = run("check", EXAMPLE)
    assert result.exit_code == 0
    assert " ".join(result.stdout.split()) == (
        f"{EXAMPLE}: fine: 2 clusters, 4 projects, 4 private and 1 public export, 3 replica servers"
    )


def test_the_file_may_be_named_in_both_ways() -> None:
    assert run("check", "--site", EXAMPLE).stdout == run("check", EXAMPLE).stdout


@pytest.mark.parametrize("arguments", [("check",), ("explain", "--site"), ("explain", "projects.tools", "--site")])
def test_no_line_is_wider_than_80_columns_but_for_a_path(arguments: tuple[str, ...]) -> None:
    lines = run(*arguments, EXAMPLE).stdout.splitlines()
    assert all(len(line) <= 80 or len(line.split()) == 1 for line in lines), lines


def unfolded(text: str) -> list[str]:
    """Lines that begin with blanks go on from the line before."""
    return text.strip().replace("\n    ", " ").splitlines()


def test_every_problem_says_its_place_and_remedy(broken: str) -> None:
    result = run("check", broken)
    assert result.exit_code == 5
    assert unfolded(result.stdout) == [
        f"{broken}:11:36: shares.home: cluster primary has no volume 'mics'; did you mean 'misc'?",
        f"{broken}:19:17: exports.poll: 3 has no unit; write it with its unit: 500ms, 30s, 5m, 2h, 1d; for seconds: 3s",
    ]


def test_problems_as_json(broken: str) -> None:
    result = run("check", "--json", broken)
    assert result.exit_code == 5
    answer = json.loads(result.stdout)
    assert answer["ok"] is False
    assert [(each["data"]["line"], each["data"]["column"]) for each in answer["problems"]] == [(11, 36), (19, 17)]


def test_a_good_file_as_json() -> None:
    answer = json.loads(run("check", "--json", EXAMPLE).stdout)
    assert answer == {"file": EXAMPLE, "ok": True, "problems": [], "notices": []}


def test_notices_do_not_make_a_file_bad(tmp_path: Path) -> None:
    (tmp_path / "mounts.yaml").write_text("private: {}\npublic: {root: '/exp *(ro,fsid=0)'}\n")
    path = tmp_path / "site.yaml"
    path.write_text(BASE.replace("projects:\n", "projects_file: mounts.yaml\nprojects:\n"))
    result = run("check", str(path))
    assert result.exit_code == 0
    assert "pseudo-root" in result.stdout


@pytest.fixture
def with_inventory(tmp_path: Path) -> Path:
    """A site file whose inventory is a file; returns where that is to be."""
    (tmp_path / "site.yaml").write_text(BASE.replace("{source: openstack}", "{source: file, file: inventory.yaml}"))
    return tmp_path / "inventory.yaml"


def test_the_inventory_file_is_checked_too(with_inventory: Path) -> None:
    site = str(with_inventory.parent / "site.yaml")
    with_inventory.write_text("projects:\n  tools: {instances: {a: 172.16.1.1}}\n")
    assert run("check", site).exit_code == 0
    with_inventory.write_text("projects:\n  tools: {instances: {a: 172.16.1}}\n  maps: 7\n")
    result = run("check", site)
    assert result.exit_code == 5
    first, second = unfolded(result.stdout)
    assert first.startswith(f"{with_inventory}:2:")
    assert second.startswith(f"{with_inventory}:3:3: project 'maps' is not a map")
    assert [each["data"]["line"] for each in json.loads(run("check", "--json", site).stdout)["problems"]] == [2, 3]


def test_an_inventory_file_that_is_not_there_is_a_problem(with_inventory: Path) -> None:
    result = run("check", str(with_inventory.parent / "site.yaml"))
    assert result.exit_code == 5
    assert "inventory.yaml: cannot be read: No such file or directory" in " ".join(result.stdout.split())


def test_the_file_of_people_is_checked_too(tmp_path: Path) -> None:
    site, people = tmp_path / "site.yaml", tmp_path / "people.yaml"
    section = "dbusers:\n  directory: {source: file, file: people.yaml}\n  hosts: {db1: {}}\n"
    site.write_text(BASE + section + "  files: {tool: /srv/tools, user: /srv/people}\n")
    missing = run("check", str(site))
    assert missing.exit_code == 5
    assert "people.yaml: cannot be read: No such file or directory" in " ".join(missing.stdout.split())
    people.write_text("tools: {wikibugs: 52788}\nusers: {}\n")
    assert "1 replica server" in run("check", str(site)).stdout
    people.write_text("tools: {wikibugs: 52788, Bad Name: 52789}\n")
    assert [text.startswith(f"{people}:1:") for text in unfolded(run("check", str(site)).stdout)] == [True, True]


def test_a_missing_file_is_a_configuration_error() -> None:
    result = run("check", "/nonexistent/site.yaml")
    assert result.exit_code == 5
    assert "/nonexistent/site.yaml: cannot be read: No such file or directory" in result.stdout.replace("\n   ", "")


def test_explain_shows_value_origin_unit_and_meaning() -> None:
    result = run("explain", "exports.listing", "--file", EXAMPLE)
    assert result.exit_code == 0
    assert result.stdout == (
        f"exports.listing = 5m    ({EXAMPLE}:56)\n    how often everything is listed [ms, s, m, h, d, w]\n"
    )


def test_explain_as_json() -> None:
    (row,) = json.loads(run("explain", "exports.listing", "--json", "--file", EXAMPLE).stdout)
    assert row["value"] == "5m"
    assert row["origin"] == f"{EXAMPLE}:56"


def test_explain_of_an_unknown_setting_is_a_usage_error() -> None:
    result = run("explain", "exports.pol", "--file", EXAMPLE)
    assert result.exit_code == 2
    assert "did you mean 'exports.poll'?" in result.stderr


def test_explain_of_a_bad_file_shows_what_is_wrong(broken: str) -> None:
    result = run("explain", "--file", broken)
    assert result.exit_code == 5
    assert "did you mean 'misc'?" in result.stderr


def test_the_schema_is_json_and_the_page_is_markdown() -> None:
    assert json.loads(run("schema").stdout)["title"] == "labstore site file"
    assert run("schema", "--page").stdout == (ROOT / "docs/reference/site-file.md").read_text()


@pytest.mark.parametrize("command", [(), ("check",), ("explain",), ("schema",)])
def test_every_help_shows_an_example(command: tuple[str, ...]) -> None:
    result = run(*command, "--help")
    assert result.exit_code == 0
    assert "Example:\n  " in result.stdout


def test_files_with_passwords_are_read_where_that_is_asked_for(tmp_path: Path) -> None:
    site = tmp_path / "site.yaml"
    text = (Path(__file__).parents[3] / "docs/examples/site.yaml").read_text()
    site.write_text(text.replace("/etc/labstore/replica.password", str(tmp_path / "none")))
    assert run("check", str(site)).exit_code == 0
    result = run("check", str(site), "--passwords")
    assert result.exit_code == 5
    assert "none cannot be read" in " ".join(result.output.split())
