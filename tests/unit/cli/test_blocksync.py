"""`labstore blocksync`: what it understands and what it says; what it does is in tests/integration."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from click.testing import CliRunner

from labstore.blocksync.meter import Meter
from labstore.cli.beside import progress, size, span
from labstore.cli.blocksync import _hints, blocksync, ssh_words
from labstore.cli.exit import Exit
from labstore.model.block_sync import Permit, Place


def test_help_says_how_to_begin() -> None:
    said = CliRunner().invoke(blocksync, ["--help"])
    assert said.exit_code == 0
    assert "labstore blocksync nfs1:/dev/vg/home-snap /dev/backup/home" in said.output
    assert "labstore blocksync run --help" in said.output
    more = CliRunner().invoke(blocksync, ["run", "--help"]).output
    assert all(permit in more.replace("\n", "").replace(" ", "") for permit in Permit)


@pytest.mark.parametrize(
    "words",
    [
        ["a:/dev/x", "b:/dev/y"],
        ["/a/../b", "/c"],
        ["a;b:/dev/x", "/c"],
        ["-oProxyCommand=x:/dev/x", "/c"],
        ["/a", "/b", "--send-limit", "fast"],
        ["/a", "/b", "--scrub", "2"],
        ["/a", "/b", "--max-change", "0"],
        ["/a", "/b", "--port", "0"],
    ],
)
def test_what_makes_no_sense_is_said_before_anything_is_done(words: list[str], tmp_path: Path) -> None:
    done = CliRunner().invoke(blocksync, [*words, "--state", str(tmp_path)])
    assert done.exit_code == Exit.USAGE
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--max-change", "2"], "--max-change"),
        (["--max-change", "nan"], "max-change is a part of the whole"),
        (["--scrub", "-0.1"], "--scrub"),
        (["--read-limit", ""], "'' is no amount"),
        (["--label", ""], "'--label': it is empty"),
        (["--state", ""], "'--state': it is empty"),
        (["--control", ""], "'--control': it is empty"),
        (["--control", "/no/such/directory/limits"], "no such directory"),
        (["--control", "/"], "is a directory"),
        (["--state", "/etc/passwd"], "is a file"),
    ],
)
def test_an_option_that_makes_no_sense_is_named(words: list[str], said: str, tmp_path: Path) -> None:
    source = tmp_path / "source.img"
    source.write_bytes(b"something")
    done = CliRunner().invoke(blocksync, [str(source), str(tmp_path / "target.img"), *words])
    assert done.exit_code == Exit.USAGE
    assert said in done.stderr
    assert "samples" not in done.stderr
    assert not (tmp_path / "target.img").exists()


def test_hints_are_found_from_here_or_by_their_whole_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert _hints("hints", Place.parse("/dev/x")) == str(tmp_path / "hints")
    assert _hints("/hints", Place.parse("nfs1:/dev/x")) == "/hints"
    assert _hints(None, Place.parse("/dev/x")) is None
    done = CliRunner().invoke(blocksync, ["nfs1:/dev/x", "/dev/y", "--hints", "hints"])
    assert done.exit_code == Exit.USAGE
    assert "a file on nfs1: write its absolute path" in done.stderr


@pytest.mark.parametrize("link", [None, Path.symlink_to, Path.hardlink_to])
def test_a_source_is_not_its_own_target(link: Callable[[Path, Path], None] | None, tmp_path: Path) -> None:
    source, target = tmp_path / "source.img", tmp_path / "target.img"
    source.write_bytes(b"something")
    if link is None:
        target = source
    else:
        link(target, source)
    done = CliRunner().invoke(blocksync, [str(source), str(target), "--state", str(tmp_path / "state")])
    assert done.exit_code == Exit.USAGE
    assert "are the same" in done.stderr
    assert not (tmp_path / "state").exists()


def test_a_forced_command_has_one_role() -> None:
    assert CliRunner().invoke(blocksync, ["serve", "--source", "/a", "--target", "/b"]).exit_code == Exit.USAGE


def test_a_forced_command_names_whole_paths() -> None:
    done = CliRunner().invoke(blocksync, ["serve", "--source", "a.img"])
    assert done.exit_code == Exit.USAGE
    assert "'a.img' is not the path of a device" in done.stderr


def test_ssh_gets_no_word_from_a_host_name_as_an_option() -> None:
    argv = ssh_words({"identity": "/k", "port": 22, "ssh_config": None, "remote": "labstore blocksync serve"})
    assert argv[argv.index("{host}") - 1] == "--"
    assert "BatchMode=yes" in argv


def test_ssh_finds_the_files_that_are_named_from_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    argv = ssh_words({"identity": "key", "port": 22, "ssh_config": "../config", "remote": "labstore blocksync serve"})
    assert argv[argv.index("-i") + 1] == str(tmp_path / "key")
    assert argv[argv.index("-F") + 1] == str(tmp_path / "../config")
    assert argv[argv.index("-p") + 1] == "22"
    none = ssh_words({"identity": None, "port": None, "ssh_config": "none", "remote": "labstore blocksync serve"})
    assert none[none.index("-F") + 1] == "none", "that is ssh's word for no file"


def test_progress_is_one_line_with_what_remains() -> None:
    meter = Meter(size=8 << 30, total=8 << 30, position=2 << 30, changed=17, phase="comparing", started=0.0)
    assert progress(meter, 20.0) == "comparing: 2.0 GiB of 8.0 GiB (25 %), 102 MiB/s, 17 blocks differ, 60 s left"
    assert progress(Meter(started=0.0), 1.0).startswith("starting: 0 B of 0 B")


def test_figures_for_people() -> None:
    assert [size(n) for n in (0, 1023, 1536, 200 << 20, 3 << 40)] == ["0 B", "1023 B", "1.5 KiB", "200 MiB", "3.0 TiB"]
    assert [span(n) for n in (5, 120, 5400, 40000)] == ["5 s", "2 min", "1 h 30 min", "11 h 7 min"]
