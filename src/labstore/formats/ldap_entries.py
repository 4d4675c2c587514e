"""Entries of an LDAP directory as people and tools; what cannot be taken is said, never guessed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime

from labstore.model.accounts import AccountKind, DbUser, UidRange, account_name
from labstore.model.names import shown
from labstore.model.people import Entry, Rejected

Attributes = Mapping[str, Sequence[bytes]]
RawEntry = tuple[str, Attributes]
"""A DN and its attributes, as the library gives them."""
ATTRIBUTES = ("cn", "uid", "uidNumber", "entryUUID", "pwdAccountLockedTime", "pwdPolicySubentry", "createTimestamp")
"""What is asked of every entry; the last four have to be named to be had."""
NAME_ATTRIBUTE = {AccountKind.TOOL: "cn", AccountKind.USER: "uid"}


@dataclass(frozen=True)
class Taken:
    """Everybody who can have an account, and what was rejected."""

    entries: Mapping[DbUser, Entry]
    rejected: tuple[Rejected, ...]


def taken(kind: AccountKind, raw: Iterable[RawEntry], uids: UidRange, disabled: Callable[[str], bool]) -> Taken:
    """The entries of one kind. `disabled` says of a password policy's DN whether it means a disabled account.

    Two entries with one number, or with one name, are both rejected: nobody gets another's account, and who has it
    already keeps it (`Rejected.claims`).
    """
    good: list[Entry] = []
    rejected: list[Rejected] = []
    for dn, attributes in raw:
        try:
            good.append(_entry(kind, attributes, uids, disabled))
        except ValueError as error:
            rejected.append(Rejected(shown(dn, 80), str(error), _claims(kind, attributes)))
    for twice, words in ((_by_number(good), "number"), (_by_name(good), "name")):
        for same in twice:
            for entry in same:
                why = f"{len(same)} entries have its {words}"
                rejected.append(Rejected(str(entry.name), why, frozenset({str(entry.user), str(entry.name)})))
            good = [entry for entry in good if entry not in same]
    return Taken({entry.user: entry for entry in good}, tuple(rejected))


def merged(every: Sequence[Taken]) -> Taken:
    """What several servers gave, the first one's word before the others'. Who is locked on one and not on another is
    neither; what one server rejects and another takes is rejected."""
    entries: dict[DbUser, Entry] = {}
    rejected: dict[Rejected, None] = {}
    for each in every:
        for user, entry in each.entries.items():
            known = entries.setdefault(user, entry)
            if known.locked != entry.locked:
                entries[user] = replace(known, locked=None)
        rejected |= dict.fromkeys(each.rejected)
    claims = frozenset(claim for each in rejected for claim in each.claims)
    left = {user: entry for user, entry in entries.items() if user not in claims and entry.name not in claims}
    return Taken(left, tuple(rejected))


def generalized_time(text: str) -> datetime | None:
    """`20260529115400Z` as a moment; None for anything else."""
    try:
        return datetime.strptime(text.split(".", maxsplit=1)[0].rstrip("Z"), "%Y%m%d%H%M%S").replace(tzinfo=UTC)
    except ValueError:
        return None


def _entry(kind: AccountKind, attributes: Attributes, uids: UidRange, disabled: Callable[[str], bool]) -> Entry:
    """Raises ValueError."""
    name = account_name(kind, _text(_only(attributes, NAME_ATTRIBUTE[kind])))
    policy = attributes.get("pwdPolicySubentry") or ()
    locked = bool(attributes.get("pwdAccountLockedTime")) or any(disabled(_text(each)) for each in policy)
    uuid = attributes.get("entryUUID") or (b"",)
    created = attributes.get("createTimestamp") or (b"",)
    return Entry(kind, name, _number(attributes, uids), _text(uuid[0]), locked, generalized_time(_text(created[0])))


def _number(attributes: Attributes, uids: UidRange) -> int:
    text = _text(_only(attributes, "uidNumber"))
    if not text.isascii() or not text.isdigit() or len(text) > 10 or (text[0] == "0" and text != "0"):
        raise ValueError(f"{shown(text)} is not a uid")
    return uids.check(int(text))


def _only(attributes: Attributes, name: str) -> bytes:
    values = attributes.get(name) or ()
    if len(values) != 1:
        raise ValueError(f"it has {len(values) or 'no'} {name}")
    return values[0]


def _text(value: bytes) -> str:
    try:
        return value.decode()
    except UnicodeDecodeError:
        raise ValueError("it is not UTF-8") from None


def _claims(kind: AccountKind, attributes: Attributes) -> frozenset[str]:
    """Whatever accounts and names a rejected entry could mean."""
    claims = {value.decode("utf-8", "replace") for value in attributes.get(NAME_ATTRIBUTE[kind]) or ()}
    for value in attributes.get("uidNumber") or ():
        if value.isdigit() and len(value) < 11 and int(value):
            claims.add(f"{kind.letter}{int(value)}")
    return frozenset(claims)


def _by_number(entries: Sequence[Entry]) -> list[list[Entry]]:
    found: dict[DbUser, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.user, []).append(entry)
    return [same for same in found.values() if len(same) > 1]


def _by_name(entries: Sequence[Entry]) -> list[list[Entry]]:
    found: dict[str, list[Entry]] = {}
    for entry in entries:
        found.setdefault(entry.name, []).append(entry)
    return [same for same in found.values() if len(same) > 1]
