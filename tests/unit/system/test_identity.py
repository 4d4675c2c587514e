"""Who is at work, and as whom files are written."""

from __future__ import annotations

import os
import pwd
from pathlib import Path

import pytest

from labstore.system.identity import become_owner_of, person, program


def test_the_person_behind_sudo() -> None:
    assert person({"SUDO_USER": "alice"}, "labstore1") == "alice@labstore1"


def test_a_login_without_sudo() -> None:
    assert person({}, "labstore1").endswith("@labstore1")
    assert len(person({}, "labstore1")) > len("@labstore1")


def test_a_hostile_name_is_made_plain() -> None:
    assert person({"SUDO_USER": "a\nb\x1b[2J"}, "h") == "a?b??2J@h"


def test_a_program_is_an_actor() -> None:
    assert program("labstore-exportd", "labstore1") == "labstore-exportd@labstore1"


def as_child(work: object) -> int:
    """The exit status of a forked child that does `work`: privileges once dropped do not come back."""
    child = os.fork()
    if not child:
        try:
            work()  # type: ignore[operator]
            os._exit(0)
        except BaseException:  # noqa: BLE001 - the child must not run the rest of the tests
            os._exit(1)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])


@pytest.mark.root
@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become somebody else")
def test_root_becomes_the_owner_for_good(tmp_path: Path) -> None:
    """T88579: files that root left among the daemon's blocked it ever after."""
    nobody = pwd.getpwnam("nobody")
    os.chown(tmp_path, nobody.pw_uid, nobody.pw_gid)

    def work() -> None:
        assert become_owner_of(tmp_path / "not" / "there" / "yet") == "nobody"
        assert os.getresuid() == (nobody.pw_uid,) * 3
        assert os.getresgid() == (nobody.pw_gid,) * 3
        with pytest.raises(PermissionError):
            os.setuid(0)

    tmp_path.parent.chmod(0o755)
    assert as_child(work) == 0


def test_our_own_directory_changes_nothing(tmp_path: Path) -> None:
    before = os.getresuid()
    assert become_owner_of(tmp_path) is None
    assert os.getresuid() == before
