"""Facts about accounts: made by hand for tables, at random for laws, and as they are after steps."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from labstore.dbusers.course import DbStep
from labstore.dbusers.desired import Limiter, as_made, wanted
from labstore.dbusers.facts import DbFacts
from labstore.dbusers.ground import Ground
from labstore.dbusers.guards import guard
from labstore.dbusers.plan import DbPlan, _way, plan_accounts
from labstore.dbusers.turns import Act, Change
from labstore.dbusers.way import carry_out
from labstore.model.accounts import AccountKind, DbUser, Limits, NativeHash, account_name
from labstore.model.database import DbGrant, FoundAccount, GrantType, HostKey, Verifier
from labstore.model.dbusers_settings import (
    DAY,
    HOUR,
    DbusersSettings,
    FileDirectorySettings,
    FilesSettings,
    LedgerSettings,
    RemovalSettings,
    ReplicaSettings,
    RotationSettings,
    Surplus,
)
from labstore.model.ledger import (
    AccountRow,
    AccountState,
    Cause,
    LedgerView,
    Request,
    RequestVerb,
    Tombstone,
)
from labstore.model.people import Entry, Listing, Rejected
from labstore.ports.credential_writer import FileFact, FileState
from labstore.ports.replica_server import HostView
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.plan import Proof
from labstore.reports.sources import SourceFailed
from tests.laws import Planner

NOW = datetime(2026, 5, 29, 12, tzinfo=UTC)
ONE, TWO = HostKey("db1.example"), HostKey("db2.example", 3311)
H = [NativeHash("*" + digit * 40) for digit in "0123456789ABCDEF"]
NOBODY = Missing(SourceFailed("a test", "an answer", "silence"), "a test", NOW)
SETTINGS = DbusersSettings(
    directory=FileDirectorySettings(Path("/people")),
    ledger=LedgerSettings(sqlite=Path("/ledger")),
    hosts=(ReplicaSettings(ONE), ReplicaSettings(TWO, GrantType.LEGACY, surplus=Surplus.REVOKE)),
    files=FilesSettings(),
    removal=RemovalSettings(floor=100, proven_floor=100),
)


def ago(seconds: float) -> datetime:
    return NOW - timedelta(seconds=seconds)


def name_of(user: DbUser) -> str:
    return f"tools.t{user.number}" if user.kind is AccountKind.TOOL else f"p{user.number}"


def entry(user: str, **changes: Any) -> Entry:
    made = DbUser(user)
    named = changes.pop("name", name_of(made))
    return Entry(made.kind, account_name(made.kind, named), made.number, **{"uuid": f"u-{user}", **changes})


def row(user: str, verifier: NativeHash = H[1], **changes: Any) -> AccountRow:
    made = DbUser(user)
    base = AccountRow(
        made, made.kind, name_of(made), made.number, verifier, entry_uuid=f"u-{user}", password_at=ago(DAY)
    )
    return replace(base, id=made.number, **changes)


def made_on(account: AccountRow, key: HostKey, settings: DbusersSettings = SETTINGS, **changes: Any) -> FoundAccount:
    """The account as it shall be on a server."""
    host = settings.host(key)
    return replace(as_made(wanted(account, host, Limiter(settings, (), NOW)), host), **changes)


def trusted(verifier: NativeHash = H[1]) -> FileFact:
    return FileFact(FileState.TRUSTED, verifier)


def listing(
    *entries: Entry, agreed: bool = True, rejected: Sequence[Rejected] = (), kind: AccountKind = AccountKind.TOOL
) -> Fact[Listing]:
    found = Listing(
        kind, {each.user: each for each in entries}, tuple(rejected), agreed, ("ldap",), "" if agreed else "one is away"
    )
    return Fact(found, "ldap", NOW)


def facts(
    entries: Sequence[Entry] | Answer[Listing] = (),
    rows: Sequence[AccountRow] = (),
    found: Mapping[HostKey, Mapping[str, FoundAccount] | Missing] | None = None,
    files: Mapping[str, FileFact | Missing] | None = None,
    **more: Any,
) -> DbFacts:
    """Facts where what is not said is converged: servers as the rows want them, files with the rows' hash."""
    settings: DbusersSettings = more.pop("settings", SETTINGS)
    answer = listing(*entries) if isinstance(entries, Sequence) else entries
    hosts: dict[HostKey, Answer[HostView]] = {}
    for host in settings.hosts:
        said = (found or {}).get(host.key)
        if isinstance(said, Missing):
            hosts[host.key] = said
            continue
        accounts = {each.user: made_on(each, host.key, settings, locked=each.suspended) for each in rows}
        accounts |= {DbUser(user): account for user, account in (said or {}).items()}
        sessions = more.get("sessions", {}).get(host.key, {})
        hosts[host.key] = Fact(HostView(accounts, {DbUser(u): n for u, n in sessions.items()}), str(host.key), NOW)
    more.pop("sessions", None)
    seen: dict[DbUser, Answer[FileFact]] = {each.user: Fact(trusted(each.verifier), "homes", NOW) for each in rows}
    if isinstance(answer, Fact):
        seen |= {
            user: Fact(FileFact(FileState.ABSENT), "homes", NOW) for user in answer.value.entries if user not in seen
        }
    for user, fact in (files or {}).items():
        seen[DbUser(user)] = fact if isinstance(fact, Missing) else Fact(fact, "homes", NOW)
    ledger = LedgerView(
        1,
        {each.user: each for each in rows},
        {stone.user: stone for stone in more.pop("tombstones", ())},
        {},
        {},
        tuple(more.pop("rules", ())),
        tuple(more.pop("requests", ())),
    )
    listings: dict[AccountKind, Answer[Listing]] = {AccountKind.TOOL: answer}
    return DbFacts(NOW, settings, more.pop("listings", listings), ledger, hosts, seen, **more)


def acts(plan: DbPlan) -> list[str]:
    """The plan in words: `s1001@db1.example create`."""
    return [step.key for step in plan.steps]


def without(given: DbFacts, user: str, key: HostKey) -> DbFacts:
    """The same, but the account is absent on one server."""
    answer = given.hosts[key]
    assert isinstance(answer, Fact)
    accounts = {name: account for name, account in answer.value.accounts.items() if name != user}
    return replace(given, hosts={**given.hosts, key: Fact(replace(answer.value, accounts=accounts), str(key), NOW)})


# --- as it is after steps --------------------------------------------------------------------------------------------


def after(given: DbFacts, steps: Sequence[DbStep]) -> DbFacts:
    for step in steps:
        assert step.after is not None
        given = _after(given, step.after)
    return given


def _after(given: DbFacts, change: Change) -> DbFacts:
    ground, user = Ground(given), change.user
    way = _way(ground, user)
    before = way.row
    carry_out(ground, way, change)
    accounts = {u: r for u, r in given.ledger.accounts.items() if u != user}
    stones = dict(given.ledger.tombstones)
    if way.row is not None:
        accounts[user] = way.row
    elif before is not None:
        why = before.cause.value if before.cause else "?"
        stones[user] = Tombstone(user, before.kind, before.name, before.uid, before.entry_uuid, NOW, why)
    hosts = dict(given.hosts)
    if change.act is not Act.BURY:
        for key, found in way.found.items():
            answer = hosts[key]
            assert isinstance(answer, Fact)
            there = {u: a for u, a in answer.value.accounts.items() if u != user}
            if found is not None:
                there[user] = found
            sessions = {u: n for u, n in answer.value.sessions.items() if u != user or key in way.sessions}
            hosts[key] = Fact(replace(answer.value, accounts=there, sessions=sessions), answer.source, answer.at)
    files = dict(given.files)
    if way.file is not None:
        files[user] = Fact(way.file, "homes", NOW)
    held = {pair for pair in given.held if pair[0] != user} | {(user, generation) for generation in way.held}
    ledger = replace(given.ledger, accounts=accounts, tombstones=stones)
    return replace(given, ledger=ledger, hosts=hosts, files=files, held=frozenset(held))


# --- at random -------------------------------------------------------------------------------------------------------

USERS = ("s1001", "s1002", "s1003")


def _states(draw: Any, account: AccountRow) -> AccountRow:
    state = draw(st.sampled_from(list(AccountState)))
    two = state in (AccountState.ROTATING, AccountState.OVERLAP)
    ends = {AccountState.OVERLAP: [ago(1), ago(-DAY)], AccountState.ROTATING: [None, ago(1)]}
    until = draw(st.sampled_from(ends.get(state, [None])))
    suspended = state is AccountState.DROPPING or draw(st.booleans())
    return replace(
        account,
        state=state,
        generation=draw(st.integers(1, 3)),
        other=H[2] if two else None,
        until=until,
        password_at=draw(st.sampled_from([None, ago(1), ago(DAY)])),
        missing_since=draw(st.sampled_from([None, ago(1), ago(2 * HOUR)])),
        suspended_at=draw(st.sampled_from([ago(1), ago(41 * DAY)])) if suspended else None,
        cause=draw(st.sampled_from(list(Cause))) if suspended else None,
        entry_uuid=draw(st.sampled_from([account.entry_uuid, "", "u-other"])),
    )


@st.composite
def worlds(draw: Any) -> DbFacts:
    entries: list[Entry] = []
    rows: list[AccountRow] = []
    files: dict[str, FileFact | Missing] = {}
    found: dict[HostKey, dict[str, FoundAccount] | Missing] = {key: {} for key in (ONE, TWO)}
    sessions: dict[HostKey, dict[str, int]] = {ONE: {}, TWO: {}}
    requests: list[Request] = []
    absent: list[tuple[str, HostKey]] = []
    for user in USERS:
        if draw(st.booleans()):
            entries.append(entry(user, locked=draw(st.sampled_from([False, False, True, None]))))
        if draw(st.integers(0, 3)):
            rows.append(_states(draw, row(user)))
        files[user] = draw(st.sampled_from([*_FILES]))
        for key in (ONE, TWO):
            account = draw(st.sampled_from(["absent", "as it is", *_ODD]))
            if account == "absent":
                absent.append((user, key))
            elif account != "as it is":
                at = found[key]
                assert isinstance(at, dict)
                at[user] = _odd(account, rows[-1] if rows and rows[-1].user == user else row(user), key)
            if draw(st.integers(0, 4)) == 0:
                sessions[key][user] = 2
        verb = draw(st.sampled_from([None, None, None, *RequestVerb]))
        if verb is not None:
            requests.append(Request(verb, DbUser(user), "somebody", ago(60), {"now": draw(st.booleans())}))
    for key in (ONE, TWO):
        if draw(st.integers(0, 4)) == 0:
            found[key] = NOBODY
    claims = draw(st.sampled_from([(), (Rejected("twice", "two entries", frozenset({"s1003"})),)]))
    answer: Answer[Listing] = listing(*entries, agreed=draw(st.integers(0, 3)) > 0, rejected=claims)
    if draw(st.integers(0, 5)) == 0:
        answer = NOBODY
    given = facts(answer, rows, found, files, sessions=sessions, requests=requests, away={ONE: ago(60), TWO: ago(DAY)})
    for user, key in absent:
        if isinstance(given.hosts[key], Fact):
            given = without(given, user, key)
    held = frozenset((each.user, each.generation) for each in rows if draw(st.booleans()))
    stones = [
        s
        for s in (
            Tombstone(
                DbUser("s1001"),
                AccountKind.TOOL,
                "tools.t1001",
                1001,
                draw(st.sampled_from(["u-s1001", "u-x"])),
                ago(DAY),
                draw(st.sampled_from(["missing", "asked"])),
            ),
        )
        if DbUser("s1001") not in given.ledger.accounts and draw(st.booleans())
    ]
    return replace(given, held=held, ledger=replace(given.ledger, tombstones={s.user: s for s in stones}))


_FILES: tuple[FileFact | Missing, ...] = (
    NOBODY,
    FileFact(FileState.NO_HOME),
    FileFact(FileState.ABSENT),
    FileFact(FileState.FOREIGN, why="it is a symbolic link"),
    *(FileFact(state, H[number]) for state in (FileState.TRUSTED, FileState.BARE) for number in (1, 2, 3)),
)
_ODD = ("wrong hash", "locked", "no rights", "wrong limits", "administrator", "surplus", "half a grant")


def _odd(what: str, account: AccountRow, key: HostKey) -> FoundAccount:
    base = made_on(account, key)
    changed: dict[str, Any] = {
        "wrong hash": {"verifiers": frozenset({Verifier.native(H[9])})},
        "locked": {"locked": True},
        "no rights": {"roles": frozenset(), "grants": frozenset(), "default_role": ""},
        "wrong limits": {"limits": Limits(3)},
        "administrator": {"touchable": False},
        "surplus": {"roles": base.roles | {"other"}, "grants": base.grants | {DbGrant("x", frozenset({"Select"}))}},
        "half a grant": {"grants": frozenset(DbGrant(g.pattern, frozenset({"Select"})) for g in base.grants)},
    }[what]
    return replace(base, **changed)


def outcome(given: DbFacts) -> Any:
    """What users and administrators could tell apart."""
    hosts = {
        key: dict(answer.value.accounts) if isinstance(answer, Fact) else None for key, answer in given.hosts.items()
    }
    return given.ledger.accounts, set(given.ledger.tombstones), hosts, given.files


def plan(given: DbFacts) -> DbPlan:
    return guard(given, plan_accounts(given))


def _removed(_given: DbFacts, made: DbPlan) -> frozenset[str]:
    return frozenset(
        str(step.after.user)
        for step in made.steps
        if step.after is not None
        and step.after.act in (Act.SUSPEND, Act.END, Act.DROP, Act.WITHDRAW, Act.BURY)
        and Proof.ABSENT in step.removes.values()
    )


def _undecided(given: DbFacts) -> frozenset[str]:
    answer = given.listings[AccountKind.TOOL]
    if isinstance(answer, Missing) or not answer.value.agreed:
        return frozenset(USERS)
    claimed = frozenset(claim for rejected in answer.value.rejected for claim in rejected.claims)
    return claimed | frozenset(answer.value.entries)


FACTS: SearchStrategy[DbFacts] = worlds()
DBUSERS: Planner[DbFacts, Change] = Planner(
    name="dbusers",
    payload=Change,
    facts=FACTS,
    plan=plan,
    after=after,
    removed=_removed,
    undecided=_undecided,
    outcome=outcome,
)
BUSY = replace(SETTINGS, rotation=RotationSettings(batch=2))
