"""In-memory twins of the Protocols around database accounts. `trouble` is called before each thing they do, with its
name; it may raise StepFailed for a refusal, or Killed for a kill -9 at that very point."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace

from labstore.dbusers.desired import as_made
from labstore.model.accounts import AccountKind, DbUser, NativeHash, PawsId
from labstore.model.database import FoundAccount, HostKey, Verifier
from labstore.model.dbusers_settings import ReplicaSettings
from labstore.model.people import Entry, Listing, Rejected
from labstore.model.secret import Secret
from labstore.ports.credential_writer import FileFact, FileOwner, FileState
from labstore.ports.replica_server import HostChange, HostVerb, HostView, Session
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.dbusers import FileRefused, HostLost, HostReadOnly
from labstore.reports.report import Report
from labstore.reports.sources import SourceFailed
from tests.support.fake_clock import FakeClock

Trouble = Callable[[str], None]


def nothing(_word: str) -> None:
    """No trouble."""


@dataclass
class FakeReplica:
    """See ports.replica_server.ReplicaServer."""

    settings: ReplicaSettings
    clock: FakeClock
    accounts: dict[DbUser, FoundAccount] = field(default_factory=dict)
    open_sessions: list[Session] = field(default_factory=list)
    away: bool = False
    refuses_changes: bool = False
    slippery: bool = False
    """Statements are over before they can be ended."""
    trouble: Trouble = nothing
    _shown: dict[DbUser, FoundAccount] | None = None

    @property
    def key(self) -> HostKey:
        return self.settings.key

    def observe(self) -> Answer[HostView]:
        self.trouble(f"{self.key} observe")
        if self.away:
            return self._missing()
        now = dict(self.accounts)
        looked = sum(now.get(user) != (self._shown or {}).get(user) for user in now) if now != self._shown else 0
        self._shown = now
        sessions: dict[DbUser, int] = {}
        for session in self.open_sessions:
            sessions[session.user] = sessions.get(session.user, 0) + 1
        return Fact(HostView(now, sessions, self.refuses_changes, looked), str(self.key), self.clock.now())

    def look(self, users: Sequence[DbUser]) -> Answer[Mapping[DbUser, FoundAccount]]:
        if self.away:
            return self._missing()
        found = {user: self.accounts[user] for user in users if user in self.accounts}
        return Fact(found, str(self.key), self.clock.now())

    def carry_out(self, changes: Sequence[HostChange]) -> Mapping[DbUser, Report]:
        if self.away:
            raise StepFailed(HostLost(str(self.key), "away"))
        if self.refuses_changes:
            raise StepFailed(HostReadOnly(str(self.key), "read only"))
        for verb in HostVerb:
            for change in changes:
                if change.verb is verb:
                    self.trouble(f"{self.key} {verb}")
                    self._do(change)
        return {}

    def _do(self, change: HostChange) -> None:
        found = self.accounts.get(change.user)
        match change.verb:
            case HostVerb.LOCK if found is not None:
                self.accounts[change.user] = replace(found, locked=True)
            case HostVerb.END_SESSIONS:
                self.open_sessions = [s for s in self.open_sessions if s.user != change.user]
            case HostVerb.DROP:
                self.accounts.pop(change.user, None)
            case HostVerb.CREATE | HostVerb.ALTER:
                assert change.wanted is not None
                made = as_made(change.wanted, self.settings)
                base = found or replace(made, default_role="", roles=frozenset(), grants=frozenset())
                self.accounts[change.user] = replace(
                    base, verifiers=made.verifiers, limits=made.limits, locked=made.locked
                )
            case HostVerb.REVOKE if found is not None and change.wanted is not None:
                made = as_made(change.wanted, self.settings)
                self.accounts[change.user] = replace(
                    found, default_role=made.default_role, roles=made.roles, grants=made.grants, surplus=()
                )
            case HostVerb.GRANT if found is not None and change.wanted is not None:
                made = as_made(change.wanted, self.settings)
                self.accounts[change.user] = replace(
                    found,
                    default_role=made.default_role,
                    roles=found.roles | made.roles,
                    grants=found.grants | made.grants,
                )
            case _:
                pass

    def sessions(self) -> Answer[tuple[Session, ...]]:
        if self.away:
            return self._missing()
        return Fact(tuple(self.open_sessions), str(self.key), self.clock.now())

    def end_statement(self, session: Session) -> bool:
        self.trouble(f"{self.key} end statement")
        if self.slippery:
            return False
        before = len(self.open_sessions)
        self.open_sessions = [replace(s, running=False) if s == session else s for s in self.open_sessions]
        return before > 0

    def end_session(self, session: Session) -> bool:
        self.trouble(f"{self.key} end session")
        self.open_sessions = [s for s in self.open_sessions if s.number != session.number]
        return True

    def close(self) -> None:
        """Nothing to let go of."""

    def works(self, user: str, password: str) -> bool:
        found = self.accounts.get(DbUser(user))
        verifier = Verifier.native(NativeHash.of(Secret(password)))
        return found is not None and not found.locked and verifier in found.verifiers

    def _missing(self) -> Missing:
        return Missing(HostLost(str(self.key), "away"), str(self.key), self.clock.now())


@dataclass
class FakeFiles:
    """See ports.credential_writer.CredentialWriter. `homes` are those that exist; `files` what is in them."""

    clock: FakeClock
    homes: set[DbUser] = field(default_factory=set)
    files: dict[DbUser, FileFact] = field(default_factory=dict)
    passwords: dict[DbUser, Secret] = field(default_factory=dict)
    away: bool = False
    trouble: Trouble = nothing

    def inspect(self, owners: Sequence[FileOwner]) -> Mapping[DbUser, Answer[FileFact]]:
        return {owner.user: self._look(owner) for owner in owners}

    def _look(self, owner: FileOwner) -> Answer[FileFact]:
        if self.away:
            return Missing(SourceFailed("fake homes", "files", "away"), "fake", self.clock.now())
        absent = FileFact(FileState.ABSENT if owner.user in self.homes else FileState.NO_HOME)
        return Fact(self.files.get(owner.user, absent), "fake", self.clock.now())

    def publish(self, owner: FileOwner, password: Secret) -> None:
        self.trouble("file link")
        if owner.user not in self.homes or owner.user in self.files:
            raise StepFailed(FileRefused(owner.user, "something stands there, or there is no home"))
        self._put(owner, password)

    def replace(self, owner: FileOwner, password: Secret) -> None:
        self.trouble("file unprotect")
        old = self.files.get(owner.user)
        if old is not None and old.state is FileState.TRUSTED:
            self.files[owner.user] = replace(old, state=FileState.BARE)
        self.trouble("file rename")
        self._put(owner, password)

    def protect(self, owner: FileOwner, verifier: NativeHash) -> None:
        self.trouble("file protect")
        found = self.files.get(owner.user)
        if found is None or found.verifier != verifier:
            raise StepFailed(FileRefused(owner.user, "it has another password"))
        self.files[owner.user] = FileFact(FileState.TRUSTED, verifier)

    def withdraw(self, owner: FileOwner) -> None:
        self.trouble("file unlink")
        self.files.pop(owner.user, None)
        self.passwords.pop(owner.user, None)

    def paws_ids(self) -> Answer[tuple[str, ...]]:
        ids = tuple(sorted(str(user.number) for user in self.homes if user.kind is AccountKind.PAWS))
        return Fact(tuple(PawsId(name) for name in ids), "fake", self.clock.now())

    def _put(self, owner: FileOwner, password: Secret) -> None:
        self.passwords[owner.user] = password
        self.files[owner.user] = FileFact(FileState.BARE, NativeHash.of(password))
        self.trouble("file protect")
        self.files[owner.user] = FileFact(FileState.TRUSTED, NativeHash.of(password))
        self.trouble("file sync")


@dataclass
class FakeDirectory:
    """See ports.directory.Directory."""

    clock: FakeClock
    entries: dict[DbUser, Entry] = field(default_factory=dict)
    kinds: tuple[AccountKind, ...] = (AccountKind.TOOL, AccountKind.USER)
    silent: bool = False
    agreed: bool = True
    rejected: tuple[Rejected, ...] = ()

    def add(self, entry: Entry) -> None:
        self.entries[entry.user] = entry

    def listing(self) -> Mapping[AccountKind, Answer[Listing]]:
        return {kind: self._listing(kind) for kind in self.kinds}

    def _listing(self, kind: AccountKind) -> Answer[Listing]:
        if self.silent:
            return Missing(SourceFailed("fake directory", kind.value, "silence"), "fake", self.clock.now())
        mine = {user: entry for user, entry in self.entries.items() if entry.kind is kind}
        doubt = "" if self.agreed else "one server is away"
        return Fact(Listing(kind, mine, self.rejected, self.agreed, ("fake",), doubt), "fake", self.clock.now())

    def listen(self, ring: Callable[[], None]) -> Callable[[], None]:
        return lambda: None
