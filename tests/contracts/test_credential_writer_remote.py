"""Files on another machine keep the contract of files on this one: a real client, real HTTP, a real service."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import pytest

from labstore.model.accounts import AccountKind, NativeHash
from labstore.model.secret import Secret
from labstore.ports.credential_writer import CredentialWriter, FileOwner, FileState
from labstore.reconcile.facts import Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.reports.sources import SourceFailed
from labstore.sources.remote_files import FilesByKind, RemoteFiles
from tests.contracts.credential_writer import ALICE, NEW, OLD, WIKIBUGS, CredentialWriterContract, look, owner
from tests.support.dbusers_fakes import FakeFiles
from tests.support.fake_clock import FakeClock
from tests.support.writer_service import Running, serving


@dataclass
class RemoteLab:
    running: Running
    there: FakeFiles
    writer: CredentialWriter

    def make_home(self, owner: FileOwner) -> None:
        self.there.homes.add(owner.user)

    def unprotect(self, owner: FileOwner) -> None:
        self.there.files[owner.user] = replace(self.there.files[owner.user], state=FileState.BARE)

    def read(self, owner: FileOwner) -> str:
        return self.there.passwords[owner.user].reveal()

    def lose(self) -> None:
        self.there.away = True


@pytest.fixture
def lab() -> Iterator[RemoteLab]:
    there = FakeFiles(FakeClock())
    with serving(there) as running:
        yield RemoteLab(running, there, RemoteFiles(running.client(), FakeClock()))


class TestRemoteFiles(CredentialWriterContract):
    @pytest.fixture
    def lab(self, lab: RemoteLab) -> RemoteLab:
        return lab


def test_thousands_are_asked_about_in_a_few_questions(lab: RemoteLab) -> None:
    many = [owner(f"s{60000 + number}", f"tools.t{number}") for number in range(4500)]
    for each in many[::2]:
        lab.make_home(each)
    found = lab.writer.inspect(many)
    states = {answer.value.state for answer in found.values() if isinstance(answer, Fact)}
    assert len(found) == 4500
    assert states == {FileState.ABSENT, FileState.NO_HOME}


def test_files_that_fail_alike_there_fail_alike_here(lab: RemoteLab) -> None:
    """So that they are one thing to say."""
    lab.lose()
    for answer in lab.writer.inspect([WIKIBUGS, ALICE]).values():
        assert isinstance(answer, Missing) and isinstance(answer.report, SourceFailed)
        assert answer.report.reason == "away"


def test_a_reply_that_was_lost_does_not_make_a_second_try_fail(lab: RemoteLab) -> None:
    lab.make_home(WIKIBUGS)
    lab.writer.publish(WIKIBUGS, OLD)
    lab.writer.publish(WIKIBUGS, OLD)
    lab.unprotect(WIKIBUGS)
    lab.writer.publish(WIKIBUGS, OLD)
    assert look(lab, WIKIBUGS).state is FileState.TRUSTED


def test_whoever_has_not_the_password_learns_and_changes_nothing(lab: RemoteLab) -> None:
    lab.make_home(WIKIBUGS)
    lab.writer.publish(WIKIBUGS, OLD)
    stranger = RemoteFiles(lab.running.client(Secret("guessed")), FakeClock())
    assert isinstance(stranger.inspect([WIKIBUGS])[WIKIBUGS.user], Missing)
    assert isinstance(stranger.paws_ids(), Missing)
    for act in (
        lambda: stranger.publish(ALICE, NEW),
        lambda: stranger.replace(WIKIBUGS, NEW),
        lambda: stranger.protect(WIKIBUGS, NativeHash.of(OLD)),
        lambda: stranger.withdraw(WIKIBUGS),
    ):
        with pytest.raises(StepFailed):
            act()
    assert lab.read(WIKIBUGS) == OLD.reveal()


def test_a_standby_node_writes_nothing_and_says_so(lab: RemoteLab) -> None:
    lab.make_home(WIKIBUGS)
    lab.running.standby = "standby: another node serves"
    with pytest.raises(StepFailed) as failure:
        lab.writer.publish(WIKIBUGS, OLD)
    assert "standby" in failure.value.report.message()
    assert isinstance(lab.writer.inspect([WIKIBUGS])[WIKIBUGS.user], Missing)
    assert not lab.there.files


def test_a_service_that_is_not_there_is_missing() -> None:
    with serving(FakeFiles(FakeClock())) as running:
        client = RemoteFiles(running.client(), FakeClock())
        assert isinstance(client.inspect([WIKIBUGS])[WIKIBUGS.user], Fact)
    answer = client.inspect([WIKIBUGS])[WIKIBUGS.user]
    assert isinstance(answer, Missing)
    assert "127.0.0.1" in answer.report.message()
    with pytest.raises(StepFailed):
        client.publish(WIKIBUGS, OLD)


def test_kinds_may_be_here_and_elsewhere(lab: RemoteLab) -> None:
    here = FakeFiles(FakeClock())
    both = FilesByKind(here, {AccountKind.TOOL: lab.writer})
    here.homes.add(ALICE.user)
    lab.make_home(WIKIBUGS)
    both.publish(WIKIBUGS, OLD)
    both.publish(ALICE, NEW)
    found = both.inspect([WIKIBUGS, ALICE])
    assert all(isinstance(answer, Fact) and answer.value.state is FileState.TRUSTED for answer in found.values())
    assert set(lab.there.files) == {WIKIBUGS.user}
    assert set(here.files) == {ALICE.user}
