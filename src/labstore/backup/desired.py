"""What of a job's generations is kept, and why."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import datetime

from labstore.model.backup import Generation, GenerationName, Verdict
from labstore.model.backup_settings import Keep

_PERIODS: tuple[tuple[str, Callable[[datetime], tuple[int, ...]]], ...] = (
    ("hourly", lambda at: (at.year, at.month, at.day, at.hour)),
    ("daily", lambda at: (at.year, at.month, at.day)),
    ("weekly", lambda at: at.isocalendar()[:2]),
    ("monthly", lambda at: (at.year, at.month)),
)


def kept(
    generations: Iterable[Generation], policy: Keep, mounted: Collection[GenerationName] = ()
) -> Mapping[GenerationName, str]:
    """The generations that stay, with the reason. The same set gives the same answer, and what is kept of what is kept
    is all of it. `mounted` ones stay whatever the policy says."""
    newest_first = sorted(generations, key=lambda each: each.name, reverse=True)
    firm = _firm(newest_first, policy, mounted)
    return _within_budget(newest_first, firm, _periodic(newest_first, policy), policy)


def _firm(
    newest_first: Sequence[Generation], policy: Keep, mounted: Collection[GenerationName]
) -> dict[GenerationName, str]:
    """What stays whatever it takes."""
    reasons = {each.name: f"one of the newest {policy.least}" for each in newest_first[: policy.least]}
    proven = [each for each in newest_first if each.verdict is Verdict.PROVEN]
    for each in proven[: policy.least]:
        reasons.setdefault(each.name, f"one of the newest {policy.least} that are proven")
    for each in newest_first:
        if each.name in mounted:
            reasons.setdefault(each.name, "mounted")
        if each.pinned:
            reasons.setdefault(each.name, "pinned")
    return reasons


def _periodic(newest_first: Sequence[Generation], policy: Keep) -> dict[GenerationName, str]:
    """The newest of each of the last so many hours, days, weeks, months. One that failed its proof stands for none."""
    reasons: dict[GenerationName, str] = {}
    sound = [each for each in newest_first if each.verdict is not Verdict.FAILED]
    for period, number_of in _PERIODS:
        seen: set[tuple[int, ...]] = set()
        for each in sound:
            if len(seen) >= getattr(policy, period):
                break
            if (number := number_of(each.at)) not in seen:
                seen.add(number)
                reasons.setdefault(each.name, period)
    return reasons


def _within_budget(
    newest_first: Sequence[Generation],
    firm: Mapping[GenerationName, str],
    periodic: Mapping[GenerationName, str],
    policy: Keep,
) -> dict[GenerationName, str]:
    reasons = dict(firm)
    spent = sum(each.takes or 0 for each in newest_first if each.name in firm)
    for each in newest_first:
        if each.name in reasons or each.name not in periodic:
            continue
        spent += each.takes or 0
        if policy.budget is not None and spent > policy.budget:
            break
        reasons[each.name] = periodic[each.name]
    return reasons
