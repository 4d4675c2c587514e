"""The command `labstore`, which is also `python -m labstore`."""

from __future__ import annotations

import os
import sys

_CALLED = ["blocksync", "serve"]


def main() -> None:
    """The entry point. The other end of a block sync, for which somebody waits, begins without a command line."""
    _open_standard_streams()
    if sys.argv[1:3] == _CALLED:
        from labstore.blocksync.command import plainly  # noqa: PLC0415 - for this word alone

        status = plainly(sys.argv[3:])
        if status is not None:
            sys.stderr.flush()
            os._exit(status)  # all is closed and written: taking the interpreter apart would only cost time
    from labstore.cli.main import main as command_line  # noqa: PLC0415 - as just said

    command_line()


def _open_standard_streams() -> None:
    """The kernel starts DRBD's handlers without any: the first thing that is said would end them."""
    for number, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, open(number, mode, closefd=False))  # noqa: SIM115 - it stays open


if __name__ == "__main__":
    main()
