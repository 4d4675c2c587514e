"""The files of a node that follow from the site file: DRBD's, nfs-utils', systemd's. Paths are text here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from labstore.formats.drbd_conf import Section, Statement, render, section, statement
from labstore.model.failover import Fencing, Pair, Resource

HEAD = "# Written by labstore from the site file; `labstore failover adjust` writes it again.\n"
BOOT_UNIT = "labstore-failover.service"
SYSTEMD = "/etc/systemd/system"
DRBD_DIRECTORY = "/etc/drbd.d"


@dataclass(frozen=True, slots=True)
class Wanted:
    """A file as it shall be. `drbd` files are compared by what they say, others byte by byte."""

    content: str
    mode: int = 0o644
    drbd: bool = False


@dataclass(frozen=True, slots=True)
class Here:
    """What the files need to know of this node: the command `labstore` by its full path, the directories of this
    room, the shared secret, and whether DRBD is of the 9 series."""

    labstore: str
    run: str = "/run/labstore-failover"
    secret: str | None = None
    nine: bool = False


def desired_files(pair: Pair, here: Here) -> Mapping[str, Wanted]:
    """Path to content, in order of the path."""
    files = {
        f"{DRBD_DIRECTORY}/global_common.conf": Wanted(HEAD + render(_global(pair, here)), 0o644, drbd=True),
        "/etc/nfs.conf.d/labstore.conf": Wanted(_nfs_conf(pair)),
        f"{SYSTEMD}/nfs-server.service.d/labstore.conf": Wanted(_nfs_server(pair, here)),
        f"{SYSTEMD}/nfsdcld.service.d/labstore.conf": Wanted(_nfsdcld(pair)),
        f"{SYSTEMD}/{BOOT_UNIT}": Wanted(_boot_unit(pair, here)),
    }
    for resource in pair.settings.replication.resources:
        text = HEAD + render(Section((), (_resource(pair, resource, here),)))
        files[f"{DRBD_DIRECTORY}/{resource.name}.res"] = Wanted(text, 0o600, drbd=True)
    for unit in pair.settings.units:
        files[f"{SYSTEMD}/{unit}.d/labstore-failover.conf"] = Wanted(_condition(pair, here))
    return dict(sorted(files.items()))


# --- DRBD ------------------------------------------------------------------------------------------------------------


def _global(_pair: Pair, _here: Here) -> Section:
    """Everything that matters stands in the resources: two clusters on one machine may differ."""
    return section(
        parts=(
            section("global", parts=(statement("usage-count", "no"), statement("udev-always-use-vnr"))),
            section("common", parts=()),
        )
    )


def _resource(pair: Pair, resource: Resource, here: Here) -> Section:
    settings = pair.settings.replication
    return section(
        "resource",
        resource.name,
        parts=(
            section("net", parts=_net(pair, here)),
            section("disk", parts=_disk(pair, here)),
            section("handlers", parts=_handlers(pair, here)),
            *(
                section(
                    "on",
                    node.name.partition(".")[0],
                    parts=(
                        *((statement("node-id", number),) if here.nine else ()),
                        section(
                            "volume",
                            "0",
                            parts=(
                                statement("device", str(resource.device), "minor", resource.minor),
                                statement("disk", str(resource.disks[node.name])),
                                statement("meta-disk", "internal"),
                            ),
                        ),
                        _address(settings.addresses[node.name], resource.port),
                    ),
                )
                for number, node in enumerate(pair.cluster.nodes)
            ),
        ),
    )


def _address(address: str, port: int) -> Statement:
    if ":" in address:
        return statement("address", "ipv6", f"[{address}]:{port}")
    return statement("address", "ipv4", f"{address}:{port}")


def _net(pair: Pair, here: Here) -> tuple[Statement, ...]:
    """After a split brain only a side that was never written is given up by itself (`discard-zero-changes`); every
    other choice is a person's. The original let DRBD discard a written secondary."""
    settings = pair.settings.replication
    secret = (
        (statement("cram-hmac-alg", "sha256"), statement("shared-secret", here.secret))
        if here.secret is not None
        else ()
    )
    return (
        statement("protocol", settings.protocol.value),
        *secret,
        statement("verify-alg", settings.verify_alg),
        statement("max-buffers", settings.max_buffers),
        statement("max-epoch-size", settings.max_buffers),
        statement("timeout", round(settings.timeout * 10)),
        statement("ping-int", round(settings.ping_interval)),
        statement("ping-timeout", round(settings.ping_timeout * 10)),
        statement("connect-int", round(settings.ping_interval)),
        statement("after-sb-0pri", "discard-zero-changes"),
        statement("after-sb-1pri", "disconnect"),
        statement("after-sb-2pri", "disconnect"),
        *((statement("fencing", settings.fencing.value),) if here.nine else ()),
    )


def _disk(pair: Pair, here: Here) -> tuple[Statement, ...]:
    """The rate is found by DRBD's controller between these bounds; a fixed rate above what the link carries starved
    everybody (upstream 1.10). Flushes stay on: an acknowledged write is on the disk."""
    settings = pair.settings.replication
    return (
        statement("on-io-error", "detach"),
        *((statement("fencing", settings.fencing.value),) if not here.nine else ()),
        statement("c-plan-ahead", 20),
        statement("c-fill-target", f"{max(50, settings.rates.most // 1024)}k"),
        statement("c-min-rate", f"{settings.rates.least}k"),
        statement("c-max-rate", f"{settings.rates.most}k"),
        statement("resync-rate", f"{max(settings.rates.least, settings.rates.most // 4)}k"),
        statement("al-extents", 1237),
    )


def _handlers(pair: Pair, here: Here) -> tuple[Statement, ...]:
    """Only handlers that are there: a fencing policy without one can never promote alone (upstream 1.10)."""
    settings, found = pair.settings.replication, list[Statement]()
    if settings.fencing is not Fencing.DONT_CARE:
        found.append(statement("fence-peer", f"{here.labstore} failover fence-peer --cluster {pair.cluster.name}"))
    if settings.resync_snapshots:
        found.append(statement("before-resync-target", "/usr/lib/drbd/snapshot-resync-target-lvm.sh -p 15 -- -c 16k"))
        found.append(statement("after-resync-target", "/usr/lib/drbd/unsnapshot-resync-target-lvm.sh"))
    return tuple(found)


# --- NFS and systemd -------------------------------------------------------------------------------------------------


def _nfs_conf(pair: Pair) -> str:
    """Version 3 is off: its locks live in statd on one node and do not survive a move."""
    settings = pair.settings
    return HEAD + "\n".join(
        (
            "[nfsd]",
            f"threads={settings.threads}",
            f"lease-time={settings.lease}",
            f"grace-time={settings.grace}",
            "vers3=n",
            "udp=n",
            "tcp=y",
            "[mountd]",
            f"manage-gids={'y' if settings.manage_gids else 'n'}",
            "[nfsdcld]",
            f"storagedir={pair.recovery_directory}",
            "",
        )
    )


def serving_mark(pair: Pair, here: Here) -> str:
    return f"{here.run}/{pair.cluster.name}.serving"


def units_mark(pair: Pair, here: Here) -> str:
    return f"{here.run}/{pair.cluster.name}.units"


def _nfs_server(pair: Pair, here: Here) -> str:
    """A boot never starts it (upstream #13). The server learns its scope from the host name of whoever starts it:
    nfs-utils 2.6.2 has no setting for that."""
    return HEAD + "\n".join(
        (
            "[Unit]",
            f"ConditionPathExists={serving_mark(pair, here)}",
            "[Service]",
            "ExecStartPre=",
            "ExecStart=",
            f"ExecStart=/usr/bin/unshare --uts /bin/sh -c 'hostname {pair.settings.scope} && exec /usr/sbin/rpc.nfsd'",
            "",
        )
    )


def _nfsdcld(pair: Pair) -> str:
    """Where its directory is not there, the state volume is not mounted, and it must not make one elsewhere."""
    return HEAD + f"[Unit]\nConditionPathIsDirectory={pair.recovery_directory}\n"


def _condition(pair: Pair, here: Here) -> str:
    """It may write where the service keeps its state; a unit that is shut in otherwise may not."""
    return HEAD + "\n".join(
        (
            "[Unit]",
            f"ConditionPathExists={units_mark(pair, here)}",
            "[Service]",
            f"ReadWritePaths=-{pair.state_directory}",
            "",
        )
    )


def _boot_unit(pair: Pair, here: Here) -> str:
    """DRBD at boot, and the service if it is certain that nobody else can have it."""
    return HEAD + "\n".join(
        (
            "[Unit]",
            f"Description=labstore: replication of cluster {pair.cluster.name}, and its service where that is certain",
            "After=network-online.target local-fs.target",
            "Wants=network-online.target",
            "[Service]",
            "Type=exec",
            f"ExecStart={here.labstore} failover boot --cluster {pair.cluster.name}",
            "[Install]",
            "WantedBy=multi-user.target",
            "",
        )
    )
