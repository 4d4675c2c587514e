"""The command of the called end: `labstore blocksync serve`, or `python -m labstore.blocksync`.

To load a command line takes longer than all else before the first answer, while the caller waits. So its words are
first read here; words that are not plain are left to the command line, which can say what is wrong with them.
"""

from __future__ import annotations

import gc
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from labstore.model.block_sync import STATE_DIR

if TYPE_CHECKING:
    from labstore.blocksync.ends import End

_ONCE = ("hints", "label", "state")
_OFTEN = ("source", "target", "permit")


def plainly(words: Sequence[str]) -> int | None:
    """Be the called end that these words ask for. Returns the exit status; None, with nothing done, where they are not
    all `--option VALUE`, where they do not fit together, or where a package is missing."""
    given = _given(words)
    if given is None:
        return None
    sources, targets, permits = (given.get(name, []) for name in _OFTEN)
    once = {name: values[-1] for name, values in given.items() if name in _ONCE}
    gc.disable()  # what is loaded stays: looking for garbage in it would take a tenth of the time
    try:
        work = ready(sources, targets, permits, **once)
    except (ImportError, ValueError):
        return None
    gc.freeze()
    gc.enable()
    return work()


def _given(words: Sequence[str]) -> dict[str, list[str]] | None:
    given: dict[str, list[str]] = {}
    rest = iter(words)
    for word in rest:
        name, joined, value = word.removeprefix("--").partition("=")
        value = value if joined else next(rest, "")
        if not word.startswith("--") or name not in _ONCE + _OFTEN or not value or value.startswith("-"):
            return None
        given.setdefault(name, []).append(value)
    return given


def ready(
    sources: Sequence[str],
    targets: Sequence[str],
    permits: Sequence[str],
    hints: str | None = None,
    label: str | None = None,
    state: str = STATE_DIR,
) -> Callable[[], int]:
    """What speaks the protocol on standard input and output when it is called. It returns the exit status: 0 when the
    session ended well, 1 when it did not and the caller knows why. Raises ValueError where the options contradict each
    other, ImportError where a package is missing."""
    from labstore.blocksync.serve import jail_of, serve  # noqa: PLC0415 - words that are not plain need none of it
    from labstore.reports.blocksync import SyncFailed  # noqa: PLC0415 - as just said

    jail = jail_of(sources, targets, permits, hints, label)

    def work() -> int:
        try:
            serve(0, 1, Path(state), jail, started=_end_by_signals)
        except SyncFailed as failure:
            sys.stderr.write(failure.report.message() + "\n")
            return 1
        return 0

    return work


def _end_by_signals(end: End) -> None:
    for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
        signal.signal(number, lambda signum, _frame: end.interrupt(signal.Signals(signum).name))
