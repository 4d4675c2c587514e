"""Owners of homes who race the writer of credential files, over and over, as unprivileged processes."""

# ruff: noqa: PTH101, PTH102, PTH104, PTH106, PTH108, PTH211 - attackers speak to the kernel, not to a library

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import gc
import itertools
import os
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from labstore.model.accounts import AccountKind, NativeHash
from labstore.model.secret import Secret
from labstore.ports.credential_writer import FileState
from labstore.reconcile.runner import StepFailed
from labstore.system.clock import SystemClock
from labstore.system.credential_files import FILE_NAMES, STAGED, CredentialFiles
from tests.contracts.credential_writer import ALICE, NEW, OLD, WIKIBUGS, look
from tests.integration.dbusers.homes_lab import HomesLab, as_user, beneath_flag, homes_lab
from tests.support.dbusers import credentials, flag
from tests.support.hang import HANGS

pytestmark = pytest.mark.root
ROUNDS = int(os.environ.get("LABSTORE_RACE_ROUNDS", "60"))
"""Of each race; the acceptance run takes 10,000."""
A_FEW = 10
"""Descriptors."""


@pytest.fixture
def lab() -> Iterator[HomesLab]:
    with homes_lab() as made:
        yield made


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
            signal.signal(signal.SIGIO, signal.SIG_IGN)
            while True:
                with contextlib.suppress(OSError):
                    act()
        finally:
            os._exit(0)
    return child


NAME = FILE_NAMES[AccountKind.TOOL]
_libc = ctypes.CDLL(None, use_errno=True)


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
        os.chmod(NAME, 0o400)
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


def _sparse(_target: str) -> None:
    with contextlib.suppress(OSError):
        descriptor = os.open(NAME, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o400)
        os.ftruncate(descriptor, 1 << 40)
        os.close(descriptor)
    with contextlib.suppress(OSError):
        os.unlink(NAME)


def _planted(_target: str) -> None:
    """A whole file of his own account with a password of his own choice, before the first of ours and after it."""
    with contextlib.suppress(OSError):
        descriptor = os.open("own", os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        os.write(descriptor, credentials("s50001", "attackersown1234"))
        os.fchmod(descriptor, 0o400)
        os.close(descriptor)
    with contextlib.suppress(OSError):
        os.rename("own", NAME)
    with contextlib.suppress(OSError):
        os.unlink(NAME)


def _exchange(target: str) -> None:
    """What stands there and a link change places in one moment."""
    with contextlib.suppress(OSError):
        os.symlink(target, "link")
    with contextlib.suppress(OSError):
        _renameat2("link", NAME)


def _renameat2(source: str, target: str) -> None:
    here, exchange = -100, 2
    if _libc.renameat2(here, source.encode(), here, target.encode(), exchange):
        raise OSError(ctypes.get_errno(), "renameat2")


def _parents(target: str) -> None:
    """The home itself, and a folder into which the file is taken, are moved about."""
    with contextlib.suppress(OSError):
        os.rename("../wikibugs", "../elsewhere")
    with contextlib.suppress(OSError):
        os.chmod(".", 0o777)
    with contextlib.suppress(OSError):
        os.mkdir("folder")
    with contextlib.suppress(OSError):
        os.rename(NAME, f"folder/{NAME}")
    with contextlib.suppress(OSError):
        os.rename("folder", "folders")
    with contextlib.suppress(OSError):
        os.rename(f"folders/{NAME}", NAME)
    with contextlib.suppress(OSError):
        os.rename("folders", "folder")
    with contextlib.suppress(OSError):
        os.chmod(".", 0)


def _lease(_target: str) -> None:
    """A lease makes others wait who open the file."""
    with contextlib.suppress(OSError):
        descriptor = os.open(NAME, os.O_RDONLY)
        fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
        os.close(descriptor)
    _planted(_target)


Race = Callable[[str], None]
RACES: tuple[Race, ...] = (
    *(_link_and_unlink, _swap, _loosen, _fifo, _directory, _hard_link, _staged),
    *(_sparse, _planted, _exchange, _parents, _lease),
)
"""Every row of the table of attacks that a process can try again and again."""


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
    descriptors = _descriptors()
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
    assert longest < HANGS, f"a round took {longest:.1f} s"
    assert done + refused == 4 * ROUNDS
    assert _descriptors() < descriptors + A_FEW, "one for each round would be many"
    with contextlib.suppress(StepFailed):
        lab.writer.withdraw(WIKIBUGS)
    for path in sorted(home.rglob("*"), reverse=True):
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    lab.writer.publish(WIKIBUGS, OLD)
    assert look(lab, WIKIBUGS).verifier == NativeHash.of(OLD), "when it is over, everything works"


ACTS: dict[str, Callable[[CredentialFiles], None]] = {
    "publish": lambda writer: writer.publish(WIKIBUGS, OLD),
    "replace": lambda writer: writer.replace(WIKIBUGS, NEW),
    "protect": lambda writer: writer.protect(WIKIBUGS, NativeHash.of(OLD)),
    "withdraw": lambda writer: writer.withdraw(WIKIBUGS),
}


def _prepare(lab: HomesLab, act: str) -> None:
    """The home as the act finds it."""
    home = lab.file(WIKIBUGS).parent
    home.chmod(0o755)
    for path in sorted(home.rglob("*"), reverse=True):
        if path.is_file() and not path.is_symlink():
            flag(path, False)
        path.rmdir() if path.is_dir() and not path.is_symlink() else path.unlink()
    if act != "publish":
        lab.writer.publish(WIKIBUGS, OLD)
    if act == "protect":
        flag(lab.file(WIKIBUGS), False)


@pytest.mark.parametrize("act", ACTS)
def test_an_owner_who_strikes_before_any_step_gains_nothing(lab: HomesLab, act: str) -> None:
    """The same attacks, once before each change of the disk: whatever moment a race could hit."""
    lab.make_home(WIKIBUGS)
    home = lab.file(WIKIBUGS).parent
    victim = lab.homes.root / "victim"
    victim.write_bytes(credentials("s50001", "victimssecret123"))
    victim.chmod(0o444)
    before = _state(victim)
    steps: list[str] = []
    _prepare(lab, act)
    ACTS[act](CredentialFiles(lab.homes.settings(), SystemClock(), steps.append))
    for number, race in itertools.product(range(len(steps)), RACES):
        _prepare(lab, act)
        passed = itertools.count()

        def strike(_word: str, passed: Iterator[int] = passed, number: int = number, race: Race = race) -> None:
            if next(passed) == number:
                as_user(WIKIBUGS.uid, lambda: (os.chdir(home), race(str(victim)), "")[2])

        with contextlib.suppress(StepFailed):
            ACTS[act](CredentialFiles(lab.homes.settings(), SystemClock(), strike))
        fact = look(lab, WIKIBUGS)
        where = f"{race.__name__} before {steps[number]}"
        assert fact.verifier != NativeHash.of(Secret("victimssecret123")), where
        if fact.state is FileState.TRUSTED:
            assert fact.verifier in (NativeHash.of(OLD), NativeHash.of(NEW)), where
        assert _state(victim) == before, where
    _prepare(lab, "publish")


def _state(path: Path) -> tuple[object, ...]:
    status = path.stat()
    return path.read_bytes(), status.st_mode, status.st_uid, status.st_gid, status.st_nlink, beneath_flag(path)


def _tree(root: Path) -> list[str]:
    return sorted(str(path) for path in root.rglob("*"))


def _descriptors() -> int:
    gc.collect()
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
