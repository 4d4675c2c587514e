"""Credential files in real homes on a real file system, and owners of homes who attack the writer."""

# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH211 - attackers speak to the kernel, not to a library

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from labstore.model.accounts import AccountKind, NativeHash
from labstore.model.secret import Secret
from labstore.ports.credential_writer import FileOwner, FileState
from labstore.reconcile.facts import Fact
from labstore.reconcile.runner import StepFailed
from labstore.system import beneath
from labstore.system.clock import SystemClock
from labstore.system.credential_files import FILE_NAMES, STAGED, CredentialFiles
from tests.contracts.credential_writer import ALICE, NEW, OLD, WIKIBUGS, CredentialWriterContract, look, owner
from tests.support import mariadb
from tests.support.dbusers import Homes, credentials, flag

pytestmark = pytest.mark.root
ROUNDS = int(os.environ.get("LABSTORE_RACE_ROUNDS", "60"))
"""Of each race; the acceptance run takes 10,000."""


@dataclass
class HomesLab:
    homes: Homes
    writer: CredentialFiles

    def make_home(self, owner: FileOwner) -> None:
        name = owner.name.partition(".")[2] if owner.kind is AccountKind.TOOL else owner.name
        self.homes.make(owner.kind, name, owner.uid)

    def file(self, owner: FileOwner) -> Path:
        name = owner.name.partition(".")[2] if owner.kind is AccountKind.TOOL else owner.name
        return self.homes.file(owner.kind, name)

    def unprotect(self, owner: FileOwner) -> None:
        flag(self.file(owner), False)

    def read(self, owner: FileOwner) -> str:
        return as_user(owner.uid, lambda: self.file(owner).read_text()).split("password = ")[1].strip()

    def lose(self) -> None:
        self.homes.clear()


def as_user(uid: int, act: Callable[[], str]) -> str:
    """What an unprivileged process of this uid gets."""
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        status = 1
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            os.write(writer, act().encode())
            status = 0
        finally:
            os._exit(status)
    os.close(writer)
    with os.fdopen(reader, "rb") as pipe:
        said = pipe.read().decode()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    return said


@pytest.fixture
def lab() -> Iterator[HomesLab]:
    if os.geteuid() != 0:
        pytest.skip("homes that belong to others need root")
    with mariadb.scratch("homes") as root:
        homes = Homes(root / "homes")
        try:
            yield HomesLab(homes, CredentialFiles(homes.settings(), SystemClock()))
        finally:
            homes.clear()


class TestCredentialFiles(CredentialWriterContract):
    @pytest.fixture
    def lab(self, lab: HomesLab) -> HomesLab:
        return lab


def test_the_file_itself(lab: HomesLab) -> None:
    lab.make_home(WIKIBUGS)
    lab.writer.publish(WIKIBUGS, OLD)
    path = lab.file(WIKIBUGS)
    status = path.stat()
    assert path.read_bytes() == credentials("s50001", OLD.reveal())
    assert (status.st_mode & 0o7777, status.st_uid, status.st_gid, status.st_nlink) == (0o400, 50001, 50001, 1)
    assert lab.homes.protected(AccountKind.TOOL, "wikibugs")
    assert sorted(each.name for each in path.parent.iterdir()) == ["replica.my.cnf"]


def test_its_owner_can_read_it_and_do_nothing_else(lab: HomesLab) -> None:
    lab.make_home(WIKIBUGS)
    lab.writer.publish(WIKIBUGS, OLD)
    path = lab.file(WIKIBUGS)

    def attempts() -> str:
        refused = []
        for name, act in {
            "write": lambda: path.write_text("x"),
            "remove": path.unlink,
            "rename": lambda: path.rename(path.with_name("x")),
            "mode": lambda: path.chmod(0o666),
            "link": lambda: os.link(path, path.with_name("x")),
            "attribute": lambda: flag(path, False),
        }.items():
            try:
                act()
            except OSError as error:
                refused.append(f"{name} {errno.errorcode[error.errno or 0]}")
        return " ".join(refused)

    assert as_user(WIKIBUGS.uid, attempts).count(" ") == 11, as_user(WIKIBUGS.uid, attempts)
    assert as_user(50999, lambda: "no" if not os.access(path, os.R_OK) else "yes") == "no"


def test_the_other_mode_of_the_original(lab: HomesLab) -> None:
    lab.make_home(WIKIBUGS)
    writer = CredentialFiles(lab.homes.settings(mode=0o440), SystemClock())
    writer.publish(WIKIBUGS, OLD)
    assert lab.file(WIKIBUGS).stat().st_mode & 0o7777 == 0o440
    assert look(lab, WIKIBUGS).state is FileState.TRUSTED


def test_protection_is_a_policy(lab: HomesLab) -> None:
    """upstream #58: the attribute broke archiving and restores."""
    lab.make_home(WIKIBUGS)
    writer = CredentialFiles(lab.homes.settings(immutable=False), SystemClock())
    writer.publish(WIKIBUGS, OLD)
    assert not lab.homes.protected(AccountKind.TOOL, "wikibugs")
    answer = writer.inspect([WIKIBUGS])[WIKIBUGS.user]
    assert isinstance(answer, Fact) and answer.value.state is FileState.TRUSTED


def test_files_as_the_original_made_them_are_trusted(lab: HomesLab) -> None:
    lab.make_home(WIKIBUGS)
    lab.homes.put(AccountKind.TOOL, "wikibugs", 50001, b"[client]\nuser = 's50001'\npassword = 'abcdefghijklmnop'\n")
    assert look(lab, WIKIBUGS).state is FileState.TRUSTED


def test_a_file_system_without_unnamed_files(lab: HomesLab, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("labstore.system.credential_files.unnamed_file", lambda directory: None)
    lab.make_home(WIKIBUGS)
    lab.writer.publish(WIKIBUGS, OLD)
    lab.writer.replace(WIKIBUGS, NEW)
    assert look(lab, WIKIBUGS).verifier == NativeHash.of(NEW)
    assert sorted(each.name for each in lab.file(WIKIBUGS).parent.iterdir()) == ["replica.my.cnf"]


# --- what an owner may have put there --------------------------------------------------------------------------------


def plant(path: Path, what: str, uid: int, outside: Path) -> None:
    """Put something at the name of the file, as its owner could."""
    match what:
        case "link to a file":
            path.symlink_to(outside)
        case "dangling link":
            path.symlink_to(outside.with_name("made-by-root"))
        case "relative link":
            path.symlink_to(os.path.relpath(outside, path.parent))
        case "link through proc":
            path.symlink_to("/proc/self/root" + str(outside))
        case "directory":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "socket":
            made = socket.socket(socket.AF_UNIX)
            made.bind(str(path))
            made.close()
        case "huge sparse file":
            with path.open("wb") as file:
                file.truncate(1 << 40)
        case "hard link":
            os.link(outside, path)
        case "somebody else's account":
            path.write_bytes(credentials("s50002", "abcdefghijklmnop"))
        case "an own account, not protected":
            path.write_bytes(credentials("s50001", "abcdefghijklmnop"))
        case "writable":
            path.write_bytes(credentials("s50001", "abcdefghijklmnop"))
            path.chmod(0o600)
        case _:
            raise AssertionError(what)
    if what not in ("hard link",):
        os.chown(path, uid, uid, follow_symlinks=False)
        if what not in ("writable",) and path.is_file() and not path.is_symlink():
            path.chmod(0o400)


PLANTED = (
    *("link to a file", "dangling link", "relative link", "link through proc", "directory", "fifo", "socket"),
    *("huge sparse file", "hard link", "somebody else's account", "an own account, not protected", "writable"),
)


@pytest.mark.parametrize("what", PLANTED)
def test_what_was_planted_is_neither_believed_nor_followed(lab: HomesLab, what: str) -> None:
    """upstream #57 and the table of attacks: nothing outside the home changes, nothing of it is told, nothing hangs."""
    lab.make_home(WIKIBUGS)
    outside = lab.homes.root / "victim"
    outside.write_text("root:x:0:0: the first line of somebody's file\n")
    outside.chmod(0o600)
    before = outside.stat()
    plant(lab.file(WIKIBUGS), what, WIKIBUGS.uid, outside)
    fact = look(lab, WIKIBUGS)
    bare = what == "an own account, not protected"
    assert fact.state is (FileState.BARE if bare else FileState.FOREIGN)
    assert "root" not in fact.why and "first line" not in fact.why
    with pytest.raises(StepFailed) as refused:
        lab.writer.publish(WIKIBUGS, OLD)
    assert "first line" not in str(refused.value)
    with contextlib.suppress(StepFailed):
        lab.writer.protect(WIKIBUGS, NativeHash.of(OLD))
    if not bare:
        with pytest.raises(StepFailed):
            lab.writer.withdraw(WIKIBUGS)
        assert os.path.lexists(lab.file(WIKIBUGS))
    after = outside.stat()
    assert (after.st_mode, after.st_uid, after.st_gid, after.st_size) == (
        before.st_mode, before.st_uid, before.st_gid, before.st_size,
    )  # fmt: skip
    assert not beneath_flag(outside)
    assert not outside.with_name("made-by-root").exists()


@pytest.mark.parametrize("what", [each for each in PLANTED if each != "directory"])
def test_a_person_may_have_it_replaced(lab: HomesLab, what: str) -> None:
    lab.make_home(WIKIBUGS)
    outside = lab.homes.root / "victim"
    outside.write_text("somebody's file")
    plant(lab.file(WIKIBUGS), what, WIKIBUGS.uid, outside)
    lab.writer.replace(WIKIBUGS, NEW)
    assert look(lab, WIKIBUGS).verifier == NativeHash.of(NEW)
    assert outside.read_text() == "somebody's file" and outside.stat().st_uid == 0


def test_a_directory_is_refused_and_left_alone(lab: HomesLab) -> None:
    lab.make_home(WIKIBUGS)
    lab.file(WIKIBUGS).mkdir()
    with pytest.raises(StepFailed, match="directory"):
        lab.writer.replace(WIKIBUGS, NEW)
    assert lab.file(WIKIBUGS).is_dir()
    lab.file(WIKIBUGS).rmdir()
    lab.writer.replace(WIKIBUGS, NEW)
    assert not lab.file(WIKIBUGS).with_name(STAGED).exists(), "what the refused try left is gone"


def beneath_flag(path: Path) -> bool:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        return beneath.is_immutable(descriptor)
    finally:
        os.close(descriptor)


@pytest.mark.parametrize("what", ["link", "file", "another's", "root's"])
def test_a_home_that_is_none(lab: HomesLab, what: str) -> None:
    home = lab.file(WIKIBUGS).parent
    elsewhere = lab.homes.make(AccountKind.TOOL, "elsewhere", WIKIBUGS.uid)
    match what:
        case "link":
            home.symlink_to(elsewhere)
        case "file":
            home.write_text("x")
        case "another's":
            lab.homes.make(AccountKind.TOOL, "wikibugs", 50002)
        case _:
            home.mkdir()
    assert look(lab, WIKIBUGS).state is FileState.FOREIGN
    for act in (lab.writer.publish, lab.writer.replace):
        with pytest.raises(StepFailed):
            act(WIKIBUGS, OLD)
    assert list(elsewhere.iterdir()) == []


def test_a_lease_of_the_owner_does_not_hold_the_writer_up(lab: HomesLab) -> None:
    """A lease makes open(2) wait until it is given up: for 45 s, again and again."""
    lab.make_home(WIKIBUGS)
    plant(lab.file(WIKIBUGS), "an own account, not protected", WIKIBUGS.uid, lab.homes.root / "x")
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        os.setgid(WIKIBUGS.uid)
        os.setuid(WIKIBUGS.uid)
        signal.signal(signal.SIGIO, signal.SIG_IGN)
        held = os.open(lab.file(WIKIBUGS), os.O_RDONLY)
        try:
            fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
            os.write(writer, b"x")
        finally:
            time.sleep(30)
            os._exit(0)
    try:
        os.read(reader, 1)
        started = time.monotonic()
        assert look(lab, WIKIBUGS).state in (FileState.FOREIGN, FileState.BARE)
        assert time.monotonic() - started < 2
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


# --- races -----------------------------------------------------------------------------------------------------------


def attacker(home: Path, uid: int, act: Callable[[], None]) -> int:
    """A process of the owner that does this over and over, as fast as it can. Returns its pid."""
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setgid(uid)
            os.setuid(uid)
            os.chdir(home)
            while True:
                with contextlib.suppress(OSError):
                    act()
        finally:
            os._exit(0)
    return child


NAME = FILE_NAMES[AccountKind.TOOL]


def _link_and_unlink(target: str) -> None:
    with contextlib.suppress(OSError):
        os.symlink(target, NAME)
    with contextlib.suppress(OSError):
        os.unlink(NAME)


def _swap(target: str) -> None:
    """Whatever stands there moves away, a link takes its place."""
    with contextlib.suppress(OSError):
        os.rename(NAME, "moved")
    with contextlib.suppress(OSError):
        os.symlink(target, NAME)
    with contextlib.suppress(OSError):
        os.unlink(NAME)
    with contextlib.suppress(OSError):
        os.unlink("moved")


def _loosen(_target: str) -> None:
    """Between its name and its protection the file is the owner's: mode, content and links are tried."""
    with contextlib.suppress(OSError):
        os.chmod(NAME, 0o600)
    with contextlib.suppress(OSError):
        descriptor = os.open(NAME, os.O_WRONLY | os.O_TRUNC)
        os.write(descriptor, credentials("s50001", "attackersown1234"))
        os.close(descriptor)
    with contextlib.suppress(OSError):
        os.link(NAME, "second")
    with contextlib.suppress(OSError):
        os.unlink("second")


def _fifo(_target: str) -> None:
    with contextlib.suppress(OSError):
        os.mkfifo(NAME)
    with contextlib.suppress(OSError):
        os.unlink(NAME)


def _directory(_target: str) -> None:
    with contextlib.suppress(OSError):
        os.mkdir(NAME)
    with contextlib.suppress(OSError):
        os.rmdir(NAME)


def _hard_link(target: str) -> None:
    with contextlib.suppress(OSError):
        os.link(target, NAME)
    with contextlib.suppress(OSError):
        os.unlink(NAME)


def _staged(target: str) -> None:
    """The name under which a new file stands for a moment."""
    with contextlib.suppress(OSError):
        os.symlink(target, STAGED)
    with contextlib.suppress(OSError):
        os.rename(STAGED, "stolen")
    with contextlib.suppress(OSError):
        os.unlink(STAGED)


RACES = (_link_and_unlink, _swap, _loosen, _fifo, _directory, _hard_link, _staged)


@pytest.mark.parametrize("race", RACES, ids=lambda race: race.__name__.strip("_"))
def test_an_owner_who_races_the_writer_gains_nothing(lab: HomesLab, race: Callable[[str], None]) -> None:
    """No byte outside the home changes, no foreign file is read, nothing hangs; what is left is right or refused."""
    lab.make_home(WIKIBUGS)
    lab.make_home(ALICE)
    victim = lab.homes.root / "victim"
    victim.write_bytes(credentials("s50001", "victimssecret123"))
    victim.chmod(0o444)
    victims = NativeHash.of(Secret("victimssecret123"))
    before = _state(victim), _tree(lab.homes.root / "user")
    home = lab.file(WIKIBUGS).parent
    child = attacker(home, WIKIBUGS.uid, lambda: race(str(victim)))
    done = refused = 0
    longest = 0.0
    try:
        for _ in range(ROUNDS):
            started = time.monotonic()
            for act in (
                lambda: lab.writer.publish(WIKIBUGS, OLD),
                lambda: lab.writer.replace(WIKIBUGS, NEW),
                lambda: lab.writer.protect(WIKIBUGS, NativeHash.of(OLD)),
                lambda: lab.writer.withdraw(WIKIBUGS),
            ):
                try:
                    act()
                    done += 1
                except StepFailed:
                    refused += 1
                fact = look(lab, WIKIBUGS)
                assert fact.verifier != victims, "a foreign file was read"
                if fact.state is FileState.TRUSTED:
                    assert fact.verifier in (NativeHash.of(OLD), NativeHash.of(NEW)), "trust in what the owner wrote"
            longest = max(longest, time.monotonic() - started)
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)
    assert (_state(victim), _tree(lab.homes.root / "user")) == before
    assert not (lab.homes.root / "made-by-root").exists()
    assert longest < 10, f"a round took {longest:.1f} s"
    assert done + refused == 4 * ROUNDS
    assert _descriptors() < 60
    with contextlib.suppress(StepFailed):
        lab.writer.withdraw(WIKIBUGS)
    for path in home.iterdir():
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    lab.writer.publish(WIKIBUGS, OLD)
    assert look(lab, WIKIBUGS).verifier == NativeHash.of(OLD), "when it is over, everything works"


def _state(path: Path) -> tuple[object, ...]:
    status = path.stat()
    return path.read_bytes(), status.st_mode, status.st_uid, status.st_gid, status.st_nlink, beneath_flag(path)


def _tree(root: Path) -> list[str]:
    return sorted(str(path) for path in root.rglob("*"))


def _descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_reading_never_gives_a_foreign_file_away(lab: HomesLab) -> None:
    """Harvesting follows no link, even one that is there for a moment."""
    lab.make_home(WIKIBUGS)
    secret = lab.homes.root / "secret"
    secret.write_bytes(credentials("s50001", "somebodyelses123"))
    os.chown(secret, WIKIBUGS.uid, WIKIBUGS.uid)
    secret.chmod(0o400)
    child = attacker(lab.file(WIKIBUGS).parent, WIKIBUGS.uid, lambda: _link_and_unlink(str(secret)))
    try:
        for _ in range(ROUNDS):
            assert look(lab, WIKIBUGS).verifier is None
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_one_name_and_never_a_path(lab: HomesLab) -> None:
    base = os.open(lab.homes.root, os.O_PATH | os.O_DIRECTORY)
    try:
        for name in ("..", ".", "", "a/b", "/etc", "a\0b", "../victim"):
            with pytest.raises(OSError):
                beneath.open_beneath(base, name, os.O_RDONLY)
    finally:
        os.close(base)


def test_another_file_system_mounted_on_a_home_is_not_entered(lab: HomesLab) -> None:
    other = next((Path(p) for p in ("/proc", "/sys") if Path(p).is_dir()), None)
    assert other is not None
    base = os.open("/", os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError) as refused:
            beneath.open_beneath(base, other.name, os.O_RDONLY | os.O_DIRECTORY)
        assert refused.value.errno == errno.EXDEV
    finally:
        os.close(base)


def test_an_account_of_another_name_is_not_served(lab: HomesLab) -> None:
    """Name, uid and database account belong together; the writer takes nobody's word for a path."""
    lab.make_home(WIKIBUGS)
    lab.writer.publish(WIKIBUGS, OLD)
    other = owner("s50002", "tools.wikibugs", 50001)
    assert look(lab, other).state is FileState.FOREIGN
    with pytest.raises(StepFailed, match="another account"):
        lab.writer.withdraw(other)
