"""The other end that does not begin: what is said of it, and whether it is tried again."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from labstore.blocksync.session import Job, Run
from labstore.cli.blocksync import ssh_words
from labstore.model.block_sync import Options, Permit, Place
from labstore.reports.blocksync import Fault, SyncFailed
from labstore.reports.blocksync_reach import CannotReach, Chatter, NoAnswer, NotReached, PermitWithheld
from labstore.reports.blocksync_target import ForeignTarget
from tests.support.sshd import Sshd, private_sshd

SERVE = f"{sys.executable} -m labstore blocksync serve"


@pytest.fixture
def sshd(tmp_path: Path) -> Iterator[Sshd]:
    with private_sshd(tmp_path / "ssh") as running:
        yield running


def failed(folder: Path, config: Path, remote: str, permits: frozenset[Permit] = frozenset()) -> tuple[Fault, int]:
    """With what a copy to the other machine failed, and how often it was tried again, which is shown."""
    phases: list[str] = []
    source = folder / "source.img"
    source.write_bytes(b"something" * 10_000)
    there = ssh_words({"identity": None, "port": None, "ssh_config": config, "remote": remote})
    places = Place.parse(str(source)), Place.parse(f"elsewhere:{folder}/target.img")
    job = Job(*places, Options(permits=permits), state=folder / "state", there=there, attempts=3)
    run = Run(job, pause=lambda _seconds: phases.append(run.meter.phase))
    with pytest.raises(SyncFailed) as failure:
        run.result()
    assert all(phase.startswith("waiting to try again") for phase in phases)
    assert isinstance(failure.value.report, Fault)
    return failure.value.report, len(phases)


@pytest.mark.parametrize(
    ("remote", "status"),
    [("labstore-that-is-not-there", 127), ("false", 1), ("true", 0), ("echo no such job >&2; exit 5", 5)],
)
def test_a_command_that_is_no_block_sync_is_not_tried_again(
    tmp_path: Path, sshd: Sshd, remote: str, status: int
) -> None:
    report, again = failed(tmp_path, sshd.config, remote)
    assert isinstance(report, NoAnswer)
    assert (report.status, again) == (status, 0)
    assert "no block sync answers on elsewhere" in report.message()
    assert ("no such job" in report.message()) == (status == 5)
    assert "--remote" in (report.remedy() or "")


@pytest.mark.parametrize("rest", [SERVE, "exit 1"], ids=["and goes on", "and ends"])
def test_a_profile_that_prints_is_what_is_blamed(tmp_path: Path, sshd: Sshd, rest: str) -> None:
    report, again = failed(tmp_path, sshd.config, f"echo Welcome to prod; {rest}")
    assert isinstance(report, Chatter)
    assert (report.printed, again) == ("Welcome to prod", 0)
    assert "shell profile" in (report.remedy() or "")


@pytest.mark.parametrize("wrong", ["no file", "nonsense", "no key"])
def test_what_no_waiting_mends_is_not_tried_again(tmp_path: Path, sshd: Sshd, wrong: str) -> None:
    config = tmp_path / "config"
    if wrong == "nonsense":
        config.write_text("Nonsense 5\n" + sshd.config.read_text())
    elif wrong == "no key":
        config.write_text(sshd.config.read_text())
        sshd.authorized.write_text("")
    report, again = failed(tmp_path, config, SERVE)
    assert isinstance(report, CannotReach)
    assert again == 0
    assert "elsewhere cannot be reached: " in report.message()


def test_a_machine_that_is_down_is_tried_again(tmp_path: Path, sshd: Sshd) -> None:
    sshd.process.terminate()
    sshd.process.wait(10)
    report, again = failed(tmp_path, sshd.config, SERVE)
    assert isinstance(report, NotReached)
    assert again == 2
    assert "elsewhere is not reached: " in report.message()
    assert "lost" not in report.text()


def test_a_permit_that_the_key_does_not_give(tmp_path: Path, sshd: Sshd) -> None:
    target = tmp_path / "target.img"
    target.write_bytes(b"precious" * 12_000)
    sshd.allow(f"{SERVE} --target {target} --state {tmp_path}/far")
    refused, _ = failed(tmp_path, sshd.config, "ignored")
    assert isinstance(refused, ForeignTarget)
    withheld, again = failed(tmp_path, sshd.config, "ignored", frozenset({Permit.ADOPT_TARGET}))
    assert isinstance(withheld, PermitWithheld)
    assert again == 0
    assert withheld.message() == refused.message()
    assert "put `--permit adopt-target` in its line of authorized_keys" in (withheld.remedy() or "")
    assert target.read_bytes() == b"precious" * 12_000
