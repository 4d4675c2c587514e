"""`labstore snapshots` on an image file; what each storage does is in tests/contracts/test_snapshots.py."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from labstore.cli.snapshots import snapshots


@pytest.fixture
def volume(tmp_path: Path) -> Path:
    path = tmp_path / "volume.img"
    path.write_bytes(b"before" * 1000)
    return path


def do(*words: object, expect: int = 0) -> str:
    done = CliRunner().invoke(snapshots, list(map(str, words)))
    assert done.exit_code == expect, done.output
    return done.output


def test_taken_shown_left_alone_replaced_and_removed(volume: Path) -> None:
    assert "has no snapshot" in do("show", volume)
    assert "was taken" in do("ensure", volume, "before-upgrade")
    volume.write_bytes(b"after")
    assert "is there" in do("ensure", volume, "before-upgrade", "--max-age", "1d")
    (shown,) = json.loads(do("show", volume, "--json"))
    assert (shown["name"], shown["ours"], shown["size"]) == ("before-upgrade", True, 6000)
    assert json.loads(do("ensure", volume, "before-upgrade", "--max-age", "0s", "--json"))["taken"] is True
    (shown,) = json.loads(do("show", volume, "--json"))
    assert shown["size"] == 5
    assert "ours" in do("show", volume)
    assert json.loads(do("remove", volume, "before-upgrade", "--json")) == {"name": "before-upgrade", "removed": True}
    assert "there is no" in do("remove", volume, "before-upgrade")


def test_what_labstore_did_not_take_is_shown_and_left_alone(volume: Path) -> None:
    """upstream 1.9: the original removed whatever lvremove made of its arguments."""
    folder = volume.with_name("volume.img.generations")
    folder.mkdir()
    (folder / "theirs.img").write_bytes(b"x")
    (shown,) = json.loads(do("show", volume, "--json"))
    assert shown["ours"] is False
    assert "is left alone" in do("remove", volume, "theirs", expect=1)
    assert "is left alone" in do("ensure", volume, "theirs", "--max-age", "0s", expect=1)
    assert (folder / "theirs.img").exists()


@pytest.mark.parametrize(
    "words",
    [
        ["show", "vg"],
        ["show", "vg/"],
        ["remove", "vg/lv/x", "name"],
        ["ensure", "{volume}", "name", "--room", "much"],
        ["ensure", "{volume}", "name", "--max-age", "1"],
    ],
)
def test_what_makes_no_sense_is_said_and_nothing_done(volume: Path, words: list[str]) -> None:
    do(*(str(volume) if word == "{volume}" else word for word in words), expect=2)
    assert [path.name for path in volume.parent.iterdir()] == ["volume.img"]


@pytest.mark.parametrize("name", ["b/ad", "sp ace", "../x", "", "-x", "a" * 64])
def test_a_name_that_no_snapshot_can_have_is_a_wrong_command_line(volume: Path, name: str) -> None:
    for verb in ("ensure", "remove"):
        assert "is not a snapshot's name" in do(verb, volume, "--", name, expect=2)
    assert not volume.with_name("volume.img.generations").exists()


def test_an_image_that_is_not_there_is_not_one_without_snapshots(volume: Path) -> None:
    nowhere = volume.with_name("nowhere.img")
    for words in (("show", nowhere), ("ensure", nowhere, "name"), ("remove", nowhere, "name")):
        said = do(*words, expect=1)
        assert "there is no such file" in said
        assert "look at its path" in said
