"""The kernel server's backend with the real exportfs, in a mount namespace of the test's own."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from labstore.exports.backends.knfsd import Knfsd
from labstore.formats.exports5 import read_etab
from labstore.model.exports import ExportTable
from labstore.model.names import ExportPath
from labstore.ports.export_server import PartlyServed
from labstore.ports.host import Command, Completed
from labstore.reconcile.facts import Missing
from labstore.reconcile.runner import StepFailed
from labstore.system.clock import SystemClock
from labstore.system.exportfs import RootExportfs
from labstore.system.run import LocalHost
from tests.contracts.export_server import ExportServerContract, made, seen
from tests.support import mount_namespace

pytestmark = pytest.mark.root

EXPORTS_D = Path("/etc/exports.d")
EXPORTS = Path("/etc/exports")
NFS_STATE = Path("/var/lib/nfs")
ETAB = NFS_STATE / "etab"


class CountingHost(LocalHost):
    """The real host, which remembers what was run."""

    def __init__(self) -> None:
        super().__init__()
        self.scripts: list[str] = []

    def run(self, command: Command, expect: frozenset[int] | None = frozenset({0})) -> Completed:
        self.scripts.append(" ".join(command.argv))
        return super().run(command, expect)

    @property
    def reloads(self) -> int:
        return sum("exec exportfs -r" in script for script in self.scripts)


@dataclass
class KnfsdLab:
    root: Path
    store: Path
    host: CountingHost = field(default_factory=CountingHost)

    def __post_init__(self) -> None:
        self.server = self.fresh()

    def fresh(self) -> Knfsd:
        return Knfsd(self.store, RootExportfs(self.host), SystemClock())

    def restart_server(self) -> None:
        """What nfs-server.service does at its start: mountd's table made anew from the files."""
        ETAB.write_text("")
        self.host.run(Command.of("exportfs", "-r"), expect=None)

    def admitted(self, path: ExportPath) -> frozenset[str]:
        return frozenset(read_etab(ETAB.read_text()).get(path, {}))


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[KnfsdLab]:
    mount_namespace.enter()
    for name in ("exports.d", "nfs", "srv"):
        (tmp_path / name).mkdir()
    for name in ("etab", "rmtab"):
        (tmp_path / "nfs" / name).touch()
    (tmp_path / "exports").touch()
    with (
        mount_namespace.bound(tmp_path / "exports.d", EXPORTS_D),
        mount_namespace.bound(tmp_path / "nfs", NFS_STATE),
        mount_namespace.bound(tmp_path / "exports", EXPORTS),
    ):
        yield KnfsdLab(tmp_path / "srv", tmp_path / "store")


class TestKnfsd(ExportServerContract):
    """The contract, on nfs-utils."""

    @pytest.fixture
    def lab(self, lab: KnfsdLab) -> KnfsdLab:
        return lab


def table(lab: KnfsdLab, **clients: tuple[str, ...]) -> ExportTable:
    return ExportTable(tuple(made(lab, name, *addresses) for name, addresses in clients.items()))


def test_one_batch_is_one_call_of_exportfs(lab: KnfsdLab) -> None:
    lab.server.apply(table(lab, a=("10.0.0.1",), b=("10.0.0.2",)), 1)
    lab.server.apply(table(lab, a=("10.0.0.3",), c=("10.0.0.2",)), 2)
    lab.server.apply(table(lab, a=("10.0.0.3",), c=("10.0.0.2",)), 3)
    assert lab.host.reloads == 2


def test_the_files_have_the_originals_names(lab: KnfsdLab) -> None:
    lab.server.apply(table(lab, tools=("10.0.0.1",), public_scratch=("10.0.0.0/24",)), 1)
    assert {path.name for path in EXPORTS_D.iterdir()} == {"tools.exports", "public_scratch.exports"}
    line = (EXPORTS_D / "tools.exports").read_text()
    assert line.startswith(f"{lab.root}/tools -rw,fsid=")
    assert line.endswith(" 10.0.0.1\n")


def test_files_of_others_are_left_and_reported(lab: KnfsdLab) -> None:
    (EXPORTS_D / "stray").mkdir()
    (EXPORTS_D / "dir.exports").mkdir()
    (EXPORTS_D / "notes.txt").write_text("hello\n")
    other = made(lab, "other")
    (EXPORTS_D / "other.exports").write_text(f"{other.path} -ro,no_subtree_check,fsid=9 192.0.2.1\n")
    lab.server.apply(table(lab, tools=("10.0.0.1",)), 1)
    lab.server.apply(ExportTable(), 2)
    reports = seen(lab.server).foreign
    assert {report.subject.rpartition("/")[2] for report in reports} == {
        "stray",
        "dir.exports",
        "notes.txt",
        "other.exports",
    }  # upstream #7
    assert lab.admitted(other.path) == {"192.0.2.1"}
    assert seen(lab.server).drift == ()


@pytest.mark.parametrize("line", ['/srv/x -rw,"', "/srv/x -rw,bogus 10.0.0.9", "srv/x 10.0.0.9", "/srv/x 10.0.0.9(rw"])
def test_a_bad_line_of_somebody_else_takes_nothing_of_ours(lab: KnfsdLab, line: str) -> None:
    (EXPORTS_D / "aa.exports").write_text(line + "\n")
    lab.server.apply(table(lab, tools=("10.0.0.1",)), 1)
    lab.server.apply(table(lab, tools=("10.0.0.1", "10.0.0.2")), 2)
    assert lab.admitted(ExportPath(f"{lab.root}/tools")) == {"10.0.0.1", "10.0.0.2"}
    assert seen(lab.server).drift == ()


def test_a_foreign_file_that_opens_a_path_of_ours_is_an_error(lab: KnfsdLab) -> None:
    lab.server.apply(table(lab, tools=("10.0.0.1",)), 1)
    (EXPORTS_D / "zz.exports").write_text(f"{lab.root}/tools *(rw,no_root_squash)\n")
    assert "foreign-export-of-ours" in {report.code for report in seen(lab.server).foreign}


def test_a_bad_line_ends_the_reading_of_its_own_file_alone(lab: KnfsdLab) -> None:
    """A fact about exportfs that the backend relies on: should a later nfs-utils differ, this says it."""
    tools, maps = made(lab, "tools"), made(lab, "maps")
    (EXPORTS_D / "aa.exports").write_text(f"{maps.path} -rw,bogus 10.0.0.9\n{maps.path} -rw 10.0.0.8\n")
    (EXPORTS_D / "bb.exports").write_text(f"{tools.path} -rw,fsid=1 10.0.0.1\n")
    lab.host.run(Command.of("exportfs", "-r"), expect=None)
    assert lab.admitted(tools.path) == {"10.0.0.1"}
    assert lab.admitted(maps.path) == frozenset()


def test_dangling_links_are_passed_over(lab: KnfsdLab) -> None:
    """A kill between linking newcomers and switching the generation leaves such links."""
    lab.server.apply(table(lab, tools=("10.0.0.1",)), 1)
    (EXPORTS_D / "new.exports").symlink_to(lab.store / "current" / "new.exports")
    lab.host.run(Command.of("exportfs", "-r"), expect=None)
    assert lab.admitted(ExportPath(f"{lab.root}/tools")) == {"10.0.0.1"}
    assert lab.fresh().apply(table(lab, tools=("10.0.0.1",)), 2) == 1
    assert not (EXPORTS_D / "new.exports").is_symlink()


def test_a_foreign_path_that_is_not_normal_is_no_drift(lab: KnfsdLab) -> None:
    other = made(lab, "other")
    (EXPORTS_D / "zz.exports").write_text(f"{lab.root}//other/ 10.9.9.9(rw,no_subtree_check,fsid=9)\n")
    lab.server.apply(table(lab, tools=("10.0.0.1",)), 1)
    assert lab.admitted(other.path) == {"10.9.9.9"}
    assert seen(lab.server).drift == ()
    assert lab.server.apply(table(lab, tools=("10.0.0.1",)), 2) == 0


def test_a_link_that_leads_to_itself_stops_nothing(lab: KnfsdLab) -> None:
    (EXPORTS_D / "loop.exports").symlink_to("loop.exports")
    lab.server.apply(table(lab, tools=("10.0.0.1",)), 1)
    assert lab.admitted(ExportPath(f"{lab.root}/tools")) == {"10.0.0.1"}
    assert [report.subject for report in seen(lab.server).foreign] == [str(EXPORTS_D / "loop.exports")]


def test_a_generation_whose_directory_is_gone_is_none(lab: KnfsdLab) -> None:
    lab.server.apply(table(lab, tools=("10.0.0.1",)), 1)
    (lab.store / "current").unlink()
    (lab.store / "current").symlink_to("generation-77")
    found = seen(lab.fresh())
    assert (found.generation, len(found.stored)) == (None, 0)


def test_a_change_behind_our_back_is_drift_and_is_put_right(lab: KnfsdLab) -> None:
    lab.server.apply(table(lab, tools=("10.0.0.1",)), 1)
    path = ExportPath(f"{lab.root}/tools")
    lab.host.run(Command.of("exportfs", "-i", "-o", "rw,fsid=5", f"10.66.6.6:{path}"))
    assert lab.admitted(path) == {"10.0.0.1", "10.66.6.6"}
    assert seen(lab.server).drift == (path,)
    assert lab.server.apply(table(lab, tools=("10.0.0.1",)), 1) == 1
    assert lab.admitted(path) == {"10.0.0.1"}


def test_a_directory_that_leads_elsewhere_holds_up_no_other(lab: KnfsdLab) -> None:
    """exportfs follows links: what is served has another path. Clients of other shares still come and go."""
    lab.server.apply(table(lab, maps=("10.0.0.9",), tools=("10.0.0.1", "10.0.0.2")), 1)
    (lab.root / "maps").rename(lab.root / "elsewhere")
    (lab.root / "maps").symlink_to("elsewhere")
    moved, other = ExportPath(f"{lab.root}/maps"), ExportPath(f"{lab.root}/tools")
    wanted = table(lab, maps=("10.0.0.9",), tools=("10.0.0.1",))
    with pytest.raises(StepFailed) as first:
        lab.server.apply(wanted, 2)
    assert not isinstance(first.value, PartlyServed), "nothing was wrong before"
    assert f"leads to {lab.root}/elsewhere" in str(first.value)
    with pytest.raises(PartlyServed) as partly:
        lab.server.apply(wanted, 3)
    assert partly.value.paths == (moved,)
    found = seen(lab.fresh())
    assert (found.generation, found.stored, found.drift) == (3, wanted, (ExportPath(f"{lab.root}/elsewhere"), moved))
    assert lab.admitted(other) == {"10.0.0.1"}
    (lab.root / "maps").unlink()
    (lab.root / "elsewhere").rename(lab.root / "maps")
    assert lab.server.apply(wanted, 3) == 1
    assert seen(lab.server).drift == ()


def test_a_file_of_the_same_name_is_not_overwritten(lab: KnfsdLab) -> None:
    (EXPORTS_D / "tools.exports").write_text("/srv/elsewhere -ro,fsid=3 192.0.2.9\n")
    with pytest.raises(StepFailed):
        lab.server.apply(table(lab, tools=("10.0.0.1",)), 1)
    assert "192.0.2.9" in (EXPORTS_D / "tools.exports").read_text()
    assert seen(lab.server).generation is None


def test_an_unreadable_file_of_ours_is_missing_not_empty(lab: KnfsdLab) -> None:
    lab.server.apply(table(lab, tools=("10.0.0.1",)), 1)
    (lab.store / "current" / "tools.exports").chmod(0o644)
    (lab.store / "current" / "tools.exports").write_text("garbage\n")
    assert isinstance(lab.fresh().observe(), Missing)


def test_no_resolver_is_asked(lab: KnfsdLab, tmp_path: Path) -> None:
    """exportfs runs with files-only name resolution, whatever the machine says."""
    lab.server.apply(table(lab, tools=("10.0.0.1",)), 1)
    script = lab.host.scripts[-1]
    assert "mount --bind" in script
    assert "nsswitch.files" in script
