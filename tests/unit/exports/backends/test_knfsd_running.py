"""Whether the kernel's server runs, as a daemon sees it that is not root: the number of threads is root's to read."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from labstore.exports.backends.knfsd import Knfsd, KnfsdPaths
from labstore.system.clock import SystemClock

NOBODY = 65534
STATISTICS = "rc 0 0 2609\nfh 0 0 0 0 0\nth {} 0 0.000 0.000\nnet 2609 0 2609 6\n"


class Exportfs:
    def reload(self) -> str:
        raise AssertionError("nothing is to be reloaded here")


@pytest.fixture
def base() -> Iterator[Path]:
    """A directory that everybody may read."""
    with tempfile.TemporaryDirectory(prefix="labstore-test-") as directory:
        path = Path(directory)
        path.chmod(0o755)
        (path / "threads").write_text("8\n")
        (path / "threads").chmod(0o000)
        yield path


def running(base: Path) -> bool:
    """As the server's user finds it."""
    paths = KnfsdPaths(base / "exports.d", base / "exports", base / "etab", base / "threads", base / "statistics")
    server = Knfsd(base / "store", Exportfs(), SystemClock(), paths)
    before = os.geteuid()
    if before == 0:
        os.seteuid(NOBODY)
    try:
        return server._running()
    finally:
        os.seteuid(before)


@pytest.mark.parametrize(("threads", "serves"), [(8, True), (0, False)])
def test_the_statistics_say_what_the_number_of_threads_may_not(base: Path, threads: int, serves: bool) -> None:
    (base / "statistics").write_text(STATISTICS.format(threads))
    assert running(base) is serves


@pytest.mark.parametrize("text", [None, "", "th\n", "th many\n"])
def test_a_kernel_that_says_nothing_serves_nobody(base: Path, text: str | None) -> None:
    if text is not None:
        (base / "statistics").write_text(text)
    assert running(base) is False
