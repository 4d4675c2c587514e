"""Credential files in real homes on a real file system, and owners of homes who attack the writer."""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import signal
import socket
import stat
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from labstore.model.accounts import AccountKind, NativeHash
from labstore.ports.credential_writer import FileState
from labstore.reconcile.facts import Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.system import beneath
from labstore.system.clock import SystemClock
from labstore.system.credential_files import STAGED, CredentialFiles
from tests.contracts.credential_writer import NEW, OLD, WIKIBUGS, CredentialWriterContract, look, owner
from tests.integration.dbusers.homes_lab import (
    HomesLab,
    as_user,
    beneath_flag,
    homes_lab,
    with_descriptors,
    without_openat2,
)
from tests.support.dbusers import credentials, flag

pytestmark = pytest.mark.root


@pytest.fixture
def lab() -> Iterator[HomesLab]:
    with homes_lab() as made:
        yield made


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
        case "device":
            os.mknod(path, 0o400 | stat.S_IFCHR, os.makedev(1, 5))
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
    *(
        "device",
        "huge sparse file",
        "hard link",
        "somebody else's account",
        "an own account, not protected",
        "writable",
    ),
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
        assert time.monotonic() - started < 40, "it waited for the lease to be broken"
    finally:
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_no_process_ever_shows_the_password(lab: HomesLab) -> None:
    """The original gave it to a script as an argument, which also wrote it down while it ran."""
    lab.make_home(WIKIBUGS)
    seen: list[str] = []

    def look_around(word: str) -> None:
        for path in Path("/proc").glob("[0-9]*/cmdline"):
            with contextlib.suppress(OSError):
                said = path.read_bytes() + path.with_name("environ").read_bytes()
                assert OLD.reveal().encode() not in said and NEW.reveal().encode() not in said
        seen.append(word)

    writer = CredentialFiles(lab.homes.settings(), SystemClock(), look_around)
    writer.publish(WIKIBUGS, OLD)
    writer.replace(WIKIBUGS, NEW)
    assert {"create", "link", "protect", "stage", "rename"} <= set(seen)


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


@pytest.mark.parametrize("left", [1, 2], ids=["the home", "the file"])
def test_what_cannot_be_opened_is_not_known_and_not_said_to_be_another_s(lab: HomesLab, left: int) -> None:
    """DESIGN law 1: an error that says nothing of what stands there leaves it unknown, and the file where it is."""
    lab.make_home(WIKIBUGS)
    lab.writer.publish(WIKIBUGS, OLD)

    def tries() -> str:
        answer = lab.writer.inspect([WIKIBUGS])[WIKIBUGS.user]
        with pytest.raises(StepFailed) as failed:
            lab.writer.withdraw(WIKIBUGS)
        return f"{type(answer).__name__}; {failed.value.report.message()}"

    assert with_descriptors(left, tries) == "Missing; the file of s50001: Too many open files"
    assert look(lab, WIKIBUGS).verifier == NativeHash.of(OLD)


def test_a_device_that_cannot_be_opened_is_in_the_way_all_the_same(lab: HomesLab) -> None:
    """It is not, on a file system mounted without devices or in a unit that may open none."""
    lab.make_home(WIKIBUGS)
    plant(lab.file(WIKIBUGS), "device", WIKIBUGS.uid, lab.homes.root)
    assert with_descriptors(2, lambda: look(lab, WIKIBUGS).why) == "it is not a regular file"


def test_a_process_that_may_not_look_into_homes_says_what_forbids_it(lab: HomesLab) -> None:
    """systemd answers openat2(2) with ENOSYS in a unit that has RestrictSUIDSGID=."""
    lab.make_home(WIKIBUGS)
    lab.writer.publish(WIKIBUGS, OLD)

    def looks() -> str:
        answer = lab.writer.inspect([WIKIBUGS])[WIKIBUGS.user]
        return answer.report.message() if isinstance(answer, Missing) else str(answer.value)

    assert "RestrictSUIDSGID= of a unit" in without_openat2(looks)


def test_an_account_of_another_name_is_not_served(lab: HomesLab) -> None:
    """Name, uid and database account belong together; the writer takes nobody's word for a path."""
    lab.make_home(WIKIBUGS)
    lab.writer.publish(WIKIBUGS, OLD)
    other = owner("s50002", "tools.wikibugs", 50001)
    assert look(lab, other).state is FileState.FOREIGN
    with pytest.raises(StepFailed, match="another account"):
        lab.writer.withdraw(other)
