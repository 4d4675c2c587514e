"""A file of tools and users, for sites without LDAP:

tools: {wikibugs: 52788, admin: {uid: 52001, locked: true}}
users: {alice: 2170}
"""

from __future__ import annotations

from labstore.formats.findings import Findings, did_you_mean
from labstore.formats.strict_yaml import DATA_LIMIT, load
from labstore.model.accounts import AccountKind, DbUser, UidRange, account_name
from labstore.model.names import shown
from labstore.model.people import Entry, Listing

_SECTIONS = {"tools": AccountKind.TOOL, "users": AccountKind.USER}
_KEYS = ("uid", "uuid", "locked")


def parse(content: bytes, name: str, project: str, uids: UidRange) -> dict[AccountKind, Listing]:
    """Everybody, per kind. Raises BadFile with every problem: a file with one is not taken at all, so that nobody goes
    missing by a slip of the pen."""
    findings = Findings(load(content, name, DATA_LIMIT))
    top = findings.document.value
    for key in top:
        if key not in _SECTIONS:
            findings.problem((key,), f"unknown key {shown(key)}", did_you_mean(key, _SECTIONS), at_key=True)
    listings = {
        kind: Listing(kind, _entries(findings, section, kind, top.get(section), project, uids))
        for section, kind in _SECTIONS.items()
    }
    findings.raise_problems()
    return listings


def _entries(
    findings: Findings, section: str, kind: AccountKind, value: object, project: str, uids: UidRange
) -> dict[DbUser, Entry]:
    if not isinstance(value, dict):
        advice = f"write `{section}: {{name: 52788}}`, or `{section}: {{}}` if there are none; missing is not empty"
        findings.problem((section,), f"no map `{section}:`", advice, at_key=section in findings.document.value)
        return {}
    found: dict[DbUser, Entry] = {}
    for name, what in value.items():
        entry = _entry(findings, (section, name), kind, f"{project}.{name}" if section == "tools" else name, what, uids)
        if entry is None:
            continue
        first = found.setdefault(entry.user, entry)
        if first is not entry:
            findings.problem((section, name), f"uid {entry.uid} is also {first.name}'s", "give each its own number")
    return found


def _entry(
    findings: Findings, path: tuple[str, str], kind: AccountKind, name: str, what: object, uids: UidRange
) -> Entry | None:
    """One line: a number, or a map with `uid` in it."""
    if isinstance(what, int):
        what = {"uid": what}
    if not isinstance(what, dict):
        findings.problem(path, f"{shown(path[1])} has no uid", "write a number, or {uid: 52788}")
        return None
    for key in what:
        if key not in _KEYS:
            findings.problem((*path, key), f"unknown key {shown(key)}", did_you_mean(key, _KEYS), at_key=True)
    known = findings.attempt(path, lambda: account_name(kind, name), "write the name as the cloud has it", at_key=True)
    uid = findings.attempt(path, lambda: uids.check(what.get("uid", -1)), "write its number, without quotes")
    locked = what.get("locked", False)
    if not isinstance(locked, bool):
        findings.problem((*path, "locked"), "locked is neither true nor false", "write one of these")
        return None
    if known is None or uid is None:
        return None
    return Entry(kind, known, uid, str(what.get("uuid", "")), locked)
