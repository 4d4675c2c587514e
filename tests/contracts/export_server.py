"""What every ExportServer does, fake or real. A subclass gives `lab`: a server, its own restart, and its real table."""

from __future__ import annotations

from pathlib import Path
from typing import Protocol

import pytest

from labstore.model.exports import Access, Export, ExportOptions, ExportTable, Fsid, Squash
from labstore.model.names import ExportPath
from labstore.ports.export_server import ExportServer, Served
from labstore.reconcile.facts import Fact
from labstore.reconcile.runner import StepFailed


class ServerLab(Protocol):
    """One server in the hands of a test. `root` holds the directories that may be exported."""

    root: Path
    server: ExportServer

    def fresh(self) -> ExportServer:
        """The same server through a new object, as a restarted labstore has it."""

    def restart_server(self) -> None:
        """The NFS server restarts by itself, with nothing of labstore running."""

    def admitted(self, path: ExportPath) -> frozenset[str]:
        """The clients that the server itself would let in, from its own mouth and not through `observe`."""


def made(lab: ServerLab, name: str, *clients: str, options: ExportOptions | None = None) -> Export:
    """An export of a directory that exists, with an fsid."""
    directory = lab.root / name
    directory.mkdir(parents=True, exist_ok=True)
    path = ExportPath(str(directory))
    return Export.of(name, path, clients, options or ExportOptions(fsid=Fsid.of_path("test", path)))


def seen(server: ExportServer) -> Served:
    answer = server.observe()
    assert isinstance(answer, Fact), answer
    return answer.value


class ExportServerContract:
    """Inherit, and give the fixture `lab`."""

    @pytest.fixture
    def lab(self) -> ServerLab:
        raise NotImplementedError

    def test_a_fresh_server_has_nothing_stored(self, lab: ServerLab) -> None:
        found = seen(lab.server)
        assert (len(found.stored), found.generation, found.drift) == (0, None, ())

    def test_what_is_applied_is_stored_and_served(self, lab: ServerLab) -> None:
        table = ExportTable((made(lab, "tools", "127.77.0.1", "127.77.0.2"), made(lab, "maps", "127.77.1.1")))
        assert lab.server.apply(table, 1) >= 1
        found = seen(lab.server)
        assert (found.stored, found.generation, found.drift) == (table, 1, ())
        assert lab.admitted(ExportPath(str(lab.root / "tools"))) == {"127.77.0.1", "127.77.0.2"}
        assert lab.admitted(ExportPath(str(lab.root / "maps"))) == {"127.77.1.1"}

    def test_the_same_again_calls_nobody(self, lab: ServerLab) -> None:
        table = ExportTable((made(lab, "tools", "127.77.0.1"),))
        lab.server.apply(table, 1)
        assert lab.server.apply(table, 2) == 0
        assert lab.fresh().apply(table, 3) == 0

    def test_clients_come_and_go(self, lab: ServerLab) -> None:
        path = ExportPath(str(lab.root / "tools"))
        lab.server.apply(ExportTable((made(lab, "tools", "127.77.0.1", "127.77.0.2"),)), 1)
        lab.server.apply(ExportTable((made(lab, "tools", "127.77.0.2", "127.77.0.3"),)), 2)
        assert lab.admitted(path) == {"127.77.0.2", "127.77.0.3"}

    def test_exports_come_and_go(self, lab: ServerLab) -> None:
        tools, maps = made(lab, "tools", "127.77.0.1"), made(lab, "maps", "127.77.1.1")
        lab.server.apply(ExportTable((tools,)), 1)
        lab.server.apply(ExportTable((maps,)), 2)
        assert lab.admitted(tools.path) == frozenset()
        assert lab.admitted(maps.path) == {"127.77.1.1"}
        lab.server.apply(ExportTable(), 3)
        assert lab.admitted(maps.path) == frozenset()
        assert seen(lab.server).generation == 3

    def test_networks_and_ipv6_are_served(self, lab: ServerLab) -> None:
        clients = ("10.1.0.0/24", "127.77.0.1", "2001:db8::1", "2001:db8:1::/64")
        export = made(lab, "tools", *clients)
        lab.server.apply(ExportTable((export,)), 1)
        assert seen(lab.server).drift == ()
        assert lab.admitted(export.path) == set(clients)

    def test_options_survive(self, lab: ServerLab) -> None:
        options = ExportOptions(access=Access.RO, squash=Squash.ALL, anonuid=1234, anongid=2345, fsid=Fsid("77"))
        export = made(lab, "tools", "127.77.0.1", options=options)
        lab.server.apply(ExportTable((export,)), 1)
        assert seen(lab.fresh()).stored.by_path[export.path].options == options
        assert seen(lab.fresh()).drift == ()

    def test_changed_options_are_served(self, lab: ServerLab) -> None:
        before = made(lab, "tools", "127.77.0.1")
        after = made(lab, "tools", "127.77.0.1", options=ExportOptions(squash=Squash.NONE, fsid=before.options.fsid))
        lab.server.apply(ExportTable((before,)), 1)
        assert lab.server.apply(ExportTable((after,)), 2) >= 1
        found = seen(lab.server)
        assert found.drift == ()
        assert found.stored.by_path[after.path].options.squash is Squash.NONE

    def test_a_restart_of_the_server_serves_what_was_last_applied(self, lab: ServerLab) -> None:
        export = made(lab, "tools", "127.77.0.1", "127.77.0.2")
        lab.server.apply(ExportTable((export,)), 1)
        lab.restart_server()
        assert lab.admitted(export.path) == {"127.77.0.1", "127.77.0.2"}
        assert seen(lab.fresh()).drift == ()

    def test_a_new_labstore_finds_what_the_old_one_left(self, lab: ServerLab) -> None:
        table = ExportTable((made(lab, "tools", "127.77.0.1"), made(lab, "maps", "127.77.1.1")))
        lab.server.apply(table, 7)
        found = seen(lab.fresh())
        assert (found.stored, found.generation, found.drift) == (table, 7, ())

    def test_a_number_stands_for_one_table(self, lab: ServerLab) -> None:
        table = ExportTable((made(lab, "tools", "127.77.0.1"),))
        lab.server.apply(table, 1)
        with pytest.raises(StepFailed):
            lab.server.apply(ExportTable((made(lab, "tools", "127.77.0.2"),)), 1)
        assert seen(lab.server).stored == table
        assert lab.admitted(table.exports[0].path) == {"127.77.0.1"}

    def test_many_exports(self, lab: ServerLab) -> None:
        names = [f"project-{number:03}" for number in range(120)]
        table = ExportTable(
            tuple(made(lab, name, *(f"127.78.{n}.{i}" for i in range(1, 6))) for n, name in enumerate(names))
        )
        lab.server.apply(table, 1)
        assert seen(lab.server).drift == ()
        smaller = ExportTable(table.exports[1:])
        assert lab.server.apply(smaller, 2) >= 1
        assert lab.admitted(table.exports[0].path) == frozenset()
        assert len(lab.admitted(table.exports[1].path)) == 5
