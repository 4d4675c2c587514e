"""What may not happen to accounts, each rule a pure function of facts and plan."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from labstore.dbusers.facts import DbFacts
from labstore.dbusers.plan import DbPlan
from labstore.dbusers.turns import Act, Change
from labstore.model.accounts import AccountKind, DbUser
from labstore.model.ledger import AccountRow
from labstore.reconcile.facts import Fact
from labstore.reconcile.guards import guarded
from labstore.reconcile.plan import Proof, Refusal, Step
from labstore.reports.dbusers import (
    IdentityChanged,
    LedgerLost,
    MassReissue,
    MassSuspension,
    NameTaken,
    RemovalInDoubt,
    RotationGap,
)
from labstore.reports.report import Override, Report

EXAMPLES = 5
_SUSPENDING = frozenset({Act.SUSPEND, Act.END})
_ENDING = frozenset({Act.END, Act.DROP, Act.WITHDRAW, Act.BURY})
_ROTATING = frozenset({Act.ROTATE, Act.REPLACE})


def guard(facts: DbFacts, plan: DbPlan, overrides: frozenset[Override] = frozenset()) -> DbPlan:
    """The plan without what the rules refuse."""
    rules = (in_doubt, mass_suspension, mass_reissue, ledger_lost, identity_changed, name_taken, rotation_gap)
    return guarded(facts, plan, rules, overrides)


def in_doubt(facts: DbFacts, plan: DbPlan) -> Iterator[Refusal]:
    """Nothing goes any further on account of an absence that the directory does not say again now (upstream #46)."""
    by_kind: dict[AccountKind, set[DbUser]] = {}
    for step in plan.steps:
        if Proof.ABSENT in step.removes.values() and _change(step).act in _ENDING and not _listed(facts, step):
            by_kind.setdefault(_change(step).user.kind, set()).add(_change(step).user)
    for kind, users in by_kind.items():
        yield Refusal(_keys(plan, users, lambda change: change.act in _ENDING), RemovalInDoubt(kind.value, len(users)))


def mass_suspension(facts: DbFacts, plan: DbPlan) -> Iterator[Refusal]:
    """Not many accounts at once: what looks like many removals is a broken directory (upstream #46)."""
    total = len(facts.ledger.accounts)
    removal = facts.settings.removal
    for proof, limit, words in (
        (Proof.ABSENT, removal.brake(total), "missing from listings"),
        (Proof.GONE, removal.brake_proven(total), "disabled in the directory"),
    ):
        for act in _SUSPENDING:
            users = {
                _change(step).user for step in plan.steps if _change(step).act is act and proof in step.removes.values()
            }
            if len(users) > limit:
                report = MassSuspension(words, len(users), total, limit, _examples(users))
                yield Refusal(_keys(plan, users, _takes_away), report)


def mass_reissue(facts: DbFacts, plan: DbPlan) -> Iterator[Refusal]:
    """Many files gone at once is the wrong file system, not many careless tools."""
    users = {_change(step).user for step in plan.steps if _change(step).act is Act.ISSUE and step.removes}
    limit = facts.settings.removal.brake(len(facts.ledger.accounts))
    if len(users) > limit:
        yield Refusal(_keys(plan, users), MassReissue(len(users), limit, _examples(users)))


def ledger_lost(facts: DbFacts, plan: DbPlan) -> Iterator[Refusal]:
    """Many accounts that servers know and the ledger does not: it is the ledger that lacks them."""
    known = [answer.value.accounts for answer in facts.hosts.values() if isinstance(answer, Fact)]
    users = {
        _change(step).user
        for step in plan.steps
        if _change(step).act is Act.ISSUE
        and _change(step).user not in facts.ledger.accounts
        and any(_change(step).user in accounts for accounts in known)
    }
    entries = sum(len(a.value.entries) for a in facts.listings.values() if isinstance(a, Fact))
    limit = facts.settings.removal.brake(entries)
    if len(users) > limit:
        yield Refusal(_keys(plan, users), LedgerLost(len(users), limit, _examples(users)))


def identity_changed(facts: DbFacts, plan: DbPlan) -> Iterator[Refusal]:
    """Nobody inherits an account, and with it databases, by getting its number."""
    for step in plan.steps:
        change = _change(step)
        if change.act in (Act.ISSUE, Act.ADOPT, Act.IDENTIFY) and change.name:
            report = _other_owner(facts, change)
            if report is not None:
                yield Refusal(_keys(plan, {change.user}), report)


def _other_owner(facts: DbFacts, change: Change) -> Report | None:
    row = facts.ledger.accounts.get(change.user)
    if row is not None:
        return _other_entry(row, change)
    stone = facts.ledger.tombstones.get(change.user)
    if stone is None or (stone.entry_uuid and stone.entry_uuid == change.uuid):
        return None
    before = f"{stone.name} (removed {stone.at.date()})"
    return IdentityChanged(str(change.user), before, change.name, "the number was used before")


def _other_entry(row: AccountRow, change: Change) -> Report | None:
    if not row.name_known:
        return None
    comparable = bool(row.entry_uuid and change.uuid)
    if comparable and row.entry_uuid != change.uuid:
        return IdentityChanged(str(row.user), row.name, change.name, "its directory entry is another one")
    if not comparable and row.name != change.name:
        why = "the names differ, and nothing says that the directory entry is the same"
        return IdentityChanged(str(row.user), row.name, change.name, why)
    return None


def name_taken(facts: DbFacts, plan: DbPlan) -> Iterator[Refusal]:
    """A name has one file, and the ledger one row for it: a newcomer waits until the former holder is removed."""
    holders = {(row.kind, row.name): row.user for row in facts.ledger.accounts.values()}
    for step in plan.steps:
        change = _change(step)
        if change.act in (Act.ISSUE, Act.ADOPT, Act.IDENTIFY) and change.name:
            holder = holders.get((change.user.kind, change.name))
            if holder is not None and holder != change.user and not _renamed_away(plan, holder):
                yield Refusal(_keys(plan, {change.user}), NameTaken(str(change.user), change.name, str(holder)))


def _renamed_away(plan: DbPlan, holder: DbUser) -> bool:
    return any(_change(step).act is Act.BURY and _change(step).user == holder for step in plan.steps)


def rotation_gap(facts: DbFacts, plan: DbPlan) -> Iterator[Refusal]:
    """With more than one server away a rotation waits."""
    away = tuple(str(host.key) for host in facts.settings.hosts if not isinstance(facts.hosts.get(host.key), Fact))
    users = {_change(step).user for step in plan.steps if _change(step).act in _ROTATING}
    if len(away) > 1 and users:
        yield Refusal(_keys(plan, users, lambda change: change.act in _ROTATING), RotationGap(len(users), away))


# --- words -----------------------------------------------------------------------------------------------------------


def _change(step: Step[Change]) -> Change:
    assert step.after is not None
    return step.after


def _takes_away(change: Change) -> bool:
    return change.act in _ENDING or change.act in (Act.SUSPEND, Act.LOCK, Act.END_SESSIONS)


def _listed(facts: DbFacts, step: Step[Change]) -> bool:
    """Whether the directory says now that the account is gone, and nobody who was rejected claims it."""
    user = _change(step).user
    answer, row = facts.listings.get(user.kind), facts.ledger.accounts.get(user)
    if not isinstance(answer, Fact) or not answer.value.agreed or user in answer.value.entries:
        return False
    claims = {claim for rejected in answer.value.rejected for claim in rejected.claims}
    return user not in claims and (row is None or row.name not in claims)


def _keys(
    plan: DbPlan, users: Iterable[DbUser], which: Callable[[Change], bool] = lambda _change: True
) -> tuple[str, ...]:
    """The steps of these accounts that are held back; what comes after a held step of an account is held too."""
    wanted = set(users)
    held: set[DbUser] = set()
    keys: list[str] = []
    for step in plan.steps:
        change = _change(step)
        if change.user in wanted and (change.user in held or which(change)):
            held.add(change.user)
            keys.append(step.key)
    return tuple(keys)


def _examples(users: Iterable[DbUser]) -> tuple[str, ...]:
    return tuple(sorted(map(str, users), key=lambda user: (len(user), user))[:EXAMPLES])
