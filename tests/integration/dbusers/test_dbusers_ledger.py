"""The ledger on a real MariaDB keeps the contract, and what only a server can do to it."""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Any

import pytest

from labstore.model.ledger import Event
from labstore.ports.ledger import Ledger, LedgerFailed, Note, Put
from labstore.sources.ledger.ledger import SqlLedger
from labstore.sources.ledger.store import MariaStore
from tests.contracts.ledger import LedgerContract, row
from tests.support.mariadb import MariaServer

ORIGINAL = (
    "CREATE TABLE account (id INT UNSIGNED NOT NULL PRIMARY KEY AUTO_INCREMENT, mysql_username VARCHAR(255) NOT NULL, "
    "type ENUM('tool', 'user') NOT NULL, username VARCHAR(255) NOT NULL, password_hash BINARY(41) NOT NULL) "
    "ENGINE=InnoDB ROW_FORMAT=Dynamic CHARSET=utf8mb4",
    "CREATE UNIQUE INDEX account_type ON account (type, username)",
    "CREATE TABLE account_host (id INT UNSIGNED NOT NULL PRIMARY KEY AUTO_INCREMENT, account_id INT UNSIGNED NOT NULL, "
    "hostname VARCHAR(255) NOT NULL, status ENUM('present', 'absent') NOT NULL) "
    "ENGINE=InnoDB ROW_FORMAT=Dynamic CHARSET=utf8mb4",
)


@dataclass
class MariaLab:
    server: MariaServer

    def __post_init__(self) -> None:
        self.settings = self.server.ledger("contract")

    def fresh(self) -> Ledger:
        return SqlLedger(MariaStore(self.settings))

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        return self.server.run("USE contract", *statements)

    def original(self) -> None:
        self.run(*ORIGINAL)

    def wait(self, seconds: float) -> None:
        time.sleep(seconds)


@pytest.fixture
def lab(servers: list[MariaServer]) -> MariaLab:
    return MariaLab(servers[0])


class TestMariaLedger(LedgerContract):
    @pytest.fixture
    def lab(self, lab: MariaLab) -> MariaLab:
        return lab


def test_a_connection_that_the_server_closed_is_made_anew(lab: MariaLab) -> None:
    ledger = lab.fresh()
    ledger.prepare()
    lease = ledger.lead("one", 60)
    lab.server.run("KILL USER 'ledger'")
    ledger.write(lease, [Note(Event("after"))])
    lab.server.run("KILL USER 'ledger'")
    assert ledger.read().accounts == {}


def test_a_leader_that_stops_in_the_middle_of_a_write_does_not_hold_the_next_one_up(lab: MariaLab) -> None:
    """The server ends its idle transaction; nothing of it is left."""
    ledger = lab.fresh()
    ledger.prepare()
    lease = ledger.lead("one", 0.2)
    store = ledger.store  # type: ignore[attr-defined]
    store.execute("SET SESSION idle_transaction_timeout=1")
    with pytest.raises(LedgerFailed), store.transaction():
        store.lock("SELECT * FROM leader")
        store.execute("UPDATE leader SET version = version + 100")
        time.sleep(1.6)
        other = lab.fresh()
        assert other.lead("two", 60).epoch > lease.epoch
        store.execute("UPDATE leader SET version = version + 100")
    assert other.read().version < 100


def test_a_server_that_dies_in_the_middle_of_a_write_keeps_all_of_it_or_nothing(lab: MariaLab) -> None:
    ledger = lab.fresh()
    ledger.prepare()
    lease = ledger.lead("one", 600)
    ledger.write(lease, [Put(row("s600"), Event("made", "s600"))])
    lab.server.kill()
    with pytest.raises(LedgerFailed):
        ledger.write(lease, [Put(row("s601"), Event("made", "s601"))])
    lab.server.start()
    assert set(ledger.read().accounts) <= {"s600"}, "what was answered for is there, if the disk was asked to keep it"
    ledger.write(ledger.lead("one", 60), [Put(row("s602"), Event("made", "s602"))])
    assert "s602" in ledger.read().accounts
    assert ledger.verify_events() is None
