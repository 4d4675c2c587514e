"""What every writer of credential files does, fake or real. A subclass gives `lab`."""

from __future__ import annotations

from typing import Protocol

import pytest

from labstore.model.accounts import AccountKind, DbUser, NativeHash, account_name
from labstore.model.secret import Secret
from labstore.ports.credential_writer import CredentialWriter, FileFact, FileOwner, FileState
from labstore.reconcile.facts import Fact, Missing
from labstore.reconcile.runner import StepFailed

OLD, NEW = Secret("oldpassword12345"), Secret("newpassword12345")


def owner(user: str = "s50001", name: str = "tools.wikibugs", uid: int = 0) -> FileOwner:
    made = DbUser(user)
    return FileOwner(made.kind, account_name(made.kind, name), uid or made.number, made)


WIKIBUGS, ADMIN = owner(), owner("s50002", "tools.admin")
ALICE = owner("u2170", "alice")
PAWS = owner("p31", "31", 52771)


class WriterLab(Protocol):
    """Homes in the hands of a test."""

    writer: CredentialWriter

    def make_home(self, owner: FileOwner) -> None:
        """The home of this account, empty."""

    def unprotect(self, owner: FileOwner) -> None:
        """As if the process had been killed before it protected the file."""

    def read(self, owner: FileOwner) -> str:
        """The password in the file, as its owner reads it."""

    def lose(self) -> None:
        """The homes cannot be reached."""


def look(lab: WriterLab, whose: FileOwner) -> FileFact:
    answer = lab.writer.inspect([whose])[whose.user]
    assert isinstance(answer, Fact), answer
    return answer.value


class CredentialWriterContract:
    """Inherit, and give the fixture `lab`."""

    @pytest.fixture
    def lab(self) -> WriterLab:
        raise NotImplementedError

    def test_no_home_and_no_file_are_told_apart(self, lab: WriterLab) -> None:
        lab.make_home(WIKIBUGS)
        assert look(lab, WIKIBUGS) == FileFact(FileState.ABSENT)
        assert look(lab, ADMIN) == FileFact(FileState.NO_HOME)

    @pytest.mark.parametrize("whose", [WIKIBUGS, ALICE, PAWS], ids=["tool", "user", "paws"])
    def test_a_published_file_is_trusted(self, lab: WriterLab, whose: FileOwner) -> None:
        lab.make_home(whose)
        lab.writer.publish(whose, OLD)
        assert look(lab, whose) == FileFact(FileState.TRUSTED, NativeHash.of(OLD))
        assert lab.read(whose) == OLD.reveal()

    def test_publishing_replaces_nothing(self, lab: WriterLab) -> None:
        lab.make_home(WIKIBUGS)
        lab.writer.publish(WIKIBUGS, OLD)
        with pytest.raises(StepFailed):
            lab.writer.publish(WIKIBUGS, NEW)
        assert lab.read(WIKIBUGS) == OLD.reveal()

    def test_without_a_home_there_is_no_file(self, lab: WriterLab) -> None:
        with pytest.raises(StepFailed):
            lab.writer.publish(WIKIBUGS, OLD)

    def test_a_replaced_file_has_the_new_password_and_is_protected(self, lab: WriterLab) -> None:
        lab.make_home(WIKIBUGS)
        lab.writer.publish(WIKIBUGS, OLD)
        lab.writer.replace(WIKIBUGS, NEW)
        assert look(lab, WIKIBUGS) == FileFact(FileState.TRUSTED, NativeHash.of(NEW))
        assert lab.read(WIKIBUGS) == NEW.reveal()

    def test_replacing_makes_the_file_where_there_is_none(self, lab: WriterLab) -> None:
        lab.make_home(WIKIBUGS)
        lab.writer.replace(WIKIBUGS, NEW)
        assert look(lab, WIKIBUGS) == FileFact(FileState.TRUSTED, NativeHash.of(NEW))

    def test_a_bare_file_is_protected_if_its_hash_is_the_one(self, lab: WriterLab) -> None:
        lab.make_home(WIKIBUGS)
        lab.writer.publish(WIKIBUGS, OLD)
        lab.unprotect(WIKIBUGS)
        assert look(lab, WIKIBUGS) == FileFact(FileState.BARE, NativeHash.of(OLD))
        with pytest.raises(StepFailed):
            lab.writer.protect(WIKIBUGS, NativeHash.of(NEW))
        lab.writer.protect(WIKIBUGS, NativeHash.of(OLD))
        assert look(lab, WIKIBUGS).state is FileState.TRUSTED

    def test_a_withdrawn_file_is_gone_and_withdrawing_again_is_harmless(self, lab: WriterLab) -> None:
        """upstream #47"""
        lab.make_home(WIKIBUGS)
        lab.writer.publish(WIKIBUGS, OLD)
        lab.writer.withdraw(WIKIBUGS)
        assert look(lab, WIKIBUGS) == FileFact(FileState.ABSENT)
        lab.writer.withdraw(WIKIBUGS)
        lab.writer.withdraw(ADMIN)
        lab.writer.publish(WIKIBUGS, NEW)
        assert lab.read(WIKIBUGS) == NEW.reveal()

    def test_one_owners_file_is_nobody_elses(self, lab: WriterLab) -> None:
        for whose in (WIKIBUGS, ADMIN, ALICE):
            lab.make_home(whose)
        lab.writer.publish(WIKIBUGS, OLD)
        lab.writer.publish(ALICE, NEW)
        found = lab.writer.inspect([WIKIBUGS, ADMIN, ALICE])
        states = [answer.value.state for answer in found.values() if isinstance(answer, Fact)]
        assert states == [FileState.TRUSTED, FileState.ABSENT, FileState.TRUSTED]

    def test_paws_homes_are_listed(self, lab: WriterLab) -> None:
        lab.make_home(PAWS)
        answer = lab.writer.paws_ids()
        assert isinstance(answer, Fact) and answer.value == ("31",)

    def test_homes_that_cannot_be_reached_are_missing_and_not_absent(self, lab: WriterLab) -> None:
        lab.make_home(WIKIBUGS)
        lab.lose()
        assert isinstance(lab.writer.inspect([WIKIBUGS])[WIKIBUGS.user], Missing)

    def test_kinds_have_homes_of_their_own(self, lab: WriterLab) -> None:
        lab.make_home(owner("s50001", "tools.same"))
        assert look(lab, owner("u50001", "same")).state is FileState.NO_HOME
        assert AccountKind.USER is not AccountKind.TOOL
