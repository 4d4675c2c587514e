"""`labstore check drbd|role|address|nfs`: one line, four statuses, whatever goes wrong."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.support.pair_cli import PairCli
from tests.support.small_pair import ALPHA, BETA

LINE = re.compile(r"(DRBD|ROLE|ADDRESS|NFS) (OK|WARNING|CRITICAL|UNKNOWN) - [^|\n]+( \| ('[^']+'=\d+(KB|s)? ?)+)?\n")
NAMES = ("drbd", "role", "address", "nfs")


@pytest.fixture
def pair(tmp_path: Path) -> PairCli:
    found = PairCli.of(tmp_path)
    assert found.run("failover", "up", "--yes").exit_code == 0
    return found


@pytest.mark.parametrize("node", ["alpha", "beta"])
@pytest.mark.parametrize("name", NAMES)
def test_a_pair_that_works_is_one_line_and_zero(pair: PairCli, name: str, node: str) -> None:
    told = pair.run("check", name, node=node)
    assert told.exit_code == 0, told.output
    assert LINE.fullmatch(told.output), told.output


@pytest.mark.parametrize(
    ("name", "status", "words"),
    [
        ("drbd", 1, "is not connected"),
        ("role", 0, "Primary"),
        ("address", 0, "10.77.0.10 is here"),
        ("nfs", 0, "threads"),
    ],
)
def test_a_dead_partner_costs_redundancy_and_hangs_nothing(pair: PairCli, name: str, status: int, words: str) -> None:
    pair.world.power_off(BETA)
    told = pair.run("check", name)
    assert (told.exit_code, words in told.output) == (status, True), told.output


def test_nobody_serving_is_critical(pair: PairCli) -> None:
    assert pair.run("failover", "down", "--yes").exit_code == 0
    for node in ("alpha", "beta"):
        assert pair.run("check", "role", node=node).exit_code == 2
        assert pair.run("check", "address", node=node).exit_code == 0


def test_what_an_interrupted_run_left_is_told(pair: PairCli) -> None:
    me = pair.world.machines[ALPHA]
    me.barrier = set(pair.world.pair.cluster.service_addresses)
    told = pair.run("check", "nfs")
    assert told.exit_code == 2 and "clients are kept out" in told.output


@pytest.mark.parametrize("name", NAMES)
def test_a_machine_outside_of_the_pair_is_unknown(pair: PairCli, name: str) -> None:
    told = pair.run("check", name, node="elsewhere")
    assert told.exit_code == 3 and told.output.startswith(f"{name.upper()} UNKNOWN - this machine is no node")


def test_a_node_that_does_not_answer_is_unknown(pair: PairCli) -> None:
    pair.world.power_off(ALPHA)
    assert pair.run("check", "drbd").exit_code == 3


@pytest.mark.parametrize("name", NAMES)
def test_a_broken_site_file_is_unknown(pair: PairCli, name: str) -> None:
    (pair.base / "site.yaml").write_text("site: [\n")
    told = pair.run("check", name)
    assert told.exit_code == 3 and LINE.fullmatch(told.output), told.output


def test_as_json(pair: PairCli) -> None:
    said = pair.json("check", "nfs")
    assert said["health"] == "OK" and said["figures"]["threads"] == "8"
