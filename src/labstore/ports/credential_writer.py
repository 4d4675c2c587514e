"""Credential files in homes that belong to others: seen, published, replaced, withdrawn. Accounts, never paths."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Protocol

from labstore.model.accounts import AccountKind, DbUser, NativeHash
from labstore.model.names import Name
from labstore.model.secret import Secret
from labstore.reconcile.facts import Answer


@dataclass(frozen=True, slots=True)
class FileOwner:
    """Whose file: the kind and name give its place, `uid` its owner, `user` the only account it may speak of."""

    kind: AccountKind
    name: Name
    uid: int
    user: DbUser


class FileState(StrEnum):
    """How a credential file was found."""

    TRUSTED = "trusted"
    """Regular, protected, one link, right owner and mode, speaks of the owner's account: its hash is the truth."""
    BARE = "not protected"
    """As trusted, but without the protection: only a hash that is known already may be believed."""
    ABSENT = "absent"
    NO_HOME = "home does not exist"
    FOREIGN = "not ours"
    """Something else stands there: a link, a directory, another's file. What cannot be looked at is Missing instead."""


@dataclass(frozen=True, slots=True)
class FileFact:
    """`verifier` is the hash of the file's password, for TRUSTED and BARE; `why` explains the others."""

    state: FileState
    verifier: NativeHash | None = None
    why: str = ""


class CredentialWriter(Protocol):
    """Raises StepFailed from the writing calls; then nothing was left behind that works or that blocks another try."""

    def inspect(self, owners: Sequence[FileOwner]) -> Mapping[DbUser, Answer[FileFact]]:
        """The files of these accounts. Missing where it could not be found out."""

    def publish(self, owner: FileOwner, password: Secret) -> None:
        """Make the file, whole, protected and verified, where there is none. Never replaces anything."""

    def replace(self, owner: FileOwner, password: Secret) -> None:
        """Put a new file in the place of what is there, from one moment to the next."""

    def protect(self, owner: FileOwner, verifier: NativeHash) -> None:
        """Protect a BARE file whose hash is this one."""

    def withdraw(self, owner: FileOwner) -> None:
        """Remove the file if it speaks of the owner's account; absent already, or the home gone, is success."""

    def paws_ids(self) -> Answer[tuple[str, ...]]:
        """The names of the PAWS homes, from which PAWS accounts are made."""
