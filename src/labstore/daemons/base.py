"""What all daemons have in common: signals that set flags, metrics that may be asked for, and what a defect leaves."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from types import FrameType

from prometheus_client import CollectorRegistry, start_http_server

from labstore.model.site import MetricsSettings
from labstore.reports.report import Report, Severity
from labstore.system.log import Logger

log = Logger()


class Defect(Report):
    """An exception that nobody foresaw. The traceback is in the log. `where` begins with the daemon's name."""

    where: str
    what: str

    code = "defect"
    severity = Severity.ERROR

    def message(self) -> str:
        return f"a defect of labstore ended the cycle: {self.what} ({self.where})"

    def remedy(self) -> str:
        return f"what is served stays served; report it with: journalctl -u {self.where.partition(',')[0]} -p err"


class MetricsUnheard(Report):
    listen: str
    reason: str

    code = "metrics-unheard"

    def message(self) -> str:
        return f"metrics cannot be asked for at {self.listen}: {self.reason}"

    def remedy(self) -> str:
        return "free the port or change metrics.listen, then restart the daemon; its work does not depend on it"


class Ending(BaseException):
    """TERM came while something outside was being asked: nothing is being written, so there is nothing to finish."""


@dataclass
class Flags:
    """What signals ask for. Handlers only set these, and wake whoever sleeps."""

    wake: Callable[[], None] = lambda: None
    stopping: bool = False
    reloading: bool = False
    _asking: bool = False

    @contextlib.contextmanager
    def interruptible(self) -> Iterator[None]:
        self._asking = True
        try:
            if self.stopping:
                raise Ending
            yield
        finally:
            self._asking = False

    def stop(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        self.stopping = True
        self.wake()
        if self._asking:
            raise Ending

    def reload(self, _signal: int = 0, _frame: FrameType | None = None) -> None:
        self.reloading = True
        self.wake()

    @contextlib.contextmanager
    def installed(self) -> Iterator[None]:
        """TERM and INT stop, HUP reloads, while the block runs. In the main thread only."""
        handlers = {signal.SIGTERM: self.stop, signal.SIGINT: self.stop, signal.SIGHUP: self.reload}
        before = {number: signal.signal(number, handler) for number, handler in handlers.items()}
        try:
            yield
        finally:
            for number, handler in before.items():
                signal.signal(number, handler)


def listen(settings: MetricsSettings | None, registry: CollectorRegistry) -> tuple[Report, ...]:
    """Let Prometheus ask. A port that is taken costs the metrics, never the work; every record says so."""
    if settings is None:
        return ()
    try:
        start_http_server(settings.port, settings.host, registry)
    except OSError as error:
        unheard = MetricsUnheard(f"{settings.host}:{settings.port}", error.strerror or str(error))
        log.error(unheard.message(), code=unheard.code, remedy=unheard.remedy())
        return (unheard,)
    return ()
