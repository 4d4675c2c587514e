"""The files that follow from the site file: none of the original's contradictions (upstream 1.10), and nothing that
starts by itself where it must not."""

from __future__ import annotations

import configparser
from dataclasses import replace
from pathlib import Path

import pytest

from labstore.failover.desired import Here, desired_files, serving_mark, units_mark
from labstore.failover.files import SystemFiles
from labstore.model.failover import Fencing, Pair, UnitName, WriteProtocol
from tests.support.small_pair import ALPHA, BETA, REPLICATION, UNIT, pair

HERE = Here("/usr/bin/labstore", secret="a-secret-of-16-signs")
RESOURCES = ("/etc/drbd.d/state.res", "/etc/drbd.d/tools.res")


def files(about: Pair | None = None, here: Here = HERE) -> dict[str, str]:
    return {path: wanted.content for path, wanted in desired_files(about or pair(), here).items()}


def with_replication(**changes: object) -> Pair:

    return pair(replication=replace(REPLICATION, **changes))  # type: ignore[arg-type]


def test_both_nodes_get_the_same_files() -> None:
    """Whatever differs would show as drift, and a resource file is one for both."""
    assert files(pair(ALPHA)) == files(pair(BETA))


@pytest.mark.parametrize("path", RESOURCES)
def test_what_is_acknowledged_is_on_both_disks(path: str) -> None:
    """upstream 1.10: protocol B, no-md-flushes."""
    text = files()[path]
    assert "protocol C;" in text
    assert "no-md-flushes" not in text and "no-disk-flushes" not in text


def test_another_protocol_is_a_person_s_choice() -> None:
    assert "protocol B;" in files(with_replication(protocol=WriteProtocol.B))[RESOURCES[0]]


@pytest.mark.parametrize("path", RESOURCES)
def test_peers_prove_themselves_with_a_secret_or_not_at_all(path: str) -> None:
    """upstream 1.10: an HMAC without a secret."""
    with_secret, without = files()[path], files(here=Here("/usr/bin/labstore"))[path]
    assert "cram-hmac-alg" in with_secret and "shared-secret" in with_secret
    assert "cram-hmac-alg" not in without and "shared-secret" not in without


@pytest.mark.parametrize("path", RESOURCES)
@pytest.mark.parametrize("fencing", Fencing)
def test_fencing_has_a_handler_that_is_there(path: str, fencing: Fencing) -> None:
    """upstream 1.10: a fencing policy without a handler can never promote alone."""
    text = files(with_replication(fencing=fencing))[path]
    handler = "/usr/bin/labstore failover fence-peer --cluster primary"
    assert (handler in text) == (fencing is not Fencing.DONT_CARE)
    assert f"fencing {fencing.value};" in text


@pytest.mark.parametrize("path", RESOURCES)
def test_no_written_side_is_ever_given_up_by_itself(path: str) -> None:
    """upstream 1.10: discard-secondary."""
    text = files()[path]
    assert "after-sb-0pri discard-zero-changes;" in text
    assert "after-sb-1pri disconnect;" in text and "after-sb-2pri disconnect;" in text
    assert "discard-secondary" not in text and "reboot" not in text


@pytest.mark.parametrize("path", RESOURCES)
def test_peers_are_addresses_and_never_names(path: str) -> None:
    """44a8d4b2b07: DNS stays out of replication."""
    text = files()[path]
    assert "ipv4 10.78.0.11:779" in text and "ipv4 10.78.0.12:779" in text


def test_a_resource_file_is_root_s_alone_since_it_has_the_secret() -> None:
    wanted = desired_files(pair(), HERE)
    assert {wanted[path].mode for path in RESOURCES} == {0o600}


# --- who may start ---------------------------------------------------------------------------------------------------


def unit(text: str) -> configparser.RawConfigParser:
    parser = configparser.RawConfigParser(strict=False, interpolation=None)
    parser.optionxform = str  # type: ignore[assignment,method-assign]
    parser.read_string("\n".join(line for line in text.splitlines() if not line.startswith("#")))
    return parser


def test_no_boot_starts_the_nfs_server_on_its_own() -> None:
    """upstream #13: it would serve an empty table."""
    parser = unit(files()["/etc/systemd/system/nfs-server.service.d/labstore.conf"])
    assert parser["Unit"]["ConditionPathExists"] == serving_mark(pair(), HERE)
    assert "hostname nfs-tools && exec /usr/sbin/rpc.nfsd" in parser["Service"]["ExecStart"]


def test_nfsdcld_never_starts_beside_its_volume() -> None:
    parser = unit(files()["/etc/systemd/system/nfsdcld.service.d/labstore.conf"])
    assert parser["Unit"]["ConditionPathIsDirectory"] == str(pair().recovery_directory)
    assert str(pair().recovery_directory).startswith("/srv/state/")


@pytest.mark.parametrize("units", [(UNIT,), (UNIT, UnitName("labstore-web.service"))])
def test_what_runs_on_the_active_node_alone_is_told_so_by_what_is_seen(units: tuple[UnitName, ...]) -> None:
    """A mark that `up` makes after the mounts and `down` removes first; no file says which node it is."""
    found = files(pair(units=units))
    for each in units:
        parser = unit(found[f"/etc/systemd/system/{each}.d/labstore-failover.conf"])
        assert parser["Unit"]["ConditionPathExists"] == units_mark(pair(), HERE)
        assert parser["Service"]["ReadWritePaths"] == "-/srv/state/.labstore"
    assert not any(str(ALPHA) in text or str(BETA) in text for path, text in found.items() if "systemd" in path)


def test_version_3_stays_off() -> None:
    """Its locks live on one node and do not survive a move."""
    text = files()["/etc/nfs.conf.d/labstore.conf"]
    assert {"vers3=n", "threads=8", f"storagedir={pair().recovery_directory}"} <= set(text.splitlines())


# --- on disk ---------------------------------------------------------------------------------------------------------


@pytest.fixture
def system(tmp_path: Path) -> SystemFiles:
    (tmp_path / "etc/labstore").mkdir(parents=True)
    (tmp_path / "etc/labstore/drbd.secret").write_text("a-secret-of-16-signs\n")
    return SystemFiles(pair(), "/usr/bin/labstore", root=tmp_path)


def test_what_is_missing_or_differs_is_said_and_written_once(system: SystemFiles) -> None:
    assert all("is missing" in words for words in system.differences())
    written = system.write()
    assert len(written) == len(system.wanted()) and system.differences() == ()
    assert system.write() == ()
    (system.root / "etc/nfs.conf.d/labstore.conf").write_text("[nfsd]\n")
    assert len(system.differences()) == 1


def test_a_resource_file_is_compared_by_what_it_says(system: SystemFiles) -> None:
    system.write()
    path = system.root / "etc/drbd.d/tools.res"
    path.write_text("# by hand\n" + path.read_text().replace("    ", "\t"))
    assert system.differences() == ()
    path.write_text(path.read_text().replace("protocol C", "protocol A"))
    (words,) = system.differences()
    assert "tools.res" in words and "protocol" in words


@pytest.mark.parametrize("secret", ["short", "x" * 64, 'with "quotes" inside it', "with\\backslashes-inside", "\n"])
def test_a_secret_that_drbd_would_not_take_is_refused(system: SystemFiles, secret: str) -> None:
    (system.root / "etc/labstore/drbd.secret").write_text(secret)
    with pytest.raises(ValueError, match="one line of 16 to 63"):
        system.wanted()


def test_a_handler_that_is_not_there_is_told(system: SystemFiles, tmp_path: Path) -> None:
    (tmp_path / "labstore").touch()
    assert SystemFiles(pair(), str(tmp_path / "gone")).handler_missing() == str(tmp_path / "gone")
    assert SystemFiles(pair(), str(tmp_path / "labstore")).handler_missing() is None
