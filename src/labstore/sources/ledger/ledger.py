"""The ledger over either store."""

# ruff: noqa: S608 - tables and columns are fixed text; every value is bound

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import datetime, timedelta
from typing import Any, TypeVar

from labstore.model.accounts import AccountKind, DbUser
from labstore.model.database import HostKey
from labstore.model.dbusers_settings import LimitRule
from labstore.model.ledger import AccountRow, Debt, Event, Lease, LedgerView, ListingNote, Request
from labstore.model.names import shown
from labstore.ports.ledger import Bury, Finished, LedgerFailed, Listed, Note, NotLeader, Places, Put, Write
from labstore.sources.ledger import rows
from labstore.sources.ledger.schema import migrate
from labstore.sources.ledger.store import IN_LIST, Row, Store

T = TypeVar("T")


@dataclass
class SqlLedger:
    """See ports.ledger.Ledger. For one thread."""

    store: Store
    _view: LedgerView | None = field(default=None, init=False)
    _names: dict[HostKey, tuple[str, ...]] = field(default_factory=dict, init=False)
    """How the rows spell each server; the original wrote `host`, later `host:port`."""
    _hosts: tuple[HostKey, ...] = field(default=(), init=False)

    # --- reading ----------------------------------------------------------------------------------------------------

    def prepare(self) -> tuple[str, ...]:
        self._view = None
        return migrate(self.store)

    def now(self) -> datetime:
        return self.store.now()

    def close(self) -> None:
        self.store.close()

    def read(self) -> LedgerView:
        with self.store.snapshot():
            version = self._version()
            if self._view is None or self._view.version != version:
                self._view = self._whole(version)
        return self._view

    def leader(self) -> Lease | None:
        ((holder, epoch, until),) = self.store.query("SELECT holder, epoch, until FROM leader WHERE id = 1")
        moment = rows.stamp(until)
        return Lease(holder, int(epoch), moment) if moment else None

    def events(self, account: DbUser | None = None, limit: int = 100) -> tuple[Event, ...]:
        where, values = ("WHERE account = ?", (str(account),)) if account else ("", ())
        sql = f"SELECT {', '.join(rows.EVENT_COLUMNS)} FROM event {where} ORDER BY id DESC LIMIT ?"
        return tuple(rows.event(row) for row in self.store.query(sql, *values, limit))

    def verify_events(self) -> int | None:
        previous, last = "", 0
        sql = f"SELECT {', '.join(rows.EVENT_COLUMNS)} FROM event WHERE id > ? ORDER BY id LIMIT 5000"
        while batch := self.store.query(sql, last):
            for row in batch:
                last = int(row[0])
                if rows.link(previous, row[1:8]) != row[8]:
                    return last
                previous = row[8]
        return None

    def _version(self) -> int:
        found = self.store.query("SELECT version FROM leader WHERE id = 1")
        if not found:
            raise LedgerFailed("the ledger's tables are not prepared")
        return int(found[0][0])

    def _whole(self, version: int) -> LedgerView:
        foreign: list[str] = []
        accounts = self._accounts(foreign)
        debts, present = self._places()
        return LedgerView(
            version=version,
            accounts=accounts,
            tombstones={stone.user: stone for stone in map(rows.tombstone, self._select("tombstone"))},
            debts=debts,
            present=present,
            rules=tuple(map(rows.rule, self._select("limit_policy", "WHERE ended_at IS NULL"))),
            requests=tuple(map(rows.request, self._select("request", "WHERE done_at IS NULL ORDER BY id"))),
            listings=self._listings(),
            foreign=tuple(foreign),
        )

    def _accounts(self, foreign: list[str]) -> dict[DbUser, AccountRow]:
        accounts: dict[DbUser, AccountRow] = {}
        for row in self._select("account"):
            try:
                account = rows.account_row(row)
            except ValueError as error:
                foreign.append(f"{shown(row[1])} ({shown(row[3])}): {error}")
            else:
                accounts[account.user] = account
        return accounts

    def _places(self) -> tuple[dict[HostKey, dict[DbUser, Debt]], dict[HostKey, int]]:
        names: dict[HostKey, list[str]] = {}
        present: dict[HostKey, int] = {}
        debts: dict[HostKey, dict[DbUser, Debt]] = {}
        for name, status, count in self.store.query(
            "SELECT hostname, status, COUNT(*) FROM account_host GROUP BY hostname, status"
        ):
            key = _host(name)
            if key is None:
                continue
            if name not in names.setdefault(key, []):
                names[key].append(name)
            if status == "present":
                present[key] = present.get(key, 0) + int(count)
        for user, name, error, tries, since in self.store.query(
            "SELECT a.mysql_username, h.hostname, h.error, h.tries, h.since FROM account_host h "
            "JOIN account a ON a.id = h.account_id WHERE h.status = 'absent'"
        ):
            key = _host(name)
            if key is not None and _is_user(user):
                debts.setdefault(key, {})[DbUser(user)] = Debt(error, int(tries), rows.stamp(since))
        self._names = {key: (str(key),) for key in self._hosts}
        self._names |= {key: tuple(sorted(spellings)) for key, spellings in names.items()}
        return debts, present

    def _listings(self) -> dict[AccountKind, ListingNote]:
        found = self.store.query("SELECT kind, at, count FROM listing")
        notes = (
            ListingNote(AccountKind(row[0]), moment, int(row[2])) for row in found if (moment := rows.stamp(row[1]))
        )
        return {note.kind: note for note in notes}

    def _select(self, table: str, where: str = "") -> list[Row]:
        columns = {
            "account": rows.ACCOUNT_COLUMNS,
            "tombstone": rows.TOMBSTONE_COLUMNS,
            "limit_policy": rows.RULE_COLUMNS,
            "request": rows.REQUEST_COLUMNS,
        }[table]
        return self.store.query(f"SELECT {', '.join(columns)} FROM {table} {where}")

    # --- leading ----------------------------------------------------------------------------------------------------

    def lead(self, holder: str, seconds: float) -> Lease:
        with self.store.transaction():
            now = self.store.now()
            ((old, epoch, until),) = self.store.lock("SELECT holder, epoch, until FROM leader WHERE id = 1")
            ends = rows.stamp(until)
            if ends is not None and ends > now and old != holder:
                raise NotLeader(old, ends)
            # the same process goes on in its epoch; anybody else, and anybody after a lapse, begins a new one
            new = int(epoch) if old == holder and ends is not None and ends > now else int(epoch) + 1
            lease = Lease(holder, new, now + timedelta(seconds=seconds))
            self.store.execute(
                "UPDATE leader SET holder = ?, epoch = ?, until = ? WHERE id = 1",
                *(lease.holder, lease.epoch, lease.until.isoformat()),
            )
        return lease

    def resign(self, lease: Lease) -> None:
        with self.store.transaction():
            self.store.execute(
                "UPDATE leader SET until = NULL WHERE id = 1 AND holder = ? AND epoch = ?", lease.holder, lease.epoch
            )

    # --- writing ----------------------------------------------------------------------------------------------------

    def write(self, lease: Lease, writes: Iterable[Write]) -> None:
        every = tuple(writes)
        if not every:
            return
        with self.store.transaction():
            version = self._claim(lease)
            batch = _Batch(self.store, self._names, self.store.now(), lease.epoch, lease.holder)
            batch.carry_out(every)
        self._patch(version, every)

    def add_hosts(self, lease: Lease, hosts: Sequence[HostKey]) -> int:
        if set(hosts) - set(self._hosts):
            self._hosts, self._view = tuple(hosts), None
        view = self.read()
        wanted = len(view.accounts)
        known = {key: view.present.get(key, 0) + len(view.debts.get(key, ())) for key in hosts}
        short = [key for key, count in known.items() if count < wanted]
        if not short:
            return 0
        added = 0
        with self.store.transaction():
            self._claim(lease)
            batch = _Batch(self.store, self._names, self.store.now(), lease.epoch, lease.holder)
            for key in short:
                count = batch.add_host(key)
                added += count
                if count:
                    batch.event(Event("host added", host=str(key), detail={"accounts": count}))
            batch.finish()
        self._view = None
        return added

    def ask(self, request: Request) -> Request:
        def act(batch: _Batch) -> Request:
            number = batch.insert(
                "INSERT INTO request (verb, account, options, who, at) VALUES (?, ?, ?, ?, ?)",
                *(request.verb.value, request.account or "", rows.detail_text(request.options), request.who[:255]),
                batch.now.isoformat(),
            )
            batch.event(Event(f"{request.verb.value} asked", request.account or "", detail=dict(request.options)))
            return replace(request, number=number, at=batch.now)

        return self._by_hand(request.who, act)

    def add_rule(self, rule: LimitRule, who: str) -> LimitRule:
        scope = (rule.kind.value if rule.kind else "", rule.account or "", rule.group or "")

        def act(batch: _Batch) -> LimitRule:
            self.store.execute(
                "UPDATE limit_policy SET ended_at = ? "
                "WHERE kind = ? AND account = ? AND host_group = ? AND ended_at IS NULL",
                *(batch.now.isoformat(), *scope),
            )
            said = (rule.limits.max_connections, rule.limits.statement_seconds, rule.limits.queries_per_hour)
            number = batch.insert(
                "INSERT INTO limit_policy (kind, account, host_group, max_connections, statement_seconds, "
                "queries_per_hour, reason, until, who, at) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                *(*scope, *said, rule.reason[:255], rows.text_of(rule.until), who[:255], batch.now.isoformat()),
            )
            detail = {"kind": scope[0], "host_group": scope[2], **asdict(rule.limits), "reason": rule.reason}
            batch.event(Event("limit set", scope[1], detail=detail | {"until": rows.text_of(rule.until)}))
            return replace(rule, number=number)

        return self._by_hand(who, act)

    def end_rule(self, number: int, who: str) -> bool:
        def act(batch: _Batch) -> bool:
            ended = self.store.execute(
                "UPDATE limit_policy SET ended_at = ? WHERE id = ? AND ended_at IS NULL", batch.now.isoformat(), number
            )
            if ended:
                batch.event(Event("limit ended", detail={"number": number}))
            return bool(ended)

        return self._by_hand(who, act)

    def _claim(self, lease: Lease) -> int:
        """Hold every other writer back, and see that we still lead. Returns the version that the tables had."""
        ((holder, epoch, until, version),) = self.store.lock(
            "SELECT holder, epoch, until, version FROM leader WHERE id = 1"
        )
        if int(epoch) != lease.epoch or holder != lease.holder:
            raise NotLeader(holder, rows.stamp(until))
        self.store.execute("UPDATE leader SET version = version + 1 WHERE id = 1")
        return int(version)

    def _by_hand(self, who: str, act: Callable[[_Batch], T]) -> T:
        """What people write: no lease, the same lock, the same chain of events."""
        with self.store.transaction():
            ((epoch,),) = self.store.lock("SELECT epoch FROM leader WHERE id = 1")
            batch = _Batch(self.store, self._names, self.store.now(), int(epoch), who)
            result = act(batch)
            batch.finish()
            self.store.execute("UPDATE leader SET version = version + 1 WHERE id = 1")
        self._view = None
        return result

    def _patch(self, version: int, writes: Sequence[Write]) -> None:
        """Let the view in memory follow what was just written, if nobody else wrote in between."""
        view, self._view = self._view, None
        if view is not None and view.version == version:
            self._view = _patched(view, version + 1, writes, self._ids(writes), tuple(self._names))

    def _ids(self, writes: Sequence[Write]) -> dict[DbUser, int]:
        new = [str(each.row.user) for each in writes if isinstance(each, Put) and not each.row.id]
        found: dict[DbUser, int] = {}
        for part in _parts(new):
            sql = f"SELECT mysql_username, id FROM account WHERE mysql_username IN ({_marks(part)})"
            found |= {DbUser(row[0]): int(row[1]) for row in self.store.query(sql, *part)}
        return found


@dataclass
class _Batch:
    """The writes of one transaction, in lists."""

    store: Store
    names: Mapping[HostKey, tuple[str, ...]]
    now: datetime
    epoch: int
    actor: str
    _events: list[Event] = field(default_factory=list)

    def carry_out(self, writes: Sequence[Write]) -> None:
        puts = [each for each in writes if isinstance(each, Put)]
        self._insert([each.row for each in puts if not each.row.id])
        self._update([each.row for each in puts if each.row.id])
        self._events += [each.event for each in puts]
        for each in writes:
            if isinstance(each, Bury):
                self._bury(each)
            elif isinstance(each, Places):
                self._place(each)
            elif isinstance(each, Listed):
                self._listed(each)
            elif isinstance(each, Finished):
                self.store.execute(
                    "UPDATE request SET done_at = ?, result = ? WHERE id = ?",
                    *(self.now.isoformat(), each.result[:255], each.request.number),
                )
                detail = {"request": each.request.number, "result": each.result}
                self.event(Event(f"{each.request.verb.value} finished", each.request.account or "", detail=detail))
            elif isinstance(each, Note):
                self.event(each.event)
        self.finish()

    def event(self, event: Event) -> None:
        self._events.append(event)

    def finish(self) -> None:
        """Write the events, each with the digest of itself and of all before it."""
        if not self._events:
            return
        last = self.store.query("SELECT digest FROM event ORDER BY id DESC LIMIT 1")
        previous = last[0][0] if last else ""
        lines: list[tuple[object, ...]] = []
        for each in self._events:
            values = (
                (each.at or self.now).isoformat(), self.epoch, (each.actor or self.actor)[:255], each.account[:255],
                each.host[:255], each.what[:64], rows.detail_text(each.detail),
            )  # fmt: skip
            previous = rows.link(previous, values)
            lines.append((*values, previous))
        self.store.many(
            "INSERT INTO event (at, epoch, actor, account, host, what, detail, digest) VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
            lines,
        )

    def insert(self, sql: str, *values: object) -> int:
        self.store.execute(sql, *values)
        word = "LAST_INSERT_ID()" if self.store.mariadb else "last_insert_rowid()"
        return int(self.store.query(f"SELECT {word}")[0][0])

    def add_host(self, key: HostKey) -> int:
        """A row for every account that has none for this server, in the spelling that its rows already use."""
        spellings = self.names.get(key) or (str(key),)
        return self.store.execute(
            "INSERT INTO account_host (account_id, hostname, status, since) SELECT a.id, ?, 'absent', ? "
            "FROM account a WHERE NOT EXISTS (SELECT 1 FROM account_host h WHERE h.account_id = a.id "
            f"AND h.hostname IN ({_marks(spellings)}))",
            *(spellings[0], self.now.isoformat(), *spellings),
        )

    def _insert(self, new: Sequence[AccountRow]) -> None:
        if not new:
            return
        columns = rows.ACCOUNT_COLUMNS[1:]
        self.store.many(
            f"INSERT INTO account ({', '.join(columns)}) VALUES ({_marks(columns)})",
            [rows.account_values(row)[1:] for row in new],
        )
        users = [str(row.user) for row in new]
        for spellings in self.names.values():
            for part in _parts(users):
                self.store.execute(
                    "INSERT INTO account_host (account_id, hostname, status, since) SELECT id, ?, 'absent', ? "
                    f"FROM account WHERE mysql_username IN ({_marks(part)})",
                    *(spellings[0], self.now.isoformat(), *part),
                )

    def _update(self, changed: Sequence[AccountRow]) -> None:
        columns = rows.ACCOUNT_COLUMNS[1:]
        if not self.store.mariadb or len(changed) < 3:
            self.store.many(
                f"UPDATE account SET {', '.join(f'{name} = ?' for name in columns)} WHERE id = ?",
                [(*rows.account_values(row)[1:], row.id) for row in changed],
            )
            return
        for part in _parts(changed):
            self._update_joined(part)

    def _update_joined(self, changed: Sequence[AccountRow]) -> None:
        """One statement for the whole list: the driver would otherwise send one per row."""
        columns = rows.ACCOUNT_COLUMNS
        numbers = {"id", "uid", "generation"}
        listed = ", ".join(
            f"c{at} {'BIGINT' if name in numbers else 'VARCHAR(255) CHARACTER SET utf8mb4 COLLATE utf8mb4_bin'} "
            f"PATH '$[{at}]'"
            for at, name in enumerate(columns)
        )
        assigned = ", ".join(f"a.{name} = t.c{at}" for at, name in enumerate(columns) if at)
        self.store.execute(
            f"UPDATE account a JOIN JSON_TABLE(?, '$[*]' COLUMNS({listed})) t ON a.id = t.c0 SET {assigned}",
            json.dumps([rows.account_values(row) for row in changed]),
        )

    def _bury(self, each: Bury) -> None:
        self.store.execute("DELETE FROM account_host WHERE account_id = ?", each.row.id)
        self.store.execute("DELETE FROM account WHERE id = ?", each.row.id)
        self.store.execute("DELETE FROM tombstone WHERE mysql_username = ?", str(each.row.user))
        columns = rows.TOMBSTONE_COLUMNS
        self.store.execute(
            f"INSERT INTO tombstone ({', '.join(columns)}) VALUES ({_marks(columns)})",
            *rows.tombstone_values(each.tombstone),
        )
        self.event(each.event)

    def _place(self, each: Places) -> None:
        spellings = self.names.get(each.host) or (str(each.host),)
        for part in _parts(each.present):
            self.store.execute(
                "UPDATE account_host SET status = 'present', error = '', tries = 0, since = NULL "
                f"WHERE hostname IN ({_marks(spellings)}) AND account_id IN "
                f"(SELECT id FROM account WHERE mysql_username IN ({_marks(part)}))",
                *spellings,
                *part,
            )
        for user, debt in (each.absent or {}).items():
            self.store.execute(
                "UPDATE account_host SET status = 'absent', error = ?, tries = ?, since = ? "
                f"WHERE hostname IN ({_marks(spellings)}) "
                "AND account_id = (SELECT id FROM account WHERE mysql_username = ?)",
                *(debt.error[:255], debt.tries, rows.text_of(debt.since), *spellings, str(user)),
            )

    def _listed(self, each: Listed) -> None:
        kind, at = each.note.kind.value, each.note.at.isoformat()
        self.store.execute("DELETE FROM listing WHERE kind = ?", kind)
        self.store.execute("INSERT INTO listing (kind, at, count) VALUES (?, ?, ?)", kind, at, each.note.count)


def _patched(
    view: LedgerView, version: int, writes: Sequence[Write], ids: Mapping[DbUser, int], hosts: Sequence[HostKey]
) -> LedgerView:
    accounts, tombstones = dict(view.accounts), dict(view.tombstones)
    debts = {key: dict(owed) for key, owed in view.debts.items()}
    present, listings = dict(view.present), dict(view.listings)
    requests = {request.number: request for request in view.requests}
    for each in writes:
        match each:
            case Put(row=row):
                if not row.id:
                    for key in hosts:
                        debts.setdefault(key, {})[row.user] = Debt()
                accounts[row.user] = replace(row, id=row.id or ids[row.user])
            case Bury(row=row, tombstone=stone):
                accounts.pop(row.user, None)
                tombstones[row.user] = stone
                for key in {*debts, *present}:
                    if debts.get(key, {}).pop(row.user, None) is None and present.get(key):
                        present[key] -= 1
            case Places():
                _place(each, debts.setdefault(each.host, {}), present)
            case Listed(note=note):
                listings[note.kind] = note
            case Finished(request=request):
                requests.pop(request.number, None)
    return LedgerView(
        version, accounts, tombstones, debts, present, view.rules, tuple(requests.values()), listings, view.foreign
    )


def _place(each: Places, owed: dict[DbUser, Debt], present: dict[HostKey, int]) -> None:
    for user in each.present:
        if owed.pop(user, None) is not None:
            present[each.host] = present.get(each.host, 0) + 1
    for user, debt in (each.absent or {}).items():
        if user not in owed:
            present[each.host] = present.get(each.host, 0) - 1
        owed[user] = debt


def _host(name: str) -> HostKey | None:
    try:
        return HostKey.parse(name)
    except ValueError:
        return None


def _is_user(name: str) -> bool:
    return DbUser.grammar.fullmatch(name) is not None


def _marks(values: Sequence[Any]) -> str:
    return ", ".join("?" * len(values))


def _parts(values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), IN_LIST):
        yield values[start : start + IN_LIST]
