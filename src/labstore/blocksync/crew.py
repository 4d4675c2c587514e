"""Threads that work on one thing and end together, and the lanes between them."""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Generic, TypeVar

T = TypeVar("T")
_CLOSED: Any = object()
_TOKEN: Any = object()


class Stopped(Exception):
    """The crew is ending; whoever waits on a lane gets this."""


class Lane(Generic[T]):
    """A queue with room for so many items. Both ends wait in C, which costs little beside other work."""

    def __init__(self, room: int) -> None:
        self._items: SimpleQueue[Any] = SimpleQueue()
        self._room: SimpleQueue[Any] = SimpleQueue()
        self._closed = False
        for _ in range(room):
            self._room.put(_TOKEN)

    def put(self, item: T) -> None:
        """Raises Stopped when the lane is closed."""
        if self._room.get() is _CLOSED or self._closed:
            self._room.put(_CLOSED)
            raise Stopped
        self._items.put(item)

    def get(self) -> T:
        """Raises Stopped when the lane is closed, whatever is still in it."""
        item = self._items.get()
        if item is _CLOSED or self._closed:
            self._items.put(_CLOSED)
            raise Stopped
        self._room.put(_TOKEN)
        return item  # type: ignore[no-any-return]

    def close(self) -> None:
        self._closed = True
        self._items.put(_CLOSED)
        self._room.put(_CLOSED)


class Crew:
    """Starts threads; the first one that fails stops all, and what it failed with is kept.

    What shall end with the crew (lanes, a channel) is handed to `ends_with`.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._endings: list[Callable[[], None]] = []
        self._threads: list[threading.Thread] = []
        self.error: BaseException | None = None
        """What it ended with first, None while all is well."""
        self.stopping = threading.Event()

    def lane(self, room: int) -> Lane[Any]:
        """A lane that is closed when the crew stops."""
        lane: Lane[Any] = Lane(room)
        self.ends_with(lane.close)
        return lane

    def ends_with(self, ending: Callable[[], None]) -> None:
        """Do this when the crew stops: now, if it has."""
        with self._lock:
            if not self.stopping.is_set():
                self._endings.append(ending)
                return
        ending()

    def start(self, name: str, work: Callable[[], None]) -> threading.Thread:
        thread = threading.Thread(target=self._run, args=(work,), name=name, daemon=True)
        self._threads.append(thread)
        thread.start()
        return thread

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except Stopped:
            pass
        except BaseException as error:  # noqa: BLE001 - kept for the thread that waits for this one
            self.stop(error)

    def stop(self, error: BaseException | None = None) -> None:
        """End all: lanes close, waiting ends. The first error is kept; one that comes after the end is not one."""
        with self._lock:
            if self.error is None and error is not None:
                self.error = error
            endings, self._endings = self._endings, []
            self.stopping.set()
        for ending in endings:
            ending()

    def pause(self, seconds: float) -> None:
        """Sleep, but not past the end. Raises Stopped."""
        if self.stopping.wait(seconds):
            raise Stopped

    def wait(self) -> None:
        """Until all threads have ended."""
        for thread in self._threads:
            thread.join()
