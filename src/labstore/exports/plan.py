"""From what is served to what is desired: steps that each replace a part of one export. Pure.

A path's admissions and its removals are separate steps, and so are removals on different proof: a guard that holds
back a doubtful removal stops neither a newcomer's admission nor a revocation that cannot wait.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace

from labstore.exports.desired import Desired, DesiredExport
from labstore.exports.facts import ExportFacts
from labstore.exports.grants import Grant, GrantTable
from labstore.model.address import Client, in_order
from labstore.model.exports import Export, ExportTable
from labstore.model.names import ExportPath
from labstore.reconcile.plan import Plan, Proof, Step, Verb

WORLD = "*"
_ORDER = {Proof.MOVED: 0, Proof.GONE: 1, Proof.NONE: 2, Proof.ABSENT: 3, Proof.DECLARED: 4}
ExportStep = Step[Export]
ExportPlan = Plan[Export]


def plan_exports(facts: ExportFacts, goal: Desired) -> ExportPlan:
    """The steps from `facts.served` to `goal`, revocations on positive proof first."""
    stored, drifted = facts.served.stored, frozenset(facts.served.drift)
    steps: list[ExportStep] = []
    for path in sorted({*stored.by_path, *goal.exports, *drifted}):
        own = list(_path_steps(stored.by_path.get(path), goal.exports.get(path)))
        steps += own
        if path in drifted and not own:
            steps.append(_refresh(path, stored.by_path.get(path)))
    return Plan(
        steps=tuple(sorted(steps, key=lambda step: _ORDER[_proof(step)])),
        untouched=dict(_untouched(goal.exports.values())),
        reports=goal.reports + facts.served.foreign,
    )


def after(stored: ExportTable, steps: Iterable[ExportStep]) -> ExportTable:
    """The table that these steps make of what is stored."""
    changed: dict[ExportPath, Export | None] = {}
    for step in steps:
        path = path_of(step)
        changed[path] = _replaced(changed.get(path, stored.by_path.get(path)), step)
    return stored.replacing(changed)


def granted_after(facts: ExportFacts, goal: Desired, table: ExportTable) -> GrantTable:
    """The origin of every client of `table`: as desired, or as before where a removal was held back."""
    grants: dict[ExportPath, dict[Client, Grant]] = {}
    for export in table:
        wanted = goal.exports.get(export.path)
        new: Mapping[Client, Grant] = wanted.grants if wanted else {}
        old = facts.granted.grants.get(export.path, {})
        grants[export.path] = {
            client: new.get(client) or old.get(client) or Grant(export.path, client, "adopted", facts.at)
            for client in export.clients
        }
    return GrantTable({export.path: replace(export, clients=()) for export in table}, grants)


def path_of(step: ExportStep) -> ExportPath:
    """The export path that a step is about."""
    return ExportPath(step.key.partition(" ")[0])


def _path_steps(have: Export | None, want: DesiredExport | None) -> Iterator[ExportStep]:
    if want is None:
        if have is not None:
            names = have.clients or (WORLD,)
            removes: dict[str, Proof] = {str(name): Proof.DECLARED for name in names}
            yield Step(f"{have.path} declared", Verb.REMOVE, have, None, "no longer declared", removes)
        return
    yield from _removals(have, want)
    admission = _admission(have, want)
    if admission is not None:
        yield admission


def _removals(have: Export | None, want: DesiredExport) -> Iterator[ExportStep]:
    if have is None:
        return
    going: dict[Proof, dict[Client, str]] = {}
    for client in have.clients:
        proof, why = want.lost.get(client, (Proof.NONE, ""))
        if proof is not Proof.NONE:
            going.setdefault(proof, {})[client] = why
    for proof, clients in going.items():
        part = replace(have, clients=in_order(tuple(clients)), world=False)
        yield Step(
            f"{have.path} {proof}",
            Verb.REMOVE,
            part,
            None,
            "; ".join(dict.fromkeys(clients.values())),
            {str(client): proof for client in part.clients},
        )
    if have.world and not want.export.world:
        part = replace(have, clients=())
        yield Step(f"{have.path} world", Verb.REMOVE, part, None, "no longer for everybody", {WORLD: Proof.DECLARED})


def _admission(have: Export | None, want: DesiredExport) -> ExportStep | None:
    """Newcomers and changed options of one path; clients covered by a newcomer's network go without a loss."""
    there = set(have.clients) if have else set()
    added = set(want.grants) - there
    covered = {client for client, (proof, _) in want.lost.items() if proof is Proof.NONE} & there
    opened = want.export.world and not (have and have.world)
    same_options = have is not None and _terms(have) == _terms(want.export)
    if not added and not covered and not opened and (same_options or (have is None and not want.grants)):
        return None
    before = replace(have, clients=in_order(covered), world=False) if have else None
    new = replace(want.export, clients=in_order(added))
    why = _why_admitted(want, added, opened) if added or opened else "options change"
    verb = Verb.CHANGE if have else Verb.ADD
    return Step(f"{want.export.path} admit", verb, before, new, why)


def _terms(export: Export) -> tuple[object, ...]:
    return export.owner, export.options


def _why_admitted(want: DesiredExport, added: set[Client], opened: bool) -> str:
    if opened:
        return "declared for everybody"
    names = sorted({want.grants[client].instance_name or want.grants[client].source for client in added})
    shown = ", ".join(names[:4]) + (f" and {len(names) - 4} more" if len(names) > 4 else "")
    return f"seen: {shown}"


def _refresh(path: ExportPath, stored: Export | None) -> ExportStep:
    verb = Verb.CHANGE if stored else Verb.REMOVE
    return Step(f"{path} refresh", verb, stored, stored, "the server answers otherwise than its files")


def _replaced(current: Export | None, step: ExportStep) -> Export | None:
    gone = set(step.before.clients) if step.before else set()
    new = set(step.after.clients) if step.after else set()
    if step.after is None and current is None:
        return None
    base = step.after or current
    assert base is not None
    clients = (set(current.clients) if current else set()) - gone | new
    world = (bool(current and current.world) and not (step.before and step.before.world)) or bool(
        step.after and step.after.world
    )
    return replace(base, clients=in_order(clients), world=world)


def _proof(step: ExportStep) -> Proof:
    return min(step.removes.values(), key=_ORDER.__getitem__, default=Proof.NONE)


def _untouched(exports: Iterable[DesiredExport]) -> Iterator[tuple[str, str]]:
    """One line per path and reason, so that an outage of everything stays readable."""
    for wanted in exports:
        reasons: dict[str, list[Client]] = {}
        for client, why in wanted.held.items():
            reasons.setdefault(why, []).append(client)
        for number, (why, clients) in enumerate(reasons.items()):
            names = ", ".join(in_order(clients)[:3]) + (" ..." if len(clients) > 3 else "")
            key = str(wanted.export.path) + (f" #{number + 1}" if number else "")
            yield key, f"{len(clients)} kept ({names}): {why}"
