"""The active node dies under load: the other takes over with proof, nothing that was promised is lost, and the dead one
comes back as the second."""

from __future__ import annotations

import pytest
from bench.figures import Figure, counted

from labstore.cli.exit import Exit
from labstore.reports.failover import PartnerSilent
from tests.lab.lab import Lab
from tests.lab.load import Load
from tests.lab.stages import Stages
from tests.scenarios.pair import MOUNT, failover, gaps, kept, serving, status, untouched, words
from tests.scenarios.witness import await_whole, journal, replication, safe, seen

FENCE = """#!/bin/sh
# Stands for a power switch: it knows that a node is off when nothing answers for it any more.
! ping -q -c 2 -W 2 "$1" >/dev/null
"""


@pytest.fixture
def lab(stages: Stages) -> Lab:
    return serving(stages)


@pytest.mark.core
@pytest.mark.deadline(1500)
def test_power_off_of_the_active_node(lab: Lab, figures: list[Figure]) -> None:
    alpha, beta = lab["alpha"], lab["beta"]
    load = Load(lab["client"], MOUNT).start()
    load.moves(60, "before")
    before = len(gaps(load))
    alpha.power_off()
    refused = failover(beta, "up --yes", check=False)
    assert refused.status == Exit.REFUSED, refused
    silent = PartnerSilent("alpha", reason="")
    assert silent.message().strip() in words(refused) and silent.remedy() in words(refused), refused
    assert seen(beta).idle, "without proof nothing is begun"
    print(failover(beta, "up --yes --partner-is-off alpha", deadline=600).stdout)
    word = [entry["data"] for entry in journal(beta) if entry["step"] == "promote:tools" and entry["event"] == "step"]
    assert "the operator's word" in str(word[-1]), "the journal says on whose word"
    load.moves(180, "on beta")
    untouched(load)
    assert safe(lab)["beta"].serving
    gap = max(gaps(load)[before:])

    lab.boot("alpha")
    await_whole(beta)
    assert replication(beta) == {"Connected Primary/Secondary UpToDate/UpToDate"}
    assert seen(alpha).idle and seen(beta).serving
    said = status(alpha)
    assert (said["state"], said["active"]) == ("healthy", "beta"), said
    totals = kept(load, beta)
    figures += [
        counted("client gap, an operator's two commands included", "s", gap),
        counted("application errors", "errors", len(load.report()["errors"]), 0),
        counted("lost locks", "locks", len(load.report()["lost_locks"]), 0),
        counted("acknowledged writes", "writes", totals["acknowledged"]),
        counted("lost acknowledged writes", "writes", totals["lost"], 0),
    ]


@pytest.mark.deadline(900)
def test_a_fence_command_is_proof_only_where_it_succeeds(lab: Lab) -> None:
    alpha, beta = lab["alpha"], lab["beta"]
    beta.put("/usr/local/sbin/fence-node", FENCE, 0o755)
    beta.run("sed -i 's|^    scope:|    fence: {command: [/usr/local/sbin/fence-node]}\\n&|' /etc/labstore/site.yaml")
    refused = failover(beta, "up --yes --fence", check=False)
    assert not refused.ok and "alpha" in words(refused), refused
    assert seen(beta).idle and seen(alpha).serving, "who serves is not switched off"
    alpha.power_off()
    failover(beta, "up --yes --fence", deadline=600)
    assert safe(lab)["beta"].serving
    lab["client"].run(f"timeout 150 sh -c 'echo hello >{MOUNT}/hello && sync {MOUNT}/hello'", 160)
