"""Metrics of accounts are views of the room's real records; the original's names are kept without account names."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from labstore.model.accounts import AccountKind, DbUser
from labstore.telemetry.dbusers_metrics import AccountMetrics
from labstore.telemetry.records import Kept, kept
from labstore.telemetry.status import judged
from tests.support.accounts_world import AccountsWorld

REFERENCE = (Path(__file__).parents[3] / "docs/reference/metrics.md").read_text().split("\n## Database accounts")[1]
DB1, DB2 = "db1.example.org", "db2.example.org:3311"


class Lab:
    """One daemon's cycles, each taken in by the metrics."""

    def __init__(self, base: Path) -> None:
        self.world = AccountsWorld(base)
        self.room = self.world.room()
        self.metrics = AccountMetrics()

    def cycle(self) -> Kept:
        record = kept(self.room.cycle().run(), "wikicloud", "n1", "w")
        self.metrics.seen(record)
        self.world.clock.advance(60)
        return record

    def __getitem__(self, name: str) -> float:
        return self.samples()[name]

    def samples(self) -> dict[str, float]:
        text = generate_latest(self.metrics.registry).decode()
        return {m[1]: float(m[2]) for m in re.finditer(r"^(\S+) (\S+)$", text, re.MULTILINE) if m[1][0] != "#"}


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return Lab(tmp_path)


def test_new_accounts_are_counted_as_the_original_did(lab: Lab) -> None:
    lab.cycle()
    lab.cycle()
    assert lab['maintain_dbusers_populate_total{account_type="tool",status="created"}'] == 2
    assert lab['maintain_dbusers_populate_total{account_type="user",status="created"}'] == 1
    assert lab[f'maintain_dbusers_create_total{{account_type="tool",host="{DB1}",status="created"}}'] == 2
    assert lab["maintain_dbusers_last_run"] > 0


def test_where_accounts_are_and_who_answers(lab: Lab) -> None:
    lab.cycle()
    lab.world.replica(DB2).away = True
    lab.world.add(AccountKind.TOOL, "tools.fresh", 53000)
    lab.cycle()
    lab.cycle()
    assert lab[f'labstore_dbusers_account_hosts{{host="{DB1}",status="present"}}'] == 4
    assert lab[f'labstore_dbusers_account_hosts{{host="{DB2}",status="absent"}}'] == 1
    assert lab[f'labstore_dbusers_host_up{{host="{DB2}"}}'] == 0
    assert lab[f'maintain_dbusers_create_connection_errors_total{{host="{DB2}"}}'] == 2
    assert lab[f'labstore_dbusers_host_last_seen_timestamp_seconds{{host="{DB2}"}}'] < lab["maintain_dbusers_last_run"]
    assert lab["labstore_dbusers_oldest_unconverged_seconds"] >= 60
    assert lab["labstore_dbusers_unconverged"] == 1


def test_a_suspended_account_is_owed_to_no_server(lab: Lab) -> None:
    lab.cycle()
    lab.world.run("dbusers", "remove", "wikibugs", "--yes")
    lab.cycle()
    del lab.world.replica(DB1).accounts[DbUser("s52788")]
    lab.cycle()
    assert lab["labstore_dbusers_unconverged"] == 0
    assert lab['labstore_dbusers_accounts{kind="tool",state="suspended"}'] == 1
    assert lab['labstore_dbusers_accounts{kind="tool",state="live"}'] == 1


def test_refusals_are_counted_by_code_and_end(lab: Lab) -> None:
    for number in range(20):
        lab.world.add(AccountKind.TOOL, f"tools.t{number}", 53000 + number)
    lab.cycle()
    gone = {user: entry for user, entry in lab.world.directory.entries.items() if user.number >= 53000}
    lab.world.files.files = {user: fact for user, fact in lab.world.files.files.items() if user not in gone}
    refused = lab.cycle()
    assert refused.state == "refused"
    assert [said.code for said in refused.refused] == ["mass-reissue"]
    assert lab['labstore_dbusers_refusals{code="mass-reissue"}'] == 1
    assert lab["labstore_dbusers_refused"] > 0
    assert "1 decision needed" in _headline(refused)
    lab.world.run("dbusers", "apply", "--yes", "--allow-mass-removal")
    lab.cycle()
    assert lab['labstore_dbusers_refusals{code="mass-reissue"}'] == 0


def _headline(record: Kept) -> str:
    return judged(record, record.ended).headline


def test_a_failed_cycle_leaves_what_it_did_not_find_out(lab: Lab) -> None:
    lab.cycle()
    before = lab["labstore_dbusers_last_success_timestamp_seconds"]
    ledger = lab.room.settings.ledger.sqlite
    assert ledger is not None
    lab.room.close()
    ledger.write_bytes(b"no database" * 500)
    for extra in ("-wal", "-shm"):
        Path(f"{ledger}{extra}").unlink(missing_ok=True)
    assert lab.cycle().state == "failed"
    assert lab["labstore_dbusers_last_success_timestamp_seconds"] == before
    assert lab[f'labstore_dbusers_account_hosts{{host="{DB1}",status="present"}}'] == 3


def test_no_label_s_values_come_from_the_directory(lab: Lab) -> None:
    """upstream #60: a series for each account grew without end."""
    before = len(_grown(lab))
    for number in range(50):
        lab.world.add(AccountKind.TOOL, f"tools.t{number}", 53000 + number)
    lab.cycle()
    assert len(_grown(lab)) == before
    labels = {
        label for family in lab.metrics.registry.collect() for sample in family.samples for label in sample.labels
    }
    assert labels == {"account_type", "status", "host", "state", "kind", "version", "le"}


def _grown(lab: Lab) -> dict[str, float]:
    lab.cycle()
    return lab.samples()


def test_the_reference_page_names_every_metric_and_no_other(lab: Lab) -> None:
    families = {f.name + ("_total" if f.type == "counter" else "") for f in lab.metrics.registry.collect()}
    rows = set(re.findall(r"^\| `(\w+)` ", REFERENCE.split("\n## ")[0], re.MULTILINE))
    assert rows | {"labstore_build_info"} == families
