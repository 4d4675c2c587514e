"""Credential files in homes on this machine. The homes' owners are hostile, and we are root: every look and every
change goes through descriptors, the password never meets a path, an argument or a process.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from labstore.formats import my_cnf
from labstore.model.accounts import AccountKind, DbUser, NativeHash, home_name
from labstore.model.dbusers_settings import FilesSettings
from labstore.model.secret import Secret
from labstore.ports.clock import Clock
from labstore.ports.credential_writer import FileFact, FileOwner, FileState
from labstore.reconcile.facts import Answer, Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.dbusers import FileRefused
from labstore.reports.sources import SourceFailed
from labstore.system.beneath import (
    inode_at,
    inode_of,
    is_immutable,
    is_regular,
    name_file,
    open_beneath,
    set_immutable,
    unnamed_file,
)

FILE_NAMES = {
    AccountKind.TOOL: "replica.my.cnf",
    AccountKind.USER: "replica.my.cnf",
    AccountKind.PAWS: ".my.cnf",
}
STAGED = ".labstore-new.my.cnf"
"""Under this name a new file stands for a moment before it is renamed over the old one. One name, so that what a
killed run left is found and removed by the next."""
TRIES = 5
"""So often an owner may spoil a file while it is made, before it is left for the next cycle."""
_READABLE_ONLY = 0o440
_NEW = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_SOURCE = "homes"
Signature = tuple[int, int, int, int, int, int]


class _NoHome(Exception):
    """There is no home."""


class _Foreign(Exception):
    """What stands there is not ours; the message says what."""


class _Spoilt(Exception):
    """The owner changed something in between."""


@dataclass
class CredentialFiles:
    """See ports.credential_writer.CredentialWriter. `step` is called with a word before each change of the disk."""

    settings: FilesSettings
    clock: Clock
    step: Callable[[str], None] = lambda _word: None
    _seen: dict[DbUser, tuple[Signature, FileFact]] = field(default_factory=dict, init=False)

    # --- looking ----------------------------------------------------------------------------------------------------

    def inspect(self, owners: Sequence[FileOwner]) -> Mapping[DbUser, Answer[FileFact]]:
        found: dict[DbUser, Answer[FileFact]] = {}
        by_kind: dict[AccountKind, list[FileOwner]] = {}
        for owner in owners:
            by_kind.setdefault(owner.kind, []).append(owner)
        for kind, mine in by_kind.items():
            try:
                with self._base(kind) as base:
                    found |= {owner.user: self._look(base, owner) for owner in mine}
            except OSError as error:
                missing = self._missing(f"the homes of {kind.value} accounts", error)
                found |= {owner.user: missing for owner in mine}
        return found

    def paws_ids(self) -> Answer[tuple[str, ...]]:
        try:
            with self._base(AccountKind.PAWS) as base:
                names = [entry.name for entry in Path(f"/proc/self/fd/{base}").iterdir()]
        except OSError as error:
            return self._missing("the PAWS homes", error)
        return Fact(tuple(sorted(names)), _SOURCE, self.clock.now())

    def _look(self, base: int, owner: FileOwner) -> Answer[FileFact]:
        try:
            with self._home(base, owner) as home:
                fact = self._look_in(home, owner)
        except _NoHome:
            fact = FileFact(FileState.NO_HOME)
        except _Foreign as error:
            fact = FileFact(FileState.FOREIGN, why=str(error))
        except OSError as error:
            return self._missing(f"the file of {owner.user}", error)
        return Fact(fact, _SOURCE, self.clock.now())

    def _look_in(self, home: int, owner: FileOwner) -> FileFact:
        try:
            with self._file(home, owner) as file:
                status = os.fstat(file)
                signature = _signature(status)
                known = self._seen.get(owner.user)
                if known is not None and known[0] == signature:
                    return known[1]
                fact = self._read(file, status, owner)
                self._seen[owner.user] = (signature, fact)
                return fact
        except FileNotFoundError:
            return FileFact(FileState.ABSENT)

    def _read(self, file: int, status: os.stat_result, owner: FileOwner) -> FileFact:
        """What an open regular file is. Raises _Foreign."""
        _belongs(status, owner)
        try:
            credentials = my_cnf.parse(os.pread(file, my_cnf.LIMIT + 1, 0))
        except my_cnf.BadCredentials as error:
            raise _Foreign(f"it {error}") from None
        if credentials.user != owner.user:
            raise _Foreign("it speaks of another account")
        bare = self.settings.immutable and not is_immutable(file)
        return FileFact(FileState.BARE if bare else FileState.TRUSTED, credentials.verifier)

    # --- changing ---------------------------------------------------------------------------------------------------

    def publish(self, owner: FileOwner, password: Secret) -> None:
        content = my_cnf.render(my_cnf.Credentials(owner.user, password))

        def act(home: int) -> None:
            with self._made(home, owner, content) as file:
                self.step("link")
                try:
                    name_file(file, home, FILE_NAMES[owner.kind])
                except FileExistsError:
                    raise _Foreign("something stands at its name already") from None
                if inode_at(home, STAGED) == inode_of(file):
                    _unlink(home, STAGED)
                self._finish(home, file, owner, content)

        self._attempt(owner, act)

    def replace(self, owner: FileOwner, password: Secret) -> None:
        content = my_cnf.render(my_cnf.Credentials(owner.user, password))

        def act(home: int) -> None:
            with self._made(home, owner, content) as file:
                self._stage(home, file)
                self._free(home, owner)
                self.step("rename")
                try:
                    os.rename(STAGED, FILE_NAMES[owner.kind], src_dir_fd=home, dst_dir_fd=home)
                except (IsADirectoryError, NotADirectoryError):
                    raise _Foreign("a directory stands at its name") from None
                except (FileNotFoundError, PermissionError):
                    raise _Spoilt("its owner was at it") from None
                self._finish(home, file, owner, content)

        self._attempt(owner, act)

    def protect(self, owner: FileOwner, verifier: NativeHash) -> None:
        def act(home: int) -> None:
            with self._file(home, owner) as file:
                content = os.pread(file, my_cnf.LIMIT + 1, 0)
                fact = self._read(file, os.fstat(file), owner)
                if fact.verifier != verifier:
                    raise _Foreign("it has another password")
                self._finish(home, file, owner, content)

        self._attempt(owner, act)

    def withdraw(self, owner: FileOwner) -> None:
        def act(home: int) -> None:
            with contextlib.suppress(FileNotFoundError), self._file(home, owner) as file:
                self._read(file, os.fstat(file), owner)
                self._take_away(home, file, FILE_NAMES[owner.kind])

        with contextlib.suppress(_NoHome):
            self._attempt(owner, act, homeless=True)

    def _attempt(self, owner: FileOwner, act: Callable[[int], None], homeless: bool = False) -> None:
        """Do it in the owner's home; again where the owner spoilt it. Raises StepFailed, and _NoHome if `homeless`."""
        self._seen.pop(owner.user, None)
        reason = ""
        for _ in range(TRIES):
            try:
                with self._base(owner.kind) as base, self._home(base, owner) as home:
                    act(home)
                return
            except _NoHome:
                if homeless:
                    raise
                raise StepFailed(FileRefused(str(owner.user), "its home does not exist")) from None
            except _Spoilt as error:
                reason = str(error)
            except _Foreign as error:
                raise StepFailed(FileRefused(str(owner.user), str(error))) from None
            except OSError as error:
                raise StepFailed(FileRefused(str(owner.user), f"{error.strerror or error}")) from None
        raise StepFailed(FileRefused(str(owner.user), f"given up after {TRIES} tries: {reason}"))

    @contextmanager
    def _made(self, home: int, owner: FileOwner, content: bytes) -> Iterator[int]:
        """A new file with this content, mode and owner, on the disk, that has no name yet."""
        self.step("create")
        file = unnamed_file(home)
        named = file is None
        if file is None:
            _unlink(home, STAGED)
            file = os.open(
                STAGED, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600, dir_fd=home
            )
        try:
            os.write(file, content)
            os.fchmod(file, self.settings.mode)
            os.fchown(file, owner.uid, owner.uid)
            os.fsync(file)
            yield file
        finally:
            if named and inode_at(home, STAGED) == inode_of(file):
                _unlink(home, STAGED)
            os.close(file)

    def _stage(self, home: int, file: int) -> None:
        """Give the new file its temporary name; what a killed run (or the owner) left there goes."""
        if inode_at(home, STAGED) == inode_of(file):
            return
        _unlink(home, STAGED)
        self.step("stage")
        try:
            name_file(file, home, STAGED)
        except FileExistsError:
            raise _Spoilt("its owner was at it") from None

    def _free(self, home: int, owner: FileOwner) -> None:
        """Let the present file be renamed over: an immutable one cannot be. Only the owner's own file is touched."""
        try:
            with self._file(home, owner) as old:
                if os.fstat(old).st_uid == owner.uid and is_immutable(old):
                    self.step("unprotect")
                    set_immutable(old, False)
        except (FileNotFoundError, _Foreign):
            return

    def _finish(self, home: int, file: int, owner: FileOwner, content: bytes) -> None:
        """Protect the named file, then see that it is what was made: the owner could change it until just now."""
        name = FILE_NAMES[owner.kind]
        if self.settings.immutable:
            self.step("protect")
            set_immutable(file, True)
        spoilt = self._spoilt(home, file, owner, content)
        if spoilt:
            self._take_away(home, file, name)
            raise _Spoilt(spoilt)
        self.step("sync")
        os.fsync(file)
        os.fsync(home)

    def _spoilt(self, home: int, file: int, owner: FileOwner, content: bytes) -> str:
        status = os.fstat(file)
        try:
            _belongs(status, owner)
        except _Foreign as error:
            return str(error)
        if os.pread(file, my_cnf.LIMIT + 1, 0) != content:
            return "its content was changed"
        if inode_at(home, FILE_NAMES[owner.kind]) != (status.st_dev, status.st_ino):
            return "its name was given to another file"
        return ""

    def _take_away(self, home: int, file: int, name: str) -> None:
        """Remove the name if it is this file's. In between the owner could swap it for another file of his own home:
        then he loses that one."""
        if is_immutable(file):
            self.step("unprotect")
            set_immutable(file, False)
        if inode_at(home, name) == inode_of(file):
            self.step("unlink")
            _unlink(home, name)
            os.fsync(home)

    # --- the way there ----------------------------------------------------------------------------------------------

    @contextmanager
    def _base(self, kind: AccountKind) -> Iterator[int]:
        """The directory of the homes: its path is the site's word and root's alone to change."""
        path: Path | None = self.settings.bases.get(kind)
        if path is None:
            raise FileNotFoundError(errno.ENOENT, f"no homes of {kind.value} accounts are configured")
        base = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            yield base
        finally:
            os.close(base)

    @contextmanager
    def _home(self, base: int, owner: FileOwner) -> Iterator[int]:
        """The owner's home, one name below the base: a directory of his on the same file system. Raises _NoHome,
        _Foreign, OSError where it could not be found out."""
        try:
            home = open_beneath(base, home_name(owner.kind, owner.name), os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            raise _NoHome from None
        except OSError as error:
            if error.errno in _NOT_A_HOME:
                raise _Foreign(_NOT_A_HOME[error.errno]) from None
            raise
        try:
            wanted = self.settings.paws_owner if owner.kind is AccountKind.PAWS else owner.uid
            found = os.fstat(home).st_uid
            if found != wanted:
                raise _Foreign(f"its home belongs to uid {found}")
            yield home
        finally:
            os.close(home)

    @contextmanager
    def _file(self, home: int, owner: FileOwner) -> Iterator[int]:
        """The file, if it is a regular one. Raises FileNotFoundError, _Foreign, OSError where it could not be found
        out; never waits."""
        name = FILE_NAMES[owner.kind]
        try:
            file = open_beneath(home, name, os.O_RDONLY | os.O_NOCTTY)
        except FileNotFoundError:
            raise
        except OSError as error:
            if error.errno in _NOT_A_FILE:
                raise _Foreign(_NOT_A_FILE[error.errno]) from None
            # a device that we may not open says so in many ways
            if not is_regular(os.stat(name, dir_fd=home, follow_symlinks=False)):
                raise _Foreign("it is not a regular file") from None
            raise
        try:
            if not is_regular(os.fstat(file)):
                raise _Foreign("it is not a regular file")
            yield file
        finally:
            os.close(file)

    def _missing(self, what: str, error: OSError) -> Missing:
        return Missing(SourceFailed(_SOURCE, what, error.strerror or str(error)), _SOURCE, self.clock.now())


_NOT_A_HOME = {
    errno.ENOTDIR: "its home is not a directory",
    errno.ELOOP: "its home is a symbolic link",
    errno.EXDEV: "another file system is mounted at its home",
}
"""What open(2) says only where something else lies there, in our words. Every other error says nothing about that."""
_NOT_A_FILE = {
    errno.ELOOP: "it is a symbolic link",
    errno.EXDEV: "another file system is mounted there",
    errno.EAGAIN: "its owner holds a lease on it",
    errno.ENXIO: "it is not a regular file",
}


def _belongs(status: os.stat_result, owner: FileOwner) -> None:
    """Owner, mode and links as we make them. Raises _Foreign."""
    if not is_regular(status):
        raise _Foreign("it is not a regular file")
    if status.st_nlink != 1:
        raise _Foreign(f"it has {status.st_nlink} names")
    if (status.st_uid, status.st_gid) != (owner.uid, owner.uid):
        raise _Foreign(f"it belongs to uid {status.st_uid}, gid {status.st_gid}")
    if stat.S_IMODE(status.st_mode) & ~_READABLE_ONLY:
        raise _Foreign(f"its mode is {stat.S_IMODE(status.st_mode):04o}")
    if status.st_size > my_cnf.LIMIT:
        raise _Foreign(f"it has {status.st_size} bytes")


def _signature(status: os.stat_result) -> Signature:
    """Changes whenever content, owner, mode, links or attributes do: each of them sets the change time."""
    return (
        status.st_dev, status.st_ino, status.st_ctime_ns, status.st_size, status.st_nlink,
        status.st_mode ^ status.st_uid << 32,
    )  # fmt: skip


def _unlink(directory: int, name: str) -> None:
    """Raises _Foreign for a directory."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return
    except (IsADirectoryError, PermissionError):
        raise _Foreign(f"{name} stands in the way and cannot be removed") from None
