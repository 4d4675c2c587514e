"""What the commands of binds show."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from labstore.binds.cycle import Done, Proposal
from labstore.binds.facts import Found, Seen
from labstore.binds.plan import owned
from labstore.cli.output import Column, heading, line, reports, table
from labstore.model.binds import Kind, Thing
from labstore.model.names import ClusterName
from labstore.reconcile.codec import plan_to_json
from labstore.reconcile.facts import Answer, Fact
from labstore.reconcile.plan import Verb
from labstore.reconcile.record import Outcome

_MANY = 40
"""So many rows are shown; --json shows all."""


def show(cluster: ClusterName, found: Proposal, project: str | None, whole: bool) -> None:
    """Counts, and one line for everything that is not there (of everything, if it is asked for)."""
    facts = found.facts
    heading(f"{cluster}: {'; '.join(_counts(found)) or 'no share has a place here'}")
    things = [thing for thing in facts.wanted if project in (None, thing.project)]
    rows = [_row(thing, facts.found.get(thing.key)) for thing in things]
    shown = [row for row in rows if whole or project is not None or row[1] != "there"]
    if shown:
        line()
        table(
            [Column("path", loose=True), Column("is"), Column("owner, mode"), Column("shows", loose=True)],
            shown[:_MANY],
        )
    if len(shown) > _MANY:
        line(f"... and {len(shown) - _MANY} more (--json shows all)")
    for thing in facts.extra:
        line(f"{thing.path} is mounted and no longer wanted")
    if found.plan.reports or found.plan.refusals:
        line()
        reports([*(refusal.report for refusal in found.plan.refusals), *found.plan.reports])


def _counts(found: Proposal) -> Iterator[str]:
    """`directories: 12 there, 1 absent`."""
    for kind, word in ((Kind.DIRECTORY, "directories"), (Kind.BIND, "mounts")):
        states = Counter(_state(found.facts.found.get(t.key)) for t in found.facts.wanted if t.kind is kind)
        if states:
            yield f"{word}: " + ", ".join(f"{number} {state}" for state, number in sorted(states.items()))


def _state(answer: Answer[Found] | None) -> str:
    if answer is None:
        return "not looked at"
    return answer.value.state.value if isinstance(answer, Fact) else "not known"


def _row(thing: Thing, answer: Answer[Found] | None) -> tuple[str, str, str, str]:
    have = ""
    if isinstance(answer, Fact) and answer.value.state is Seen.THERE and thing.kind is Kind.DIRECTORY:
        have = owned(answer.value.owner, answer.value.gid, answer.value.mode)
    return thing.path, _state(answer), have, thing.source or ""


def show_words(cluster: ClusterName, found: Proposal) -> dict[str, Any]:
    facts = found.facts
    return {
        "cluster": str(cluster),
        "things": [
            {
                "kind": thing.kind.value,
                "path": thing.path,
                "project": thing.project,
                "shows": thing.source,
                "state": _state(facts.found.get(thing.key)),
                "owned": _row(thing, facts.found.get(thing.key))[2],
            }
            for thing in facts.wanted
        ],
        "extra": [thing.path for thing in facts.extra],
        "reports": _reports(found),
    }


def plan(found: Proposal) -> None:
    """The steps, and what holds others back."""
    steps = found.plan.steps
    rows = [("-" if step.verb is Verb.REMOVE else "+", step.why) for step in steps]
    if rows:
        table([Column(""), Column("what", loose=True)], rows[:_MANY])
    if len(rows) > _MANY:
        line(f"... and {len(rows) - _MANY} more (--json shows all)")
    if not rows:
        line("nothing to do")
    said = [*(refusal.report for refusal in found.plan.refusals), *found.plan.reports]
    if said:
        line()
        reports(said)


def plan_words(found: Proposal) -> dict[str, Any]:
    return plan_to_json(found.plan)


def done(found: Done) -> None:
    good = sum(result.outcome is Outcome.DONE for result in found.results)
    failed = len(found.results) - good
    if found.reports:
        line()
        reports(found.reports)
    line(f"{good} done" + (f", {failed} failed" if failed else ""), fg="red" if failed else "green")


def done_words(found: Done) -> dict[str, Any]:
    return {
        "state": found.state.value,
        "results": [{"key": result.key, "outcome": result.outcome.value} for result in found.results],
        "reports": [report.to_dict() for report in found.reports],
    }


def _reports(found: Proposal) -> list[dict[str, Any]]:
    said = [*(refusal.report for refusal in found.plan.refusals), *found.plan.reports]
    return [report.to_dict() for report in said]
