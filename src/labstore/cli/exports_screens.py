"""The screens of `labstore exports`: made from the same plain data that `--json` prints."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from labstore.cli.output import Column, folded, line, reports, table
from labstore.exports.adoption import option_change
from labstore.exports.cycle import Proposal
from labstore.exports.plan import plan_exports
from labstore.reports import render
from labstore.reports.report import Override
from labstore.telemetry.exports import Shown
from labstore.telemetry.words import ago, plural

_OWNERS, _FEW = 8, 4
"""Owners, and clients of each, that are named where something is held back."""
Words = Mapping[str, Any]
_MOST = 40
"""Steps and reasons that one screen shows; `--json` has all."""


def moment(text: str | None) -> str:
    return render.moment(datetime.fromisoformat(text)) if text else ""


# --- show ------------------------------------------------------------------------------------------------------------


def show(shown: Shown, owner: str | None) -> None:
    words = shown.words(owner)
    exports = words["exports"]
    clients = sum(len(export["clients"]) for export in exports)
    head = f"{words['cluster']}: {plural(len(exports), 'export')}, {plural(clients, 'client')}"
    if words["generation"] is None:
        line(f"{head}; nothing was applied by labstore yet", bold=True)
    else:
        line(f"{head}; generation {words['generation']} of {moment(words['at'])}", bold=True)
        line(f"applied by {words['who']}")
    if shown.served is None:
        line("so it was then; what the server says now: labstore exports show")
    else:
        _server(words["server"])
    if owner is not None:
        for export in exports:
            _export(export)
    elif exports:
        line()
        _overview(exports, shown.served is not None)


def _server(server: Words) -> None:
    if not server["readable"]:
        folded(f"what the server serves cannot be read: {server['problem']}", 0)
    elif not server["running"]:
        line("the NFS server is not running; its files are kept ready", fg="yellow")
    elif server["drift"]:
        folded(f"the server answers otherwise than its files for: {', '.join(server['drift'][:8])}", 0)


def _overview(exports: Sequence[Words], asked: bool) -> None:
    """`asked`: whether the server was asked what it serves."""
    columns = [Column("OWNER"), Column("EXPORT", loose=True), Column("CLIENTS", right=True), Column("SERVED")]
    rows = [
        (export["owner"], export["path"], "all" if export["world"] else len(export["clients"]), _served(export))
        for export in exports
    ]
    table(columns, rows) if asked else table(columns[:3], [row[:3] for row in rows])


def _served(export: Words) -> str:
    return {True: "yes", False: "NO", None: "?"}[export["served"]]


def _export(export: Words) -> None:
    line()
    line(f"{export['path']}", bold=True)
    folded(export["options"].replace(",", ", "), 2)
    if export["world"]:
        line("  for every address there is")
    if not export["clients"]:
        return
    columns = [Column("  CLIENT"), Column("INSTANCE", loose=True), Column("REGION"), Column("SINCE")]
    rows = [
        (
            f"  {client['client']}",
            client["instance_name"] or client["source"],
            client["region"],
            moment(client["since"]),
        )
        for client in export["clients"]
    ]
    table(columns, rows)


# --- plan ------------------------------------------------------------------------------------------------------------


def plan(words: Words, proposal: Proposal, doing: Callable[[Iterable[Override]], str] | None = None) -> None:
    """What would be done, what is held back and what stays in doubt. `doing` gives the command that would do it all the
    same, with the overrides it needs."""
    steps = words["steps"]
    if words["facts"].get("active") is False:
        line("this node is standby: another one serves, and nothing is written here", fg="yellow")
    total = words["facts"].get("served_clients", 0)
    if steps:
        change = f"admit {words['admits']} and remove {words['removes']} of {plural(total, 'client')}"
        line(f"{words['cluster']}: {plural(len(steps), 'step')} would {change}", bold=True)
    else:
        held = "; see what is held back below" if words["refusals"] else ""
        line(f"{words['cluster']}: nothing to do{held}", bold=True)
    for step in steps[:_MOST]:
        _step(step)
    _more(len(steps), "steps")
    _held_back(proposal, doing)
    _in_doubt(words["untouched"])
    said = [*proposal.said, *(answer.report for answer in proposal.facts.snapshot.missing()), *proposal.plan.reports]
    if said:
        line()
        reports(said)


def _step(step: Words) -> None:
    sign = {"add": "+", "change": "~", "remove": "-"}[step["verb"]]
    colour = {"add": "green", "change": "yellow", "remove": "red"}[step["verb"]]
    line(f"{sign} {step['owner']}  {step['path']}" if step["owner"] else f"{sign} {step['path']}", fg=colour)
    if step["adds"]:
        folded(f"admits {_names(step['adds'])}", 4)
    if step["removes"]:
        by_proof: dict[str, list[str]] = {}
        for client, proof in step["removes"].items():
            by_proof.setdefault(proof, []).append(client)
        for proof, clients in by_proof.items():
            folded(f"removes {_names(clients)} ({proof})", 4)
    if step["options"]:
        folded(f"options: {option_change(step['options']['before'], step['options']['after'])}", 4)
    folded(step["why"], 4)


def _names(clients: Sequence[str], most: int = 12) -> str:
    return ", ".join(clients[:most]) + (f" and {len(clients) - most} more" if len(clients) > most else "")


def _held_back(proposal: Proposal, doing: Callable[[Iterable[Override]], str] | None) -> None:
    if not proposal.plan.refusals:
        return
    line()
    line("held back until a person decides", bold=True)
    reports([refusal.report for refusal in proposal.plan.refusals])
    for owner, clients in list(_concerned(proposal).items())[:_OWNERS]:
        folded(f"{owner} would lose {_names(clients, _FEW)}", 8)
    _more(len(_concerned(proposal)), "owners", _OWNERS)
    if doing and needed(proposal):
        line("to do it all the same (it asks first):")
        line(f"  {doing(needed(proposal))}")


def needed(proposal: Proposal) -> frozenset[Override]:
    """The overrides without which something is held back."""
    return frozenset(each.report.override for each in proposal.plan.refusals if each.report.override)


def _concerned(proposal: Proposal) -> dict[str, list[str]]:
    """By owner, the clients that the steps which are held back would take away."""
    held = {key for refusal in proposal.plan.refusals for key in refusal.keys}
    found: dict[str, list[str]] = {}
    for step in plan_exports(proposal.facts, proposal.goal).steps:
        if step.key in held and step.removes and step.before is not None:
            grants = proposal.facts.granted.grants.get(step.before.path, {})
            names = {str(client): grant.instance_name for client, grant in grants.items()}
            texts = (f"{client} ({names[client]})" if names.get(client) else client for client in step.removes)
            found.setdefault(str(step.before.owner), []).extend(texts)
    return found


def _in_doubt(untouched: Mapping[str, str]) -> None:
    if not untouched:
        return
    line()
    line("kept as it is, in doubt", bold=True)
    for key, why in list(untouched.items())[:_MOST]:
        folded(f"{key.partition(' ')[0]}: {why}", 2)
    _more(len(untouched), "places")


def _more(count: int, what: str, shown: int = _MOST) -> None:
    if count > shown:
        line(f"... and {count - shown} more {what} (--json shows all)")


# --- what a cycle did ------------------------------------------------------------------------------------------------


def outcome(record: Any) -> None:
    """The end of `apply`: what came of it."""
    done, failed = (sum(r.outcome.value == which for r in record.results) for which in ("done", "failed"))
    what = f"{plural(done, 'step')} done, {failed} failed" if done or failed else "nothing was done"
    generation = record.facts.get("generation")
    line(f"{record.state.value}: {what}" + (f"; generation {generation} is served" if generation else ""), bold=True)


# --- history and differences -----------------------------------------------------------------------------------------


def history(generations: Iterable[Words], pin: Words | None) -> None:
    columns = [
        Column("GENERATION", right=True),
        Column("WHEN"),
        Column("WHO", loose=True),
        Column("+", right=True),
        Column("-", right=True),
        Column("WHY", loose=True),
    ]
    rows = [
        (
            g["number"],
            moment(g["at"]),
            g["who"],
            g["admits"],
            g["removes"],
            g["why"] + ("" if g["state"] == "applied" else f" ({g['state']})"),
        )
        for g in generations
    ]
    table(columns, rows)
    if pin:
        line()
        folded(
            f"generation {pin['generation']} is pinned until {moment(pin['until'])} by {pin['who']}: {pin['why']}", 0
        )


def difference(words: Words) -> None:
    line(
        f"from generation {words['from']} to {words['to']}: "
        f"{len(words['admits'])} admitted, {len(words['removes'])} removed",
        bold=True,
    )
    _exports_changed(words)
    for sign, key, colour in (("+", "admits", "green"), ("-", "removes", "red")):
        for grant in words[key][: _MOST * 5]:
            name = grant["instance_name"] or grant["source"]
            line(f"{sign} {grant['path']}  {grant['client']}  {name}", fg=colour)
        if len(words[key]) > _MOST * 5:
            line(f"... and {len(words[key]) - _MOST * 5} more (--json shows all)")
    _stays_out(words)


def _stays_out(words: Words) -> None:
    for grant in words["stays_out"][:_MOST]:
        line(f"  {grant['path']}  {grant['client']}  {grant['instance_name'] or grant['source']}")
        folded(f"stays out: {grant['reason']}", 4)


def _exports_changed(words: Words) -> None:
    before = {export["path"]: export for export in words["exports_removed"]}
    after = {export["path"]: export for export in words["exports_added"]}
    for path in sorted(before.keys() | after.keys()):
        old, new = before.get(path), after.get(path)
        if old and new:
            line(f"~ {path}", fg="yellow")
            folded(_change(old, new), 4)
        elif export := new or old:
            line(f"{'+' if new else '-'} {path}", fg="green" if new else "red")
            folded(_terms(export), 4)


def _change(old: Words, new: Words) -> str:
    parts = [f"options: {option_change(old['options'], new['options'])}"] if old["options"] != new["options"] else []
    parts += [f"owner {old['owner']} becomes {new['owner']}"] if old["owner"] != new["owner"] else []
    if old["world"] != new["world"]:
        parts.append("for everybody now" if new["world"] else "no longer for everybody")
    return "; ".join(parts)


def _terms(export: Words) -> str:
    return str(export["options"]).replace(",", ", ") + (" for everybody" if export["world"] else "")


# --- why -------------------------------------------------------------------------------------------------------------


def why(words: Words, notes: Sequence[str], now: datetime) -> None:
    if words["path"]:
        verdict = f"{words['address']} may {'' if words['allowed'] else 'not '}mount {words['path']}"
    else:
        verdict = f"{words['address']} may mount{':' if words['allowed'] else ' nothing'}"
    line(verdict, bold=True, fg="green" if words["allowed"] else "red")
    for export in words["everybody"]:
        folded(f"{export['path']}: public, for every address there is", 2)
    for reason in words["now"]:
        _reason(reason, now)
    if notes:
        line()
        line("the newest cycle says of it", bold=True)
        for note in notes:
            folded(note, 2)
    if words["before"]:
        line()
        line("before", bold=True)
        for reason in words["before"][:_MOST]:
            _former(reason)


def _reason(reason: Words, now: datetime) -> None:
    age = (now - datetime.fromisoformat(reason["since"])).total_seconds()
    line(f"  {reason['path']}")
    folded(f"as {_origin(reason)}", 4)
    folded(
        f"since {moment(reason['since'])} ({ago(age)}), {_generation(reason['began'], reason['from_generation'])}", 4
    )


def _former(reason: Words) -> None:
    line(f"  {reason['path']}")
    folded(f"as {_origin(reason)}, from {moment(reason['since'])}", 4)
    ended = reason["ended"]
    by = f"{reason['ended_by'] or 'replaced'}"
    folded(f"ended {moment(ended['at']) if ended else ''}: {by}, {_generation(ended, None)}", 4)


def _origin(reason: Words) -> str:
    of = f" of project {reason['owner']}" if reason["owner"] and not reason["owner"].startswith("public_") else ""
    if reason["source"] == "instance":
        return f"instance {reason['instance_name']} ({reason['instance_id']}) in {reason['region']}{of}"
    if reason["source"] == "subnet":
        return f"part of {reason['client']}, which is wholly the project's{of}"
    words = {"declared": "declared in the site file", "adopted": f"found in files that labstore took over{of}"}
    return words.get(reason["source"], str(reason["source"]))


def _generation(words: Words | None, number: int | None) -> str:
    if words is None:
        return f"generation {number}" if number is not None else "a generation that is forgotten"
    return f"generation {words['number']} by {words['who']} ({words['why']})"
