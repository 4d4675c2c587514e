"""From facts to steps. Pure.

Each account is followed along its way: what is to be done next is done to a copy of what was found, and so on until
nothing is left. So a plan made again after any of its steps is the rest of the plan.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import replace

from labstore.dbusers.course import FOREIGN, NO_HOME, DbStep, next_step
from labstore.dbusers.desired import surplus
from labstore.dbusers.facts import DbFacts
from labstore.dbusers.ground import Ground
from labstore.dbusers.turns import Change
from labstore.dbusers.way import Way, carry_out
from labstore.model.accounts import DbUser
from labstore.model.database import HostKey
from labstore.reconcile.facts import Fact
from labstore.reconcile.plan import Plan
from labstore.reports.dbusers import (
    DirectoryDisagrees,
    EntriesRejected,
    FilesInTheWay,
    HomesLate,
    HomesMissing,
    ProtectedAccounts,
    RowsUnreadable,
    SurplusRights,
)
from labstore.reports.report import Report

DbPlan = Plan[Change]
EXAMPLES = 5


def plan_accounts(facts: DbFacts) -> DbPlan:
    """Everything there is to do, account by account, each in the order in which it has to be done."""
    ground = Ground(facts)
    steps: list[DbStep] = []
    untouched: dict[str, str] = {}
    beside = _Beside(ground)
    for user in ground.users():
        way = _way(ground, user)
        steps += _followed(ground, way)
        if way.untouched:
            untouched[str(user)] = way.untouched
        beside.look(way)
    return Plan(tuple(steps), untouched, reports=tuple(beside.reports()))


def _way(ground: Ground, user: DbUser) -> Way:
    facts = ground.facts
    listing, row, file = ground.listing(user.kind), facts.ledger.accounts.get(user), facts.files.get(user)
    found = file.value if isinstance(file, Fact) else None
    held = {row.generation} if row is not None and (user, row.generation) in facts.held else set()
    return Way(
        user=user,
        row=row,
        entry=listing.entries.get(user) if listing else None,
        absent=ground.absent(user, row),
        file=found,
        found={key: view.accounts.get(user) for key, view in ground.known.items()},
        sessions={key: count for key, view in ground.known.items() if (count := view.sessions.get(user))},
        held=held,
        asked=ground.asked(user),
        stone=facts.ledger.tombstones.get(user),
        rotation=ground.rotation(row, found),
    )


def _followed(ground: Ground, way: Way) -> Iterator[DbStep]:
    longest = 20 + 6 * len(ground.hosts)
    taken: Counter[str] = Counter()
    for _ in range(longest):
        step = next_step(ground, way)
        if step is None:
            return
        assert step.after is not None
        taken[step.key] += 1
        # the same act may be due twice, as before and after a rotation's window that is closed at once
        yield step if taken[step.key] == 1 else replace(step, key=f"{step.key} again")
        carry_out(ground, way, step.after)
    raise AssertionError(f"the plan for {way.user} finds no end")


class _Beside:
    """What is worth saying beside what is done: counted, with a few examples, never one line per account."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._seen: dict[tuple[str, HostKey | None], list[DbUser]] = {}

    def look(self, way: Way) -> None:
        for remark in way.remarks:
            self._note(remark, None, way.user)
        for key, found in way.found.items():
            if found is None:
                continue
            if not found.touchable:
                self._note("protected", key, way.user)
            elif way.row is not None and surplus(found, way.user, self._ground.hosts[key]):
                self._note("surplus", key, way.user)

    def _note(self, what: str, key: HostKey | None, user: DbUser) -> None:
        self._seen.setdefault((what, key), []).append(user)

    def reports(self) -> Iterator[Report]:
        for (what, key), users in self._seen.items():
            names = tuple(str(user) for user in users[:EXAMPLES])
            if what == NO_HOME:
                yield self._homes(users, names)
            elif what == FOREIGN:
                yield FilesInTheWay(len(users), names)
            else:
                kind = ProtectedAccounts if what == "protected" else SurplusRights
                yield kind(str(key), len(users), names)
        yield from self._directory()
        foreign = self._ground.facts.ledger.foreign
        if foreign:
            yield RowsUnreadable(len(foreign), foreign[:EXAMPLES])

    def _homes(self, users: list[DbUser], names: tuple[str, ...]) -> Report:
        """How many wait for a home, and whether one of them waits for too long."""
        waiting, at = self._ground.facts.waiting, self._ground.at
        oldest = max(((at - waiting[user]).total_seconds() for user in users if user in waiting), default=0.0)
        late = oldest >= self._ground.settings.pacing.home_alert
        return (HomesLate if late else HomesMissing)(len(users), names, int(oldest))

    def _directory(self) -> Iterator[Report]:
        for kind, listing in self._ground.listings.items():
            if not listing.agreed:
                yield DirectoryDisagrees(kind.value, listing.doubt)
            if listing.rejected:
                words = tuple(f"{each.shown}: {each.why}" for each in listing.rejected[:EXAMPLES])
                yield EntriesRejected(kind.value, len(listing.rejected), words)
