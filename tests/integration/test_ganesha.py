"""NFS-Ganesha's backend on a real server, seen by real clients that each have an address of their own."""

from __future__ import annotations

import contextlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from labstore.demo.client import Instance, NfsError
from labstore.demo.relay import Relays
from labstore.exports.backends.ganesha import CHANGE, EXPORTS, NfsGanesha
from labstore.formats.ganesha_conf import read
from labstore.formats.ganesha_dbus import Listed, LiveExport
from labstore.model.exports import Export, ExportOptions, ExportTable, Fsid, Squash
from labstore.model.names import ExportPath
from labstore.reconcile.facts import Missing
from labstore.reconcile.runner import StepFailed
from labstore.system.clock import SystemClock
from labstore.system.ganesha import Failure, GaneshaFailed, Session
from tests.contracts.export_server import ExportServerContract, made, seen
from tests.support.fakes import Killed
from tests.support.ganesha import GaneshaLab, need_ganesha, running_ganesha
from tests.support.hang import HANGS

pytestmark = pytest.mark.root

ONE, TWO, THREE = "127.77.0.1", "127.77.0.2", "127.77.0.3"


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[GaneshaLab]:
    need_ganesha()
    with running_ganesha(tmp_path) as running:
        yield running


class TestNfsGanesha(ExportServerContract):
    """The contract."""

    @pytest.fixture
    def lab(self, lab: GaneshaLab) -> GaneshaLab:
        return lab


def share(lab: GaneshaLab, name: str, *clients: str, options: ExportOptions | None = None) -> Export:
    """An export of a directory that everybody may write to and that has a file `hello`."""
    export = made(lab, name, *clients, options=options)
    directory = Path(export.path)
    directory.chmod(0o777)
    (directory / "hello").write_text(f"this is {name}")
    return export


# --- who gets in ---------------------------------------------------------------------------------------------------


def test_an_instance_reads_and_writes_and_a_stranger_is_refused(lab: GaneshaLab) -> None:
    tools = share(lab, "tools", ONE)
    lab.server.apply(ExportTable((tools,)), 1)
    with lab.instance(ONE, uid=1000, gid=1000).mounted(tools.path) as mount:
        assert mount.read("/hello") == b"this is tools"
        mount.write("/new", b"from an instance")
        assert mount.list() == ("hello", "new")
    assert (Path(tools.path) / "new").read_bytes() == b"from an instance"
    assert not lab.instance(TWO).may_mount(tools.path)
    with pytest.raises(NfsError) as refused:
        lab.instance(TWO).mount(tools.path)
    assert refused.value.status == "NFS4ERR_NOENT"


def test_a_stranger_does_not_even_see_that_the_share_exists(lab: GaneshaLab) -> None:
    tools = share(lab, "tools", ONE)
    lab.server.apply(ExportTable((tools,)), 1)
    with lab.instance(TWO).mounted(str(lab.root)) as mount:
        assert mount.list() == ()
    with lab.instance(ONE).mounted(str(lab.root)) as mount:
        assert mount.list() == ("tools",)


def test_without_clients_nobody_gets_in_whatever_the_defaults_say(tmp_path: Path) -> None:
    need_ganesha()
    generous = "EXPORT_DEFAULTS { Access_Type = RW; Squash = No_Root_Squash; }"
    with running_ganesha(tmp_path, rest=generous) as lab:
        tools, maps = share(lab, "tools", ONE), share(lab, "maps", TWO)
        lab.server.apply(ExportTable((tools, maps)), 1)
        lab.server.apply(ExportTable((Export.of("tools", tools.path), maps)), 2)
        assert not any(lab.instance(each).may_mount(tools.path) for each in (ONE, TWO, THREE))
        assert not lab.instance(THREE).may_mount(maps.path)
        assert lab.instance(TWO).may_mount(maps.path)


def test_a_new_client_is_admitted_and_a_removed_one_is_cut_off_at_once(lab: GaneshaLab) -> None:
    tools = share(lab, "tools", ONE)
    lab.server.apply(ExportTable((tools,)), 1)
    mount = lab.instance(ONE).mount(tools.path)
    file = mount.open("/hello")
    assert file.read() == b"this is tools"
    lab.server.apply(ExportTable((share(lab, "tools", TWO),)), 2)
    with pytest.raises(NfsError) as cut_off:
        file.read()
    assert cut_off.value.status == "NFS4ERR_ACCESS"
    assert lab.instance(TWO).may_mount(tools.path)
    assert not lab.instance(ONE).may_mount(tools.path)
    mount.close()


def test_a_removed_export_is_gone_for_those_who_have_it_open(lab: GaneshaLab) -> None:
    tools, maps = share(lab, "tools", ONE), share(lab, "maps", ONE)
    lab.server.apply(ExportTable((tools, maps)), 1)
    with lab.instance(ONE).mounted(tools.path) as mount, mount.open("/hello") as file:
        lab.server.apply(ExportTable((maps,)), 2)
        with pytest.raises(NfsError) as gone:
            file.read()
        assert gone.value.refused
    assert not lab.instance(ONE).may_mount(tools.path)


def test_others_are_not_disturbed_while_one_changes(lab: GaneshaLab) -> None:
    tools, maps = share(lab, "tools", ONE), share(lab, "maps", TWO)
    lab.server.apply(ExportTable((tools, maps)), 1)
    with (
        lab.instance(ONE).mounted(tools.path) as mine,
        mine.open("/hello") as file,
        lab.instance(TWO).mounted(maps.path) as other,
        other.open("/hello") as others_file,
    ):
        for number in range(2, 12):
            more = (f"127.77.9.{number}",)
            lab.server.apply(ExportTable((share(lab, "tools", ONE, *more), maps)), number)
            assert file.read() == b"this is tools"  # same export, a client that stays
            assert others_file.read() == b"this is maps"
        lab.server.apply(ExportTable((maps, share(lab, "cvn", THREE))), 12)
        assert others_file.read() == b"this is maps"


def test_root_is_squashed_unless_said_otherwise(lab: GaneshaLab) -> None:
    squashed = share(lab, "tools", ONE)
    trusted = share(lab, "maps", ONE, options=ExportOptions(squash=Squash.NONE))
    lab.server.apply(ExportTable((squashed, trusted)), 1)
    for export, owner in ((squashed, 65534), (trusted, 0)):
        with lab.instance(ONE).mounted(export.path) as mount:
            mount.write("/mine", b"x")
        assert (Path(export.path) / "mine").stat().st_uid == owner


def test_a_client_from_an_unprivileged_port_is_a_stranger_unless_insecure(lab: GaneshaLab) -> None:
    strict = share(lab, "tools", ONE)
    lax = share(lab, "maps", ONE, options=ExportOptions(insecure=True))
    lab.server.apply(ExportTable((strict, lax)), 1)
    with Relays(lab.ganesha.port, reserved=False) as relays:
        behind_nat = Instance(relays, ONE)
        assert behind_nat.may_mount(lax.path)
        assert not behind_nat.may_mount(strict.path)
    assert lab.instance(ONE).may_mount(strict.path)


# --- what else is there ----------------------------------------------------------------------------------------------


def test_exports_of_others_are_left_and_reported(tmp_path: Path) -> None:
    need_ganesha()
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    foreign = (
        f'EXPORT {{ Export_Id = 9; Path = "{theirs}"; Pseudo = "/theirs"; Access_Type = RO; FSAL {{ Name = VFS; }} }}'
    )
    with running_ganesha(tmp_path, rest=foreign) as lab:
        lab.server.apply(ExportTable((share(lab, "tools", ONE),)), 1)
        lab.server.apply(ExportTable(), 2)
        found = seen(lab.server)
        assert [report.subject for report in found.foreign] == ["/theirs"]
        assert found.drift == ()
        assert lab.instance(ONE).may_mount("/theirs")


def test_a_change_behind_our_back_is_drift_and_is_put_right(lab: GaneshaLab) -> None:
    table = ExportTable((share(lab, "tools", ONE), share(lab, "maps", TWO)))
    tools = ExportPath(f"{lab.root}/tools")
    lab.server.apply(table, 1)
    text = (lab.store / "current" / EXPORTS).read_text()
    (lab.root / "hand-made.conf").write_text(text.replace(ONE, f"{ONE}, {THREE}"))
    with lab.driver.connect() as session:
        session.update(lab.root / "hand-made.conf", 2)
    assert lab.instance(THREE).may_mount(tools)
    assert seen(lab.server).drift == (tools,)
    assert lab.server.apply(table, 1) == 1
    assert not lab.instance(THREE).may_mount(tools)
    assert seen(lab.server).drift == ()


def test_an_export_taken_away_behind_our_back_comes_back(lab: GaneshaLab) -> None:
    table = ExportTable((share(lab, "tools", ONE),))
    lab.server.apply(table, 1)
    with lab.driver.connect() as session:
        session.remove(session.listed()[0].id or session.listed()[1].id)
    assert seen(lab.server).drift == tuple(table.by_path)
    assert lab.fresh().apply(table, 1) == 1
    assert lab.instance(ONE).may_mount(table.exports[0].path)


def test_a_missing_directory_stops_nobody_else_and_is_served_once_it_is_there(lab: GaneshaLab) -> None:
    late = Export.of("late", f"{lab.root}/late", [TWO])
    table = ExportTable((share(lab, "tools", ONE), late))
    lab.server.apply(table, 1)
    found = seen(lab.server)
    assert (found.stored, found.drift) == (table, ())
    assert [report.code for report in found.foreign] == ["directories-missing"]
    assert lab.instance(ONE).may_mount(f"{lab.root}/tools")
    share(lab, "late")
    assert seen(lab.server).drift == (late.path,)
    lab.server.apply(table, 1)
    assert lab.instance(TWO).may_mount(late.path)
    assert seen(lab.server).foreign == ()


def test_exports_may_lie_below_each_other(lab: GaneshaLab) -> None:
    outer = share(lab, "outer", ONE)
    (lab.root / "outer" / "inner").mkdir()
    inner = Export.of("inner", f"{lab.root}/outer/inner", [TWO])
    lab.server.apply(ExportTable((inner,)), 1)
    lab.server.apply(ExportTable((inner, outer)), 2)
    assert lab.instance(ONE).may_mount(outer.path)
    changed = share(lab, "outer", ONE, options=ExportOptions(fsid=Fsid("99")))
    lab.server.apply(ExportTable((inner, changed)), 3)
    assert lab.served() == ExportTable((inner, changed))
    lab.server.apply(ExportTable((inner,)), 4)
    with lab.instance(ONE).mounted(outer.path) as way:  # a step on the way to `inner`, without anything of the share
        assert way.list() == ()
    assert lab.instance(TWO).may_mount(inner.path)
    assert lab.served() == ExportTable((inner,))


# --- ids -------------------------------------------------------------------------------------------------------------


def ids_of(lab: GaneshaLab) -> dict[str, int]:
    return {str(each.export.path): each.id for each in read((lab.store / "current" / EXPORTS).read_text())}


def test_a_path_keeps_its_id_when_it_goes_and_comes_back(lab: GaneshaLab) -> None:
    tools, maps = share(lab, "tools", ONE), share(lab, "maps", ONE)
    lab.server.apply(ExportTable((tools, maps)), 1)
    before = ids_of(lab)
    lab.server.apply(ExportTable((maps,)), 2)
    lab.fresh().apply(ExportTable((tools, maps)), 3)
    assert ids_of(lab) == before


def test_a_client_keeps_its_file_handles_over_a_restart_of_the_server(lab: GaneshaLab) -> None:
    tools = share(lab, "tools", ONE)
    lab.server.apply(ExportTable((tools,)), 1)
    before = ids_of(lab)
    lab.restart_server()
    with lab.driver.connect() as session:
        assert {each.pseudo: each.id for each in session.listed() if each.id} == before


# --- failure ---------------------------------------------------------------------------------------------------------


class Dying:
    """A session that is killed before its call number `at`, or after it."""

    def __init__(self, session: Session, at: int, after: bool) -> None:
        self._session, self._at, self._after = session, at, after
        self._calls = 0

    def _passing(self, name: str) -> None:
        del name
        self._calls += 1
        if self._calls == self._at:
            raise Killed

    def _call(self, name: str, *arguments: object) -> object:
        if not self._after:
            self._passing(name)
        answer = getattr(self._session, name)(*arguments)
        if self._after:
            self._passing(name)
        return answer

    def running(self) -> bool:
        return bool(self._call("running"))

    def listed(self) -> tuple[Listed, ...]:
        return self._call("listed")  # type: ignore[return-value]

    def shown(self, ids: Sequence[int]) -> tuple[LiveExport, ...]:
        return self._call("shown", ids)  # type: ignore[return-value]

    def add(self, file: Path, count: int) -> None:
        self._call("add", file, count)

    def update(self, file: Path, count: int) -> None:
        self._call("update", file, count)

    def remove(self, number: int) -> None:
        self._call("remove", number)


class DyingServer:
    def __init__(self, lab: GaneshaLab, at: int, after: bool) -> None:
        self._lab, self._at, self._after = lab, at, after

    @contextlib.contextmanager
    def connect(self) -> Iterator[Dying]:
        with self._lab.driver.connect() as session:
            yield Dying(session, self._at, self._after)


@pytest.mark.parametrize("after", [False, True], ids=["before", "after"])
def test_killed_at_any_call_it_leaves_one_whole_generation_and_the_next_run_converges(
    lab: GaneshaLab, after: bool
) -> None:
    one = ExportTable((share(lab, "tools", ONE, TWO), share(lab, "maps", TWO), share(lab, "cvn", THREE)))
    two = ExportTable(
        (
            share(lab, "tools", TWO, THREE),
            share(lab, "maps", ONE, options=ExportOptions(fsid=Fsid("8"))),
            share(lab, "video", ONE),
        )
    )
    number, survived = 1, False
    for at in range(1, 40):
        lab.fresh().apply(one, number)
        before = seen(lab.fresh()).generation
        dying = NfsGanesha(lab.store, DyingServer(lab, at, after), SystemClock())
        try:
            dying.apply(two, number + 1)
            survived = True
        except Killed:
            pass
        found = seen(lab.fresh())
        assert (found.stored, found.generation) in [(one, before), (two, number + 1)]
        lab.fresh().apply(found.stored, found.generation or 0)
        assert lab.served() == found.stored
        assert {str(e.path): lab.admitted(e.path) for e in found.stored} == {
            str(e.path): frozenset(e.clients) for e in found.stored
        }
        number += 2
        if survived:
            break
    assert survived


def test_a_refusal_puts_the_generation_before_back(lab: GaneshaLab) -> None:
    """A path that a foreign export got hold of."""
    tools, maps = share(lab, "tools", ONE), share(lab, "maps", TWO)
    lab.server.apply(ExportTable((tools,)), 1)
    (lab.root / "foreign.conf").write_text(
        f'EXPORT {{ Export_Id = 77; Path = "{maps.path}"; Pseudo = "{maps.path}"; FSAL {{ Name = VFS; }} }}\n'
    )
    with lab.driver.connect() as session:
        session.add(lab.root / "foreign.conf", 1)
    with pytest.raises(StepFailed, match="maps"):
        lab.server.apply(ExportTable((share(lab, "tools", ONE, TWO), maps)), 2)
    found = seen(lab.fresh())
    assert (found.stored, found.generation, found.drift) == (ExportTable((tools,)), 1, ())
    assert lab.admitted(tools.path) == {ONE}


def test_a_server_that_dies_in_the_call_leaves_the_generation_before(lab: GaneshaLab) -> None:
    """4.3 has a fatal weakness for syntax errors; whatever kills it, a restart must find what worked."""
    tools = share(lab, "tools", ONE)
    lab.server.apply(ExportTable((tools,)), 1)

    class Shot(Dying):
        def add(self, file: Path, count: int) -> None:
            lab.ganesha.kill()
            raise GaneshaFailed("AddExport", Failure.ENDED, "shot by the test")

    class Range(DyingServer):
        @contextlib.contextmanager
        def connect(self) -> Iterator[Dying]:
            with lab.driver.connect() as session:
                yield Shot(session, 0, False)

    with pytest.raises(StepFailed):
        NfsGanesha(lab.store, Range(lab, 0, False), SystemClock()).apply(
            ExportTable((tools, share(lab, "maps", ONE))), 2
        )
    found = seen(lab.fresh())
    assert (found.stored, found.generation, found.running) == (ExportTable((tools,)), 1, False)
    lab.ganesha.start()
    assert lab.served() == ExportTable((tools,))


def test_a_stopped_server_gets_its_file_and_serves_it_at_its_start(lab: GaneshaLab) -> None:
    lab.ganesha.stop()
    tools = share(lab, "tools", ONE)
    lab.server.apply(ExportTable((tools,)), 1)
    assert not seen(lab.server).running
    lab.ganesha.start()
    assert lab.instance(ONE).may_mount(tools.path)
    assert seen(lab.server).running


def test_a_crashed_server_serves_the_last_known_good_by_itself(lab: GaneshaLab) -> None:
    tools = share(lab, "tools", ONE)
    lab.server.apply(ExportTable((tools,)), 1)
    lab.ganesha.kill()
    lab.ganesha.start()
    with lab.instance(ONE).mounted(tools.path) as mount:
        assert mount.read("/hello") == b"this is tools"


def test_without_a_bus_nothing_is_known_and_nothing_is_changed(lab: GaneshaLab) -> None:
    tools = share(lab, "tools", ONE)
    lab.server.apply(ExportTable((tools,)), 1)
    lab.ganesha.bus.rename(lab.ganesha.bus.with_name("elsewhere"))
    assert isinstance(lab.server.observe(), Missing)
    with pytest.raises(StepFailed):
        lab.server.apply(ExportTable(), 2)
    lab.ganesha.bus.with_name("elsewhere").rename(lab.ganesha.bus)
    found = seen(lab.server)
    assert (found.stored, found.generation) == (ExportTable((tools,)), 1)


def test_a_server_that_hangs_is_missing_within_the_deadline(lab: GaneshaLab) -> None:
    lab.server.apply(ExportTable((share(lab, "tools", ONE),)), 1)
    hasty = NfsGanesha(lab.store, type(lab.driver)(SystemClock(), lab.ganesha.bus, 0.5), SystemClock())
    lab.ganesha.send(signal.SIGSTOP)
    try:
        started = time.monotonic()
        assert isinstance(hasty.observe(), Missing)
        assert time.monotonic() - started < HANGS
    finally:
        lab.ganesha.send(signal.SIGCONT)
    assert seen(lab.server).drift == ()


_VICTIM = """
import random, sys
from pathlib import Path
from labstore.exports.backends.ganesha import NfsGanesha
from labstore.model.exports import Export, ExportOptions, ExportTable, Fsid
from labstore.system.clock import SystemClock
from labstore.system.ganesha import Ganesha
store, bus, root, seed, number = sys.argv[1:]
dice, number = random.Random(int(seed)), int(number)
server = NfsGanesha(Path(store), Ganesha(SystemClock(), Path(bus)), SystemClock())
while True:
    names = dice.sample(["a", "b", "c", "d", "e"], dice.randint(1, 5))
    table = ExportTable(tuple(
        Export.of(name, f"{root}/{name}", {f"127.77.{dice.randint(0, 1)}.{dice.randint(1, 9)}" for _ in range(4)},
                  ExportOptions(fsid=Fsid(str(dice.randint(1, 2)))))
        for name in names))
    number += 1
    print(number, table.digest, flush=True)
    server.apply(table, number)
"""


def test_killed_for_real_at_random_moments_it_converges_every_time(lab: GaneshaLab) -> None:
    for name in "abcde":
        share(lab, name)
    dice = random.Random(20)
    number = 0
    for round_ in range(12):
        arguments = [str(lab.store), str(lab.ganesha.bus), str(lab.root), str(round_), str(number)]
        victim = subprocess.Popen([sys.executable, "-c", _VICTIM, *arguments], stdout=subprocess.PIPE, text=True)
        assert victim.stdout is not None
        begun = [victim.stdout.readline().split()]
        time.sleep(dice.uniform(0.0, 0.12))
        victim.kill()
        begun += [line.split() for line in victim.stdout.read().splitlines() if len(line.split()) == 2]
        victim.wait()
        digests = {int(words[0]): words[1] for words in begun}
        found = seen(lab.fresh())
        if found.generation is not None and found.generation in digests:
            assert found.stored.digest == digests[found.generation]
        lab.fresh().apply(found.stored, found.generation or 0)
        assert lab.served() == found.stored
        for export in found.stored:
            assert lab.admitted(export.path) == frozenset(export.clients)
        number = max(digests) + 1
        left = {entry.name for entry in lab.store.iterdir()} - {"current", "export-ids", "nothing"}
        assert left - {CHANGE} <= {f"generation-{found.generation}"}


# --- rights ---------------------------------------------------------------------------------------------------------

_AS_ON_A_SYSTEM = """<policy context="default">
    <allow user="*"/>
    <deny own="*"/>
    <deny send_type="method_call"/>
    <allow send_requested_reply="true" send_type="method_return"/>
    <allow send_requested_reply="true" send_type="error"/>
    <allow receive_sender="*"/>
    <allow send_destination="org.freedesktop.DBus" send_interface="org.freedesktop.DBus"/>
  </policy>
  <include>/etc/dbus-1/system.d/nfs-ganesha-dbus.conf</include>
  <include>{ours}</include>"""
_UNPRIVILEGED = """
import os, sys
from pathlib import Path
from jeepney import DBusAddress
from labstore.system.clock import SystemClock
from labstore.system.dbus import Bus, CallFailed
from labstore.system.ganesha import NAME, Ganesha, GaneshaFailed
bus = Path(sys.argv[1])
os.setgroups([])
os.setgid(65534)
os.setuid(65534)
with Ganesha(SystemClock(), bus).connect() as session:
    print(len(session.listed()), session.in_grace())
try:
    Bus(bus, 5.0).call(DBusAddress("/org/ganesha/nfsd/admin", bus_name=NAME, interface=f"{NAME}.admin"), "shutdown")
    print("shut down")
except CallFailed as failed:
    print(failed.name.rpartition(".")[2])
"""


def test_with_the_shipped_bus_policy_a_daemon_without_root_may_do_what_it_must_and_no_more(tmp_path: Path) -> None:
    need_ganesha()
    shipped = (Path(__file__).parents[2] / "packaging" / "dbus" / "labstore-ganesha.conf").read_text()
    ours = tmp_path / "policy.conf"
    ours.write_text(shipped.replace('user="labstore"', 'user="nobody"'))
    with running_ganesha(tmp_path, policy=_AS_ON_A_SYSTEM.format(ours=ours)) as lab:
        lab.server.apply(ExportTable((share(lab, "tools", ONE),)), 1)
        for directory in lab.ganesha.bus.parents:
            if directory.stat().st_uid == 0 and directory != Path("/") and not directory.stat().st_mode & 0o001:
                directory.chmod(0o711)
        lab.ganesha.bus.chmod(0o777)
        argv = [sys.executable, "-c", _UNPRIVILEGED, str(lab.ganesha.bus)]
        done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=20)
        assert (done.stdout.split("\n"), done.stderr) == (["2 False", "AccessDenied", ""], "")


# --- size ------------------------------------------------------------------------------------------------------------


def test_a_thousand_exports(lab: GaneshaLab) -> None:
    exports = []
    for number in range(1000):
        (lab.root / f"p{number}").mkdir(parents=True)
        clients = [f"10.{number >> 8}.{number & 255}.{k}" for k in range(1, 10)] + [ONE]
        exports.append(Export.of(f"p{number}", f"{lab.root}/p{number}", clients))
    table = ExportTable(tuple(exports))
    took: dict[str, float] = {}

    def timed(what: str, start: float) -> None:
        took[what] = time.monotonic() - start

    start = time.monotonic()
    lab.server.apply(table, 1)
    timed("first apply", start)
    start = time.monotonic()
    assert lab.server.apply(table, 2) == 0
    timed("nothing to do", start)
    changed = table.replacing({exports[7].path: Export.of("p7", exports[7].path, [TWO])})
    start = time.monotonic()
    assert lab.server.apply(changed, 2) == 2
    timed("one changed", start)
    assert lab.instance(TWO).may_mount(exports[7].path)
    start = time.monotonic()
    lab.restart_server()
    timed("restart", start)
    assert lab.served() == changed
    assert lab.instance(ONE).may_mount(exports[999].path)
    print({what: round(seconds, 3) for what, seconds in took.items()})
    assert took["first apply"] < 15
    assert took["one changed"] < 5
    assert took["restart"] < 20


def test_a_thousand_clients_of_one_export(lab: GaneshaLab) -> None:
    clients = [f"10.0.{k >> 8}.{k & 255}" for k in range(1000)]
    tools = share(lab, "tools", ONE, *clients)
    lab.server.apply(ExportTable((tools,)), 1)
    assert lab.served() == ExportTable((tools,))
    lab.restart_server()
    assert lab.instance(ONE).may_mount(tools.path)
    assert len(lab.admitted(tools.path)) == 1001
