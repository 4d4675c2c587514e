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
    assert result.stdout == f"{EXAMPLE}: fine: 2 clusters, 4 projects, 4 private and 1 public exports\n"


def test_every_problem_is_one_line_with_its_place_and_remedy(broken: str) -> None:
    result = run("check", broken)
    assert result.exit_code == 5
    assert result.stdout.splitlines() == [
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


def test_a_missing_file_is_a_configuration_error() -> None:
    result = run("check", "/nonexistent/site.yaml")
    assert result.exit_code == 5
    assert "/nonexistent/site.yaml: cannot be read: No such file or directory" in result.stdout


def test_explain_shows_value_origin_unit_and_meaning() -> None:
    result = run("explain", "exports.listing", "--file", EXAMPLE)
    assert result.exit_code == 0
    assert result.stdout == (
        f"exports.listing = 5m    ({EXAMPLE}:57)\n    how often everything is listed [ms, s, m, h, d, w]\n"
    )


def test_explain_as_json() -> None:
    (row,) = json.loads(run("explain", "exports.listing", "--json", "--file", EXAMPLE).stdout)
    assert row["value"] == "5m"
    assert row["origin"] == f"{EXAMPLE}:57"


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
