"""What every ledger does. A subclass gives `lab`: a fresh database, and ledgers on it."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any, Protocol

import pytest

from labstore.model.accounts import AccountKind, DbUser, NativeHash, PartialLimits
from labstore.model.database import HostGroupName, HostKey
from labstore.model.dbusers_settings import LimitRule
from labstore.model.ledger import (
    AccountRow,
    AccountState,
    Cause,
    Debt,
    Event,
    Lease,
    LedgerView,
    ListingNote,
    Request,
    RequestVerb,
    Tombstone,
)
from labstore.ports.ledger import (
    Bury,
    Finished,
    Ledger,
    LedgerFailed,
    Listed,
    Note,
    NotLeader,
    Places,
    Put,
    SchemaUnfit,
)

A, B = NativeHash("*" + "A" * 40), NativeHash("*" + "B" * 40)
ONE, TWO = HostKey("db1.example"), HostKey("db2.example", 3311)
PLACES = "INSERT INTO account_host (account_id, hostname, status)"
NOON = datetime(2026, 5, 29, 12, 0, 0, 123456, tzinfo=UTC)


class LedgerLab(Protocol):
    """One database in the hands of a test."""

    def fresh(self) -> Ledger:
        """A ledger on it through a new connection, as another process has it."""

    def run(self, *statements: str) -> list[tuple[Any, ...]]:
        """SQL from outside; the rows of the last statement."""

    def original(self) -> None:
        """Make the original's two tables, as its published SQL has them."""

    def wait(self, seconds: float) -> None:
        """Let so much of the store's time pass."""


def row(user: str = "s600", **changes: Any) -> AccountRow:
    made = DbUser(user)
    base = AccountRow(
        made, made.kind, f"tools.t{made.number}", made.number, A, entry_uuid=f"u-{user}", password_at=NOON
    )
    return replace(base, **changes)


def put(account: AccountRow) -> Put:
    return Put(account, Event("made", str(account.user), detail={"why": "a test"}))


def _places(view: LedgerView) -> object:
    owed = {host: set(users) for host, users in view.debts.items() if users}
    return owed, {host: count for host, count in view.present.items() if count}


class LedgerContract:
    """Inherit, and give the fixture `lab`."""

    @pytest.fixture
    def lab(self) -> LedgerLab:
        raise NotImplementedError

    @pytest.fixture
    def ledger(self, lab: LedgerLab) -> Ledger:
        made = lab.fresh()
        made.prepare()
        return made

    @pytest.fixture
    def lease(self, ledger: Ledger) -> Lease:
        lease = ledger.lead("one", 60)
        ledger.add_hosts(lease, [ONE, TWO])
        return lease

    # --- accounts ---------------------------------------------------------------------------------------------------

    def test_an_account_reads_back(self, lab: LedgerLab, ledger: Ledger, lease: Lease) -> None:
        full = row(
            state=AccountState.OVERLAP, other=B, generation=7, until=NOON, missing_since=NOON, suspended_at=NOON,
            cause=Cause.LOCKED,
        )  # fmt: skip
        ledger.write(lease, [put(full)])
        for reader in (ledger, lab.fresh()):
            found = reader.read().accounts[full.user]
            assert replace(found, id=0) == full
            assert found.id > 0
            assert {host: set(owed) for host, owed in reader.read().debts.items()} == {ONE: {"s600"}, TWO: {"s600"}}

    def test_what_is_in_memory_is_what_is_stored(self, lab: LedgerLab, ledger: Ledger, lease: Lease) -> None:
        """After every kind of write the view of the writer is the view of another reader."""
        ledger.read()
        ledger.write(lease, [put(row("s600")), put(row("s601")), put(row("s602"))])
        accounts = ledger.read().accounts
        debt = Debt("refused", 3, NOON)
        stone = Tombstone(DbUser("s602"), AccountKind.TOOL, "tools.t602", 602, "u-s602", NOON, "asked")
        request = ledger.ask(Request(RequestVerb.ROTATE, DbUser("s600"), "me", NOON))
        steps: list[list[Any]] = [
            [put(replace(accounts[DbUser("s600")], generation=2, other=B, state=AccountState.ROTATING))],
            [Places(ONE, (DbUser("s600"), DbUser("s601"), DbUser("s602"))), Places(TWO, (), {DbUser("s600"): debt})],
            [Places(ONE, (), {DbUser("s601"): Debt()})],
            [Bury(accounts[DbUser("s602")], stone, Event("buried", "s602"))],
            [Listed(ListingNote(AccountKind.TOOL, NOON, 2)), Finished(request, "done"), Note(Event("noted"))],
        ]
        for writes in steps:
            ledger.write(lease, writes)
            mine, theirs = ledger.read(), lab.fresh().read()
            assert mine.accounts == theirs.accounts
            assert mine.tombstones == theirs.tombstones
            assert _places(mine) == _places(theirs)
            assert (mine.requests, mine.listings, mine.version) == (theirs.requests, theirs.listings, theirs.version)
        assert mine.debts[TWO][DbUser("s600")] == debt

    def test_many_accounts_at_once(self, lab: LedgerLab, ledger: Ledger, lease: Lease) -> None:
        users = [f"s{number}" for number in range(1000, 3300)]
        ledger.write(lease, [put(row(user)) for user in users])
        ledger.write(lease, [put(replace(each, generation=2, other=B)) for each in ledger.read().accounts.values()])
        ledger.write(lease, [Places(ONE, tuple(ledger.read().accounts))])
        view = lab.fresh().read()
        assert len(view.accounts) == 2300 and {each.generation for each in view.accounts.values()} == {2}
        assert view.present[ONE] == 2300 and len(view.debts[TWO]) == 2300

    def test_the_same_view_as_long_as_nobody_writes(self, lab: LedgerLab, ledger: Ledger, lease: Lease) -> None:
        first = ledger.read()
        assert ledger.read() is first
        other = lab.fresh()
        other.ask(Request(RequestVerb.ROTATE, None, "me", NOON))
        assert ledger.read() is not first and len(ledger.read().requests) == 1

    def test_one_name_is_one_account(self, ledger: Ledger, lease: Lease) -> None:
        ledger.write(lease, [put(row("s600"))])
        for clash in (row("s600", name="tools.other"), row("s601", name="tools.t600")):
            with pytest.raises(LedgerFailed):
                ledger.write(lease, [put(row("s699")), put(clash)])
        assert set(ledger.read().accounts) == {"s600"}, "all or nothing"

    def test_names_are_compared_byte_by_byte(self, ledger: Ledger, lease: Lease) -> None:
        """upstream #42 (T318047)"""
        names = ["alice", "Alice", "ALICE", "alice."]
        users = [replace(row(f"u{600 + at}"), name=name) for at, name in enumerate(names)]
        ledger.write(lease, [put(each) for each in users])
        assert {each.name for each in ledger.read().accounts.values()} == set(names)

    def test_paws_accounts_are_rows_too(self, ledger: Ledger, lease: Lease) -> None:
        ledger.write(lease, [put(row("p31", name="31", uid=52771))])
        assert ledger.read().accounts[DbUser("p31")].uid == 52771

    # --- leading ----------------------------------------------------------------------------------------------------

    def test_one_leads(self, lab: LedgerLab, ledger: Ledger) -> None:
        first = ledger.lead("one", 60)
        with pytest.raises(NotLeader) as refused:
            lab.fresh().lead("two", 60)
        assert refused.value.holder == "one"
        assert ledger.lead("one", 60).epoch == first.epoch

    def test_a_leader_that_was_replaced_changes_nothing(self, lab: LedgerLab, ledger: Ledger) -> None:
        """A process that was stopped, or cut off, for longer than its lease."""
        old = ledger.lead("one", 0.5)
        ledger.read()
        lab.wait(0.7)
        other = lab.fresh()
        new = other.lead("two", 60)
        assert new.epoch > old.epoch
        for act in (lambda: ledger.write(old, [put(row())]), lambda: ledger.add_hosts(old, [HostKey("db3.example")])):
            other.write(new, [Note(Event("beat"))])
            with pytest.raises(NotLeader):
                act() or ledger.write(old, [Note(Event("late"))])
        assert not other.read().accounts

    def test_a_lapse_is_a_new_epoch_even_for_the_same_process(self, lab: LedgerLab, ledger: Ledger) -> None:
        old = ledger.lead("one", 0.3)
        lab.wait(0.5)
        assert ledger.lead("one", 60).epoch == old.epoch + 1

    def test_resigning_lets_another_lead_at_once(self, lab: LedgerLab, ledger: Ledger) -> None:
        lease = ledger.lead("one", 60)
        ledger.resign(lease)
        assert lab.fresh().lead("two", 60).epoch == lease.epoch + 1

    # --- servers ----------------------------------------------------------------------------------------------------

    def test_a_new_server_is_owed_every_account(self, ledger: Ledger, lease: Lease) -> None:
        """upstream #53: adding one needed statements by hand."""
        ledger.write(lease, [put(row("s600")), put(row("s601"))])
        three = HostKey("db3.example")
        assert ledger.add_hosts(lease, [ONE, TWO, three]) == 2
        assert set(ledger.read().debts[three]) == {"s600", "s601"}
        assert ledger.add_hosts(lease, [ONE, TWO, three]) == 0

    # --- what people ask --------------------------------------------------------------------------------------------

    def test_a_rule_replaces_the_one_of_its_scope(self, ledger: Ledger, lease: Lease) -> None:
        first = LimitRule(PartialLimits(20), account=DbUser("s600"), reason="heavy", until=NOON)
        ledger.add_rule(first, "me")
        other = LimitRule(PartialLimits(statement_seconds=0), AccountKind.TOOL, group=HostGroupName("web"))
        ledger.add_rule(other, "me")
        second = ledger.add_rule(replace(first, limits=PartialLimits(48)), "me")
        rules = {replace(rule, number=0) for rule in ledger.read().rules}
        assert rules == {replace(second, number=0), other}
        assert ledger.end_rule(second.number, "me") and not ledger.end_rule(second.number, "me")
        assert len(ledger.read().rules) == 1

    def test_requests_wait_until_they_are_finished(self, lab: LedgerLab, ledger: Ledger, lease: Lease) -> None:
        asked = lab.fresh().ask(Request(RequestVerb.REMOVE, DbUser("s600"), "me", NOON, {"now": True}))
        (found,) = ledger.read().requests
        assert (found.verb, found.account, found.options, found.who) == (
            RequestVerb.REMOVE,
            "s600",
            {"now": True},
            "me",
        )
        ledger.write(lease, [Finished(asked, "removed")])
        assert ledger.read().requests == lab.fresh().read().requests == ()

    # --- events -----------------------------------------------------------------------------------------------------

    def test_events_are_a_chain(self, lab: LedgerLab, ledger: Ledger, lease: Lease) -> None:
        for number in range(3):
            ledger.write(lease, [put(row(f"s60{number}")), Note(Event("noted", host=str(ONE), detail={"n": number}))])
        ledger.ask(Request(RequestVerb.ROTATE, DbUser("s600"), "me", NOON))
        assert ledger.verify_events() is None
        assert [event.what for event in ledger.events(DbUser("s600"))] == ["rotate asked", "made"]
        lab.run("UPDATE event SET detail = '{}' WHERE id = 3")
        assert ledger.verify_events() == 3

    def test_an_event_that_was_taken_out_is_missed(self, lab: LedgerLab, ledger: Ledger, lease: Lease) -> None:
        ledger.write(lease, [Note(Event(f"noted {number}")) for number in range(4)])
        lab.run("DELETE FROM event WHERE what = 'noted 1'")
        assert ledger.verify_events() is not None

    def test_no_event_holds_a_password(self, ledger: Ledger, lease: Lease) -> None:
        ledger.write(lease, [put(row(other=B))])
        assert all(A.lower() not in str(event).lower() for event in ledger.events())

    # --- the original's tables --------------------------------------------------------------------------------------

    def test_the_originals_tables_become_ours_in_place(self, lab: LedgerLab) -> None:
        lab.original()
        lab.run(
            f"INSERT INTO account (mysql_username, type, username, password_hash) VALUES "
            f"('s52788', 'tool', 'tools.wikibugs', '{A.stored}'), ('u2170', 'user', 'alice', '{B.stored}')",
            f"{PLACES} SELECT id, 'db1.example', 'present' FROM account",
            f"{PLACES} SELECT id, 'db2.example:3311', 'absent' FROM account",
        )
        ledger = lab.fresh()
        assert any("added account.generation" in line for line in ledger.prepare())
        view = ledger.read()
        tool = view.accounts[DbUser("s52788")]
        assert (tool.name, tool.uid, tool.verifier, tool.state, tool.generation) == (
            *("tools.wikibugs", 52788, A),
            *(AccountState.LIVE, 1),
        )
        assert view.present == {ONE: 2} and set(view.debts[TWO]) == {"s52788", "u2170"}
        assert ledger.prepare() == (), "a second time there is nothing to do"

    def test_both_spellings_of_a_server_are_one(self, lab: LedgerLab) -> None:
        """upstream #53: host became host:port by editing rows by hand."""
        lab.original()
        lab.run(
            f"INSERT INTO account (mysql_username, type, username, password_hash) VALUES "
            f"('s600', 'tool', 'tools.a', '{A.stored}')",
            f"{PLACES} SELECT id, 'db1.example:3306', 'absent' FROM account",
        )
        ledger = lab.fresh()
        ledger.prepare()
        lease = ledger.lead("one", 60)
        assert ledger.add_hosts(lease, [ONE]) == 0
        ledger.write(lease, [put(row("s601")), Places(ONE, (DbUser("s600"), DbUser("s601")))])
        assert lab.run("SELECT hostname, status, COUNT(*) FROM account_host GROUP BY 1, 2") == [
            ("db1.example:3306", "present", 2)
        ]

    def test_rows_that_were_written_twice_and_rows_of_nobody(self, lab: LedgerLab) -> None:
        """The original's unique index was never made; it had no foreign key."""
        lab.original()
        lab.run(
            f"INSERT INTO account (mysql_username, type, username, password_hash) VALUES "
            f"('s600', 'tool', 'tools.a', '{A.stored}')",
            "INSERT INTO account_host (account_id, hostname, status) SELECT id, 'db1.example', 'present' FROM account",
            "INSERT INTO account_host (account_id, hostname, status) SELECT id, 'db1.example', 'absent' FROM account",
            "INSERT INTO account_host (account_id, hostname, status) VALUES (4711, 'db1.example', 'present')",
        )
        ledger = lab.fresh()
        ledger.prepare()
        assert ledger.read().present == {ONE: 1} and not ledger.read().debts

    def test_one_database_account_for_two_stops_the_migration(self, lab: LedgerLab) -> None:
        lab.original()
        lab.run(
            f"INSERT INTO account (mysql_username, type, username, password_hash) VALUES "
            f"('s600', 'tool', 'tools.a', '{A.stored}'), ('s600', 'tool', 'tools.b', '{B.stored}')",
        )
        with pytest.raises(SchemaUnfit, match="s600"):
            lab.fresh().prepare()
        lab.run("DELETE FROM account WHERE username = 'tools.b'")
        ledger = lab.fresh()
        ledger.prepare()
        assert set(ledger.read().accounts) == {"s600"}

    def test_rows_that_no_account_of_ours_can_have_are_left_alone(self, lab: LedgerLab) -> None:
        lab.original()
        lab.run(
            f"INSERT INTO account (mysql_username, type, username, password_hash) VALUES "
            f"('root', 'tool', 'tools.a', '{A.stored}'), ('s600', 'user', 'x', '{A.stored}'), "
            f"('s601', 'tool', 'tools.b', '{'x' * 41}'), ('s602', 'tool', 'tools.c', '{A.stored}')",
        )
        ledger = lab.fresh()
        ledger.prepare()
        view = ledger.read()
        assert set(view.accounts) == {"s602"} and len(view.foreign) == 3
        assert lab.run("SELECT COUNT(*) FROM account") == [(4,)]

    def test_a_newer_ledger_is_not_touched(self, lab: LedgerLab, ledger: Ledger) -> None:
        lab.run("INSERT INTO labstore_schema (number, name, checksum, at) VALUES (99, 'of the future', 'x', '')")
        with pytest.raises(SchemaUnfit, match="99"):
            lab.fresh().prepare()

    def test_another_history_is_not_touched(self, lab: LedgerLab, ledger: Ledger) -> None:
        lab.run("UPDATE labstore_schema SET checksum = 'x'")
        with pytest.raises(SchemaUnfit):
            lab.fresh().prepare()

    def test_a_migration_that_was_killed_half_way_goes_on(self, lab: LedgerLab) -> None:
        """Each statement counts for itself, as on a server that commits every one of them."""
        lab.original()
        done = 0
        while True:
            ledger = lab.fresh()
            store = ledger.store  # type: ignore[attr-defined]
            store.execute = _failing_after(store.execute, done)
            try:
                ledger.prepare()
            except _Killed:
                done += 1
                ledger.close()
                continue
            break
        assert done > 20
        assert lab.fresh().prepare() == ()


class _Killed(BaseException):
    """kill -9"""


def _failing_after(execute: Any, allowed: int) -> Any:
    """Lets so many more statements through than were already made (they are left out the next time)."""
    left = [1]

    def counted(sql: str, *values: object) -> int:
        if left[0] == 0 and allowed < 200:
            raise _Killed
        left[0] -= 1
        return int(execute(sql, *values))

    return counted
