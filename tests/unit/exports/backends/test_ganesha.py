"""NFS-Ganesha's backend with a server in memory that can lie; the real one is in tests/integration."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from labstore.exports.backends.ganesha import EXPORTS, NfsGanesha
from labstore.formats.ganesha_conf import read
from labstore.formats.ganesha_dbus import Listed, LiveExport
from labstore.model.exports import Export, ExportTable
from labstore.model.names import ExportPath
from labstore.ports.export_server import Served
from labstore.reconcile.facts import Fact, Missing
from labstore.reconcile.runner import StepFailed
from labstore.system.ganesha import Failure, GaneshaFailed
from tests.support.fake_clock import FakeClock
from tests.unit.exports.backends.test_ganesha_changes import live_export

TOOLS = Export.of("tools", "/srv/a", ["10.0.0.1", "10.0.0.2"])
FEWER = Export.of("tools", "/srv/a", ["10.0.0.2"])
MAPS = Export.of("maps", "/srv/b", ["10.0.0.3"])


@dataclass
class MemoryGanesha:
    """Serves what it is handed. `deaf` to updates although it says yes; `refuses` these paths."""

    alive: bool = True
    exports: dict[int, LiveExport] = field(default_factory=dict)
    calls: list[str] = field(default_factory=list)
    deaf: bool = False
    refuses: frozenset[str] = frozenset()

    @contextmanager
    def connect(self) -> Iterator[MemoryGanesha]:
        yield self

    def running(self) -> bool:
        return self.alive

    def listed(self) -> tuple[Listed, ...]:
        return (Listed(0, "/"), *(Listed(number, each.pseudo) for number, each in self.exports.items()))

    def shown(self, ids: Sequence[int]) -> tuple[LiveExport, ...]:
        return tuple(self.exports[number] for number in ids)

    def add(self, file: Path, count: int) -> None:
        self._take("add", file, count)

    def update(self, file: Path, count: int) -> None:
        self._take("update", file, count)

    def remove(self, number: int) -> None:
        self.calls.append(f"remove {self.exports.pop(number).path}")

    def _take(self, verb: str, file: Path, count: int) -> None:
        handed = read(file.read_text())
        assert len(handed) == count
        for each in handed:
            self.calls.append(f"{verb} {each.export.path}")
            if each.export.path in self.refuses:
                raise GaneshaFailed("AddExport", Failure.REFUSED, "0 export entries added")
            if not self.deaf:
                self.exports[each.id] = live_export(each.export, each.id)


@pytest.fixture
def ganesha() -> MemoryGanesha:
    return MemoryGanesha()


@pytest.fixture
def server(tmp_path: Path, ganesha: MemoryGanesha) -> NfsGanesha:
    return NfsGanesha(tmp_path / "store", ganesha, FakeClock(), servable=lambda path: True)


def seen(server: NfsGanesha) -> Served:
    answer = server.observe()
    assert isinstance(answer, Fact), answer
    return answer.value


def test_takings_away_are_told_before_anything_is_given(server: NfsGanesha, ganesha: MemoryGanesha) -> None:
    video = Export.of("video", "/srv/c", ["10.0.0.9"])
    server.apply(ExportTable((TOOLS, MAPS, video)), 1)
    ganesha.calls.clear()
    moved = (FEWER, Export.of("maps", "/srv/b", ["10.0.0.3", "10.0.0.1"]), Export.of("cvn", "/srv/d", ["10.0.0.9"]))
    server.apply(ExportTable(moved), 2)
    assert ganesha.calls == ["remove /srv/c", "update /srv/a", "update /srv/b", "add /srv/d"]


def test_nothing_different_writes_nothing_and_calls_nobody(server: NfsGanesha, ganesha: MemoryGanesha) -> None:
    server.apply(ExportTable((TOOLS,)), 1)
    before = {path: path.lstat().st_mtime_ns for path in server.store.rglob("*")}
    ganesha.calls.clear()
    assert server.apply(ExportTable((TOOLS,)), 2) == 0
    assert {path: path.lstat().st_mtime_ns for path in server.store.rglob("*")} == before
    assert ganesha.calls == []


def test_a_server_that_says_yes_and_does_not_is_found_out(server: NfsGanesha, ganesha: MemoryGanesha) -> None:
    server.apply(ExportTable((TOOLS,)), 1)
    ganesha.deaf = True
    with pytest.raises(StepFailed, match="answered otherwise"):
        server.apply(ExportTable((FEWER,)), 2)
    assert (seen(server).stored, seen(server).generation) == (ExportTable((TOOLS,)), 1)


def test_a_refused_first_generation_leaves_none(server: NfsGanesha, ganesha: MemoryGanesha) -> None:
    ganesha.refuses = frozenset({"/srv/b"})
    with pytest.raises(StepFailed, match="/srv/b"):
        server.apply(ExportTable((TOOLS, MAPS)), 1)
    assert (len(seen(server).stored), seen(server).generation) == (0, None)
    assert ganesha.exports == {}
    assert read((server.store / "current" / EXPORTS).read_text()) == ()


def test_a_refusal_names_the_export_that_it_was_about(server: NfsGanesha, ganesha: MemoryGanesha) -> None:
    server.apply(ExportTable((TOOLS,)), 1)
    ganesha.refuses = frozenset({"/srv/b"})
    with pytest.raises(StepFailed, match="/srv/b: 0 export entries"):
        server.apply(ExportTable((FEWER, MAPS)), 2)
    assert seen(server).drift == ()
    assert [client.name for client in next(iter(ganesha.exports.values())).clients] == list(TOOLS.clients)


def test_an_export_that_cannot_be_written_changes_nothing(server: NfsGanesha) -> None:
    server.apply(ExportTable((TOOLS,)), 1)
    with pytest.raises(StepFailed, match="/112"):
        server.apply(ExportTable((TOOLS, Export.of("maps", "/srv/b", ["2001:db8::/112"]))), 2)
    assert (seen(server).stored, seen(server).generation) == (ExportTable((TOOLS,)), 1)


def test_a_file_that_somebody_changed_is_missing_not_empty(server: NfsGanesha) -> None:
    server.apply(ExportTable((TOOLS,)), 1)
    file = server.store / "current" / EXPORTS
    text = file.read_text()
    file.unlink()
    file.write_text(text.replace("10.0.0.1", "*"))
    assert isinstance(server.observe(), Missing)
    with pytest.raises(StepFailed):
        server.apply(ExportTable(), 2)
    assert "*" in file.read_text()


def test_a_generation_in_force_is_never_written_over(server: NfsGanesha) -> None:
    server.apply(ExportTable((TOOLS,)), 1)
    with pytest.raises(StepFailed, match="in force"):
        server.apply(ExportTable((MAPS,)), 1)
    assert seen(server).stored == ExportTable((TOOLS,))


def test_an_export_to_nobody_is_none(server: NfsGanesha) -> None:
    assert server.apply(ExportTable((TOOLS, Export.of("maps", "/srv/b"))), 1) == 1
    assert server.apply(ExportTable((TOOLS, Export.of("maps", "/srv/b"))), 2) == 0
    assert seen(server).stored == ExportTable((TOOLS,))


def test_before_anything_was_applied_the_server_can_start(server: NfsGanesha) -> None:
    server.prepare()
    assert read((server.store / "current" / EXPORTS).read_text()) == ()
    assert seen(server).generation is None
    server.apply(ExportTable((TOOLS,)), 1)
    server.prepare()
    assert seen(server).generation == 1


def test_many_exports_go_over_in_few_calls(server: NfsGanesha, ganesha: MemoryGanesha) -> None:
    table = ExportTable(tuple(Export.of("p", f"/srv/p{number}", ["10.0.0.1"]) for number in range(120)))
    assert server.apply(table, 1) == 3
    assert len(ganesha.exports) == 120


def test_nothing_is_left_lying_about(server: NfsGanesha) -> None:
    for number in range(1, 4):
        server.apply(ExportTable((Export.of("p", "/srv/p", [f"10.0.0.{number}"]),)), number)
    assert {path.name for path in server.store.iterdir()} == {"current", "generation-3", "export-ids"}


def test_a_path_that_came_back_has_its_old_id(server: NfsGanesha, ganesha: MemoryGanesha) -> None:
    server.apply(ExportTable((TOOLS,)), 1)
    (before,) = ganesha.exports
    server.apply(ExportTable((MAPS,)), 2)
    server.apply(ExportTable((MAPS, TOOLS)), 3)
    assert ganesha.exports[before].path == ExportPath("/srv/a")
