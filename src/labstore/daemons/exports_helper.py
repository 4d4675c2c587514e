"""`labstore-exports-helper reload`: the only thing that the export daemon may do as root. It takes no other
argument and no input, and does nothing but run exportfs on the files that are there."""

from __future__ import annotations

import os
import sys

from labstore.reconcile.runner import StepFailed
from labstore.system.exportfs import RootExportfs
from labstore.system.run import LocalHost
from labstore.telemetry import logs


def main() -> int:
    if sys.argv[1:] != ["reload"]:
        sys.stderr.write("usage: labstore-exports-helper reload\n")
        return 2
    if os.geteuid() != 0:
        sys.stderr.write("labstore-exports-helper must run as root (through its sudo rule)\n")
        return 2
    logs.configure("warning")
    try:
        said = RootExportfs(LocalHost()).reload()
    except StepFailed as failure:
        sys.stderr.write(failure.report.message() + "\n")
        return 1
    sys.stderr.write(said + "\n" if said else "")
    return 0


if __name__ == "__main__":
    sys.exit(main())
