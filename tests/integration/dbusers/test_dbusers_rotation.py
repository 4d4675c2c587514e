"""Every account gets a new password while clients reconnect in loops and a server is down: nobody is refused."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from labstore.model.accounts import AccountKind
from labstore.model.dbusers_settings import DAY, Pacing, RotationSettings
from labstore.model.ledger import AccountState, RequestVerb
from labstore.reconcile.record import State
from labstore.reports.dbusers import RotationGap
from tests.support.dbusers import Site
from tests.support.hang import HANGS

pytestmark = pytest.mark.root
CLIENTS = 50
TOOLS = {f"t{number}": 53000 + number for number in range(CLIENTS)}
ROOT = Path(__file__).parents[3]


@dataclass
class Crowd:
    """Fifty clients in a process of their own, each of which logs in to every server, over and over."""

    process: subprocess.Popen[str]

    def tell(self, word: str) -> dict[str, Any]:
        """Ask for what they have seen so far."""
        assert self.process.stdin is not None and self.process.stdout is not None
        self.process.stdin.write(word + "\n")
        self.process.stdin.flush()
        return dict(json.loads(self.process.stdout.readline()))

    def wait_for_rounds(self, rounds: int = 1) -> dict[str, Any]:
        """Until every client has been through all servers so many times more."""
        seen = self.tell("count")
        wanted, moved = seen["slowest"] + rounds, time.monotonic()
        while seen["slowest"] < wanted:
            before, seen = seen, self.tell("count")
            if seen["logins"] != before["logins"]:
                moved = time.monotonic()
            assert time.monotonic() - moved < HANGS, seen
            time.sleep(0.05)
        return seen


@contextmanager
def crowd(site: Site) -> Iterator[Crowd]:
    files = [str(site.homes.file(AccountKind.TOOL, name)) for name in TOOLS]
    ports = [str(server.port) for server in site.servers]
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.support.reconnecting", ",".join(ports), *files],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": f"{ROOT}/src:{ROOT}"},
    )
    try:
        yield Crowd(process)
    finally:
        process.send_signal(signal.SIGKILL)
        process.wait(20)


@pytest.fixture
def populated(small: Site) -> Site:
    small.change(pacing=Pacing(patience=30.0, back_off=1.0))
    for name, uid in TOOLS.items():
        small.tools[name] = uid
        small.homes.make(AccountKind.TOOL, name, uid)
    small.write_people()
    assert small.run().state is State.CONVERGED
    return small


def passwords(site: Site) -> dict[str, str]:
    return {name: site.homes.credentials(AccountKind.TOOL, name)[1] for name in TOOLS}


def states(site: Site) -> set[AccountState]:
    ledger = site.ledger()
    try:
        return {row.state for row in ledger.read().accounts.values()}
    finally:
        ledger.close()


def test_nobody_notices_with_a_server_that_is_down_for_a_while(populated: Site) -> None:
    """Files wait for it as long as it may still come back; then nobody is refused there either."""
    site, before = populated, passwords(populated)
    down = site.servers[2]
    with crowd(site) as clients:
        clients.wait_for_rounds()
        down.kill()
        site.ask(RequestVerb.ROTATE, None)
        site.run(2)
        assert passwords(site) == before, "a new password would be refused there when it is back"
        clients.wait_for_rounds()
        down.start()
        site.clock.advance(5)
        record = site.run()
        assert record.state is State.CONVERGED, record.reports
        assert not set(passwords(site).values()) & set(before.values())
        clients.wait_for_rounds(3)  # by then nobody keeps the old password any more
        site.clock.advance(DAY + 1)
        assert site.run().state is State.CONVERGED
        assert states(site) == {AccountState.LIVE}
        seen = clients.wait_for_rounds()
    assert seen["refused"] == [], seen
    assert seen["away"] > 0 and seen["logins"] > 3 * CLIENTS


def test_nobody_notices_with_a_server_that_stays_down(populated: Site) -> None:
    """After an hour the files no longer wait; the server gets both passwords, or the new one, when it is back."""
    site, before = populated, passwords(populated)
    down = site.servers[2]
    with crowd(site) as clients:
        down.kill()
        site.ask(RequestVerb.ROTATE, None)
        site.run()
        clients.wait_for_rounds()
        site.clock.advance(3601)
        site.run()
        assert not set(passwords(site).values()) & set(before.values())
        clients.wait_for_rounds(3)
        site.clock.advance(DAY + 1)
        site.run()
        assert states(site) == {AccountState.LIVE}
        seen = clients.wait_for_rounds()
    assert seen["refused"] == [], seen
    down.start()
    site.clock.advance(5)
    assert site.run().state is State.CONVERGED
    user_and_password = [site.homes.credentials(AccountKind.TOOL, name) for name in TOOLS]
    assert all(down.works(*each) for each in user_and_password)
    assert not any(down.works(f"s{uid}", before[name]) for name, uid in TOOLS.items()), (
        "the old ones are over there too"
    )


def test_with_two_servers_down_a_rotation_waits_and_says_so(populated: Site) -> None:
    site, before = populated, passwords(populated)
    for server in site.servers[1:]:
        server.kill()
    try:
        site.ask(RequestVerb.ROTATE, None)
        record = site.run()
        assert any(isinstance(report, RotationGap) for report in record.reports)
        assert passwords(site) == before and states(site) == {AccountState.LIVE}
    finally:
        for server in site.servers[1:]:
            server.start()
    site.clock.advance(5)
    site.run()
    assert states(site) == {AccountState.OVERLAP}


def test_a_rotation_by_schedule_takes_so_many_at_a_time(populated: Site) -> None:
    site, before = populated, passwords(populated)
    site.change(rotation=RotationSettings(every=30 * DAY, batch=20))
    site.clock.advance(40 * DAY)
    site.cycle().run()
    after = passwords(site)
    assert sum(before[name] != after[name] for name in TOOLS) == 20
    assert all(site.works(name) == [True] * 3 for name in list(TOOLS)[::10])
