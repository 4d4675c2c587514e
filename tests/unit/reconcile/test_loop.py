"""The loop around a cycle."""

from __future__ import annotations

from labstore.reconcile.loop import Loop, Pace
from labstore.reconcile.record import Record, State
from tests.support.fake_clock import START, FakeClock


def record(state: State) -> Record:
    return Record("test", 1, START, START, state)


def test_failures_slow_the_loop_and_success_restores_its_pace() -> None:
    states = iter([State.FAILED, State.FAILED, State.FAILED, State.CONVERGED, State.HOLDING])
    clock = FakeClock()

    def cycle() -> Record:
        state = next(states, None)
        if state is None:
            loop.stop()
        return record(state or State.CONVERGED)

    loop = Loop(cycle, Pace(3, 20), clock, chance=lambda: 0.0)
    loop.run()
    assert clock.slept == [6, 12, 20, 3, 3]


def test_jitter_only_lengthens() -> None:
    pace = Pace(10, 60, jitter=0.5)
    assert [pace.wait(0, chance) for chance in (0.0, 0.5)] == [10, 12.5]


def test_the_back_off_has_a_ceiling_however_long_it_lasts() -> None:
    assert Pace(3, 60).wait(10_000, 0.0) == 60
