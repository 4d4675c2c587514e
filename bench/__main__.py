"""`python -m bench [NAME ...]`: run the benchmarks, print their tables, keep their results.

Every module of this package with a function `figures()` is a benchmark.
"""

from __future__ import annotations

import compileall
import importlib
import pkgutil
import signal
import sys
from pathlib import Path

import labstore
from bench.figures import keep, show

NOT_BENCHMARKS = {"__main__", "figures"}


def names() -> list[str]:
    return sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).parent)]))


def main(chosen: list[str]) -> int:
    compileall.compile_dir(Path(labstore.__file__).parent, quiet=1)  # as pip does for whoever installs it
    missed = 0
    for name in chosen or [name for name in names() if name not in NOT_BENCHMARKS]:
        module = importlib.import_module(f"bench.{name}")
        if not hasattr(module, "figures"):
            continue
        figures = module.figures()
        keep(name, figures)
        show(name, figures)
        missed += sum(figure.holds is False for figure in figures)
    return 1 if missed else 0


if __name__ == "__main__":
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))  # what a benchmark made goes away with it
    sys.exit(main(sys.argv[1:]))
