"""A node at the other end of a pipe: the same as a node, and an error within its deadline where there is none."""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest

from labstore.failover.agent import Agent, Held, RemoteNode, ssh_command
from labstore.model.failover import Channel, Proof
from labstore.ports.storage_node import EVERYTHING, Aspect, Do, Entry, Event, Order
from labstore.reconcile.runner import StepFailed
from labstore.reports.failover import NodeUnreachable, StepNotDone
from labstore.system.piped import CannotStart
from tests.support.fake_cluster import World
from tests.support.hang import HANGS
from tests.support.small_pair import ALPHA, BETA, pair


@dataclass
class Pipe:
    """What RemoteNode talks with: `serve` runs in a thread at the other end."""

    serve: Callable[[Any, Any], None]
    words: str = ""
    ended: bool = False
    reading: int = field(init=False)
    writing: int = field(init=False)

    def __post_init__(self) -> None:
        theirs, self.writing = os.pipe()
        self.reading, ours = os.pipe()

        def run() -> None:
            with os.fdopen(theirs, "rb") as reading, os.fdopen(ours, "wb") as writing:
                self.serve(reading, writing)

        self.thread = threading.Thread(target=run, daemon=True)
        self.thread.start()

    def last_words(self) -> str:
        return self.words

    def end(self, patience: float = 5.0) -> int:
        self.ended = True
        self.thread.join(HANGS)
        return 0


@contextmanager
def remote(world: World, **more: Any) -> Iterator[RemoteNode]:
    found = RemoteNode(BETA, lambda: Pipe(lambda r, w: Agent(world.node(BETA), r, w).serve()), **more)  # type: ignore[arg-type,return-value]
    try:
        yield found
    finally:
        found.close()


@pytest.fixture
def world() -> World:
    return World(pair())


def test_it_answers_as_the_node_itself_does(world: World) -> None:
    with remote(world) as there:
        assert there.look() == world.node(BETA).look()
        assert there.look(frozenset({Aspect.BARRIER})) == world.node(BETA).look(frozenset({Aspect.BARRIER}))
        assert there.expected() == {} and there.holders() == ()


def test_orders_and_notes_arrive_as_they_were(world: World) -> None:
    proof = Proof(ALPHA, "the operator's word", "alice", "now")
    entry = Entry("2026-05-29T11:54:00+00:00", "r1", Event.STEP, "block", {"a": "b"})
    with remote(world) as there:
        there.act(Order(Do.BLOCK, proof=proof, run="r1"))
        there.note(entry)
    assert world.machines[BETA].barrier and world.machines[BETA].journal == [entry]


def test_a_step_in_one_answers_as_note_act_and_look_do(world: World) -> None:
    entries = tuple(Entry("2026-05-29T11:54:00+00:00", "r1", each, "block") for each in (Event.RUN, Event.STEP))
    aspects = frozenset({Aspect.BARRIER, Aspect.VERIFIED})
    world.machines[BETA].disk_full = True
    with remote(world) as there:
        taken = there.take(entries, Order(Do.BLOCK, run="r1"), aspects)
    assert [report.code for report in taken.said.reports] == ["not-journaled"]
    assert world.machines[BETA].barrier and taken.facts == world.node(BETA).look(aspects)


def test_a_step_that_fails_there_fails_here_with_the_same_report(world: World) -> None:
    with remote(world) as there, pytest.raises(StepFailed) as raised:
        there.act(Order(Do.MOUNT, "tools"))
    assert raised.value.report == StepNotDone("beta", "mount", "the device is Secondary")


def test_a_lock_is_held_until_it_is_let_go_or_the_caller_goes_away(world: World) -> None:
    with remote(world) as there:
        with there.hold("labstore failover down"):
            assert world.machines[BETA].held
            with remote(world) as second, pytest.raises(StepFailed) as raised, second.hold("another"):
                pass
            assert isinstance(raised.value.report, Held)
        assert not world.machines[BETA].held
    with remote(world) as there, ExitStack() as stack:
        stack.enter_context(there.hold("labstore failover down"))
        there.close()
    assert not world.machines[BETA].held


def test_many_questions_go_over_one_connection(world: World) -> None:
    started: list[Pipe] = []

    def start() -> Pipe:
        started.append(Pipe(lambda r, w: Agent(world.node(BETA), r, w).serve()))
        return started[-1]

    there = RemoteNode(BETA, start)  # type: ignore[arg-type]
    for _ in range(50):
        there.look(EVERYTHING)
    there.close()
    assert len(started) == 1 and started[0].ended


def unreachable(serve: Callable[[Any, Any], None], words: str = "", deadline: float = 5.0) -> NodeUnreachable:
    there = RemoteNode(BETA, lambda: Pipe(serve, words), deadline=deadline, connect_deadline=deadline)  # type: ignore[arg-type,return-value]
    with pytest.raises(StepFailed) as raised:
        there.look()
    there.close()
    assert isinstance(raised.value.report, NodeUnreachable)
    return raised.value.report


def greeting(**said: Any) -> bytes:
    return json.dumps({"protocol": 1, "node": "beta", **said}).encode() + b"\n"


def say(*lines: bytes) -> Callable[[Any, Any], None]:
    def serve(reading: Any, writing: Any) -> None:
        for line in lines:
            writing.write(line)
            writing.flush()
            reading.readline()

    return serve


REFUSED = [
    (say(), "the connection was closed"),
    (say(b"Welcome to Debian\n"), "no agent answers there, but b'Welcome to Debian'"),
    (say(greeting(protocol=2)), "another version of labstore"),
    (say(greeting(node="gamma")), "node gamma answers at its address"),
    (say(b"[]\n"), "another version of labstore"),
    (say(greeting()), "the connection was closed"),
    (say(greeting(), b'{"answer": \n'), "no agent answers there"),
]


@pytest.mark.parametrize(("serve", "words"), REFUSED, ids=[words for _, words in REFUSED])
def test_what_is_no_agent_of_this_version_is_unreachable(serve: Callable[[Any, Any], None], words: str) -> None:
    assert words in unreachable(serve).message()


def test_what_ssh_said_is_the_reason() -> None:
    assert "Host key verification failed" in unreachable(say(), "Host key verification failed.").message()


def test_an_agent_that_hangs_costs_its_deadline_and_no_more() -> None:
    """It reads and never says a word."""
    told = unreachable(lambda reading, _writing: reading.read() and None, deadline=0.2)
    assert "no answer within 0.2 s" in told.message()


def test_a_program_that_cannot_be_started_is_unreachable() -> None:
    def start() -> Any:
        raise CannotStart("ssh cannot be started: No such file or directory")

    with pytest.raises(StepFailed, match="ssh cannot be started"):
        RemoteNode(BETA, start).look()


def test_after_it_was_lost_it_is_asked_anew(world: World) -> None:
    pipes = [
        Pipe(say(greeting())),
        Pipe(lambda r, w: Agent(world.node(BETA), r, w).serve()),
    ]
    there = RemoteNode(BETA, lambda: pipes.pop(0))  # type: ignore[arg-type,return-value]
    with pytest.raises(StepFailed):
        there.look()
    assert there.look().node == BETA
    there.close()


def test_ssh_asks_nobody_and_knows_its_host() -> None:
    words = ssh_command(Channel(port=2222), "10.77.0.12", "primary")
    assert words[:2] == ("ssh", "-T") and words[-1] == "labstore failover agent --cluster primary"
    assert "root@10.77.0.12" in words and "--" in words
    options = {words[at + 1] for at, word in enumerate(words) if word == "-o"}
    assert {"BatchMode=yes", "StrictHostKeyChecking=yes", "ForwardAgent=no", "ControlMaster=no"} <= options
    assert "UserKnownHostsFile=/etc/labstore/failover_known_hosts" in options


def test_a_lock_that_is_held_there_names_its_holder(world: World) -> None:
    world.machines[BETA].held = True
    what = "labstore failover up"
    with remote(world) as there, pytest.raises(StepFailed, match=what), there.hold(what):
        pass


def test_an_agent_loads_while_something_else_is_done(world: World) -> None:
    """Started ahead, it is one and the same that answers later."""
    started: list[Pipe] = []

    def start() -> Pipe:
        started.append(Pipe(lambda r, w: Agent(world.node(BETA), r, w).serve()))
        return started[-1]

    there = RemoteNode(BETA, start)  # type: ignore[arg-type]
    there.begin()
    there.begin()
    assert len(started) == 1 and not there.reached, "nobody has waited for it"
    assert there.look().node == BETA and len(started) == 1 and there.reached
    there.close()
    assert not there.reached


def test_an_agent_that_cannot_be_started_ahead_is_said_when_it_is_asked() -> None:
    def start() -> Any:
        raise CannotStart("ssh cannot be started: No such file or directory")

    there = RemoteNode(BETA, start)
    there.begin()
    with pytest.raises(StepFailed, match="ssh cannot be started"):
        there.look()
