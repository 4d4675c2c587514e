"""The outage of 29 May 2019 and its relatives, replayed for an hour of the daemon's time (upstream #1, #2).

Then Keystone moved, its old endpoint answered 401, and every export of a platform vanished within one cycle. Here the
cloud speaks real HTTP; only the clock is ours.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import generate_latest

from labstore.exports.cycle import ExportCycle
from labstore.exports.history import History
from labstore.exports.observe import Observer
from labstore.model.exports import ExportTable
from labstore.reconcile.record import Record, State
from labstore.sources.openstack import OpenStackInventory
from labstore.sources.openstack.manners import Manners
from labstore.telemetry.metrics import ExportMetrics
from labstore.telemetry.records import kept
from labstore.telemetry.status import Health, judged
from tests.support.fake_clock import FakeClock
from tests.support.fake_cloud import FakeCloud, World, serving
from tests.support.fakes import FakeExportServer, FakeNode
from tests.support.small_site import CLUSTER, project, site

HOUR, STEP, LISTING = 3600, 30, 300
NAMES = {"tools": 8, "maps": 4, "cvn": 1}


@dataclass
class Site:
    cloud: FakeCloud
    clock: FakeClock
    server: FakeExportServer
    cycle: ExportCycle

    def hour(self, each: Callable[[Record], None]) -> None:
        for _ in range(HOUR // STEP):
            self.clock.advance(STEP)
            each(self.cycle.run())


@pytest.fixture
def here(tmp_path: Path) -> Iterator[Site]:
    world = World()
    for net, (name, count) in enumerate(NAMES.items(), 1):
        for number in range(1, count + 1):
            world.boot(name, f"{name}-{number}", f"172.16.{net}.{number}")
    with serving(world) as cloud:
        clock = FakeClock()
        server = FakeExportServer(clock)
        declared = site([project(name, 50000 + n) for n, name in enumerate(NAMES)])
        observer = Observer(
            cluster=declared.cluster(CLUSTER),
            inventory=OpenStackInventory(
                cloud.settings(tmp_path, call_deadline=1.0), clock, Manners(pause=lambda _s: None)
            ),
            server=server,
            node=FakeNode(clock),
            history=History(tmp_path / "history"),
            clock=clock,
        )
        cycle = ExportCycle(lambda: declared, observer, "test")
        assert cycle.run().state is State.CONVERGED
        assert server.live.clients == sum(NAMES.values())
        yield Site(cloud, clock, server, cycle)


def everything(**fault: Any) -> list[dict[str, Any]]:
    return [fault]


def lists(**fault: Any) -> list[dict[str, Any]]:
    return [{"path": "servers/detail", **fault}]


FAULTS = {
    "401 for everything": everything(status=401),
    "503 for everything": everything(status=503),
    "403 for everything": everything(status=403),
    "an HTML page for everything": everything(status=200, body="<html>maintenance</html>"),
    "empty server lists": lists(empty=True),
    "empty project list": [{"path": "/v3/projects", "empty": True}],
    "empty lists of everything": [{"path": "/v3/projects|servers/detail", "empty": True}],
    "lists cut short": lists(truncate=700),
    "lists without their key": lists(status=200, body={}),
}


@pytest.mark.parametrize("fault", FAULTS, ids=lambda name: name.replace(" ", "-"))
def test_an_hour_of_it_removes_nobody(here: Site, fault: str) -> None:
    before = here.server.live
    calls = here.server.calls
    states: set[State] = set()
    here.cloud.rules = FAULTS[fault]
    noticed = here.clock.now() + timedelta(seconds=LISTING + STEP)
    here.hour(lambda record: states.add(record.state) if here.clock.now() > noticed else None)
    assert here.server.live == before, f"{fault}: somebody was removed"
    assert here.server.calls == calls, f"{fault}: the server was disturbed"
    assert not states & {State.CONVERGED, State.STANDBY}, f"{fault}: it must be loud all the time"
    here.cloud.rules = ()
    assert healed(here)


def test_half_of_every_list_for_an_hour_removes_nobody(here: Site) -> None:
    before = here.server.live
    for number, server in enumerate(here.cloud.world.by_id.values()):
        server.hidden = number % 2 == 0
        here.cloud.world.changed(server, stamp=False)
    said: set[str] = set()
    here.hour(lambda record: said.update(report.code for report in record.reports))
    assert here.server.live == before
    assert "absence-contradicted" in said
    for server in here.cloud.world.by_id.values():
        server.hidden = False
        here.cloud.world.changed(server, stamp=False)
    assert healed(here)


def test_slow_lists_remove_nobody(here: Site) -> None:
    before = here.server.live
    here.cloud.rules = lists(delay=1.5)
    for _ in range(4):
        here.clock.advance(301)
        record = here.cycle.run()
        assert record.state is State.HOLDING
    assert here.server.live == before


def test_a_new_instance_of_a_healthy_project_is_admitted_during_anothers_outage(here: Site) -> None:
    here.cloud.world.may_list_all = False
    here.cloud.rules = [{"service": "nova", "project": "tools", "status": 401}]
    here.clock.advance(301)
    here.cycle.run()
    here.cloud.world.boot("maps", "maps-99", "172.16.2.99")
    here.clock.advance(301)
    record = here.cycle.run()
    assert record.state is State.HOLDING
    assert "172.16.2.99" in clients(here.server.live)
    assert "172.16.1.1" in clients(here.server.live)


def test_it_is_loud_in_status_and_metrics(here: Site) -> None:
    here.cloud.rules = everything(status=401)
    here.clock.advance(301)
    record = kept(here.cycle.run(), "primary", "node", "test")
    judged_now = judged(record, here.clock.now())
    assert judged_now.health is Health.WARNING
    assert any("401" in said.message for said in judged_now.waiting)
    metrics = ExportMetrics()
    metrics.seen(record)
    text = generate_latest(metrics.registry).decode()
    assert 'labstore_exports_state{cluster="primary",state="holding"} 1.0' in text
    assert re.search(r'labstore_exports_missing_sources\{cluster="primary"\} [1-9]', text)
    assert f'labstore_exports_clients{{cluster="primary"}} {float(sum(NAMES.values()))}' in text


def clients(table: ExportTable) -> set[str]:
    return {str(client) for export in table for client in export.clients}


def healed(here: Site) -> bool:
    """Within a few cycles of the daemon, without anybody's help."""
    for _ in range(8):
        here.clock.advance(STEP)
        if here.cycle.run().state is State.CONVERGED:
            return True
    return False
