"""A node at the other end of ssh: the same questions and orders, one JSON object per line each way.

The agent is started before clients are cut off, so that nothing has to be loaded while they wait. It does what it is
told and nothing by itself; when its caller goes away it ends after the order that it is at.
"""

from __future__ import annotations

import contextlib
import json
import os
import select
import shlex
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, BinaryIO, TypeVar

from labstore.model.failover import Channel, Pair
from labstore.model.names import HostName
from labstore.ports.storage_node import (
    EVERYTHING,
    Aspect,
    Entry,
    NodeFacts,
    Order,
    Said,
    SetUp,
    StorageNode,
    Survey,
    Taken,
)
from labstore.reconcile.codec import converter
from labstore.reconcile.runner import StepFailed
from labstore.reports.failover import NodeUnreachable
from labstore.reports.report import Remembered, Report, Severity
from labstore.system.locks import Locked
from labstore.system.piped import CannotStart, Piped

T = TypeVar("T")
PROTOCOL = 1
LINE_LIMIT = 64 << 20
START = 60.0
"""Seconds in which labstore at the other end has to be there once ssh is."""
ANY_STEP = 600.0
"""Seconds, longer than any step may take: the agent has the step's own deadlines."""
IDLE = 900.0
"""Seconds without a word after which an agent ends: its caller is cut off."""


# --- the agent -------------------------------------------------------------------------------------------------------


@dataclass
class Agent:
    """Serves `node` over a pair of streams until the caller hangs up."""

    node: StorageNode
    reading: BinaryIO
    writing: BinaryIO

    def serve(self) -> None:
        with contextlib.ExitStack() as held:
            self._say({"protocol": PROTOCOL, "node": str(self.node.name)})
            while select.select([self.reading], [], [], IDLE)[0]:
                line = self.reading.readline(LINE_LIMIT)
                if not line:
                    return
                self._say(self._answer(json.loads(line), held))

    def _say(self, answer: Mapping[str, Any]) -> None:
        self.writing.write(json.dumps(answer, default=list, separators=(",", ":")).encode() + b"\n")
        self.writing.flush()

    def _answer(self, question: Mapping[str, Any], held: contextlib.ExitStack) -> Mapping[str, Any]:
        try:
            return {"answer": self._calls[question["call"]](question.get("with"), held)}
        except StepFailed as failure:
            return {"failed": failure.report.to_dict()}
        except Locked as error:
            return {"locked": str(error)}

    @property
    def _calls(self) -> Mapping[str, Callable[[Any, contextlib.ExitStack], Any]]:
        convert = converter()
        return {
            "look": lambda given, _: convert.unstructure(self.node.look(frozenset(Aspect(each) for each in given))),
            "act": lambda given, _: convert.unstructure(self.node.act(convert.structure(given, Order))),
            "holders": lambda _given, _: [report.to_dict() for report in self.node.holders()],
            "take": lambda given, _: convert.unstructure(self.node.take(*_step(given))),
            "note": lambda given, _: [r.to_dict() for r in self.node.note(*_entries(given))],
            "survey": lambda _given, _: convert.unstructure(self.node.survey()),
            "set-up": lambda given, _: convert.unstructure(self.node.set_up(SetUp(given[0]), given[1])),
            "expected": lambda _given, _: dict(self.node.expected()),
            "hold": lambda given, held: held.enter_context(self.node.hold(str(given))),
            "release": lambda _given, held: held.close(),
        }


def _entries(given: Any) -> tuple[Entry, ...]:
    return converter().structure(given, tuple[Entry, ...])


def _step(given: Any) -> tuple[tuple[Entry, ...], Order, frozenset[Aspect]]:
    entries, order, aspects = given
    return _entries(entries), converter().structure(order, Order), frozenset(Aspect(each) for each in aspects)


# --- its caller ------------------------------------------------------------------------------------------------------


@dataclass
class RemoteNode:
    """See ports.storage_node.StorageNode; what cannot be reached raises StepFailed. `start` gives the program to talk
    with. Nothing is started before the first question."""

    node: HostName
    start: Callable[[], Piped]
    deadline: float = 60.0
    connect_deadline: float = 20.0
    _piped: Piped | None = field(default=None, init=False)
    _pending: bytes = field(default=b"", init=False)
    _greeted: bool = field(default=False, init=False)

    @property
    def name(self) -> HostName:
        return self.node

    def begin(self) -> None:
        """Start the agent and do not wait for it: it loads while this side does something else. What goes wrong is
        said by the first question."""
        if self._piped is None:
            with contextlib.suppress(CannotStart):
                self._piped, self._greeted = self.start(), False

    def connect(self) -> None:
        """See that the agent is there. Raises StepFailed."""
        if self._piped is not None and self._greeted:
            return
        try:
            self._piped = self._piped or self.start()
        except CannotStart as error:
            raise self._unreachable(str(error)) from None
        self._greeted = True
        greeting = self._line(self.connect_deadline)
        if greeting.get("protocol") != PROTOCOL:
            self.close()
            raise self._unreachable(f"another version of labstore answers there: {str(greeting)[:100]}")
        if greeting.get("node") != str(self.node):
            self.close()
            raise self._unreachable(f"node {greeting.get('node')} answers at its address")

    @property
    def reached(self) -> bool:
        """Whether it has answered, and nothing was lost since."""
        return self._piped is not None and self._greeted

    def close(self) -> None:
        if self._piped is not None:
            piped, self._piped, self._pending, self._greeted = self._piped, None, b"", False
            for descriptor in (piped.writing, piped.reading):
                with contextlib.suppress(OSError):
                    os.close(descriptor)
            piped.end(2.0)

    def look(self, aspects: frozenset[Aspect] = EVERYTHING) -> NodeFacts:
        answer = self._ask("look", sorted(aspect.value for aspect in aspects), self.deadline)
        return converter().structure(answer, NodeFacts)

    def act(self, order: Order) -> Said:
        return converter().structure(self._ask("act", converter().unstructure(order), ANY_STEP), Said)

    def take(self, entries: tuple[Entry, ...], order: Order, aspects: frozenset[Aspect]) -> Taken:
        given = [converter().unstructure(entries), converter().unstructure(order), sorted(aspects)]
        return converter().structure(self._ask("take", given, ANY_STEP), Taken)

    def holders(self) -> tuple[Report, ...]:
        return tuple(_report(each) for each in self._ask("holders", None, self.deadline))

    def note(self, *entries: Entry) -> tuple[Report, ...]:
        return tuple(_report(each) for each in self._ask("note", converter().unstructure(entries), self.deadline))

    def survey(self) -> Survey:
        return converter().structure(self._ask("survey", None, 120.0), Survey)

    def set_up(self, what: SetUp, subject: str = "") -> Said:
        return converter().structure(self._ask("set-up", [what.value, subject], 3600.0), Said)

    def expected(self) -> Mapping[str, float]:
        return {str(key): float(value) for key, value in self._ask("expected", None, self.deadline).items()}

    @contextlib.contextmanager
    def hold(self, what: str) -> Iterator[None]:
        self._ask("hold", what, self.deadline)
        try:
            yield
        finally:
            with contextlib.suppress(StepFailed):
                self._ask("release", None, self.deadline)

    # --- talking ----------------------------------------------------------------------------------------------------

    def _ask(self, call: str, given: Any, deadline: float) -> Any:
        self.connect()
        assert self._piped is not None
        question = json.dumps({"call": call, "with": given}, default=list, separators=(",", ":")).encode() + b"\n"
        try:
            _write_all(self._piped.writing, question, deadline)
        except OSError as error:
            raise self._lost(str(error)) from None
        answer = self._line(deadline)
        if "failed" in answer:
            raise StepFailed(_report(answer["failed"]))
        if "locked" in answer:
            raise StepFailed(Held(str(self.node), str(answer["locked"])))
        return answer.get("answer")

    def _line(self, deadline: float) -> Mapping[str, Any]:
        assert self._piped is not None
        ends = time.monotonic() + deadline
        while b"\n" not in self._pending:
            left = ends - time.monotonic()
            if left <= 0 or not select.select([self._piped.reading], [], [], left)[0]:
                raise self._lost(f"no answer within {deadline:g} s")
            piece = os.read(self._piped.reading, 1 << 16)
            if not piece:
                raise self._lost("the connection was closed")
            self._pending += piece
        line, _, self._pending = self._pending.partition(b"\n")
        try:
            found = json.loads(line)
        except ValueError:
            raise self._lost(f"no agent answers there, but {line[:80]!r}") from None
        return found if isinstance(found, dict) else {}

    def _lost(self, reason: str) -> StepFailed:
        words = ""
        if self._piped is not None:
            piped = self._piped
            self.close()
            words = piped.last_words()
        return self._unreachable(words or reason)

    def _unreachable(self, reason: str) -> StepFailed:
        return StepFailed(NodeUnreachable(str(self.node), reason[:300]))


class Held(Report):
    """Another run is under way on that node."""

    node: str
    holder: str

    code = "failover-node-held"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"{self.node}: {self.holder}"

    def remedy(self) -> str:
        return "wait for that run to end; `labstore failover status` shows how far it is"


def _write_all(descriptor: int, data: bytes, deadline: float) -> None:
    ends = time.monotonic() + deadline
    view = memoryview(data)
    while view:
        if not select.select([], [descriptor], [], max(0.0, ends - time.monotonic()))[1]:
            raise TimeoutError(f"nothing is taken within {deadline:g} s")
        view = view[os.write(descriptor, view[: 1 << 16]) :]


def _report(data: Mapping[str, Any]) -> Report:
    """A report by its code; its words where this version does not know the code."""
    try:
        return converter().structure(data, Report)  # type: ignore[type-abstract]
    except (KeyError, TypeError, ValueError):
        return Remembered(str(data.get("code", "?")), str(data.get("message", "?")), data.get("remedy"))


def over_ssh(pair: Pair, node: HostName) -> RemoteNode:
    """The agent on `node`, reached at the address that the site file gives it."""
    channel, target = pair.settings.channel, pair.cluster.node(node)
    return RemoteNode(
        node=node,
        start=lambda: Piped(ssh_command(channel, str(target.address or target.name), pair.cluster.name)),
        deadline=channel.answer_deadline,
        connect_deadline=channel.connect_deadline + START,
    )


def ssh_command(channel: Channel, address: str, cluster: str) -> tuple[str, ...]:
    """Never asks for anything, never goes on without knowing the host, and notices a dead line by itself."""
    options = {
        "BatchMode": "yes",
        "ConnectTimeout": f"{channel.connect_deadline:.0f}",
        "StrictHostKeyChecking": "yes",
        "ServerAliveInterval": "5",
        "ServerAliveCountMax": "6",
        "IdentitiesOnly": "yes" if channel.key_file else "no",
        "ControlMaster": "no",
        "ForwardAgent": "no",
    }
    if channel.known_hosts is not None:
        options["UserKnownHostsFile"] = str(channel.known_hosts)
    flags = tuple(part for key, value in options.items() for part in ("-o", f"{key}={value}"))
    key = ("-i", str(channel.key_file)) if channel.key_file else ()
    remote = shlex.join((*channel.command, "--cluster", cluster))
    return ("ssh", "-T", "-p", str(channel.port), *key, *flags, f"{channel.user}@{address}", "--", remote)
