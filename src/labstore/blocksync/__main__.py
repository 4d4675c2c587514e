"""`python -m labstore.blocksync STATE_DIR`: the called end on standard input and output, for a caller on this machine.

It is what `labstore blocksync serve` is, without the time that loading a command line takes.
"""

from __future__ import annotations

import gc
import os
import signal
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from labstore.blocksync.ends import End


def main() -> int:
    """Returns the exit status: 0 when the session ended well, 1 when it did not and the caller knows why."""
    gc.disable()  # what is loaded stays: looking for garbage in it would take a tenth of the time
    from labstore.blocksync.serve import serve  # noqa: PLC0415 - as just said
    from labstore.reports.blocksync import SyncFailed  # noqa: PLC0415

    gc.freeze()
    gc.enable()

    def started(end: End) -> None:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda signum, _frame: end.interrupt(signal.Signals(signum).name))

    try:
        serve(0, 1, Path(sys.argv[1]), started=started)
    except SyncFailed as failure:
        sys.stderr.write(failure.report.message() + "\n")
        return 1
    return 0


if __name__ == "__main__":
    status = main()
    sys.stderr.flush()
    os._exit(status)  # all is closed and written: taking the interpreter apart would only cost time
