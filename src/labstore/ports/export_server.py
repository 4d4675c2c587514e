"""One NFS server's export table, as far as labstore owns it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from labstore.model.exports import ExportTable
from labstore.model.names import ExportPath
from labstore.reconcile.facts import Answer
from labstore.reconcile.runner import StepFailed
from labstore.reports.report import Report


@dataclass(frozen=True)
class Served:
    """What was found on a server.

    `stored` is what the server's own files say: a restart of the server, with nothing of labstore running, serves
    exactly this (DESIGN law 3). `generation` is the number that was stored with it, None where nothing is stored yet.
    `running` says whether the server answers. `drift` lists the paths at which the running server answers otherwise
    than `stored` says (an interrupted run, a change behind our back); empty when it is not running.
    `foreign` reports what is there and not ours; it is left alone.
    """

    stored: ExportTable
    generation: int | None
    running: bool
    drift: tuple[ExportPath, ...] = ()
    foreign: tuple[Report, ...] = ()


class PartlyServed(StepFailed):
    """The table is stored and in force, but for `paths`, which were not served as wanted before either: what is wrong
    with one directory holds up no other, revocations least of all. `calls`: how often the server was called on."""

    def __init__(self, report: Report, paths: tuple[ExportPath, ...], calls: int) -> None:
        super().__init__(report)
        self.paths, self.calls = paths, calls


class ExportServer(Protocol):
    """Implementations: knfsd, NFS-Ganesha, and the fake of the tests; one contract suite for all."""

    def observe(self) -> Answer[Served]:
        """Read what is stored and what is served, from the files and from the server itself. Changes nothing."""

    def apply(self, table: ExportTable, generation: int) -> int:
        """Make the server serve exactly `table`, now and after its own restart; returns how often it was called on.

        The stored files change in one atomic step, so a kill at any point leaves one whole generation, and the next
        `apply` (of this or another table) converges. The running server is told only of what differs, takings-away
        first, and its answer is read back. With nothing different nothing is written and nobody is called (law 6);
        0 is returned. A server that is not running gets its files, and that is success.

        Raises StepFailed when the server refuses the table or answers otherwise afterwards; then what was stored
        before is stored again, unless the refusal came after the server had taken the new table. Raises PartlyServed
        where all that is wrong was so before.
        """
