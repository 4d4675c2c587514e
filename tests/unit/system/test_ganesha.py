"""The driver's functions, against a scripted bus; the words are those of 4.3 (tests/captures/ganesha)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from jeepney import HeaderFields, Message, new_method_return

from labstore.system.ganesha import Failure, Ganesha, GaneshaFailed, Session
from tests.support.bus_peer import Peer, Reply, error, peer
from tests.support.fake_clock import FakeClock

FILE = Path("/srv/lab/change.conf")
INVALID = "org.freedesktop.DBus.Error.InvalidArgs"
CONTENT = "org.freedesktop.DBus.Error.InvalidFileContent"


@contextmanager
def session(tmp_path: Path, reply: Reply, clock: FakeClock | None = None) -> Iterator[tuple[Session, Peer]]:
    with peer(tmp_path / "bus", reply) as answering:
        driver = Ganesha(clock or FakeClock(), tmp_path / "bus", 2.0)
        with driver.connect() as opened:
            yield opened, answering


def saying(signature: str, *body: object) -> Reply:
    return lambda call: new_method_return(call, signature, body)


def failing(name: str, said: str) -> Reply:
    return lambda call: error(call, name, said)


def test_a_file_is_handed_over_with_all_its_blocks(tmp_path: Path) -> None:
    with session(tmp_path, saying("s", "2 exports updated")) as (opened, answering):
        opened.update(FILE, 2)
        (call,) = answering.calls
        assert call.header.fields[HeaderFields.member] == "UpdateExport"
        assert call.body == ("/srv/lab/change.conf", "EXPORT(Export_Id=*)")


@pytest.mark.parametrize("said", ["1 exports added", "3 exports added", "2 exports added. Errors found:\nline 1\n"])
def test_anything_but_all_of_them_is_a_refusal(tmp_path: Path, said: str) -> None:
    with session(tmp_path, saying("s", said)) as (opened, _), pytest.raises(GaneshaFailed) as failed:
        opened.add(FILE, 2)
    assert failed.value.failure is Failure.REFUSED


@pytest.mark.parametrize(
    ("name", "said", "failure"),
    [
        (INVALID, "lookup_export failed with Export id not found", Failure.UNKNOWN_ID),
        (INVALID, "Cannot remove export with submounts", Failure.REFUSED),
        (CONTENT, "0 export entries in /x added because (block validation) errors", Failure.REFUSED),
        ("org.freedesktop.DBus.Error.NoReply", "Message recipient disconnected", Failure.ENDED),
        ("org.freedesktop.DBus.Error.ServiceUnknown", "The name org.ganesha.nfsd was not provided", Failure.ENDED),
    ],
)
def test_errors_are_told_apart(tmp_path: Path, name: str, said: str, failure: Failure) -> None:
    with session(tmp_path, failing(name, said)) as (opened, _), pytest.raises(GaneshaFailed) as failed:
        opened.remove(7)
    assert (failed.value.method, failed.value.failure, failed.value.said) == ("RemoveExport", failure, said)


def test_while_somebody_else_changes_exports_it_tries_again(tmp_path: Path) -> None:
    clock = FakeClock()
    answers = iter([True, True, False])

    def reply(call: Message) -> Message:
        if next(answers):
            return error(call, INVALID, "another export admin operation is in progress, try again later")
        return new_method_return(call)

    with session(tmp_path, reply, clock) as (opened, answering):
        opened.remove(7)
        assert len(answering.calls) == 3
    assert len(clock.slept) == 2


def test_it_does_not_try_for_ever(tmp_path: Path) -> None:
    said = "another export admin operation is in progress, try again later"
    clock = FakeClock()
    with session(tmp_path, failing(INVALID, said), clock) as (opened, _), pytest.raises(GaneshaFailed):
        opened.remove(7)
    assert sum(clock.slept) <= 2.1


def test_an_answer_that_is_the_same_is_not_read_twice(tmp_path: Path) -> None:
    struct = ("10.0.0.1/32", 0, 0, 255, 1, 65534, 65534, 0, 53486562, 127999)
    reply = saying("qsssa(siyyiuuuuu)", 5, "/srv/a", "/srv/a", "", [struct])
    with session(tmp_path, reply) as (opened, _):
        (one,), (two,) = opened.shown([5]), opened.shown([5])
        assert one is two
        assert [client.name for client in one.clients] == ["10.0.0.1"]


def test_a_server_that_is_not_there_is_told_from_a_bus_that_is_not(tmp_path: Path) -> None:
    with session(tmp_path, saying("b", False)) as (opened, _):
        assert not opened.running()
    with (
        pytest.raises(GaneshaFailed) as failed,
        Ganesha(FakeClock(), tmp_path / "nothing", 1.0).connect(),
    ):
        pass
    assert failed.value.failure is Failure.UNREACHABLE


def test_silence_has_an_end(tmp_path: Path) -> None:
    with peer(tmp_path / "bus"), Ganesha(FakeClock(), tmp_path / "bus", 0.2).connect() as opened:
        with pytest.raises(GaneshaFailed) as failed:
            opened.listed()
        assert failed.value.failure is Failure.SILENT


def test_garbled_answers_are_said_to_be(tmp_path: Path) -> None:
    with session(tmp_path, saying("s", "what?")) as (opened, _), pytest.raises(GaneshaFailed) as failed:
        opened.listed()
    assert failed.value.failure is Failure.GARBLED
