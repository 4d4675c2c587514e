"""Who may mount what, since when and why, as plain data: what `--json`, the API and the page show.

The fields are documented in docs/reference/json.md and stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from labstore.exports.apply import step_words
from labstore.exports.cycle import Proposal
from labstore.exports.grants import Grant, GrantTable
from labstore.exports.history import Difference, Generation, Held, History, Pin
from labstore.formats.exports5 import option_text
from labstore.model.address import Client, in_order
from labstore.model.exports import Export
from labstore.model.names import ExportPath
from labstore.model.site import PUBLIC_OWNER
from labstore.ports.export_server import Served
from labstore.reconcile.facts import Answer, Fact
from labstore.reconcile.record import state_of

Words = dict[str, Any]


def grant_words(grant: Grant) -> Words:
    return {
        "path": str(grant.path),
        "client": str(grant.client),
        "source": grant.source,
        "since": grant.since.isoformat(),
        "project_id": grant.project_id,
        "instance_id": grant.instance_id,
        "instance_name": grant.instance_name,
        "region": grant.region,
    }


def export_words(export: Export) -> Words:
    """An export without its clients. `project` is None for a public one."""
    return {
        "path": str(export.path),
        "owner": str(export.owner),
        "project": None if export.owner.startswith(PUBLIC_OWNER) else str(export.owner),
        "options": option_text(export.options),
        "world": export.world,
    }


# --- show ------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Shown:
    """What the newest generation grants, beside what the server says."""

    cluster: str
    generation: Generation | None
    table: GrantTable
    served: Answer[Served] | None

    @classmethod
    def of(cls, cluster: str, history: History | None, served: Answer[Served] | None) -> Shown:
        newest = history.newest() if history else None
        if history is None or newest is None:
            return cls(cluster, None, _adopted(served), served)
        return cls(cluster, history.generation(newest), history.table(newest), served)

    @classmethod
    def past(cls, cluster: str, history: History, number: int) -> Shown:
        """A former table; what the server says today is not about it."""
        return cls(cluster, history.generation(number), history.table(number), None)

    def words(self, owner: str | None = None) -> Words:
        """With `owner` (a project's name, or `public_<name>`) that one's exports only."""
        exports = [
            self._export(each) for path, each in sorted(self.table.exports.items()) if owner in (None, each.owner)
        ]
        return {
            "cluster": self.cluster,
            "generation": self.generation.number if self.generation else None,
            "at": self.generation.at.isoformat() if self.generation else None,
            "who": self.generation.who if self.generation else None,
            "server": self._server(),
            "exports": exports,
        }

    def _server(self) -> Words:
        if not isinstance(self.served, Fact):
            problem = self.served.report.message() if self.served else "not asked"
            return {"readable": False, "problem": problem, "running": None, "generation": None, "drift": []}
        served = self.served.value
        return {
            "readable": True,
            "problem": None,
            "running": served.running,
            "generation": served.generation,
            "drift": [str(path) for path in served.drift],
        }

    def _export(self, export: Export) -> Words:
        grants = self.table.grants.get(export.path, {})
        clients = [grant_words(grants[client]) for client in in_order(tuple(grants))]
        for words in clients:
            del words["path"]
        return {**export_words(export), "served": self._is_served(export.path), "clients": clients}

    def _is_served(self, path: ExportPath) -> bool | None:
        if not isinstance(self.served, Fact) or not self.served.value.running:
            return None
        return path in self.served.value.stored.by_path and path not in self.served.value.drift


def _adopted(served: Answer[Served] | None) -> GrantTable:
    """What is on file where no generation says who it is from."""
    if not isinstance(served, Fact):
        return GrantTable()
    stored = served.value.stored
    grants = {e.path: {c: Grant(e.path, c, "adopted", served.at) for c in e.clients} for e in stored}
    return GrantTable({e.path: Export(e.owner, e.path, e.options, (), e.world) for e in stored}, grants)


# --- plan ------------------------------------------------------------------------------------------------------------


def plan_words(cluster: str, proposal: Proposal, figures: Mapping[str, object]) -> Words:
    """A plan as it would be carried out."""
    plan, facts = proposal.plan, proposal.facts
    missing = facts.snapshot.missing()
    said = [*proposal.said, *(answer.report for answer in missing), *plan.reports]
    return {
        "cluster": cluster,
        "at": facts.at.isoformat(),
        "state": state_of(plan, (), plan.reports, bool(missing)).value,
        "generation": facts.served.generation,
        "steps": [dict(step_words(step)) for step in plan.steps],
        "admits": sum(len(step.after.clients) for step in plan.steps if step.after and _admits(step.key)),
        "removes": plan.removals,
        "untouched": dict(plan.untouched),
        "refusals": [{"keys": list(r.keys), "report": r.report.to_dict()} for r in plan.refusals],
        "reports": [report.to_dict() for report in dict.fromkeys(said)],
        "facts": dict(figures),
    }


# --- history ---------------------------------------------------------------------------------------------------------


def generation_words(generation: Generation) -> Words:
    admits = sum(len(step.get("adds") or ()) for step in generation.steps if _admits(str(step.get("key"))))
    removes = sum(len(step.get("removes") or ()) for step in generation.steps)
    return {
        "number": generation.number,
        "at": generation.at.isoformat(),
        "who": generation.who,
        "why": generation.why,
        "state": generation.state.value,
        "digest": generation.digest,
        "admits": admits,
        "removes": removes,
        "facts": dict(generation.facts),
        "steps": [dict(step) for step in generation.steps],
    }


def _admits(key: str) -> bool:
    """A step that only repeats what is on file admits nobody."""
    return not key.endswith(" refresh")


def difference_words(
    a: int, b: int, difference: Difference, stays_out: Mapping[tuple[str, str], str] | None = None
) -> Words:
    """`stays_out`: for a rollback, what of `b` is not served again all the same, by path and client."""
    out = stays_out or {}
    admits = [grant_words(grant) for grant in difference.added]
    return {
        "from": a,
        "to": b,
        "admits": [words for words in admits if (words["path"], words["client"]) not in out],
        "stays_out": [
            {**words, "reason": out[key]} for words in admits if (key := (words["path"], words["client"])) in out
        ],
        "removes": [grant_words(grant) for grant in difference.removed],
        "exports_added": [export_words(export) for export in difference.exports_added],
        "exports_removed": [export_words(export) for export in difference.exports_removed],
    }


def pin_words(pin: Pin | None) -> Words | None:
    if pin is None:
        return None
    return {"generation": pin.generation, "until": pin.until.isoformat(), "who": pin.who, "why": pin.why}


# --- why -------------------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Reason:
    """One grant that holds or held: by which generation it came, and what ended it."""

    held: Held
    owner: str | None
    began: Generation | None
    ended: Generation | None

    def words(self) -> Words:
        return {
            **grant_words(self.held.grant),
            "owner": self.owner,
            "from_generation": self.held.first,
            "to_generation": self.held.last,
            "began": _short(self.began),
            "ended": _short(self.ended),
            "ended_by": self.held.ended_by,
        }


@dataclass(frozen=True)
class Why:
    """The answer to "may this address mount this path, and why?".

    `everybody` are exports to every address.
    """

    address: Client
    path: ExportPath | None
    now: tuple[Reason, ...]
    before: tuple[Reason, ...]
    everybody: tuple[Export, ...]

    @property
    def allowed(self) -> bool:
        return bool(self.now or self.everybody)

    def words(self) -> Words:
        return {
            "address": str(self.address),
            "path": str(self.path) if self.path else None,
            "allowed": self.allowed,
            "now": [reason.words() for reason in self.now],
            "before": [reason.words() for reason in self.before],
            "everybody": [export_words(export) for export in self.everybody],
        }


def why(history: History, address: Client, path: ExportPath | None = None) -> Why:
    """Every grant, past and present, by the generations that were applied. Raises sqlite3.Error."""
    newest = history.newest()
    table = history.table(newest) if newest else GrantTable()
    reasons = [_reason(history, table, held) for held in history.why(address, path)]
    everybody = [e for e in table.exports.values() if e.world and (path is None or path.under(e.path))]
    return Why(
        address,
        path,
        tuple(reason for reason in reasons if reason.held.last is None),
        tuple(reason for reason in reasons if reason.held.last is not None),
        tuple(sorted(everybody, key=lambda export: export.path)),
    )


def _reason(history: History, table: GrantTable, held: Held) -> Reason:
    export = table.exports.get(held.grant.path)
    ended = history.generation(held.last + 1) if held.last is not None else None
    return Reason(held, str(export.owner) if export else None, history.generation(held.first), ended)


def _short(generation: Generation | None) -> Words | None:
    if generation is None:
        return None
    return {"number": generation.number, "at": generation.at.isoformat(), "who": generation.who, "why": generation.why}
