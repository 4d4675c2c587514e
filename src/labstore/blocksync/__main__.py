"""`python -m labstore.blocksync [OPTION VALUE]...`: the called end, for a caller on this machine (see command)."""

from __future__ import annotations

import os
import sys

from labstore.blocksync.command import plainly


def main() -> None:
    status = plainly(sys.argv[1:])
    if status is None:
        sys.stderr.write("this cannot be begun: labstore blocksync serve, with the same options, says why\n")
        status = 2
    sys.stderr.flush()
    os._exit(status)  # all is closed and written: taking the interpreter apart would only cost time


if __name__ == "__main__":
    main()
