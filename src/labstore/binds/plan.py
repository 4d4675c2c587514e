"""What is to be made, mounted and unmounted. What is there is never changed."""

from __future__ import annotations

from collections.abc import Iterator

from labstore.binds.facts import BindFacts, Found, Seen
from labstore.model.binds import Kind, Thing
from labstore.reconcile.facts import Fact, Missing
from labstore.reconcile.plan import Plan, Proof, Step, Verb
from labstore.reports.binds import DirectoryDiffers, DirectoryForeign, PointForeign, SourceAbsent
from labstore.reports.report import Report

BindPlan = Plan[Thing]
BindStep = Step[Thing]
UNSEEN = "it could not be looked at"


def plan_binds(facts: BindFacts) -> BindPlan:
    """Unmount what nobody wants, make directories from the top, then mount."""
    steps = [_unbound(thing) for thing in facts.extra]
    untouched: dict[str, str] = {}
    reports: list[Report] = []
    stuck, lacking = set[str](), _lacking(facts)
    for thing in facts.wanted:
        answer = facts.found.get(thing.key)
        if not isinstance(answer, Fact):
            untouched[thing.key] = answer.report.message() if isinstance(answer, Missing) else UNSEEN
            stuck.add(thing.path)
            continue
        why = _stuck_above(thing, stuck) or _left(thing, answer.value, lacking)
        if why:
            untouched[thing.key] = why
            stuck.add(thing.path)
        elif answer.value.state is Seen.ABSENT:
            steps.append(Step(thing.key, Verb.ADD, None, thing, _title(thing)))
        reports += _said(thing, answer.value, lacking)
    return Plan(tuple(steps), untouched, reports=tuple(dict.fromkeys(reports)))


def _unbound(thing: Thing) -> BindStep:
    return Step(thing.key, Verb.REMOVE, thing, None, f"unmount {thing.path}", {thing.path: Proof.DECLARED})


def _title(thing: Thing) -> str:
    if thing.kind is Kind.BIND:
        return f"show {thing.source} at {thing.path}"
    return f"make {thing.path} ({owned(thing.owner, thing.gid, thing.mode)})"


def owned(owner: int, gid: int, mode: int) -> str:
    """`0:50380 2775`."""
    return f"{owner}:{gid} {mode:04o}"


def _stuck_above(thing: Thing, stuck: set[str]) -> str:
    """Nothing is made inside of what could not be seen or is not ours."""
    at = thing.path if thing.kind is Kind.DIRECTORY else f"{thing.source}/"
    parts = at.split("/")
    above = next((path for end in range(2, len(parts)) if (path := "/".join(parts[:end])) in stuck), None)
    return f"{above} is not as it should be" if above else ""


def _left(thing: Thing, found: Found, lacking: set[str]) -> str:
    if found.state is Seen.FOREIGN:
        return found.words
    if found.state is Seen.ABSENT and thing.source in lacking:
        return f"there is no directory {thing.source}"
    return ""


def _lacking(facts: BindFacts) -> set[str]:
    """Sources of mounts that are not there and that nobody makes."""
    made = {thing.path for thing in facts.wanted if thing.kind is Kind.DIRECTORY}
    return {str(path) for path in facts.without_source if path not in made}


def _said(thing: Thing, found: Found, lacking: set[str]) -> Iterator[Report]:
    if found.state is Seen.FOREIGN:
        yield (DirectoryForeign if thing.kind is Kind.DIRECTORY else PointForeign)(thing.path, found.words)
    elif found.state is Seen.ABSENT and thing.source in lacking:
        yield SourceAbsent(thing.path, str(thing.source))
    elif found.state is Seen.THERE and thing.kind is Kind.DIRECTORY and thing.project is not None:
        have, want = (found.owner, found.gid, found.mode), (thing.owner, thing.gid, thing.mode)
        if have[:2] != want[:2]:
            yield DirectoryDiffers(thing.path, owned(*have), owned(*want))
