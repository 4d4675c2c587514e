"""What is held back: on a volume that is not there, for a project whose group is in doubt, and more than one mistake
may cost."""

from __future__ import annotations

from collections.abc import Iterator

from labstore.binds.facts import BindFacts
from labstore.binds.plan import BindPlan
from labstore.model.binds import Kind
from labstore.ports.node import VolumeState
from labstore.reconcile.facts import Fact, Missing
from labstore.reconcile.guards import guarded
from labstore.reconcile.plan import Refusal, Verb
from labstore.reports.binds import GroupDiffers, GroupUnknown, ManyUnbound, VolumeAway
from labstore.reports.report import Override

FEW = 5
"""So many mounts may always go at once."""


def guard_binds(facts: BindFacts, plan: BindPlan, overrides: frozenset[Override] = frozenset()) -> BindPlan:
    """The plan without what is held back, and why it is."""
    return guarded(facts, plan, (_volumes_are_here, _groups_agree, _few_go), overrides)


def _volumes_are_here(facts: BindFacts, _plan: BindPlan) -> Iterator[Refusal]:
    for name, answer in sorted(facts.volumes.items()):
        if isinstance(answer, Fact) and answer.value is VolumeState.FIT:
            continue
        found = answer.value.value if isinstance(answer, Fact) else answer.report.message()
        keys = tuple(thing.key for thing in facts.wanted if thing.volume == name)
        yield Refusal(keys, VolumeAway(name, found))


def _groups_agree(facts: BindFacts, plan: BindPlan) -> Iterator[Refusal]:
    """A directory that a wrong group owns shows a project's files to strangers."""
    added = [step.after for step in plan.steps if step.after is not None]
    for project, answer in sorted(facts.groups.items()):
        group = facts.settings.group_of(project)
        made = {thing.path: thing for thing in added if thing.kind is Kind.DIRECTORY and thing.project == project}
        if group is None or not made:
            continue
        keys = tuple(thing.key for thing in added if thing.path in made or thing.source in made)
        gid = next(iter(made.values())).gid
        if isinstance(answer, Missing):
            yield Refusal(keys, GroupUnknown(project, group, answer.report.message()))
        elif answer.value != gid:
            yield Refusal(keys, GroupDiffers(project, group, gid, answer.value))


def _few_go(facts: BindFacts, plan: BindPlan) -> Iterator[Refusal]:
    going = [step.key for step in plan.steps if step.verb is Verb.REMOVE]
    mounted = len(going) + sum(thing.kind is Kind.BIND for thing in facts.wanted)
    if len(going) > FEW and len(going) * 2 > mounted:
        yield Refusal(tuple(going), ManyUnbound(len(going), mounted))
