"""The screens of `labstore dbusers`: made from the same plain data that `--json` prints."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any

from labstore.cli.output import Column, folded, line, reports, table
from labstore.model.accounts import Limits
from labstore.model.ledger import Cause
from labstore.reconcile.record import Record
from labstore.reports import render
from labstore.telemetry.records import Said
from labstore.telemetry.words import ago, plural

Words = Mapping[str, Any]
_MOST = 40
"""Steps, accounts and reasons that one screen shows; `--json` has all."""
_SIGNS = {"add": ("+", "green"), "change": ("~", "yellow"), "remove": ("-", "red")}


def moment(text: str | None) -> str:
    return render.moment(datetime.fromisoformat(text)) if text else ""


def since(text: str | None, now: datetime) -> str:
    return f"{ago((now - datetime.fromisoformat(text)).total_seconds())} ago" if text else "never"


def limits(words: Words | None) -> str:
    """For people; of a rule only what it says."""
    if words is None:
        return ""
    if None in words.values():
        said = {name: value for name, value in words.items() if value is not None}
        names = {"max_connections": "connections", "statement_seconds": "s per statement"}
        return ", ".join(f"{value or 'any number of'} {names.get(k, 'queries per hour')}" for k, value in said.items())
    return Limits(**words).words()


# --- everything ------------------------------------------------------------------------------------------------------


def overview(words: Words, now: datetime) -> None:
    total = sum(words["accounts"].values())
    kinds = ", ".join(f"{count} {kind}" for kind, count in words["accounts"].items())
    line(f"{words['site']}: {plural(total, 'account')}" + (f" ({kinds})" if kinds else ""), bold=True)
    states = ", ".join(f"{count} {state}" for state, count in words["states"].items() if state != "live")
    if states:
        line(f"not simply live: {states}")
    if words["unconverged"]:
        line(f"on their way: {words['unconverged']}, the oldest for {ago(words['oldest_unconverged'] or 0)}")
    _leader(words, now)
    line()
    _hosts(words["hosts"], now)
    _requests(words["requests"])
    _rules(words["rules"])
    if words["unreadable"]:
        line()
        folded(f"rows of the ledger that are no account: {', '.join(words['unreadable'][:5])}", 0)


def _leader(words: Words, now: datetime) -> None:
    record, leader = words["record"], words["leader"]
    led = f"{leader['holder']} leads" if leader else "nobody has led yet"
    if record is None:
        line(f"{led}; no cycle has reported on this machine")
    else:
        line(f"{led}; the newest cycle here: {record['state']}, {since(record['ended'], now)}")


def _hosts(hosts: Sequence[Words], now: datetime) -> None:
    columns = [
        Column("SERVER", loose=True),
        Column("GRANTS"),
        Column("GROUP"),
        Column("PRESENT", right=True),
        Column("ABSENT", right=True),
        Column("SEEN"),
    ]
    rows = [
        (host["host"], host["grants"], host["group"] or "", host["present"], host["absent"], _seen(host, now))
        for host in hosts
    ]
    table(columns, rows)


def _seen(host: Words, now: datetime) -> str:
    if host["answers"] is None:
        return "?"
    if host["last_seen"] is None:
        return "" if host["answers"] else "AWAY"  # another process may have seen it
    seen = since(host["last_seen"], now)
    return seen if host["answers"] else f"AWAY, {seen}"


def _requests(requests: Sequence[Words]) -> None:
    if not requests:
        return
    line()
    line("asked for, not done yet", bold=True)
    for each in requests[:_MOST]:
        what = f"{each['verb']} {each['account'] or 'all'}" + (" at once" if each["options"].get("now") else "")
        folded(f"{what}: by {each['who']}, {moment(each['at'])}", 2)
    _more(len(requests), "requests")


def _rules(rules: Sequence[Words]) -> None:
    if not rules:
        return
    line()
    rows = [
        (each["number"] or "file", _scope(each), limits(each["limits"]), moment(each["until"]), each["reason"])
        for each in rules[:_MOST]
    ]
    columns = [
        Column("RULE", right=True),
        Column("FOR", loose=True),
        Column("LIMITS", loose=True),
        Column("UNTIL"),
        Column("WHY", loose=True),
    ]
    table(columns, rows)
    _more(len(rules), "rules")


def rules(found: Sequence[Words]) -> None:
    """The rules about limits."""
    if found:
        _rules(found)
    else:
        line("no rules; the defaults of the site hold")


def _scope(rule: Words) -> str:
    who = rule["account"] or (f"every {rule['kind']}" if rule["kind"] else "everybody")
    where = " and ".join(
        word for word in (rule["group"], f"{rule['grants']} servers" if rule["grants"] else "") if word
    )
    return who + (f" on {where}" if where else "")


def listed(accounts: Sequence[Words]) -> None:
    columns = [
        Column("ACCOUNT"),
        Column("OWNER", loose=True),
        Column("STATE"),
        Column("PASSWORD OF"),
        Column("ABSENT ON", loose=True),
    ]
    rows = [
        (
            each["account"],
            each["name"] or "nobody's",
            each["state"] + (f" ({each['cause']})" if each["cause"] else ""),
            (each["password_at"] or "")[:10],
            ", ".join(each["absent_on"]),
        )
        for each in accounts
    ]
    table(columns, rows)
    line(plural(len(accounts), "account"))


# --- one account -----------------------------------------------------------------------------------------------------


def one(words: Words, now: datetime) -> None:
    row = words["ledger"]
    if row is None:
        line(f"{words['account']}: not in the ledger", bold=True)
    else:
        line(f"{row['account']}: {row['kind']} {row['name'] or 'of nobody'}, {row['state']}", bold=True)
        _row(row, now)
    if words["removed"]:
        gone = words["removed"]
        folded(f"{gone['name']} had it, removed {moment(gone['at'])}: {gone['why']}", 2)
    _file(words["file"], row)
    line()
    _places(words["hosts"])
    _requests(words["requests"])
    if "steps" in words:
        _next(words)
        _history(words["events"])


def _row(row: Words, now: datetime) -> None:
    line(f"  uid {row['uid']}, password {row['generation']} of {moment(row['password_at']) or 'before labstore'}")
    if row["both_passwords_until"]:
        line(f"  the old password is good as well, until {moment(row['both_passwords_until'])}")
    if row["suspended_at"]:
        line(f"  suspended since {moment(row['suspended_at'])} ({since(row['suspended_at'], now)}): {row['cause']}")
    if row["missing_since"]:
        line(f"  the directory lacks it since {moment(row['missing_since'])}")


def _file(file: Words, row: Words | None) -> None:
    if row is None:
        return
    text = f"its file: {file['state'] or 'unknown'}" + (f" ({file['why']})" if file["why"] else "")
    if file["password"] is False:
        text += "; its password is not the ledger's"
    folded(text, 2)


def _places(hosts: Sequence[Words]) -> None:
    columns = [Column("SERVER", loose=True), Column("THERE"), Column("LIMITS", loose=True), Column("NOTE", loose=True)]
    table(columns, [(each["host"], _there(each), limits(each["limits"]), _note(each)) for each in hosts])
    said = {
        f"{_scope(rule)}: {limits(rule['limits'])} ({rule['reason'] or 'no reason given'})"
        for each in hosts
        for rule in each.get("rules", ())
    }
    for text in sorted(said):
        folded(f"rule: {text}", 2, 4)


def _there(place: Words) -> str:
    if place["present"] is None:
        return "?"
    return "no" if not place["present"] else "locked" if place["locked"] else "yes"


def _note(place: Words) -> str:
    notes = [place["problem"]] if place["problem"] else []
    if place.get("touchable") is False:
        notes.append("a role, privileged or unreadable: never touched")
    notes += place["differs"]
    notes += [f"more than ours: {', '.join(place['surplus'])}"] if place["surplus"] else []
    return "; ".join(notes)


def _next(words: Words) -> None:
    line()
    if words["steps"]:
        line("the next cycle would", bold=True)
        for step in words["steps"]:
            where = f" on {step['host']}" if step["host"] else ""
            folded(f"{step['act']}{where}: {step['why']}", 2, 4)
    elif words["untouched"]:
        folded(f"nothing is done now: {words['untouched']}", 0, 2)
    elif words["removed"] and words["removed"]["why"].startswith(Cause.ASKED) and not words["refusals"]:
        folded(f"nothing is left to do; it comes back by: labstore dbusers remove {words['account']} --restore", 0, 2)
    elif not words["refusals"]:
        silent = [each["host"] for each in words["hosts"] if not each["answers"]]
        line("nothing is left to do" + (" where servers answer" if silent else ""), fg=None if silent else "green")
    if words["refusals"]:
        line("held back until a person decides", bold=True)
        reports([Said.read(each) for each in words["refusals"]])


def _history(events: Iterable[Words]) -> None:
    found = list(events)
    if not found:
        return
    line()
    line("what was done, newest first", bold=True)
    for each in found[:_MOST]:
        where = f" on {each['host']}" if each["host"] else ""
        more = _particulars(each)
        folded(f"{moment(each['at'])}  {each['what']}{where}" + (f": {more}" if more else ""), 2, 4)


def _particulars(event: Words) -> str:
    """Why it was done; for work on servers, what was done where; for the rest, what there is to say."""
    detail = event["detail"]
    if event["what"] == "servers":
        return "; ".join(f"{act} on {', '.join(hosts)}" for act, hosts in detail.items())
    if detail.get("why"):
        return str(detail["why"])
    plain = {name: value for name, value in detail.items() if isinstance(value, str | int | float) and value}
    return ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in plain.items())


# --- plan, and what came of it ---------------------------------------------------------------------------------------


def plan(words: Words, changes: Sequence[str]) -> None:
    steps = words["steps"]
    for text in changes:
        folded(f"first: {text}", 0, 2)
    if steps:
        line(f"{words['site']}: {plural(len(steps), 'step')} for {plural(words['accounts'], 'account')}", bold=True)
        for act, count in words["acts"].items():
            line(f"  {count:>7} x {act}")
        line()
    else:
        held = "; see what is held back below" if words["refusals"] else ""
        line(f"{words['site']}: nothing to do{held}", bold=True)
    for step in steps[:_MOST]:
        sign, colour = _SIGNS[step["verb"]]
        where = f" on {step['host']}" if step["host"] else ""
        line(f"{sign} {step['account']}  {step['act']}{where}", fg=colour)
        folded(step["why"], 4)
    _more(len(steps), "steps")
    if words["refusals"]:
        line()
        line("held back until a person decides", bold=True)
        reports([Said.read(each["report"]) for each in words["refusals"]])
    if words["untouched"]:
        line()
        line("left alone for now", bold=True)
        for key, why in list(words["untouched"].items())[:_MOST]:
            folded(f"{key}: {why}", 2, 4)
        _more(len(words["untouched"]), "accounts")
    _only_on_servers(words.get("limits") or {})
    if words["reports"]:
        line()
        reports([Said.read(each) for each in words["reports"]])


def _only_on_servers(found: Words) -> None:
    """Limits to be kept by hand: as they are written in the site file."""
    if not found:
        return
    line()
    line("limits that servers have and no rule gives; to keep them, write below dbusers:", bold=True)
    line("  limits:")
    line("    variances:")
    for user, each in found.items():
        parts = [f"{name}: {each[name]}" for name in ("max_connections", "queries_per_hour") if each[name] is not None]
        if each["statement_seconds"] is not None:
            parts.insert(1, f"statement_time: {each['statement_seconds']}s")
        number = each["max_connections"]
        plain = number is not None and len(parts) == 1
        line(f"      {user}: {number}" if plain else f"      {user}: {{{', '.join(parts)}}}")


def _more(count: int, what: str) -> None:
    if count > _MOST:
        line(f"... and {count - _MOST} more {what} (--json shows all)")


def outcome(record: Record) -> None:
    """The end of `apply`: what came of it."""
    steps, failed = int(record.facts.get("steps") or 0), int(record.facts.get("failed") or 0)
    what = f"{plural(steps - failed, 'step')} done, {failed} failed" if steps else "nothing was done"
    line(f"{record.state.value}: {what} in {record.seconds:.1f} s", bold=True)
