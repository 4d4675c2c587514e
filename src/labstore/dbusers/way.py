"""One account on its way: what was found of it, and what each act makes of that. Pure."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from labstore.dbusers.desired import Limiter, as_made, wanted
from labstore.dbusers.ground import Ground
from labstore.dbusers.turns import HOST_ACTS, MINTING, Act, Change, placeholder, turned
from labstore.model.accounts import NATIVE_PLUGIN, DbUser, NativeHash
from labstore.model.database import DbGrant, FoundAccount, HostKey
from labstore.model.dbusers_settings import ReplicaSettings
from labstore.model.ledger import AccountRow, Request, Tombstone
from labstore.model.people import Entry
from labstore.ports.credential_writer import FileFact, FileState


@dataclass
class Way:
    """`found` and `sessions` speak of the servers that answered. `absent`: a complete listing, on which all directory
    servers agree, lacks the account, and nobody who was rejected claims it. `file` None: it could not be looked at.
    `asked` is the latest word of a person about removing or restoring it, `rotation` the rotation that it owes,
    `stone` what a former account of this name left.

    `untouched` says why nothing (more) is done although something differs; `remarks` are words to count.
    """

    user: DbUser
    row: AccountRow | None
    entry: Entry | None
    absent: bool
    file: FileFact | None
    found: dict[HostKey, FoundAccount | None]
    sessions: dict[HostKey, int] = field(default_factory=dict)
    held: set[int] = field(default_factory=set)
    asked: Request | None = None
    stone: Tombstone | None = None
    rotation: Request | None = None
    untouched: str = ""
    remarks: set[str] = field(default_factory=set)


def carry_out(ground: Ground, way: Way, change: Change) -> None:
    """Let the way be as it is after the act."""
    if change.act in HOST_ACTS:
        key = HostKey.parse(change.host)
        way.found[key] = _there(way.row, way.found[key], change, ground.hosts[key], ground.limiter)
        if change.act is Act.END_SESSIONS:
            way.sessions.pop(key, None)
    elif change.act in (Act.PUBLISH, Act.REPLACE):
        assert way.row is not None
        way.file = FileFact(FileState.TRUSTED, way.row.verifier if change.act is Act.PUBLISH else way.row.other)
    elif change.act is Act.PROTECT:
        assert way.file is not None
        way.file = FileFact(FileState.TRUSTED, way.file.verifier)
    elif change.act is Act.WITHDRAW:
        way.file = FileFact(FileState.ABSENT)
    else:
        _in_the_ledger(ground, way, change)


def _in_the_ledger(ground: Ground, way: Way, change: Change) -> None:
    way.row = turned(way.row, change, _verifier(way, change), ground.at)
    if change.act in MINTING:
        way.held.add(change.generation)
    if change.act in MINTING or change.act is Act.ADOPT:
        way.rotation = None
    if change.act is Act.BURY:
        way.found, way.entry = {}, None


def _verifier(way: Way, change: Change) -> NativeHash | None:
    if change.act in MINTING:
        return placeholder(way.user, change.generation)
    if change.act is Act.ADOPT:
        assert way.file is not None
        return way.file.verifier
    return found_verifier(way.found.values()) if change.act is Act.KNOW else None


def _there(
    row: AccountRow | None, found: FoundAccount | None, change: Change, host: ReplicaSettings, limiter: Limiter
) -> FoundAccount | None:
    """The account on one server after an act there."""
    if change.act is Act.DROP:
        return None
    if change.act is Act.LOCK and found is not None:
        return replace(found, locked=True)
    if change.act is Act.END_SESSIONS:
        return found
    assert row is not None
    made = as_made(wanted(row, host, limiter), host)
    if found is None:
        return replace(made, default_role="", roles=frozenset(), grants=frozenset())
    if change.act is Act.REVOKE:
        return replace(found, roles=made.roles, default_role=made.default_role, grants=made.grants, surplus=())
    if change.act is Act.ALTER:
        return replace(found, verifiers=made.verifiers, limits=made.limits, locked=made.locked)
    return replace(
        found,
        default_role=made.default_role or found.default_role,
        roles=found.roles | made.roles,
        grants=_merged(found.grants, made.grants),
    )


def _merged(found: frozenset[DbGrant], made: frozenset[DbGrant]) -> frozenset[DbGrant]:
    """Grants on the same pattern are one."""
    privileges: dict[str, frozenset[str]] = {}
    for grant in (*found, *made):
        privileges[grant.pattern] = privileges.get(grant.pattern, frozenset()) | grant.privileges
    return frozenset(DbGrant(pattern, words) for pattern, words in privileges.items())


def found_verifier(found: Iterable[FoundAccount | None]) -> NativeHash | None:
    """A verifier that servers have for an account, if it is one that the ledger can hold."""
    texts = (
        verifier.text
        for account in found
        if account is not None
        for verifier in account.verifiers
        if verifier.plugin == NATIVE_PLUGIN
    )
    for text in sorted(texts):
        try:
            return NativeHash(text)
        except ValueError:
            continue
    return None
