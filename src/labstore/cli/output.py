"""What people see: tables that fit 80 columns, colours on a terminal alone, JSON, progress, and errors that say what to
do next. Names that tenants chose never move a cursor, colour a line or look like markup."""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime
from typing import IO, TYPE_CHECKING, Any

import click

from labstore.telemetry.words import safe

if TYPE_CHECKING:
    from rich.console import Console

WIDTH = 80
WIDEST = 140
PATIENCE = 2.0
"""Seconds after which something that is still going on is shown."""


@dataclass(frozen=True)
class Column:
    """A column of a table. `style` is rich's; a `right` one holds numbers; only a `loose` one is folded when narrow."""

    title: str
    style: str = ""
    right: bool = False
    loose: bool = False


def console(file: IO[str] | None = None) -> Console:
    """A console on a stream (standard output): as wide as the terminal, 80 columns where there is none."""
    from rich.console import Console  # noqa: PLC0415 - a twentieth of a second, only where something is shown

    stream = file or sys.stdout
    made = Console(file=stream, highlight=False, markup=False, emoji=False, soft_wrap=False)
    made.width = min(made.width, WIDEST) if stream.isatty() else WIDTH
    return made


_WIDE, _NARROW = 40, 10
"""A cell longer than the one is folded in any column; no column gets narrower than the other."""


def table(columns: Sequence[Column], rows: Iterable[Sequence[object]], title: str = "") -> None:
    """A table on standard output; long cells are folded, those of loose columns first, and nothing is cut off."""
    from rich.table import Table  # noqa: PLC0415 - as above
    from rich.text import Text  # noqa: PLC0415 - as above

    made = Table(box=None, pad_edge=False, title=None, header_style="bold", padding=(0, 1, 0, 0))
    texts = [[safe(cell) for cell in row] for row in rows]
    for number, column in enumerate(columns):
        widest = max(len(cell) for cell in (column.title, *(row[number] for row in texts)))
        made.add_column(
            column.title,
            style=column.style,
            justify="right" if column.right else "left",
            overflow="fold",
            no_wrap=not column.loose and widest <= _WIDE,
            min_width=min(widest, _NARROW),
        )
    for row in texts:
        made.add_row(*map(Text, row))
    if title:
        heading(title)
    console().print(made)


def heading(text: str) -> None:
    click.secho(safe(text), bold=True)


def line(text: str = "", **style: Any) -> None:
    """One line on standard output; `style` is click's and is dropped where there is no terminal."""
    click.secho(safe(text), **style)


def folded(text: str, indent: int, further: int | None = None) -> None:
    """One paragraph within 80 columns, indented; `further` is for its lines after the first."""
    from textwrap import wrap  # noqa: PLC0415 - used by few commands

    first, later = " " * indent, " " * (indent if further is None else further)
    lines = wrap(safe(text), WIDTH, initial_indent=first, subsequent_indent=later, **_WHOLE_WORDS)
    for part in lines or [first]:
        click.echo(part)


_WHOLE_WORDS: Mapping[str, Any] = {"break_on_hyphens": False, "break_long_words": False}
"""A path or a command that is longer than a line stays whole: it is there to be pasted."""


def emit(value: object) -> None:
    """JSON on standard output: what `--json` prints."""
    click.echo(json.dumps(value, indent=2, default=_plain))


def _plain(value: object) -> object:
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, set | frozenset | tuple):
        return sorted(value) if not isinstance(value, tuple) else list(value)
    return str(value)


_COLOUR = {"error": "red", "warning": "yellow", "notice": "cyan"}


def reports(found: Iterable[Any], limit: int = 20, err: bool = False) -> None:
    """Reports, worst first, each once, each with what to do about it; wrapped so that 80 columns are enough."""
    from textwrap import wrap  # noqa: PLC0415 - used by few commands

    each_once = list({(r.code, _message(r)): r for r in found}.values())
    order = ("error", "warning", "notice")
    each_once.sort(key=lambda report: order.index(str(report.severity.value)))
    for report in each_once[:limit]:
        word = str(report.severity.value)
        lines = wrap(safe(_message(report)), WIDTH - 10, **_WHOLE_WORDS) or [""]
        click.echo(click.style(f"{word:8}", fg=_COLOUR[word]) + lines[0], err=err)
        for more in lines[1:]:
            click.echo(" " * 8 + more, err=err)
        remedy = _remedy(report)
        for number, more in enumerate(wrap(safe(remedy), WIDTH - 13, **_WHOLE_WORDS) if remedy else []):
            click.echo(" " * 8 + ("-> " if number == 0 else "   ") + more, err=err)
    if len(each_once) > limit:
        click.echo(f"... and {len(each_once) - limit} more (--json shows all)", err=err)


def _message(report: Any) -> str:
    return str(report.message() if callable(report.message) else report.message)


def _remedy(report: Any) -> str | None:
    remedy = report.remedy() if callable(report.remedy) else report.remedy
    return None if remedy is None else str(remedy)


# --- what takes longer -----------------------------------------------------------------------------------------------


@contextmanager
def waiting(what: str, expected: float | None = None, done: Callable[[], int] | None = None) -> Iterator[None]:
    """While the block runs longer than two seconds, say so on a terminal: the time taken, the rate of what is `done`
    (a count of calls), and, where it is known how long it took last time, what remains."""
    if not sys.stderr.isatty():
        yield
        return
    over = threading.Event()
    started = time.monotonic()
    teller = threading.Thread(target=_tell, args=(over, started, what, expected, done), daemon=True)
    teller.start()
    try:
        yield
    finally:
        over.set()
        teller.join(2.0)


def _tell(
    over: threading.Event, started: float, what: str, expected: float | None, done: Callable[[], int] | None
) -> None:
    if over.wait(PATIENCE):
        return
    while True:
        sys.stderr.write("\r" + progress_line(what, time.monotonic() - started, expected, done)[: WIDTH - 1] + "\x1b[K")
        sys.stderr.flush()
        if over.wait(0.2):
            break
    sys.stderr.write("\r\x1b[K")
    sys.stderr.flush()


def progress_line(what: str, seconds: float, expected: float | None, done: Callable[[], int] | None) -> str:
    """The line that `waiting` shows after so many seconds."""
    parts = [f"{seconds:.0f} s"]
    if done is not None and (count := done()):
        parts.append(f"{count} calls, {count / seconds:.0f}/s")
    if expected:
        left = expected - seconds
        parts.append(f"about {left:.0f} s left" if left >= 1 else "longer than last time")
    return f"{what} ... {', '.join(parts)}"
