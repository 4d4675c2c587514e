"""Taking over from the original nfs-exportd, with the real exportfs: nobody loses access, whenever it is killed."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from labstore.assembly import ExportsRoom, SiteSource, from_site_file
from labstore.cli.adopt import take_over
from labstore.exports.backends.knfsd import Knfsd
from labstore.reconcile.runner import StepFailed
from labstore.reports.exports import ApplyFailed
from labstore.system.exportfs import RootExportfs
from labstore.system.run import LocalHost
from tests.support.exportd_lab import EXPORTS_D, LABSTORE, ExportdLab, exportd_lab
from tests.support.fakes import Killed

pytestmark = pytest.mark.root
TOOLS, MAPS = {"172.16.1.1", "172.16.1.2", "172.16.1.99"}, {"172.16.2.1"}


@pytest.fixture
def lab() -> Iterator[ExportdLab]:
    """The original's files are there and served; labstore has never run."""
    with exportd_lab() as lab:
        for number, (name, clients) in enumerate((("tools", TOOLS), ("maps", MAPS))):
            fsid = f"{'0' * 17}{50000 + number}{'0' * 10}"
            options = f"rw,nohide,fsid={fsid},no_subtree_check,async,no_root_squash"
            (EXPORTS_D / f"{name}.exports").write_text(f"{lab.path(name)} -{options} {' '.join(sorted(clients))}")
        (EXPORTS_D / "public_root.exports").write_text(f"{lab.base}/srv *(ro,fsid=0,sync,subtree_check,root_squash)")
        (EXPORTS_D / "stray").mkdir()
        reload()
        assert (lab.admitted("tools"), lab.admitted("maps")) == (TOOLS, MAPS)
        yield lab


def reload() -> None:
    """What anybody may do at any time: run exportfs."""
    RootExportfs(LocalHost()).reload()


def room(lab: ExportdLab) -> ExportsRoom:
    file = lab.base / "site.yaml"
    return ExportsRoom(SiteSource(from_site_file(file), file), "primary", "test@host")


def test_adopting_shows_first_and_changes_nothing(lab: ExportdLab) -> None:
    done = lab.run("exports", "adopt")
    assert done.returncode == 0, done.stderr
    assert "to take over: 2 files, 2 exports, 4 clients" in done.stdout
    assert "public_root.exports: line 1: '0' is not an fsid" in done.stdout
    assert not any(path.is_symlink() for path in EXPORTS_D.iterdir())
    assert not (lab.base / "state").exists()


def test_adopting_keeps_every_client_and_the_originals(lab: ExportdLab) -> None:
    before = (EXPORTS_D / "tools.exports").read_bytes()
    words = lab.json("exports", "adopt", "--apply")
    assert [each["file"] for each in words["taken"]] == ["maps.exports", "tools.exports"]
    assert (Path(words["originals"]) / "tools.exports").read_bytes() == before
    assert (EXPORTS_D / "tools.exports").is_symlink()
    assert (EXPORTS_D / "public_root.exports").read_text().endswith("root_squash)"), "left as it was"
    assert (lab.admitted("tools"), lab.admitted("maps")) == (TOOLS, MAPS)
    why = lab.json("exports", "why", "172.16.1.99")
    assert (why["allowed"], why["now"][0]["source"]) == (True, "adopted")
    assert lab.json("exports", "adopt")["taken"] == []


def test_the_first_cycle_afterwards_admits_and_keeps(lab: ExportdLab) -> None:
    """The address that no instance has stays until a second listing misses it."""
    lab.run("exports", "adopt", "--apply")
    lab.show(tools=("172.16.1.1", "172.16.1.2", "172.16.1.3"), maps=("172.16.2.1",))
    done = lab.run("exports", "apply", "--yes")
    assert done.returncode == 4, done.stderr
    assert lab.admitted("tools") == TOOLS | {"172.16.1.3"}
    assert "172.16.1.99" in done.stdout


def test_without_adopting_the_originals_files_are_not_overwritten(lab: ExportdLab) -> None:
    done = lab.run("exports", "apply", "--yes")
    assert done.returncode == 3, done.stdout
    assert "labstore exports adopt" in done.stdout
    assert (lab.admitted("tools"), lab.admitted("maps")) == (TOOLS, MAPS)


def test_a_file_with_names_in_it_is_left_and_told(lab: ExportdLab) -> None:
    (EXPORTS_D / "tools.exports").write_text(f"{lab.path('tools')} -rw,fsid=5 tools-1.example.org 172.16.1.1")
    words = lab.json("exports", "adopt", "--apply")
    assert [each["file"] for each in words["taken"]] == ["maps.exports"]
    assert "tools-1.example.org" in next(each["reason"] for each in words["left"] if each["file"] == "tools.exports")


def test_old_name_new_program(lab: ExportdLab) -> None:
    """`nfs-exportd --adopt`: the whole move in one command."""
    environment = {name: value for name, value in lab.environment.items() if name != "NOTIFY_SOCKET"}
    command = [str(LABSTORE.with_name("nfs-exportd")), "--adopt"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 4, done.stderr
    assert lab.admitted("tools") == TOOLS


class Failing:
    """An exportfs that fails for as long as it is told to."""

    def __init__(self) -> None:
        self.fails = True

    def reload(self) -> str:
        if self.fails:
            raise StepFailed(ApplyFailed("exportfs", "no"))
        return RootExportfs(LocalHost()).reload()


def test_an_exportfs_that_fails_leaves_the_originals_in_place(lab: ExportdLab) -> None:
    before = {path.name: path.read_bytes() for path in EXPORTS_D.glob("*.exports")}
    mine = room(lab)
    server = mine.cycle().observer.server
    assert isinstance(server, Knfsd)
    server.exportfs = Failing()
    with pytest.raises(StepFailed):
        take_over(mine)
    assert {path.name: path.read_bytes() for path in EXPORTS_D.glob("*.exports")} == before
    assert not any(path.is_symlink() for path in EXPORTS_D.iterdir())
    reload()
    assert (lab.admitted("tools"), lab.admitted("maps")) == (TOOLS, MAPS)
    server.exportfs = RootExportfs(LocalHost())
    assert take_over(mine)[1] is not None
    assert lab.admitted("tools") == TOOLS


@pytest.mark.parametrize("at", range(1, 9))
def test_killed_at_any_rename_every_name_gives_the_same_exports(
    lab: ExportdLab, at: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename, seen = Path.rename, 0

    def counted(self: Path, target: Path) -> Path:
        nonlocal seen
        seen += 1
        if seen == at:
            raise Killed
        return rename(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "rename", counted)
        with contextlib.suppress(Killed):
            take_over(room(lab))
    reload()
    assert (lab.admitted("tools"), lab.admitted("maps")) == (TOOLS, MAPS)
    take_over(room(lab))
    assert (lab.admitted("tools"), lab.admitted("maps")) == (TOOLS, MAPS)
    assert all((EXPORTS_D / f"{name}.exports").is_symlink() for name in ("tools", "maps"))
    assert lab.run("exports", "run", "--once").returncode in (0, 4)
    assert lab.admitted("tools") >= TOOLS


def test_ganesha_has_no_such_files(lab: ExportdLab) -> None:
    (lab.base / "site.yaml").write_text(
        (lab.base / "site.yaml").read_text().replace("  primary:\n", "  primary:\n    backend: ganesha\n")
    )
    done = lab.run("exports", "adopt")
    assert done.returncode == 2
    assert "it has no exports.d" in done.stderr
