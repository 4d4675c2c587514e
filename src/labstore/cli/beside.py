"""Beside a copy that is at work: Ctrl-C, limits that change, and how far it is."""

from __future__ import annotations

import contextlib
import signal
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Protocol

import click

from labstore.cli.output import WIDTH
from labstore.model.block_sync import Limits


class AtWork(Protocol):
    """A copy, or what makes copies one after the other; `meter` is None between two."""

    @property
    def meter(self) -> Any: ...

    def interrupt(self, why: str) -> None: ...

    def set_limits(self, limits: Limits) -> None: ...


@contextlib.contextmanager
def interruptible(work: AtWork) -> Iterator[None]:
    """The first Ctrl-C ends the run orderly; the next one at once."""

    def interrupt(number: int, _frame: object) -> None:
        for each in signals:
            signal.signal(each, signal.SIG_DFL)
        work.interrupt(signal.Signals(number).name)

    signals = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
    before = {each: signal.signal(each, interrupt) for each in signals}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


@contextlib.contextmanager
def limits_from(control: Path | None, work: AtWork, before: Limits) -> Iterator[None]:
    """Look at the control file every second."""
    if control is None:
        yield
        return
    from labstore.blocksync.throttle import ControlFile  # noqa: PLC0415 - needs the extra `backup`

    file, over = ControlFile(control, before), threading.Event()
    work.set_limits(file.changed() or before)

    def watch() -> None:
        said = None
        while True:
            if file.problem and file.problem != said:
                click.echo(f"warning: {control}: {file.problem}", err=True)
            said = file.problem
            if over.wait(1.0):
                return
            changed = file.changed()
            if changed is not None:
                work.set_limits(changed)

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(2.0)


@contextlib.contextmanager
def shown(work: AtWork) -> Iterator[None]:
    """On a terminal: how far it is, how fast, and how long it will take."""
    if not sys.stderr.isatty():
        yield
        return
    over = threading.Event()

    def show() -> None:
        while not over.wait(0.5):
            said = progress(work.meter, time.monotonic()) if work.meter is not None else ""
            sys.stderr.write("\r" + said[: WIDTH - 1] + "\x1b[K")
            sys.stderr.flush()
        sys.stderr.write("\r\x1b[K")
        sys.stderr.flush()

    thread = threading.Thread(target=show, daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(2.0)


def progress(meter: Any, now: float) -> str:
    """One line: phase, part, bytes, rate, what differs, what remains."""
    seconds = max(now - meter.started, 0.001)
    rate = meter.position / seconds
    parts = [f"{meter.phase}: {size(meter.position)} of {size(meter.total)}"]
    if meter.total:
        parts[0] += f" ({100 * meter.position / meter.total:.0f} %)"
    parts += [f"{size(rate)}/s", f"{meter.changed} blocks differ"]
    if rate and meter.position < meter.total:
        parts.append(f"{span((meter.total - meter.position) / rate)} left")
    return ", ".join(parts)


def size(number: float) -> str:
    """Bytes for people: `1.5 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if number < 1024:
            return f"{number:.0f} {unit}" if unit == "B" or number >= 100 else f"{number:.1f} {unit}"
        number /= 1024
    return f"{number:.1f} TiB"


def span(seconds: float) -> str:
    """A time for people: `3 h 12 min`."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes // 60:.0f} h {minutes % 60:.0f} min"
