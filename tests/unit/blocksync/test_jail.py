"""A hostile caller behind a forced command: right keys, right frames, wrong everything else. It gets its one device and
nothing besides, whatever it says."""

from __future__ import annotations

import contextlib
import json
import os
import random
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from blake3 import blake3

from labstore.blocksync.channel import Channel
from labstore.blocksync.messages import Hello, Welcome, limits_text, options_text, pack_data, pack_ranges
from labstore.blocksync.serve import Jail, allowed, serve
from labstore.blocksync.wire import LIMITS, VERSION, Kind
from labstore.model.block_sync import DEFAULTS, UNLIMITED, Options, Permit, Role
from labstore.reports.blocksync import NotAllowed, SyncFailed
from labstore.reports.report import Report
from tests.support.blocksync import honest

BLOCK = 16384
ATTEMPTS = 300


@dataclass
class Opened:
    """Every path that this process opened, removed or made while it watched."""

    paths: set[str] = field(default_factory=set)
    watching: bool = False

    def hook(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.watching and event in ("open", "os.remove", "os.mkdir", "os.rename", "os.rmdir", "shutil.rmtree"):
            for argument in arguments[: 1 if event == "open" else 2]:
                if isinstance(argument, str | bytes | os.PathLike):
                    self.paths.add(os.fsdecode(argument))


OPENED = Opened()
sys.addaudithook(OPENED.hook)


@contextlib.contextmanager
def watching() -> Iterator[Opened]:
    OPENED.paths.clear()
    OPENED.watching = True
    try:
        yield OPENED
    finally:
        OPENED.watching = False


class Caller:
    """Speaks to a jailed end, up to the handshake properly."""

    def __init__(self, jail: Jail, state: Path) -> None:
        reading, back = os.pipe()
        there, writing = os.pipe()
        self.channel = Channel(reading, writing, 5.0)
        self.said: Report | None = None
        self.ended = False

        def called() -> None:
            try:
                serve(there, back, state, jail, patience=1.0)
                self.ended = True
            except SyncFailed as failure:
                self.said = failure.report

        self.thread = threading.Thread(target=called, daemon=True)
        self.thread.start()

    def hello(self, role: Role, path: str, options: Options = DEFAULTS) -> None:
        nonce = os.urandom(16).hex()
        self.channel.say(Hello(VERSION, nonce, role, path, options_text(options), limits_text(UNLIMITED), "../../x"))
        self.channel.open_session(nonce, self.channel.hear(Welcome).nonce, are_caller=True)

    def over(self) -> Report | None:
        self.channel.close()
        self.thread.join(30)
        assert not self.thread.is_alive(), "the called end hangs"
        assert self.ended or self.said is not None, "the called end fell over"
        return self.said


@pytest.fixture
def device(memory: Path) -> Path:
    path = memory / "device"
    path.write_bytes(random.Random(5).randbytes(40 * BLOCK))
    return path


PLAN = {
    "volume": "ab" * 16, "key": "cd" * 32, "algorithm": "blake3", "block_size": BLOCK, "generation": 1, "root": None,
    "start": 0, "believe_hints": False, "max_changed": 40, "why": "because",
}  # fmt: skip
OFFER = {
    "path": "/etc/shadow", "size": 40 * BLOCK, "head": blake3(b"").hexdigest(), "content": None, "token": "t",
    "hints_from": None,
}  # fmt: skip
COMPLETE = {
    "root": "00" * 32, "token": None, "torn": False, "read": 0, "changed": 0, "zeroed": 0, "samples": [], "notes": [],
}  # fmt: skip
ODD: tuple[Any, ...] = (
    None, -1, 0, 1, 2**63, 2**64, 2**400, 1e308, True, "", "x" * 5000, "../../../etc/passwd", "/etc/shadow", [], {},
    "00" * 32, "ff" * 16, "\x1b[2J", [[]], "blake3",
)  # fmt: skip


def hostile_frame(chance: random.Random) -> tuple[Kind, bytes]:
    """Something that has the right shape, now and then the right content too."""
    kind = chance.choice([*Kind])
    roll = chance.random()
    if roll < 0.25:
        return kind, chance.randbytes(min(LIMITS[kind], chance.choice([0, 1, 8, 16, 24, 40, 500, 20000])))
    if kind is Kind.DATA:
        block = chance.choice([0, 1, 39, 40, 2**63, chance.randrange(45)]) % 2**64
        content = chance.randbytes(chance.choice([BLOCK, BLOCK, 0, 5]))
        return kind, b"".join(map(bytes, pack_data([block], chance.randbytes(16), [content], None)))
    if kind in (Kind.ZEROS, Kind.NOTHING):
        return kind, pack_ranges([(chance.choice([0, 39, 41, 2**63]), chance.choice([0, 1, 2**63, 5]))])
    if kind in (Kind.DIGESTS, Kind.POSITION):
        return kind, chance.randbytes(8) + chance.randbytes(16 * chance.choice([0, 1, 40]))
    said = dict(
        chance.choice([PLAN, OFFER, COMPLETE, {"cached": True, "hinted": True}, {"kept": True}, {"limits": "{}"}])
    )
    for _ in range(chance.choice([0, 0, 1, 2])):
        said[chance.choice([*said])] = chance.choice(ODD)
    return kind, json.dumps(said).encode()[: LIMITS[kind]]


def expected_first(role: Role, chance: random.Random) -> list[tuple[Kind, bytes]]:
    """A beginning that leads the called end further in, sometimes."""
    if chance.random() < 0.3:
        return []
    if role is Role.SOURCE:
        return [(Kind.PLAN, json.dumps(PLAN).encode())]
    return [(Kind.OFFER, json.dumps(OFFER).encode()), (Kind.SCAN, b'{"cached":false,"hinted":false}')]


@pytest.mark.parametrize("role", Role)
def test_no_frame_opens_anything_but_the_device(device: Path, memory: Path, role: Role) -> None:
    jail = Jail(role, frozenset({str(device)}), permits=frozenset({Permit.ADOPT_TARGET}))
    before, state = device.read_bytes(), memory / "state"
    for attempt in range(ATTEMPTS):
        chance = random.Random(attempt)
        with watching() as opened:
            caller = Caller(jail, state)
            with contextlib.suppress(SyncFailed):
                caller.hello(role, str(device), replace(DEFAULTS, permits=frozenset(Permit), hints="/etc/shadow"))
                for kind, payload in expected_first(role, chance) + [hostile_frame(chance) for _ in range(5)]:
                    caller.channel.send(kind, payload[: LIMITS[kind]])
            caller.over()
            strange = {
                path for path in opened.paths if not path.startswith((str(memory), "/proc/", "/sys/", "/tmp/labstore-"))
            }
        assert strange - {"/dev"} == set(), f"attempt {attempt}"
        assert "/proc/self/fd" not in strange
        if role is Role.SOURCE:
            assert device.read_bytes() == before, "a source is never written"
        else:
            honest(device, device, state)
            assert device.stat().st_size == 40 * BLOCK
    # whether a source got as far as its memory of the device hangs on how soon the caller's noise reached it
    assert {path.name for path in memory.iterdir()} - {"state"} == {"device"}


@pytest.mark.parametrize(
    "path", ["/etc/shadow", "/dev/vda", "{device}x", "{device}/", "{parent}/../{folder}/device", "//{device}", ""]
)
def test_another_path_is_refused(device: Path, memory: Path, path: str) -> None:
    path = path.format(device=device, parent=memory, folder=memory.name)
    caller = Caller(Jail(Role.SOURCE, frozenset({str(device)})), memory / "state")
    hello = {"version": VERSION, "nonce": "0" * 32, "role": "source", "path": path}
    more = {"options": options_text(DEFAULTS), "limits": limits_text(UNLIMITED), "label": ""}
    caller.channel.send(Kind.HELLO, json.dumps(hello | more).encode())
    with pytest.raises(SyncFailed):
        caller.channel.hear(Welcome)
    assert caller.over() is not None


def test_the_other_role_is_refused(device: Path, memory: Path) -> None:
    caller = Caller(Jail(Role.SOURCE, frozenset({str(device)})), memory / "state")
    with pytest.raises(SyncFailed) as refused:
        caller.hello(Role.TARGET, str(device))
    assert refused.value.report == NotAllowed("being the target")
    caller.over()


def test_a_caller_permits_itself_nothing() -> None:
    jail = Jail(Role.TARGET, frozenset({"/dev/a"}), frozenset({Permit.SHRINK}), hints="/etc/labstore/hints")
    asked = Options(permits=frozenset(Permit), hints="/etc/shadow")
    hello = Hello(VERSION, "0" * 32, Role.TARGET, "/dev/a", options_text(asked), limits_text(UNLIMITED), "elsewhere")
    called = allowed(hello, jail)
    assert called.options.permits == {Permit.SHRINK}
    assert called.options.hints == "/etc/labstore/hints"
    assert called.label == ""
