"""A lower bound of what time it is at a region: it may lag, it must not run ahead."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from labstore.sources.openstack.server_clock import OVERLAP, ServerClock
from tests.support.fake_clock import START, FakeClock


def text(moment: datetime) -> str:
    return f"{moment:%Y-%m-%dT%H:%M:%SZ}"


def test_nothing_is_known_before_the_region_has_written_a_time() -> None:
    clock = FakeClock()
    server = ServerClock(clock)
    assert server.since(clock.monotonic()) is None
    server.date(None, clock.monotonic())
    server.date("yesterday", clock.monotonic())
    server.stamp(None, clock.monotonic())
    assert server.since(clock.monotonic()) is None


def test_the_newest_stamp_bounds_the_clock_from_below_and_goes_on_with_ours() -> None:
    clock = FakeClock()
    server = ServerClock(clock)
    server.stamp(START - timedelta(hours=3), clock.monotonic())
    server.stamp(START - timedelta(hours=5), clock.monotonic())
    clock.advance(600)
    expected = START - timedelta(hours=3) + timedelta(seconds=600 - OVERLAP)
    assert server.since(clock.monotonic()) == text(expected)


def test_a_change_pulls_the_bound_up() -> None:
    clock = FakeClock()
    server = ServerClock(clock)
    server.stamp(START - timedelta(hours=3), clock.monotonic())
    clock.advance(10)
    server.stamp(clock.now(), clock.monotonic())
    assert server.since(clock.monotonic()) == text(clock.now() - timedelta(seconds=OVERLAP))


def test_a_stamp_from_our_future_is_not_believed_without_a_date_that_says_so() -> None:
    clock = FakeClock()
    server = ServerClock(clock)
    server.stamp(START + timedelta(hours=1), clock.monotonic())
    assert server.since(clock.monotonic()) is None
    server.date("Fri, 29 May 2026 12:54:00 GMT", clock.monotonic())
    server.stamp(START + timedelta(minutes=59), clock.monotonic())
    assert server.since(clock.monotonic()) == text(START + timedelta(hours=1) - timedelta(seconds=OVERLAP))


def test_fractions_are_cut_since_nova_compares_whole_seconds() -> None:
    clock = FakeClock(START + timedelta(milliseconds=900))
    server = ServerClock(clock)
    server.stamp(clock.now(), clock.monotonic())
    assert server.since(clock.monotonic()) == text(START - timedelta(seconds=OVERLAP))


@given(
    skew=st.integers(-86400, 0),
    looks=st.lists(st.tuples(st.floats(0, 100), st.floats(0, 3600), st.booleans()), min_size=1, max_size=20),
)
def test_the_bound_never_runs_ahead_of_a_region_whose_clock_is_behind_or_right(
    skew: int, looks: list[tuple[float, float, bool]]
) -> None:
    clock = FakeClock()
    server = ServerClock(clock)
    for pause, age, dated in looks:
        clock.advance(pause)
        there = clock.now() + timedelta(seconds=skew)
        server.stamp(there - timedelta(seconds=age), clock.monotonic())
        if dated:
            server.date(f"{there:%a, %d %b %Y %H:%M:%S GMT}", clock.monotonic())
        since = server.since(clock.monotonic())
        assert since is not None
        assert datetime.fromisoformat(since).astimezone(UTC) <= there - timedelta(seconds=OVERLAP)
