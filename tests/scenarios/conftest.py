"""One lab for all scenarios of a kind. A scenario starts from a stage: a state of all machines that is built once and
restored in seconds."""

from __future__ import annotations

import contextlib
import os
import re
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

import pytest
from bench.figures import Figure, keep

from tests.lab import layout
from tests.lab.lab import Lab
from tests.lab.machine import Spec
from tests.lab.payload import payload
from tests.lab.stages import Stage, Stages
from tests.lab.waiting import patient

LOGS = Path("build/lab-logs")
DEADLINE = 300.0
NODES = ("alpha", "beta")
STAGES = pytest.StashKey[list[Stages]]()


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line("markers", f"deadline(seconds): how long a scenario may take ({DEADLINE:g} s)")
    config.addinivalue_line("markers", "core: one of the few of `make scenarios CORE=1`, which CI runs")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]) -> Iterator[None]:
    """Remember on the item how each phase ended, and collect the machines' logs where it failed."""
    outcome = yield
    report = outcome.get_result()  # type: ignore[attr-defined]
    if report.failed and "stages" in getattr(item, "fixturenames", ()):
        stages = item.funcargs.get("stages")  # type: ignore[attr-defined]
        if isinstance(stages, Stages):
            into = LOGS / re.sub(r"[^A-Za-z0-9_.-]+", "-", item.name)
            stages.lab.collect(into)
            report.sections.append(("lab", f"the machines' logs are in {into}"))


@dataclass
class Labs:
    """The lab that is there: one at a time, and another one where it lacks machines that are asked for."""

    all: list[Stages]
    here: contextlib.ExitStack = field(default_factory=contextlib.ExitStack)
    machines: Sequence[Spec] = ()

    def of(self, machines: Sequence[Spec]) -> Stages:
        if any(each not in self.machines for each in machines):
            self.machines = ()
            self.here.close()
            suite = os.environ.get("LABSTORE_LAB_SUITE", "bookworm")
            self.all.append(Stages(self.here.enter_context(Lab(machines, suite, payload(suite)))))
            self.machines = machines
        return self.all[-1]


@pytest.fixture(scope="session")
def labs(request: pytest.FixtureRequest) -> Iterator[Labs]:
    request.config.stash[STAGES] = []
    labs = Labs(request.config.stash[STAGES])
    with labs.here:
        yield labs


@pytest.fixture(scope="module")
def stages(request: pytest.FixtureRequest, labs: Labs) -> Stages:
    """The lab of the MACHINES that a module of scenarios names, or of the usual ones."""
    return labs.of(getattr(request.module, "MACHINES", layout.ALL))


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    for stages in config.stash.get(STAGES, []):
        built = ", ".join(f"{name} {seconds:.0f} s" for name, seconds in stages.seconds.items())
        restored = f"{len(stages.restored)} restores of {sum(stages.restored) / max(1, len(stages.restored)):.1f} s"
        terminalreporter.write_line(f"lab ({stages.lab.accel}): {built}; {restored}")


def install(lab: Lab) -> None:
    """labstore on both nodes, as a package would put it there."""
    for name in NODES:
        lab[name].install_labstore()


INSTALLED = Stage("installed", install)


@pytest.fixture
def lab(stages: Stages) -> Lab:
    """Three machines that have just started, labstore installed on the nodes."""
    return stages.at(INSTALLED)


@pytest.fixture(autouse=True)
def _deadline(request: pytest.FixtureRequest, stages: Stages) -> Iterator[None]:
    """No scenario hangs: what waits for ever is interrupted, and its logs are collected."""
    marker = request.node.get_closest_marker("deadline")
    seconds = patient(marker.args[0] if marker else DEADLINE)

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"this scenario took longer than {seconds:g} s")

    before = signal.signal(signal.SIGALRM, late)
    signal.setitimer(signal.ITIMER_REAL, seconds)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@pytest.fixture
def figures(request: pytest.FixtureRequest) -> Iterator[list[Figure]]:
    """Figures that a scenario measured; kept as bench/results/scenario_NAME.json."""
    found: list[Figure] = []
    yield found
    if found:
        name = request.node.name.removeprefix("test_").partition("[")[0]
        for figure in found:
            print(f"{figure.name}: {figure.ours:g} {figure.unit}" + (f" ({figure.target})" if figure.target else ""))
        keep(f"scenario_{name}", found)
