"""What the commands of failover show."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

import click

from labstore.cli.output import Column, heading, line, reports, table
from labstore.failover.certificate import Certificate, Fate
from labstore.failover.cluster import PairMover, Proposal, Run
from labstore.failover.init import Task
from labstore.failover.mover import Moment, Progress
from labstore.failover.plan import MovePlan
from labstore.failover.resolve import Findings
from labstore.failover.states import Named, NodeState, PairState, PairView, node_state, progress_words
from labstore.failover.steps import KINDS, value
from labstore.model.drbd import ResourceStatus
from labstore.ports.storage_node import (
    Aspect,
    BarrierFound,
    BindsFound,
    ExportsFound,
    FilesFound,
    NodeFacts,
    RecoveryFound,
    RunsFound,
    ServerFound,
    UnitsFound,
)
from labstore.reconcile.codec import converter
from labstore.reconcile.facts import Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.telemetry.words import safe

_GOOD = (PairState.HEALTHY, PairState.VERIFYING)
_MIDDLING = (PairState.RESYNCING, PairState.SERVING_ALONE, PairState.DOWN)


# --- status ----------------------------------------------------------------------------------------------------------


def status(view: PairView, named: Named) -> None:
    """Both nodes side by side, what is wrong, and what to do."""
    colour = "green" if named.state in _GOOD else "yellow" if named.state in _MIDDLING else "red"
    click.echo(f"{view.pair.cluster.name}: " + click.style(named.state.value, fg=colour, bold=True))
    line()
    names = [name for name, _ in view.nodes]
    cells = [_cells(answer.value, view) if isinstance(answer, Fact) else {} for _, answer in view.nodes]
    rows = [(title, *(each.get(title, "?") for each in cells)) for title in _titles(cells)]
    table([Column(""), *(Column(name, loose=True) for name in names)], rows)
    if named.reports:
        line()
        reports(named.reports)
    line()
    line(f"-> {named.next}", bold=True)


def _titles(cells: list[dict[str, str]]) -> list[str]:
    return list(dict.fromkeys(title for each in cells for title in each))


def _cells(facts: NodeFacts, view: PairView) -> dict[str, str]:
    """One column: what there is to see of a node."""
    pair = view.pair
    cells = {"node": node_state(facts, pair).value}
    replication = value(facts.replication, {})
    for resource in pair.settings.replication.resources:
        found = replication.get(resource.name)
        cells[f"drbd {resource.name}"] = (
            _resource(found) if found else _lacking(facts, Aspect.REPLICATION, "not running")
        )
    mounts = value(facts.mounts, {})
    for volume in pair.volumes:
        mount = mounts.get(volume.name)
        cells[volume.mount] = mount.state.value if mount else _lacking(facts, Aspect.MOUNTS, "?")
    if pair.cluster.export_root is not None:
        cells[pair.cluster.export_root] = _tree(value(facts.binds, BindsFound()))
    server = value(facts.server, ServerFound(0))
    cells["nfs server"] = _server(server) if isinstance(facts.server, Fact) else _lacking(facts, Aspect.SERVER, "?")
    recovery = value(facts.recovery, RecoveryFound(False))
    cells["client records"] = _recovery(recovery)
    exports = value(facts.exports, ExportsFound())
    cells["exports"] = _exports(exports)
    held = value(facts.addresses, frozenset()) & set(pair.cluster.service_addresses)
    cells["address"] = ", ".join(sorted(held)) or "none"
    blocked = value(facts.barrier, BarrierFound()).addresses
    cells["clients"] = "kept out" if blocked else "let in"
    if pair.settings.units:
        units = value(facts.units, UnitsFound())
        cells["units"] = f"{len(units.active)} of {len(pair.settings.units)} run"
    runs = value(facts.runs, RunsFound())
    cells["served last"] = _moment(runs.last_active)
    cells["run"] = runs.running or (f"unfinished {runs.unfinished} at {runs.at_step}" if runs.unfinished else "none")
    files = value(facts.files, FilesFound())
    cells["files"] = "as wanted" if not files.differences else f"{len(files.differences)} differences"
    cells["site file"] = files.config
    return cells


def _moment(stamp: str) -> str:
    """A moment of a node's clock, in local time; as it is where that is none."""
    if not stamp:
        return "never"
    try:
        return f"{datetime.fromisoformat(stamp).astimezone():%Y-%m-%d %H:%M:%S}"
    except ValueError:
        return safe(stamp)


def _lacking(facts: NodeFacts, aspect: Aspect, otherwise: str) -> str:
    return "cannot be seen" if isinstance(facts.answer(aspect), Missing) else otherwise


def _resource(found: ResourceStatus) -> str:
    words = [found.role.value, found.connection.value]
    for device in found.devices:
        words.append(device.disk.value)
        if device.replication.receiving or device.replication.sending or device.replication.verifying:
            words.append(f"{device.replication}: {progress_words(device)}")
    return ", ".join(words)


def _tree(found: BindsFound) -> str:
    missing = f", {len(found.missing)} missing" if found.missing else ""
    return f"{found.wanted} bind mounts{missing}"


def _server(found: ServerFound) -> str:
    if not found.threads:
        return "stopped"
    grace = ", in grace" if found.grace else ""
    return f"{found.threads} threads as {found.scope or 'no answer'}{grace}, {found.clients} clients"


def _recovery(found: RecoveryFound) -> str:
    where = "right place" if found.right else "WRONG PLACE" if found.running else "stopped"
    return where if found.records is None else f"{where}, {found.records} clients"


def _exports(found: ExportsFound) -> str:
    if found.generation is None:
        return "none in place"
    drift = f", {found.drift} differ" if found.drift else ""
    return f"generation {found.generation}, {found.paths} paths{drift}"


def status_words(view: PairView, named: Named) -> dict[str, Any]:
    """For `--json`."""
    convert = converter()
    nodes: dict[str, Any] = {}
    for name, answer in view.nodes:
        if isinstance(answer, Fact):
            state = node_state(answer.value, view.pair)
            nodes[name] = {"state": state.value, "facts": convert.unstructure(answer.value)}
        else:
            nodes[name] = {"state": NodeState.UNREACHABLE.value, "report": answer.report.to_dict()}
    return {
        "cluster": str(view.pair.cluster.name),
        "state": named.state.value,
        "active": named.active,
        "next": named.next,
        "reports": [report.to_dict() for report in named.reports],
        "nodes": nodes,
    }


# --- moving ----------------------------------------------------------------------------------------------------------


def proposal(found: Proposal, expected: Mapping[str, Mapping[str, float]]) -> None:
    """The steps of each node with the seconds that each usually takes, and what holds them back."""
    for part in found.parts:
        heading(f"{found.verb}: {part.node}")
        if part.plan.empty and not part.plan.refusals:
            line("  nothing to do")
        times = _times(part.plan, expected.get(part.node, {}))
        rows = [(number, step.why, f"{times[step.key]:.1f} s") for number, step in enumerate(part.plan.steps, 1)]
        if rows:
            table([Column("", right=True), Column("step", loose=True), Column("usually", right=True)], rows)
            line(f"  together about {sum(times.values()):.0f} s")
        for key, why in part.plan.untouched.items():
            line(f"  not needed: {key} ({why})")
    if found.refusals:
        line()
        reports(found.refusals)


def _times(plan: MovePlan, expected: Mapping[str, float]) -> dict[str, float]:
    return {step.key: expected.get(step.key, KINDS[step.after.do].seconds) for step in plan.steps if step.after}


def proposal_words(found: Proposal, expected: Mapping[str, Mapping[str, float]]) -> dict[str, Any]:
    return {
        "verb": found.verb,
        "parts": [
            {
                "node": part.node,
                "steps": [
                    {"key": key, "seconds": round(seconds, 2)}
                    for key, seconds in _times(part.plan, expected.get(part.node, {})).items()
                ],
                "untouched": dict(part.plan.untouched),
            }
            for part in found.parts
        ],
        "refusals": [report.to_dict() for report in found.refusals],
    }


def progress(step: Progress) -> None:
    """A line as a step begins, and how it ended."""
    usual = f" (usually {step.expected:.1f} s)" if step.expected is not None and step.expected >= 1 else ""
    if step.moment is Moment.BEGIN:
        click.echo(f"{safe(step.node)}: {safe(step.title)}{usual} ... ", nl=False)
    elif step.moment is Moment.DONE:
        more = "".join(f", {key} {said}" for key, said in (step.said.data if step.said else {}).items())
        click.echo(f"{step.seconds:.2f} s{safe(more)}")
    else:
        click.secho(f"failed after {step.seconds:.2f} s", fg="red")


def run(found: Run) -> None:
    """What came of it."""
    if found.reports:
        line()
        reports(found.reports)
    line()
    if found.done:
        took = any(moved.results for _, moved in found.moves)
        words = f"done in {found.seconds:.1f} s" if took else "nothing was to be done"
        click.secho(f"{found.verb}: {words}", fg="green", bold=True)
    else:
        words = "refused; nothing was done" if found.refused else "not done"
        click.secho(f"{found.verb}: {words}", fg="red", bold=True)
        if not found.refused:
            line("-> run it again, it goes on from here; or go back to serving: labstore failover abort")


def run_words(found: Run) -> dict[str, Any]:
    return {
        "verb": found.verb,
        "done": found.done,
        "seconds": round(found.seconds, 3),
        "nodes": [
            {
                "node": node,
                "done": moved.done,
                "seconds": round(moved.seconds, 3),
                "steps": [{"key": result.key, "outcome": result.outcome.value} for result in moved.results],
                "data": moved.data,
            }
            for node, moved in found.moves
        ],
        "reports": [report.to_dict() for report in found.reports],
    }


def tasks(found: tuple[Task, ...]) -> None:
    """What setting up or adjusting would do."""
    if not found:
        line("nothing to do: everything is as the site file says")
        return
    rows = [(number, task.node, task.title) for number, task in enumerate(found, 1)]
    table([Column("", right=True), Column("node"), Column("what", loose=True)], rows)


def task_words(found: tuple[Task, ...]) -> list[dict[str, str]]:
    return [{"node": task.node, "what": task.what.value, "subject": task.subject} for task in found]


def last_step(mover: PairMover) -> str:
    """Where a run that somebody else drives has got to."""
    try:
        facts = mover.own.look(frozenset({Aspect.RUNS}))
    except StepFailed:
        return ""
    found = value(facts.runs, RunsFound())
    return f"{found.running}" if found.running else ""


# --- split brain -----------------------------------------------------------------------------------------------------


def findings(found: Findings) -> None:
    """Both sides of what is parted, and what each choice would lose."""
    if not found.partings:
        line("both sides of every resource see each other: nothing to resolve")
        return
    for parting in found.partings:
        heading(f"{parting.resource}: " + ("SPLIT BRAIN" if parting.split else "parted") + f"; {parting.words}")
        first, second = parting.sides
        rows = [
            ("role", first.role, second.role),
            ("disk", first.disk, second.disk),
            ("serves", "yes" if first.serves else "no", "yes" if second.serves else "no"),
            ("last began to serve", _to_the_second(first.last_served), _to_the_second(second.last_served)),
            ("written since they parted", _kib(first.written), _kib(second.written)),
        ]
        table([Column(""), Column(first.node, loose=True), Column(second.node, loose=True)], rows)
        if parting.split:
            for side in parting.sides:
                line(f"  newest files of {side.node}:")
                for file in (side.newest or "not known").split("; "):
                    line(f"    {file}")
            for loser in parting.sides:
                line(f"  --discard {loser.node}: loses {_kib(loser.written)} that {loser.node} wrote")
        else:
            line("  nothing is lost by connecting them again")


def _to_the_second(at: str) -> str:
    """A time as it is kept, for a narrow column."""
    return f"{at[:10]} {at[11:19]} UTC" if at else "never"


def _kib(number: int | None) -> str:
    return "unknown" if number is None else f"{number / 1024:.1f} MiB"


def finding_words(found: Findings) -> dict[str, Any]:
    words = converter().unstructure(found)
    assert isinstance(words, dict)
    return {**words, "split": [str(parting.resource) for parting in found.split]}


# --- certificate -----------------------------------------------------------------------------------------------------

_FATE_STYLE = {Fate.CARRIED: "green", Fate.NOTHING: "", Fate.LOST: "red", Fate.NOT_BACK: "red"}


def certificate(found: Certificate, at: str) -> None:
    """Per client: what it held, what it got back, what it lost."""
    cut = f"cut off on {found.cut_on} at {found.cut_at}, " if found.cut_on else "taken over without a word, "
    heading(f"certificate of {at}: {cut}served on {found.served_on}")
    rows = [
        (
            each.address or "?",
            each.client,
            f"{each.opens_reclaimed}/{each.opens}",
            f"{each.locks_reclaimed}/{each.locks}",
            each.fate.value,
        )
        for each in found.lines
    ]
    columns = [Column("address"), Column("client", loose=True), Column("opens", right=True)]
    table([*columns, Column("locks", right=True), Column("fate")], rows)
    for each in found.lines:
        for name in each.missing:
            line(f"  {each.address}: lost {name}", fg="red")
    (opens, opens_back), (locks, locks_back) = found.opens, found.locks
    line(f"opens {opens_back} of {opens}, locks {locks_back} of {locks}" + _when(found))


def _when(found: Certificate) -> str:
    back = f"; seen {found.seconds:.1f} s after the cut" if found.seconds is not None else ""
    return back + ("" if found.complete else "; the watch ended before the grace period did")


def certificate_words(found: Certificate) -> dict[str, Any]:
    words = converter().unstructure(found)
    assert isinstance(words, dict)
    return {**words, "lossless": found.lossless}
