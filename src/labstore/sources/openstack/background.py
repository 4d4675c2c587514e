"""Work that goes on by itself: one thread per job, and many jobs over a few threads."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from queue import Empty, SimpleQueue
from typing import TypeVar

T = TypeVar("T")


class Job:
    """`work` in a thread of its own, from now on. A job that hangs does not keep the process from ending."""

    def __init__(self, name: str, work: Callable[[], None]) -> None:
        self._error: Exception | None = None
        self._thread = threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
        self._thread.start()

    def ended(self, seconds: float = 0.0) -> bool:
        """Whether it has ended, after waiting at most so long. Raises what the work raised: that is a defect."""
        self._thread.join(max(0.0, seconds))
        if self._thread.is_alive():
            return False
        if self._error is not None:
            raise self._error
        return True

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 - carried to the thread that waits
            self._error = error


def within(seconds: float, work: Callable[[], T]) -> T:
    """What `work` gives. Raises TimeoutError where that takes longer; the work is then left to itself."""
    given: list[T] = []
    if not Job("labstore-within", lambda: given.append(work())).ended(seconds):
        raise TimeoutError
    return given[0]


def side_by_side(items: Iterable[T], work: Callable[[T], None], threads: int) -> None:
    """Do `work` for each item, at most `threads` at a time; returns when all are done. Raises what any work raised."""
    queue: SimpleQueue[T] = SimpleQueue()
    count = 0
    for item in items:
        queue.put(item)
        count += 1

    def serve() -> None:
        while True:
            try:
                item = queue.get_nowait()
            except Empty:
                return
            work(item)

    jobs = [Job(f"labstore-ask-{number}", serve) for number in range(min(threads, count))]
    for job in jobs:
        while not job.ended(60.0):
            continue
