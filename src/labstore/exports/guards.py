"""What may not happen to exports, each rule a pure function of facts and plan."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from labstore.exports.desired import Desired
from labstore.exports.facts import ExportFacts
from labstore.exports.plan import ExportPlan, ExportStep, after, path_of
from labstore.model.address import Client
from labstore.model.exports import Owner
from labstore.model.site import BrakeLimits, Expect, WantedExport
from labstore.ports.node import VolumeState
from labstore.reconcile.facts import Fact, Missing
from labstore.reconcile.guards import guarded
from labstore.reconcile.plan import Proof, Refusal
from labstore.reports.exports import (
    FileNotOurs,
    ForeignExportsBroken,
    ForeignFile,
    LastClient,
    MassRemoval,
    NotActive,
    ProjectIdentityChanged,
    RemovalFromMissing,
    VolumeUnfit,
    WouldBeEmpty,
)
from labstore.reports.report import Override

DOUBTFUL = frozenset({Proof.ABSENT, Proof.DECLARED})
HELD_BACK = DOUBTFUL | {Proof.GONE}


def guard(
    facts: ExportFacts, goal: Desired, plan: ExportPlan, overrides: frozenset[Override] = frozenset()
) -> ExportPlan:
    """The plan without what the rules refuse. Emptiness is judged last, on what the other rules leave."""
    first = guarded(
        facts,
        plan,
        (
            standby,
            unfit_volume,
            removal_from_missing,
            mass_removal,
            lambda facts, plan: mass_contest(facts, plan, goal),
            last_client,
            file_not_ours,
            lambda facts, plan: identity_changed(facts, plan, goal),
        ),
        overrides,
    )
    return guarded(facts, first, (would_be_empty,), overrides)


def standby(facts: ExportFacts, plan: ExportPlan) -> Iterator[Refusal]:
    """Only the node that holds the service address writes (upstream #12)."""
    if isinstance(facts.active, Fact) and facts.active.value:
        return
    found = "it could not be found out" if isinstance(facts.active, Missing) else "the service address is elsewhere"
    if plan.steps:
        yield Refusal(_keys(plan.steps), NotActive(facts.cluster, found))


def unfit_volume(facts: ExportFacts, plan: ExportPlan) -> Iterator[Refusal]:
    """Nothing is exported from a directory that is not the volume (upstream #13). Revocations go on."""
    wanted = {each.path: each.volume for each in facts.wanted}
    for volume in dict.fromkeys(wanted.values()):
        answer = facts.volumes.get(volume.name)
        if isinstance(answer, Fact) and answer.value is VolumeState.FIT:
            continue
        found = answer.value.value if isinstance(answer, Fact) else "its state could not be found out"
        keys = _keys(step for step in plan.steps if wanted.get(path_of(step)) == volume and not step.revokes)
        if keys:
            yield Refusal(keys, VolumeUnfit(volume.name, volume.mount, found))


def removal_from_missing(facts: ExportFacts, plan: ExportPlan) -> Iterator[Refusal]:
    """The last door: an absence is no proof where a region did not answer (upstream #1, #2)."""
    blind = {name for name, region in facts.snapshot.regions.items() if isinstance(region.others, Missing)}
    for step in plan.steps:
        for client, proof in step.removes.items():
            if proof is not Proof.ABSENT:
                continue
            grant = facts.granted.grants.get(path_of(step), {}).get(Client(client))
            if grant is not None and _unanswered(facts, grant.region, grant.project_id, blind):
                yield Refusal((step.key,), RemovalFromMissing(path_of(step), client))


def _unanswered(facts: ExportFacts, region: str, project_id: str, blind: set[str]) -> bool:
    view = facts.snapshot.regions.get(region)
    return isinstance(view.of(project_id), Missing) if view and project_id else bool(blind)


def mass_removal(facts: ExportFacts, plan: ExportPlan) -> Iterator[Refusal]:
    """Two brakes (upstream #4): a low one for absence and declarations, a high one for the cloud's own word.

    An address that moved to another project is not held: keeping it would give a stranger the share.
    """
    brake = facts.settings.brake
    for proofs, limits, words in (
        (DOUBTFUL, brake.absent, "missing from listings, or no longer declared"),
        (frozenset({Proof.GONE}), brake.proven, "deleted by the cloud's word"),
    ):
        steps = [step for step in plan.steps if proofs.intersection(step.removes.values())]
        yield from _per_project(facts, steps, limits, words)
        removed, before = sum(len(step.removes) for step in steps), _size(facts)
        if limits.holds_overall(removed, before):
            yield Refusal(_keys(steps), MassRemoval("all projects", removed, before, words))


def mass_contest(facts: ExportFacts, plan: ExportPlan, goal: Desired) -> Iterator[Refusal]:
    """Where projects may make networks of their own, one server with ports on such a network shows whatever addresses
    its owner likes. A few contests are settled by who came later; many at once wait for a person, as absence does."""
    limits, words = facts.settings.brake.absent, "shown by another project too, which came later"
    steps = [step for step in plan.steps if _contested(step, goal)]
    yield from _per_project(facts, steps, limits, words)
    removed, before = sum(len(_contested(step, goal)) for step in steps), _size(facts)
    if limits.holds_overall(removed, before):
        yield Refusal(_keys(steps), MassRemoval("all projects", removed, before, words))


def _contested(step: ExportStep, goal: Desired) -> list[str]:
    return [c for c, proof in step.removes.items() if proof is Proof.MOVED and Client(c) in goal.contested]


def _per_project(facts: ExportFacts, steps: list[ExportStep], limits: BrakeLimits, words: str) -> Iterator[Refusal]:
    by_owner: dict[Owner, list[ExportStep]] = {}
    for step in steps:
        if step.before is not None:
            by_owner.setdefault(step.before.owner, []).append(step)
    for owner, own in by_owner.items():
        removed = sum(len(step.removes) for step in own)
        before = sum(len(export.clients) or export.world for export in facts.served.stored.by_owner.get(owner, ()))
        if limits.holds_project(removed, before):
            yield Refusal(_keys(own), MassRemoval(f"project {owner}", removed, before, words))


def _size(facts: ExportFacts) -> int:
    return sum(len(export.clients) or export.world for export in facts.served.stored)


def last_client(facts: ExportFacts, plan: ExportPlan) -> Iterator[Refusal]:
    """A project's last client (one network may be it) goes on the cloud's word alone, unless the site file says that
    none is as right as some."""
    left = after(facts.served.stored, plan.steps)
    for wanted in facts.wanted:
        if wanted.public or wanted.expect is not Expect.SOME or wanted.path in left.by_path:
            continue
        for step in plan.steps:
            if path_of(step) == wanted.path and DOUBTFUL & set(step.removes.values()):
                yield Refusal((step.key,), LastClient(wanted.owner, wanted.path, next(iter(step.removes))))


def identity_changed(facts: ExportFacts, plan: ExportPlan, goal: Desired) -> Iterator[Refusal]:
    """A new project of an old name does not inherit its share."""
    for wanted in facts.wanted:
        now = goal.exports[wanted.path].project_id if wanted.path in goal.exports else ""
        before = _known_id(facts, wanted)
        if not now or not before or now == before:
            continue
        keys = _keys(step for step in plan.steps if path_of(step) == wanted.path and step.key.endswith(" admit"))
        if keys:
            yield Refusal(keys, ProjectIdentityChanged(wanted.owner, before, now))


def _known_id(facts: ExportFacts, wanted: WantedExport) -> str:
    grants = facts.granted.grants.get(wanted.path, {})
    return next(
        (grant.project_id for grant in grants.values() if grant.project_id), facts.identities.get(wanted.path, "")
    )


def file_not_ours(facts: ExportFacts, plan: ExportPlan) -> Iterator[Refusal]:
    """A file of the name we need that somebody else wrote is not overwritten (upstream #7)."""
    foreign = {
        report.file.rpartition("/")[2].removesuffix(".exports"): report.file
        for report in facts.served.foreign
        if isinstance(report, ForeignFile | ForeignExportsBroken) and report.file.endswith(".exports")
    }
    for owner, file in foreign.items():
        keys = _keys(step for step in plan.steps if (part := step.after or step.before) and part.owner == owner)
        if keys:
            yield Refusal(keys, FileNotOurs(file))


def would_be_empty(facts: ExportFacts, plan: ExportPlan) -> Iterator[Refusal]:
    """From something to nothing is never right unless it was declared (upstream #5), whoever says so. An address that
    moved to another project is taken away all the same."""
    left = after(facts.served.stored, plan.steps)
    for kind, expect in (("private", facts.settings.expect_private), ("public", facts.settings.expect_public)):
        had = [path for path, export in facts.served.stored.by_path.items() if _kind(export.owner) == kind]
        has = any(_kind(export.owner) == kind for export in left)
        keys = _keys(step for step in plan.steps if path_of(step) in had and HELD_BACK & set(step.removes.values()))
        if had and not has and expect is Expect.SOME and keys:
            yield Refusal(keys, WouldBeEmpty(kind))


def _kind(owner: Owner) -> str:
    return "public" if owner.startswith("public_") else "private"


def _keys(steps: Iterable[ExportStep]) -> tuple[str, ...]:
    return tuple(step.key for step in steps)
