"""`labstore exports adopt` on files of the original, with an exportfs that only writes down what it read."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from labstore.assembly import Hands, exports_state
from labstore.cli.main import labstore
from labstore.exports.backends.knfsd import Knfsd, KnfsdPaths
from labstore.formats.exports5 import entries
from labstore.model.site import Cluster, Site
from labstore.ports.clock import Clock
from tests.support.cli_world import CliWorld, in_utc
from tests.support.golden import golden
from tests.support.logs_kept import logs_kept

FSID = "0" * 17 + "{}" + "0" * 10
LINE = "/srv/misc/shared/{} -rw,nohide,fsid={},no_subtree_check,async,no_root_squash {}"


@dataclass
class Scribe:
    """An exportfs whose table is what the files say."""

    paths: KnfsdPaths
    calls: int = 0

    def reload(self) -> str:
        self.calls += 1
        found = [e for file in sorted(self.paths.exports_dir.glob("*.exports")) for e in entries(file.read_text())]
        lines = [f"{entry.path}\t{entry.client}({','.join(entry.options)})\n" for entry in found]
        self.paths.etab.write_text("".join(lines))
        return ""


class AdoptWorld:
    def __init__(self, base: Path) -> None:
        self.world = CliWorld.of(base)
        self.paths = KnfsdPaths(base / "exports.d", base / "exports", base / "etab", base / "threads")
        self.paths.exports_dir.mkdir()
        self.scribe = Scribe(self.paths)
        self.write("tools", LINE.format("tools", FSID.format(50380), "172.16.1.11 172.16.1.12 172.16.1.99"))
        self.write("maps", LINE.format("maps", FSID.format(50196), "172.16.2.11"))
        self.write("old", LINE.format("old", FSID.format(50999), "172.16.9.1"))
        self.write("public_root", "/exp *(ro,fsid=0,sec=sys,sync,subtree_check,root_squash,nocrossmnt)")
        self.scribe.reload()

    def write(self, name: str, line: str) -> None:
        (self.paths.exports_dir / f"{name}.exports").write_text(line)

    def server(self, site: Site, cluster: Cluster, clock: Clock) -> Knfsd:
        return Knfsd(exports_state(site, cluster.name) / "knfsd", self.scribe, clock, self.paths)

    @property
    def hands(self) -> Hands:
        return replace(self.world.hands, server=self.server)

    def run(self, *arguments: str) -> Result:
        environment = {"LABSTORE_SITE": str(self.world.site_file), "LABSTORE_NODE": "labstore1", "SUDO_USER": "alice"}
        with in_utc(), logs_kept():
            return CliRunner(env=environment).invoke(labstore, ["exports", *arguments], obj=self.hands)

    def screen(self, result: Result) -> str:
        return result.stdout.replace(str(self.world.base), "/base")


@pytest.fixture
def lab(tmp_path: Path) -> AdoptWorld:
    return AdoptWorld(tmp_path)


def test_it_shows_what_it_would_take_over_and_what_follows(lab: AdoptWorld) -> None:
    result = lab.run("adopt")
    assert result.exit_code == 0
    golden("adopt", lab.screen(result))
    assert lab.scribe.calls == 1, "ours"


def test_it_takes_over_and_says_where_the_originals_are(lab: AdoptWorld) -> None:
    result = lab.run("adopt", "--apply")
    assert result.exit_code == 0, result.output
    golden("adopt-done", lab.screen(result))
    table = lab.paths.etab.read_text()
    assert all(address in table for address in ("172.16.1.99", "172.16.2.11", "172.16.9.1"))
    (kept,) = (lab.world.base / "state/exports/primary/adopted").iterdir()
    assert sorted(path.name for path in kept.iterdir()) == ["maps.exports", "tools.exports"]


def test_it_is_a_generation_like_any_other(lab: AdoptWorld) -> None:
    lab.run("adopt", "--apply")
    (newest,) = lab.world.json("exports", "history")["generations"]
    assert (newest["who"], newest["why"], newest["admits"]) == ("alice@labstore1", "adopt", 4)
    assert newest["facts"] == {"adopted": ["maps", "tools"]}


def test_a_second_time_there_is_nothing_to_do(lab: AdoptWorld) -> None:
    lab.run("adopt", "--apply")
    calls = lab.scribe.calls
    result = lab.run("adopt", "--apply")
    assert (result.exit_code, result.stdout.splitlines()[0]) == (0, "nothing to take over")
    assert lab.scribe.calls == calls


def test_nothing_there_is_said(lab: AdoptWorld) -> None:
    for path in lab.paths.exports_dir.iterdir():
        path.unlink()
    assert "nothing to take over" in lab.run("adopt").stdout


def test_the_plan_afterwards_changes_options_and_says_which(lab: AdoptWorld) -> None:
    lab.run("adopt", "--apply")
    text = " ".join(lab.run("plan").stdout.split())
    assert "loses nohide" in text
    assert "no_root_squash" in text
