"""Work that goes on by itself, and whose defects come to light."""

from __future__ import annotations

import threading

import pytest

from labstore.sources.openstack.background import Job, side_by_side


def test_a_job_ends_when_its_work_does() -> None:
    gate = threading.Event()
    job = Job("test", lambda: gate.wait(5) and None)
    assert not job.ended()
    gate.set()
    assert job.ended(5)


def test_a_defect_reaches_whoever_waits() -> None:
    def work() -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        Job("test", work).ended(5)
    with pytest.raises(ZeroDivisionError):
        side_by_side([1], lambda _: work(), 2)


def test_every_item_is_done_by_so_many_at_a_time() -> None:
    lock, busy, busiest, done = threading.Lock(), 0, 0, []
    gate = threading.Barrier(3, timeout=5)

    def work(item: int) -> None:
        nonlocal busy, busiest
        with lock:
            busy += 1
            busiest = max(busiest, busy)
        gate.wait()
        with lock:
            busy -= 1
            done.append(item)

    side_by_side(range(9), work, 3)
    assert (sorted(done), busiest) == (list(range(9)), 3)


def test_nothing_to_do_is_done_at_once() -> None:
    side_by_side([], lambda _: pytest.fail("there was nothing to do"), 3)
