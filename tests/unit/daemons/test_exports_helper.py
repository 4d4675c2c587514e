"""The one thing that the daemon may do as root takes one word and nothing else."""

from __future__ import annotations

import os

import pytest

from labstore.daemons import exports_helper


@pytest.mark.parametrize("arguments", [[], ["reload", "x"], ["rehearse"], ["--help"], ["reload "], [""]])
def test_only_reload_is_taken(
    arguments: list[str], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["labstore-exports-helper", *arguments])
    assert exports_helper.main() == 2
    assert "usage: labstore-exports-helper reload" in capsys.readouterr().err


def test_without_root_it_says_how_it_is_meant_to_run(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["labstore-exports-helper", "reload"])
    monkeypatch.setattr(os, "geteuid", lambda: 1000)
    assert exports_helper.main() == 2
    assert "through its sudo rule" in capsys.readouterr().err
