"""Every setting with its value and where the value comes from."""

from __future__ import annotations

from pathlib import Path

from labstore.config.explain import Explained, explained
from labstore.config.load import load
from tests.support.site_text import BASE

ROOT = Path(__file__).parents[3]


def rows(path: Path, text: str, setting: str | None = None) -> dict[str, Explained]:
    path.write_text(text)
    found = explained(load(path), setting)
    assert len({row.setting for row in found}) == len(found)
    return {row.setting: row for row in found}


def test_a_written_value_names_its_line_and_a_default_says_so(tmp_path: Path) -> None:
    path = tmp_path / "site.yaml"
    found = rows(path, BASE)
    poll, listing = found["exports.poll"], found["exports.listing"]
    assert (poll.value, poll.origin, poll.unit) == ("3s", f"{path}:19", "ms, s, m, h, d, w")
    assert (listing.value, listing.origin, listing.meaning) == ("5m", "default", "how often everything is listed")
    assert found["clusters.primary.volumes.misc.uuid"].value == "(any will do)"
    assert found["shares.home.squash"].origin == "default"


def test_what_is_elsewhere_is_not_explained_as_a_default_here(tmp_path: Path) -> None:
    found = rows(
        tmp_path / "site.yaml",
        BASE.replace("tools: {gid: 50380, shares: {home: true}}", "tools: {gid: 50380, shares: {home: {access: ro}}}"),
    )
    assert [name for name in found if name.startswith("projects.tools.shares")] == ["projects.tools.shares.home.access"]
    assert [name for name in found if name.startswith("shares.dumps")] == ["shares.dumps.external"]
    assert found["projects.maps.shares.home"].value == "true"


def test_one_setting_or_a_part_of_the_file(tmp_path: Path) -> None:
    found = rows(tmp_path / "site.yaml", BASE, "exports.brake.absent")
    assert set(found) == {f"exports.brake.absent.{name}" for name in ("project", "overall", "count", "floor")}
    assert set(rows(tmp_path / "site.yaml", BASE, "exports.poll")) == {"exports.poll"}
    assert rows(tmp_path / "site.yaml", BASE, "exports.pol") == {}


def test_projects_of_a_mounts_file_name_its_lines(tmp_path: Path) -> None:
    text = BASE.replace("projects:\n", "projects_file: mounts.yaml\nprojects:\n").replace(
        "maps: {gid: 50196, ", "maps: {"
    )
    (tmp_path / "mounts.yaml").write_text(
        "\nmaps:\n  gid: 50196\n  mounts: {home: nfs.svc.example.org:/srv/misc/maps}\n"
    )
    found = rows(tmp_path / "site.yaml", text)
    assert (found["projects.maps.gid"].value, found["projects.maps.gid"].origin) == (
        "50196",
        f"{tmp_path}/mounts.yaml:2",
    )
