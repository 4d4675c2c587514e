"""The source of projects and instances, and what one look at it gives."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from labstore.model.cloud import Instance, Presence, Project
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reports.report import Report


@dataclass(frozen=True)
class RegionView:
    """What one region answered, project by project.

    `instances` holds a fact or Missing per project id. A project that is not a key gets `others`: an empty fact when
    the region listed all projects completely, Missing when it did not.
    `deleted` are instance ids that the region itself declared deleted: positive proof.
    `listing` names the complete listing behind this view; a view refreshed by changes keeps its number, so that two
    looks at one listing never count as two.
    `notes` are what people must know although every answer was found: a list that was caught lying, say.
    """

    name: str
    instances: Mapping[str, Answer[tuple[Instance, ...]]]
    others: Answer[tuple[Instance, ...]]
    deleted: Mapping[str, datetime] = field(default_factory=dict)
    listing: int = 0
    notes: tuple[Report, ...] = ()

    def of(self, project_id: str) -> Answer[tuple[Instance, ...]]:
        return self.instances.get(project_id, self.others)


@dataclass(frozen=True)
class Snapshot:
    """One look at the inventory; all decisions of a cycle are made from one of these.

    `projects` maps id to Project. `regions_known` is Missing when the list of regions itself could not be read;
    then `regions` holds those that were known before.
    """

    at: datetime
    source: str
    projects: Answer[Mapping[str, Project]]
    regions: Mapping[str, RegionView]
    regions_known: Answer[tuple[str, ...]]
    requests: int = 0
    bytes: int = 0

    def missing(self) -> tuple[Missing, ...]:
        """Everything that could not be found out, each once."""
        answers: list[Answer[object]] = [self.projects, self.regions_known]
        for region in self.regions.values():
            answers.append(region.others)
            answers.extend(region.instances.values())
        return tuple(dict.fromkeys(answer for answer in answers if isinstance(answer, Missing)))

    def notes(self) -> tuple[Report, ...]:
        """What the regions' answers want people to know, each once."""
        return tuple(dict.fromkeys(note for region in self.regions.values() for note in region.notes))

    def instances(self) -> list[Instance]:
        """Every instance that was positively seen."""
        seen: list[Instance] = []
        for region in self.regions.values():
            for answer in region.instances.values():
                if isinstance(answer, Fact):
                    seen.extend(answer.value)
        return seen


class Inventory(Protocol):
    """Who has which instances. Implementations answer within their deadlines and never raise for a failed source."""

    def listing(self) -> Snapshot:
        """Look at everything. What failed is Missing, per region and per project."""

    def changes(self, last: Snapshot) -> Snapshot:
        """`last`, brought up to date as cheaply as the source can: new, changed and deleted instances since then.

        A part that cannot be refreshed becomes Missing; the rest goes on. Falls back to a listing where the source
        has no notion of changes.
        """

    def confirm(self, instances: Collection[Instance]) -> Mapping[str, Presence]:
        """Ask for these instances one by one (a bounded number of them): instance id to presence.

        GONE only on the source's positive word, UNKNOWN where it could not be asked. A source that can only say what is
        there leaves out what it lacks: that is absence, for which two complete listings are needed.
        """
