"""A bus that is slow, gone or strange never keeps us longer than the deadline."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from jeepney import DBusAddress, Message, new_method_return

from labstore.system.dbus import Bus, BusFailed, CallFailed
from tests.support.bus_peer import error, peer
from tests.support.hang import HANGS

TO = DBusAddress("/x", bus_name="org.example", interface="org.example.x")
DEADLINE = 0.2


@contextmanager
def within(seconds: float) -> Iterator[None]:
    started = time.monotonic()
    yield
    assert time.monotonic() - started < HANGS


def echo(call: Message) -> Message:
    return new_method_return(call, "u", call.body)


def test_calls_are_answered_in_their_order(tmp_path: Path) -> None:
    with peer(tmp_path / "bus", echo):
        bus = Bus(tmp_path / "bus", 5.0)
        answers = bus.call_all(TO, "Echo", "u", [(number,) for number in range(300)])
        assert [answer.body() for answer in answers] == [(number,) for number in range(300)]
        bus.close()


def test_equal_answers_are_equal_on_the_wire(tmp_path: Path) -> None:
    with peer(tmp_path / "bus", echo):
        bus = Bus(tmp_path / "bus", 5.0)
        one, two, three = bus.call_all(TO, "Echo", "u", [(1,), (1,), (2,)])
        assert one.packed == two.packed != three.packed
        bus.close()


def test_an_error_is_told_with_its_name_and_words(tmp_path: Path) -> None:
    with peer(tmp_path / "bus", lambda call: error(call, "org.example.Error.No", "not today")):
        bus = Bus(tmp_path / "bus", 5.0)
        with pytest.raises(CallFailed) as failed:
            bus.call(TO, "Ask")
        assert (failed.value.name, failed.value.said) == ("org.example.Error.No", "not today")
        bus.close()


def test_what_is_not_an_answer_is_passed_over(tmp_path: Path) -> None:
    """The bus sends signals of its own."""

    def reply(call: Message) -> bytes:
        unrelated = new_method_return(call, "u", (0,))
        unrelated.header.fields[5] = 4_000_000
        return bytes(unrelated.serialise(7)) + bytes(echo(call).serialise(8))

    with peer(tmp_path / "bus", reply):
        bus = Bus(tmp_path / "bus", 5.0)
        assert bus.call(TO, "Echo", "u", (9,)) == (9,)
        bus.close()


def test_a_bus_that_is_not_there_is_said_at_once(tmp_path: Path) -> None:
    with within(1.0), pytest.raises(BusFailed) as failed:
        Bus(tmp_path / "bus", 5.0)
    assert not failed.value.late


def test_a_bus_that_never_greets_is_late(tmp_path: Path) -> None:
    with peer(tmp_path / "bus", authenticates=False), within(2.0), pytest.raises(BusFailed) as failed:
        Bus(tmp_path / "bus", DEADLINE)
    assert failed.value.late


def test_a_call_that_is_never_answered_is_late(tmp_path: Path) -> None:
    with peer(tmp_path / "bus"):
        bus = Bus(tmp_path / "bus", DEADLINE)
        with within(2.0), pytest.raises(BusFailed) as failed:
            bus.call(TO, "Ask")
        assert failed.value.late
        bus.close()


@pytest.mark.parametrize(
    "noise",
    [
        b"HTTP/1.1 400 Bad Request\r\n\r\n",
        b"l\x02\x01\x01" + (1 << 31).to_bytes(4, "little") + b"\x01\0\0\0" + b"\0\0\0\0",
    ],
    ids=["not D-Bus", "two gigabytes"],
)
def test_noise_is_refused(tmp_path: Path, noise: bytes) -> None:
    with peer(tmp_path / "bus", lambda call: noise):
        bus = Bus(tmp_path / "bus", 5.0)
        with within(2.0), pytest.raises(BusFailed) as failed:
            bus.call(TO, "Ask")
        assert not failed.value.late
        bus.close()
