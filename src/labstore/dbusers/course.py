"""What is to be done next about one account. Pure.

First what its row says of who it belongs to, then of its password, then what servers lack, then its file.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from labstore.dbusers.desired import drift, served, surplus, wanted
from labstore.dbusers.ground import Ground
from labstore.dbusers.turns import Act, Change, unnamed
from labstore.dbusers.way import Way, found_verifier
from labstore.model.database import HostKey
from labstore.model.dbusers_settings import Orphans, Surplus
from labstore.model.ledger import BY_HAND, AccountRow, AccountState, Cause, RequestVerb
from labstore.model.people import Entry
from labstore.ports.credential_writer import FileFact, FileState
from labstore.ports.replica_server import HostVerb
from labstore.reconcile.plan import Proof, Step, Verb

DbStep = Step[Change]
NOBODY: Mapping[str, Proof] = {}
"""Loses anything: one object for the hundred thousand steps of a large plan."""
NO_HOME = "home"
FOREIGN = "foreign"
_REMOVING = frozenset({Act.SUSPEND, Act.LOCK, Act.END_SESSIONS, Act.END, Act.DROP, Act.WITHDRAW, Act.BURY})
_ADDING = frozenset({Act.ISSUE, Act.ADOPT, Act.CREATE, Act.PUBLISH, Act.KNOW})
_HOST_ACT = {HostVerb.CREATE: Act.CREATE, HostVerb.ALTER: Act.ALTER, HostVerb.GRANT: Act.GRANT}
PROOF_OF = {
    Cause.MISSING: Proof.ABSENT,
    Cause.LOCKED: Proof.GONE,
    Cause.ASKED: Proof.DECLARED,
    Cause.ASKED_NOW: Proof.DECLARED,
}
_WHY = {Cause.MISSING: "two complete listings lack it", Cause.LOCKED: "the directory says it is disabled"}


def next_step(ground: Ground, way: Way) -> DbStep | None:
    """The next step of an account; None where nothing is to be done, or not now: `way.untouched` says why then."""
    row = way.row
    if row is None:
        return _newcomer(ground, way)
    if row.state is AccountState.DROPPING:
        step = _resume(ground, way, row) or _asked_for(ground, way, row)
        return step or (None if _asked_back(ground, way, row) else _dropping(ground, way, row))
    step = _who_it_is(way, row) or _whether_it_stays(ground, way, row)
    if step is not None:
        return step
    if row.suspended:
        return _suspended(way, row)
    if not row.name_known:
        return None
    return _password(ground, way, row) or _on_servers(ground, way, row) or _file(ground, way, row)


def _step(way: Way, change: Change, why: str, removes: Mapping[str, Proof] | None = None) -> DbStep:
    if not change.generation and way.row is not None:
        change = replace(change, generation=way.row.generation)
    verb = Verb.REMOVE if change.act in _REMOVING else Verb.ADD if change.act in _ADDING else Verb.CHANGE
    way.untouched = ""
    return Step(change.key, verb, None, change, why, removes or NOBODY)


def _taking(way: Way, cause: Cause | None) -> dict[str, Proof]:
    """Who loses something, and on what proof."""
    return {str(way.user): PROOF_OF[cause or Cause.MISSING]}


# --- accounts without a row ------------------------------------------------------------------------------------------


def _newcomer(ground: Ground, way: Way) -> DbStep | None:
    entry = way.entry
    if entry is None:
        return _orphan(ground, way)
    if entry.locked is not False or (way.asked is not None and way.asked.verb is RequestVerb.REMOVE):
        return None
    if way.stone is not None and way.stone.by_hand and not _restored(way):
        if way.stone.name != str(entry.name):
            way.untouched = f"its number was that of {way.stone.name}, which a person asked to remove"
        return None
    file = _looked_at(way)
    if file is None:
        return None
    if file.state is FileState.TRUSTED:
        return _step(way, _owned(way, Act.ADOPT, entry, 1), "its file is there and trusted, the ledger lacks it")
    if file.state is FileState.ABSENT:
        known = any(found is not None for found in way.found.values())
        why = "known to a server, yet without a trusted file" if known else "new in the directory"
        return _step(way, _owned(way, Act.ISSUE, entry, 1), why)
    return None


def _restored(way: Way) -> bool:
    return way.asked is not None and way.asked.verb is RequestVerb.RESTORE


def _orphan(ground: Ground, way: Way) -> DbStep | None:
    """An account on a server that neither the directory nor the ledger knows."""
    there = ", ".join(str(key) for key, found in way.found.items() if found is not None and found.touchable)
    if not there or not way.absent:
        return None
    if ground.settings.removal.orphans is Orphans.REPORT or found_verifier(way.found.values()) is None:
        way.untouched = f"on {there}, but neither in the directory nor in the ledger"
        return None
    change = Change(Act.KNOW, way.user, 1, name=unnamed(way.user), uid=way.user.number)
    return _step(way, change, f"found on {there}; nobody owns it")


def _owned(way: Way, act: Act, entry: Entry, generation: int = 0) -> Change:
    return Change(act, way.user, generation, name=str(entry.name), uid=entry.uid, uuid=entry.uuid)


def _looked_at(way: Way) -> FileFact | None:
    """The file as found; what keeps something from being done about it is noted."""
    file = way.file
    if file is None:
        way.untouched = "its file could not be looked at"
    elif file.state is FileState.NO_HOME:
        way.remarks.add(NO_HOME)
    elif file.state is FileState.FOREIGN:
        way.untouched = f"what stands at the name of its file is not ours: {file.why}"
        way.remarks.add(FOREIGN)
    elif file.state is FileState.BARE and (way.row is None or file.verifier not in way.row.verifiers):
        way.untouched = "its file is not protected, and its password is not the ledger's"
        way.remarks.add(FOREIGN)
    return file


# --- who it is, and whether it stays ---------------------------------------------------------------------------------


def _who_it_is(way: Way, row: AccountRow) -> DbStep | None:
    entry = way.entry
    if entry is None:
        if way.absent and row.missing_since is None:
            return _step(way, Change(Act.MISSED, way.user), "a complete listing lacks it")
        return None
    if row.missing_since is not None:
        return _step(way, Change(Act.BACK, way.user), "the directory has it again")
    if (row.name, row.uid) != (entry.name, entry.uid) or (entry.uuid and row.entry_uuid != entry.uuid):
        why = f"{row.name} is now {entry.name}" if row.name != entry.name else "its entry is known now"
        return _step(way, _owned(way, Act.IDENTIFY, entry), why)
    return None


def _whether_it_stays(ground: Ground, way: Way, row: AccountRow) -> DbStep | None:
    cause = _cause(ground, way, row)
    if cause is None:
        return _resume(ground, way, row)
    if not row.suspended:
        why = _WHY.get(cause, "asked for")
        return _step(way, Change(Act.SUSPEND, way.user, cause=cause), why, _taking(way, cause))
    asked = _asked_for(ground, way, row)
    if asked is not None:
        return asked
    if not _asked_back(ground, way, row) and _over(ground, way, row, cause):
        change = Change(Act.END, way.user, cause=cause)
        return _step(way, change, "its waiting time is over", _taking(way, cause))
    return None


def _asked_for(ground: Ground, way: Way, row: AccountRow) -> DbStep | None:
    """A person's word about an account that is suspended already: it is the cause from now on, and no cause any more
    when it was taken back."""
    cause = _cause(ground, way, row)
    if cause is None or cause is row.cause or not {cause, row.cause} & BY_HAND:
        return None
    return _step(way, Change(Act.SUSPEND, way.user, cause=cause), _WHY.get(cause, "asked for"), _taking(way, cause))


def _asked_back(ground: Ground, way: Way, row: AccountRow) -> bool:
    """Whether a person wants the account back, and only the directory stands against it: then nothing more is taken
    from it, and what it waits for is said."""
    if way.asked is None or way.asked.verb is not RequestVerb.RESTORE:
        return False
    cause = _cause(ground, way, row)
    why = _WHY[Cause.MISSING] if _confirmed(ground, way, row) else "the directory does not say that it has it"
    way.untouched = f"asked back by {way.asked.who}, but {_WHY[cause] if cause is Cause.LOCKED else why}"
    return True


def _cause(ground: Ground, way: Way, row: AccountRow) -> Cause | None:
    """Why the account shall be suspended now; None for one that shall not."""
    if way.asked is not None and way.asked.verb is RequestVerb.REMOVE:
        return Cause.ASKED_NOW if way.asked.options.get("now") else Cause.ASKED
    if way.asked is None and row.cause in BY_HAND:
        return row.cause
    if way.entry is not None and way.entry.locked is not None:
        return Cause.LOCKED if way.entry.locked else None
    if _confirmed(ground, way, row):
        return Cause.MISSING
    # nobody says anything new: an account stays as it is, suspended or not
    return None if row.cause in BY_HAND else row.cause


def _confirmed(ground: Ground, way: Way, row: AccountRow) -> bool:
    """Whether a second complete listing, long enough after the first, lacks the account too."""
    confirm = timedelta(seconds=ground.settings.removal.confirm)
    return way.absent and row.missing_since is not None and row.missing_since + confirm <= ground.at


def _over(ground: Ground, way: Way, row: AccountRow, cause: Cause) -> bool:
    """Whether a suspended account may be dropped: gone for good, long enough ago, locked and without sessions wherever
    a server answers."""
    since = _gone_since(ground, way, row, cause)
    wait = timedelta(seconds=0 if cause is Cause.ASKED_NOW else ground.settings.removal.wait)
    if since is None or since + wait > ground.at or way.sessions:
        return False
    return all(found is None or found.locked or not found.touchable for found in way.found.values())


def _gone_since(ground: Ground, way: Way, row: AccountRow, cause: Cause) -> datetime | None:
    """From when the waiting time is counted; None for an account that is not gone. One that was disabled for long and
    is missing now has only begun to wait."""
    if row.suspended_at is None or cause in BY_HAND:
        return row.suspended_at
    return max(row.suspended_at, row.missing_since) if row.missing_since and _confirmed(ground, way, row) else None


def _resume(ground: Ground, way: Way, row: AccountRow) -> DbStep | None:
    if row.suspended and _cause(ground, way, row) is None:
        return _step(way, Change(Act.RESUME, way.user), "it is wanted again")
    return None


def _suspended(way: Way, row: AccountRow) -> DbStep | None:
    why = f"suspended: {row.cause}"
    for key, found in way.found.items():
        if found is None or not found.touchable:
            continue
        if not found.locked:
            return _step(way, Change(Act.LOCK, way.user, host=str(key)), why, _taking(way, row.cause))
        if way.sessions.get(key):
            return _step(way, Change(Act.END_SESSIONS, way.user, host=str(key)), why, _taking(way, row.cause))
    return None


def _dropping(ground: Ground, way: Way, row: AccountRow) -> DbStep | None:
    taking = _taking(way, row.cause)
    for key, found in way.found.items():
        if found is not None and found.touchable:
            return _step(way, Change(Act.DROP, way.user, host=str(key)), "its waiting time is over", taking)
    if ground.away:
        way.untouched = f"not dropped on {_words(ground.away)} yet"
        return None
    if row.name_known and way.file is None:
        way.untouched = "its file could not be looked at"
        return None
    if row.name_known and way.file is not None and way.file.state in (FileState.TRUSTED, FileState.BARE):
        return _step(way, Change(Act.WITHDRAW, way.user), "dropped on every server", taking)
    return _step(way, Change(Act.BURY, way.user), "nothing of it is left", taking)


# --- passwords -------------------------------------------------------------------------------------------------------


def _password(ground: Ground, way: Way, row: AccountRow) -> DbStep | None:
    """What the file and the ledger say of each other. A trusted file wins: it is what people log in with."""
    file = _looked_at(way)
    if file is None or file.state is FileState.NO_HOME:
        return None
    if file.state is FileState.ABSENT:
        return _without_file(way, row)
    if file.state is FileState.TRUSTED and file.verifier not in row.verifiers:
        return _step(way, _newer(way, row, Act.ADOPT), "its trusted file has another password")
    known = file.verifier is not None and file.verifier in row.verifiers
    return (_with_file(ground, way, row, file) if known else None) or _rotate(ground, way, row)


def _newer(way: Way, row: AccountRow, act: Act) -> Change:
    return Change(act, way.user, row.generation + 1)


def _without_file(way: Way, row: AccountRow) -> DbStep | None:
    if row.state is AccountState.ISSUING:
        if row.generation in way.held:
            return None
        return _step(way, _newer(way, row, Act.ISSUE), "nobody has read its password")
    return _step(way, _newer(way, row, Act.ISSUE), "its file is gone", {str(way.user): Proof.ABSENT})


def _with_file(ground: Ground, way: Way, row: AccountRow, file: FileFact) -> DbStep | None:
    """The file has a password that the ledger knows: the row follows it."""
    if file.state is FileState.BARE:
        return _step(way, Change(Act.PROTECT, way.user), "its file is not protected")
    if row.state is AccountState.ISSUING:
        return _step(way, Change(Act.CONFIRM, way.user), "its file is in place")
    new = file.verifier == row.other
    if row.state is AccountState.ROTATING and new:
        until = ground.at + timedelta(seconds=_overlap(ground, way))
        return _step(way, Change(Act.OVERLAP, way.user, until=until), "its file has the new password")
    if row.state is AccountState.OVERLAP and new:
        return _step(way, _newer(way, row, Act.ADOPT), "its trusted file has the old password")
    if row.state is AccountState.OVERLAP and row.until is not None and row.until <= ground.at:
        return _step(way, Change(Act.SETTLE, way.user), "both passwords were good for long enough")
    if row.state is AccountState.OVERLAP and way.rotation is not None and _at_once(ground, way):
        return _step(way, Change(Act.SETTLE, way.user), f"the next password is asked for at once by {way.rotation.who}")
    return None


def _overlap(ground: Ground, way: Way) -> float:
    """Seconds for which the old password stays good."""
    return 0.0 if _at_once(ground, way) else ground.settings.rotation.overlap


def _at_once(ground: Ground, way: Way) -> bool:
    return way.row is not None and ground.at_once(way.row)


def _rotate(ground: Ground, way: Way, row: AccountRow) -> DbStep | None:
    # that it was asked for at once is kept in the row: the request may be done for this account before its file is
    change = replace(_newer(way, row, Act.ROTATE), until=ground.at if _at_once(ground, way) else None)
    if row.state is AccountState.ROTATING and row.generation not in way.held:
        return _step(way, change, "nobody has read its new password")
    if way.rotation is not None and row.state is AccountState.LIVE:
        return _step(way, change, f"asked for by {way.rotation.who}")
    return None


# --- servers and files -----------------------------------------------------------------------------------------------


def _on_servers(ground: Ground, way: Way, row: AccountRow) -> DbStep | None:
    for key, found in way.found.items():
        host = ground.hosts[key]
        if (found is None and not served(way.user, host)) or (found is not None and not found.touchable):
            continue
        for verb, why in drift(found, wanted(row, host, ground.limiter), host):
            return _step(way, Change(_HOST_ACT[verb], way.user, host=str(key)), why)
        more = surplus(found, way.user, host) if found is not None and host.surplus is Surplus.REVOKE else ()
        if more:
            return _step(way, Change(Act.REVOKE, way.user, host=str(key)), f"rights beyond ours: {', '.join(more[:5])}")
    return None


def _file(ground: Ground, way: Way, row: AccountRow) -> DbStep | None:
    if way.file is None or row.generation not in way.held:
        return None
    if row.state is AccountState.ISSUING and way.file.state is FileState.ABSENT:
        until = _patience(ground, row, ground.settings.pacing.required_patience)
        away = _required_away(ground) if until > ground.at else ""
        if away:
            way.untouched = f"its file waits for {away}"
            return None
        return _step(way, Change(Act.PUBLISH, way.user, until=until), "servers know its password")
    if row.state is AccountState.ROTATING and way.file.state is not FileState.NO_HOME:
        if _at_once(ground, way):
            why = "its old password is to end at once"
            return _step(way, Change(Act.REPLACE, way.user, until=ground.at), why)
        away = _rotation_away(ground, row)
        if away:
            way.untouched = f"its new file waits for {away}"
            return None
        until = _patience(ground, row, ground.settings.rotation.patience)
        return _step(way, Change(Act.REPLACE, way.user, until=until), "servers know its new password")
    return None


def _patience(ground: Ground, row: AccountRow, seconds: float) -> datetime:
    """Until when a file waits for servers that do not take its password."""
    return (row.password_at or ground.at) + timedelta(seconds=seconds)


def _required_away(ground: Ground) -> str:
    return _words(key for key in ground.away if ground.hosts[key].required)


def _rotation_away(ground: Ground, row: AccountRow) -> str:
    """The servers that a file's new password waits for: it would be refused there when they are back."""
    patience = timedelta(seconds=ground.settings.rotation.patience)
    begun = row.password_at or ground.at
    since = {key: max(ground.facts.away.get(key, ground.at), begun) for key in ground.away}
    return _words(key for key, at in since.items() if at + patience > ground.at)


def _words(keys: object) -> str:
    assert hasattr(keys, "__iter__")
    return ", ".join(str(key) for key in keys if isinstance(key, HostKey))
