"""Exports from the real kernel server: who gets in, who is cut off, and what survives."""

from __future__ import annotations

import random
import re
import time

import pytest
from bench.figures import Figure, counted

from tests.lab.lab import Lab
from tests.lab.layout import SERVICE
from tests.lab.load import Load
from tests.lab.machine import Machine
from tests.lab.ssh import CommandFailed
from tests.lab.stages import Stage, Stages
from tests.lab.waiting import wait_until
from tests.scenarios.conftest import INSTALLED
from tests.scenarios.exporting import FIRST, MAPS, QUARRY, STRANGER, exporting, inventory, labstore
from tests.scenarios.instances import Instance

Figures = list[Figure]

COUNTING = """#!/bin/sh
echo "$@" >>/run/exportfs-calls
exec /usr/sbin/exportfs.real "$@"
"""


def build(lab: Lab) -> None:
    exporting(lab)
    for name, address in {**FIRST["maps"], **FIRST["quarry"], "stranger": STRANGER}.items():
        Instance(lab["client"], name, address).create()


EXPORTING = Stage("exporting", build, before=INSTALLED)


@pytest.fixture
def lab(stages: Stages) -> Lab:
    """alpha serves two projects; their first three instances exist, and so does a stranger."""
    return stages.at(EXPORTING)


def instance(lab: Lab, name: str) -> Instance:
    known = {**FIRST["maps"], **FIRST["quarry"], "stranger": STRANGER}
    return Instance(lab["client"], name, known[name])


def etab(server: Machine) -> dict[str, set[str]]:
    """mountd's table: path to clients."""
    table: dict[str, set[str]] = {}
    for line in server.get("/var/lib/nfs/etab").splitlines():
        path, _, client = line.partition("\t")
        table.setdefault(path, set()).add(client.partition("(")[0])
    return table


def kernel_table(server: Machine) -> dict[str, set[str]]:
    """What the kernel has been told by mountd and has not forgotten: path to clients. The way down to the exports
    (`v4root`), which every client of any export may walk, is left out; so are refusals."""
    table: dict[str, set[str]] = {}
    for line in server.out("cat /proc/net/rpc/nfsd.export/content").splitlines():
        found = re.fullmatch(r"(?P<path>/\S*)\t(?P<client>[^(]+)\((?P<options>.*)\)", line.strip())
        if found and "v4root" not in found["options"]:
            table.setdefault(found["path"], set()).update(found["client"].split(","))
    return table


def missed_once(alpha: Machine) -> None:
    """Who is merely absent from a listing is kept until a second one misses them too."""
    assert labstore(alpha, "exports apply --yes --why 'the first listing'", check=False).status in (0, 3, 4)
    alpha.run("sleep 2.5")


def test_an_instance_of_the_project_works_and_a_stranger_is_refused(lab: Lab) -> None:
    maps, stranger, quarry = (instance(lab, name) for name in ("maps-1", "stranger", "quarry-1"))
    maps.mount(MAPS)
    maps.run("echo hello >file && sync file && test $(cat file) = hello")
    assert lab["alpha"].get(f"{MAPS}/file") == "hello\n"
    for other in (stranger, quarry):
        refused = other.mount(MAPS, check=False)
        assert not refused.ok and ("denied" in refused.stderr or "No such file" in refused.stderr), refused
    kernel, table = kernel_table(lab["alpha"]), etab(lab["alpha"])
    assert FIRST["maps"]["maps-1"] in kernel[MAPS]
    for path, clients in kernel.items():
        assert clients <= table.get(path, set()) | {"*"}, f"the kernel answers for {path} otherwise than etab"


def test_letting_one_in_disturbs_nobody(lab: Lab, figures: Figures) -> None:
    first = instance(lab, "maps-1")
    first.mount(MAPS)
    load = Load(lab["client"], first.mount_point, writers=2, holders=2).start()
    new = Instance(lab["client"], "maps-3", "10.77.0.33").create()
    grown = {**FIRST, "maps": {**FIRST["maps"], "maps-3": new.address}}
    inventory(lab["alpha"], grown)
    started = time.monotonic()
    labstore(lab["alpha"], "exports apply --yes --why 'a new instance'")
    applied = time.monotonic()
    new.mount(MAPS)
    mounted = time.monotonic()
    new.run("echo in >in")
    load.moves(30)
    report = load.stop()
    checked = load.check(lab["alpha"], MAPS)
    figures += [
        counted("applying, from the call to its end", "s", applied - started, at_most=10),
        counted("first mount of the new instance, from the call of apply", "s", mounted - started, at_most=20),
        counted("longest wait of another instance meanwhile", "s", report["longest_wait"], at_most=5),
        counted("errors of another instance", "errors", len(report["errors"]), at_most=0),
        counted("locks lost", "locks", len(report["lost_locks"]), at_most=0),
        counted("acknowledged writes lost", "writes", checked["lost"], at_most=0),
    ]
    assert not report["errors"] and not report["lost_locks"] and not checked["lost"] and not checked["broken"]


def test_an_instance_taken_out_loses_its_open_file(lab: Lab, figures: Figures) -> None:
    gone, stays = instance(lab, "maps-1"), instance(lab, "maps-2")
    for each in (gone, stays):
        each.mount(MAPS)
    loads = {
        each.name: Load(lab["client"], each.mount_point, name=f"load-{each.name}", writers=1, holders=1).start()
        for each in (gone,)
    }
    stays.run("mkdir other")
    other = Load(lab["client"], f"{stays.mount_point}/other", name="load-stays", writers=1, holders=1).start()
    inventory(lab["alpha"], {**FIRST, "maps": {"maps-2": stays.address}})
    missed_once(lab["alpha"])
    started = time.time()
    labstore(lab["alpha"], "exports apply --yes --allow-mass-removal --allow-last-client --why 'an instance is gone'")
    applied = time.time()
    errors = wait_until(lambda: loads[gone.name].report()["errors"], 60, "the removed instance sees an error")
    states = lab["alpha"].out("grep -h . /proc/fs/nfsd/clients/*/info /proc/fs/nfsd/clients/*/states || true")
    print(f"removed at {started:.1f}..{applied:.1f}; first error {errors[0]}\n{states}")
    assert not gone.run("echo more >>new", check=False).ok
    other.moves(30)
    kept = other.stop()
    figures += [
        counted("the removed instance's first error after the end of apply", "s", errors[0]["time"] - applied),
        counted("errors of the instance that stays", "errors", len(kept["errors"]), at_most=0),
        counted("longest wait of the instance that stays", "s", kept["longest_wait"], at_most=5),
    ]
    assert not kept["errors"] and not kept["lost_locks"]


def test_a_cycle_without_change_calls_nobody(lab: Lab, figures: Figures) -> None:
    alpha = lab["alpha"]
    alpha.run("mv /usr/sbin/exportfs /usr/sbin/exportfs.real")
    alpha.put("/usr/sbin/exportfs", COUNTING, 0o755)
    alpha.start_unit("exportd", "exec labstore exports run", Type="notify")
    alpha.run("sleep 12")
    calls = alpha.run("cat /run/exportfs-calls", check=False).stdout.splitlines()
    inventory(alpha, {**FIRST, "maps": {**FIRST["maps"], "maps-3": "10.77.0.33"}})
    alpha.wait_until("grep -q 10.77.0.33 /var/lib/nfs/etab", 20)
    alpha.run("sleep 3")
    after = alpha.run("cat /run/exportfs-calls").stdout.splitlines()
    figures += [
        counted("exportfs calls in 12 s without change", "calls", len(calls), at_most=0),
        counted("exportfs calls for one change", "calls", len(after) - len(calls), at_most=1),
    ]
    assert not calls and after == ["-r"]


def test_a_bad_line_in_a_foreign_file_takes_nothing_away(lab: Lab) -> None:
    """exportfs passes over the rest of that file; who is let in and who is told are not harmed by it."""
    alpha, maps = lab["alpha"], instance(lab, "maps-1")
    maps.mount(MAPS)
    alpha.put("/etc/exports.d/theirs.exports", "/srv/other 10.0.0.1(rw\n")
    inventory(alpha, {**FIRST, "maps": {**FIRST["maps"], "maps-3": "10.77.0.33"}})
    done = labstore(alpha, "exports apply --yes --why 'beside a broken file'")
    assert "theirs.exports" in done.stdout
    assert etab(alpha)[MAPS] == {*FIRST["maps"].values(), "10.77.0.33"}
    maps.run("echo still >here")


def test_a_link_that_dangles_is_passed_over(lab: Lab) -> None:
    alpha = lab["alpha"]
    alpha.run("ln -s /nowhere /etc/exports.d/nobody.exports")
    inventory(alpha, {**FIRST, "maps": {**FIRST["maps"], "maps-3": "10.77.0.33"}})
    labstore(alpha, "exports apply --yes --why 'beside a dangling link'")
    assert etab(alpha)[MAPS] == {*FIRST["maps"].values(), "10.77.0.33"}


@pytest.mark.deadline(420)
def test_an_apply_killed_anywhere_is_made_good_by_the_next(lab: Lab, figures: Figures) -> None:
    alpha, chance = lab["alpha"], random.Random(20)
    whole = labstore(alpha, "exports apply --yes --why 'how long it takes'").seconds
    torn = kills = 0
    for number in range(12):
        wanted = {f"maps-{n}": f"10.77.1.{n}" for n in range(1, 20 + number)}
        inventory(alpha, {"maps": wanted, "quarry": FIRST["quarry"]})
        after = chance.uniform(0.2, 1.0) * whole
        line = f"timeout -s KILL {after:.2f} labstore exports apply --yes --allow-mass-removal --why 'to be killed'"
        kills += alpha.run(f"{line}; echo ended with $?", check=False).stdout.endswith("ended with 137\n")
        for path, clients in etab(alpha).items():
            known = {MAPS: {f"10.77.1.{n}" for n in range(1, 40)} | set(FIRST["maps"].values())}
            torn += not clients <= known.get(path, set(FIRST["quarry"].values()))
    missed_once(alpha)
    labstore(alpha, "exports apply --yes --allow-mass-removal --allow-last-client --why 'after all kills'")
    served = etab(alpha)
    figures += [counted("applies killed", "kills", kills), counted("tables torn", "tables", torn, at_most=0)]
    assert served[MAPS] == set(wanted.values()) and served[QUARRY] == set(FIRST["quarry"].values())
    plan = labstore(alpha, "exports plan --json", check=False)
    assert '"steps": []' in plan.stdout or "nothing" in plan.stdout.lower(), plan
    assert kills >= 6 and not torn


def test_what_is_served_does_not_need_labstore(lab: Lab) -> None:
    """A restart of the kernel's server serves the same table (DESIGN law 3)."""
    alpha, maps = lab["alpha"], instance(lab, "maps-1")
    maps.mount(MAPS)
    before = etab(alpha)
    alpha.run("systemctl restart nfs-server", 60)
    assert etab(alpha) == before
    with pytest.raises(CommandFailed):
        instance(lab, "stranger").mount(MAPS, SERVICE)
    maps.run("echo again >file", 60)
