"""Whatever happens between and during runs: what is called good is the source, and the index never lies."""

from __future__ import annotations

import random
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from labstore.blocksync.devices import Device
from labstore.blocksync.index import target_index
from labstore.formats.change_hints import render
from labstore.model.block_sync import Algorithm, Options, Pass, Permit
from labstore.model.change_hints import Hints
from labstore.reports.blocksync import BrokenProtocol, HintLied, PeerLost, Refusal
from labstore.reports.blocksync_target import TargetChanged
from tests.support.blocksync import Ended, Meddle, honest, run

BLOCK = 4096
MOST = 200
EVERYTHING = frozenset(Permit) - {Permit.LIVE_SOURCE}
PLACES = st.integers(0, MOST * BLOCK)


class Always(RuleBasedStateMachine):
    """One source, one target, and everything that may befall them."""

    def __init__(self) -> None:
        super().__init__()
        memory = Path("/dev/shm")
        self.folder = Path(tempfile.mkdtemp(prefix="labstore-always-", dir=memory if memory.is_dir() else None))
        self.source, self.target = self.folder / "source", self.folder / "target"
        self.state, self.hints = self.folder / "state", self.folder / "hints"
        self.random = random.Random(1)
        self.options = Options(block_size=BLOCK, permits=EVERYTHING)
        self.moment: str | None = None
        """The source's token at the last run that was good."""
        self.written: list[tuple[int, int]] = []
        """What was written to the source since then."""

    def teardown(self) -> None:
        shutil.rmtree(self.folder)

    @initialize(size=st.integers(1, MOST * BLOCK), algorithm=st.sampled_from(Algorithm))
    def begin(self, size: int, algorithm: Algorithm) -> None:
        self.source.write_bytes(self.random.randbytes(size))
        self.options = replace(self.options, algorithm=algorithm)

    # --- the world --------------------------------------------------------------------------------------------------

    def write(self, path: Path, at: int, length: int, zeros: bool) -> None:
        size = path.stat().st_size
        start, end = at % size, min(at % size + length, size)
        with path.open("r+b") as file:
            file.seek(start)
            file.write(bytes(end - start) if zeros else self.random.randbytes(end - start))
        if path == self.source:
            self.written.append((start, end - start))

    @rule(at=PLACES, length=st.integers(1, 20 * BLOCK), zeros=st.booleans())
    def source_is_written(self, at: int, length: int, zeros: bool) -> None:
        self.write(self.source, at, length, zeros)

    @rule(more=st.integers(1, 70 * BLOCK), zeros=st.booleans())
    def source_grows(self, more: int, zeros: bool) -> None:
        size = self.source.stat().st_size
        if size + more <= 2 * MOST * BLOCK:
            with self.source.open("ab") as file:
                file.truncate(size + more) if zeros else file.write(self.random.randbytes(more))
            self.written.append((size, more))

    @rule(at=PLACES)
    def source_shrinks(self, at: int) -> None:
        size = at % self.source.stat().st_size + 1
        with self.source.open("r+b") as file:
            file.truncate(size)
        self.moment = None

    @precondition(lambda self: self.target.exists() and self.target.stat().st_size)
    @rule(at=PLACES, length=st.integers(1, 5 * BLOCK))
    def target_is_written_behind_our_back(self, at: int, length: int) -> None:
        self.write(self.target, at, length, zeros=False)

    @precondition(lambda self: self.target.exists())
    @rule()
    def target_is_replaced(self) -> None:
        self.target.unlink()

    @rule()
    def source_forgets(self) -> None:
        shutil.rmtree(self.state / "sources", ignore_errors=True)

    @rule()
    def target_forgets(self) -> None:
        shutil.rmtree(self.state / "targets", ignore_errors=True)

    @precondition(lambda self: (self.state / "targets").exists())
    @rule(at=st.integers(0, 10_000), name=st.sampled_from(["header.json", "level0", "level1"]))
    def index_rots(self, at: int, name: str) -> None:
        """Flips a bit in a file of the index: a rotten header is found by its own digest, rotten nodes by the root;
        a rotten digest of a block has that block sent again, or accused by the scrub."""
        path = target_index(self.state, str(self.target)) / name
        if path.exists() and path.stat().st_size:
            content = bytearray(path.read_bytes())
            content[at % len(content)] ^= 4
            path.write_bytes(content)
            self.rotten = True

    rotten = False

    # --- runs -------------------------------------------------------------------------------------------------------

    def good(self, done: Ended) -> None:
        assert self.target.read_bytes() == self.source.read_bytes()
        self.written = []
        device = Device(str(self.source))
        self.moment = device.witness()
        device.close()
        self.rotten = self.rotten and done.caller.committed.passed is not Pass.BOTH

    @rule(push=st.booleans(), scrub=st.sampled_from([0.0, 0.2, 1.0]), full=st.booleans())
    def run_to_the_end(self, push: bool, scrub: float, full: bool) -> None:
        options = replace(self.options, scrub=scrub, full=full)
        done = run(self.source, self.target, self.state, options, push=push)
        if not done.good:
            assert self.rotten, done.report
            done = run(self.source, self.target, self.state, options, push=push)
        assert done.good, done.report
        self.good(done)

    @precondition(lambda self: self.moment is not None)
    @rule(forget=st.booleans())
    def run_by_hints(self, forget: bool) -> None:
        """Hints that are true, or that leave something out; a lie is found, or the next full pass finds it."""
        assert self.moment is not None
        device = Device(str(self.source))
        now = device.witness()
        device.close()
        told = self.written[:-1] if forget else self.written
        assert now is not None
        self.hints.write_text("".join(render(Hints.of(self.moment, now, told))))
        done = run(self.source, self.target, self.state, replace(self.options, hints=str(self.hints)))
        if done.good and self.target.read_bytes() == self.source.read_bytes():
            self.good(done)
        elif done.good:
            assert forget
            assert done.caller.committed.passed is Pass.HINTED
            self.run_to_the_end(push=False, scrub=0.0, full=True)
        else:
            assert forget or self.rotten
            assert isinstance(done.report, HintLied) or self.rotten, done.report

    @rule(at=st.integers(150, 400_000), to_target=st.booleans(), push=st.booleans(), flip=st.booleans())
    def run_that_breaks(self, at: int, to_target: bool, push: bool, flip: bool) -> None:
        def cut(passed: int, chunk: bytes) -> tuple[bytes, bool]:
            if flip and 0 <= at - passed < len(chunk):
                return chunk[: at - passed] + bytes([chunk[at - passed] ^ 1]) + chunk[at - passed + 1 :], True
            return (chunk, True) if flip else (chunk[: max(0, at - passed)], passed + len(chunk) < at)

        way: dict[str, Meddle] = {"to_caller" if to_target is not push else "to_called": cut}
        done = run(self.source, self.target, self.state, self.options, push=push, patience=0.5, **way)  # type: ignore[arg-type]
        if done.good:
            self.good(done)
        elif not self.rotten:
            assert isinstance(done.report, PeerLost | BrokenProtocol | TargetChanged | Refusal), done.report

    @invariant()
    def the_index_never_lies(self) -> None:
        if not self.rotten and self.source.exists():
            honest(self.source, self.target, self.state)


TestAlways = Always.TestCase
TestAlways.settings = settings(max_examples=40, stateful_step_count=12, deadline=None)
