"""Accounts as plain data: what `--json` prints and the screens are made from. Never a password, never a hash.

The fields are documented in docs/reference/json.md and stay as they are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from labstore.dbusers.cycle import Proposal, step_words
from labstore.dbusers.desired import Limiter, drift, served, surplus, wanted
from labstore.model.accounts import Limits, PartialLimits
from labstore.model.database import FoundAccount
from labstore.model.dbusers_settings import DbusersSettings, LimitRule, ReplicaSettings
from labstore.model.ledger import AccountRow, AccountState, Event, Lease, LedgerView, Request, Tombstone
from labstore.ports.credential_writer import FileFact
from labstore.reconcile.facts import Answer, Fact
from labstore.reconcile.record import state_of

Words = dict[str, Any]


def stamp(at: datetime | None) -> str | None:
    return at.isoformat(timespec="seconds") if at is not None else None


def limit_words(limits: Limits | PartialLimits) -> Words:
    return {name: getattr(limits, name) for name in ("max_connections", "statement_seconds", "queries_per_hour")}


def row_words(row: AccountRow) -> Words:
    """An account as the ledger has it."""
    return {
        "account": str(row.user),
        "kind": row.kind.value,
        "name": row.name if row.name_known else None,
        "uid": row.uid,
        "state": "suspended" if row.suspended else row.state.value,
        "cause": row.cause.value if row.cause else None,
        "suspended_at": stamp(row.suspended_at),
        "missing_since": stamp(row.missing_since),
        "generation": row.generation,
        "password_at": stamp(row.password_at),
        "both_passwords_until": stamp(row.until) if row.state is AccountState.OVERLAP else None,
    }


def stone_words(stone: Tombstone) -> Words:
    return {
        "account": str(stone.user),
        "kind": stone.kind.value,
        "name": stone.name,
        "uid": stone.uid,
        "at": stamp(stone.at),
        "why": stone.why,
    }


def rule_words(rule: LimitRule) -> Words:
    return {
        "number": rule.number or None,
        "kind": rule.kind.value if rule.kind else None,
        "account": str(rule.account) if rule.account else None,
        "group": str(rule.group) if rule.group else None,
        "grants": rule.grants.value if rule.grants else None,
        "limits": limit_words(rule.limits),
        "reason": rule.reason,
        "until": stamp(rule.until),
    }


def request_words(request: Request) -> Words:
    return {
        "number": request.number,
        "verb": request.verb.value,
        "account": str(request.account) if request.account else None,
        "who": request.who,
        "at": stamp(request.at),
        "options": dict(request.options),
    }


def event_words(event: Event) -> Words:
    return {
        "number": event.number,
        "at": stamp(event.at),
        "what": event.what,
        "account": event.account,
        "host": event.host,
        "actor": event.actor,
        "detail": dict(event.detail),
    }


# --- everything ------------------------------------------------------------------------------------------------------


def overview_words(
    name: str, settings: DbusersSettings, view: LedgerView, lease: Lease | None, record: Mapping[str, Any] | None
) -> Words:
    """The ledger, and what the newest cycle on this machine saw of the servers."""
    rows = view.accounts.values()
    facts = dict((record or {}).get("facts") or {})
    return {
        "site": name,
        "accounts": dict(sorted(Counter(row.kind.value for row in rows).items())),
        "states": dict(sorted(Counter(row_words(row)["state"] for row in rows).items())),
        "tombstones": len(view.tombstones),
        "unconverged": facts.get("unconverged"),
        "oldest_unconverged": facts.get("oldest_unconverged"),
        "leader": {"holder": lease.holder, "until": stamp(lease.until)} if lease else None,
        "record": {key: record[key] for key in ("state", "ended", "due")} if record else None,
        "hosts": [_host_words(host, view, facts) for host in settings.hosts],
        "requests": [request_words(request) for request in view.requests],
        "rules": [rule_words(rule) for rule in (*settings.limits.rules, *view.rules)],
        "unreadable": list(view.foreign),
    }


def _host_words(host: ReplicaSettings, view: LedgerView, facts: Mapping[str, Any]) -> Words:
    seen = dict(facts.get("hosts") or {}).get(str(host.key)) or {}
    return {
        "host": str(host.key),
        "grants": host.grant_type.value,
        "group": str(host.group) if host.group else None,
        "present": view.present.get(host.key, 0),
        "absent": len(view.debts.get(host.key, ())),
        "answers": seen.get("answers"),
        "last_seen": seen.get("last_seen"),
    }


def listed_words(rows: Iterable[AccountRow], view: LedgerView) -> list[Words]:
    """Accounts one by one, each with the servers that lack it."""
    lacking: dict[str, list[str]] = {}
    for key, owed in view.debts.items():
        for user in owed:
            lacking.setdefault(str(user), []).append(str(key))
    return [{**row_words(row), "absent_on": sorted(lacking.get(str(row.user), []))} for row in rows]


# --- one account -----------------------------------------------------------------------------------------------------


def place_words(
    row: AccountRow | None,
    host: ReplicaSettings,
    found: Answer[FoundAccount | None],
    settings: DbusersSettings,
    rules: tuple[LimitRule, ...],
    at: datetime,
) -> Words:
    """One account on one server: as it is, as it shall be, and by which rules."""
    limiter = Limiter(settings, rules, at)
    user = row.user if row is not None else None
    words: Words = {"host": str(host.key), "answers": isinstance(found, Fact), "problem": None}
    words |= {"present": None, "locked": None, "limits": None, "password": None, "surplus": [], "differs": []}
    if user is not None:
        words["wanted_limits"] = limit_words(limiter.limits(user, host))
        words["rules"] = [rule_words(rule) for rule in limiter.rules(user, host)]
        if not served(user, host):
            words["problem"] = f"{user.kind.value} accounts are not kept there"
    if not isinstance(found, Fact):
        return {**words, "problem": found.report.message()}
    account = found.value
    words["present"] = account is not None
    if account is not None:
        words |= {"locked": account.locked, "limits": limit_words(account.limits), "touchable": account.touchable}
        if row is not None:
            target = wanted(row, host, limiter)
            words["password"] = account.verifiers == target.ways_in
            words["surplus"] = list(surplus(account, row.user, host))
            if not row.suspended and account.touchable and served(row.user, host):
                words["differs"] = [why for _, why in drift(account, target, host)]
    return words


def file_words(answer: Answer[FileFact] | None, row: AccountRow | None) -> Words:
    if answer is None:
        return {"state": None, "why": "nobody's home is known", "password": None}
    if not isinstance(answer, Fact):
        return {"state": None, "why": answer.report.message(), "password": None}
    fact = answer.value
    known = None
    if fact.verifier is not None and row is not None:
        known = fact.verifier in row.verifiers
    return {"state": fact.state.value, "why": fact.why, "password": known}


# --- plan ------------------------------------------------------------------------------------------------------------


def plan_words(name: str, proposal: Proposal) -> Words:
    """A plan as it would be carried out."""
    plan, facts = proposal.plan, proposal.facts
    reports = [*(answer.report for answer in facts.missing), *plan.reports]
    acts: Counter[str] = Counter(step.after.act.value for step in plan.steps if step.after is not None)
    users = {str(step.after.user) for step in plan.steps if step.after is not None}
    return {
        "site": name,
        "at": stamp(facts.at),
        "state": state_of(plan, (), (), bool(facts.missing)).value,
        "accounts": len(users),
        "acts": dict(sorted(acts.items())),
        "removes": len({account for step in plan.steps for account in step.removes}),
        "steps": [dict(step_words(step)) for step in plan.steps],
        "untouched": dict(plan.untouched),
        "refusals": [{"keys": list(each.keys), "report": each.report.to_dict()} for each in plan.refusals],
        "reports": [report.to_dict() for report in dict.fromkeys(reports)],
    }
