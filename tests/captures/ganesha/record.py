"""Records what a real NFS-Ganesha answers over D-Bus, raw, into the folder of its version.

    python -m tests.captures.ganesha.record tests/captures/ganesha/4.3

Needs root, nfs-ganesha, nfs-ganesha-vfs and dbus-daemon; starts a server of its own on loopback.
"""

from __future__ import annotations

import json
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jeepney import DBusAddress  # type: ignore[import-untyped]

from labstore.demo.server import PrivateGanesha
from labstore.system.dbus import Bus, CallFailed
from labstore.system.ganesha import NAME

EXPORTS = DBusAddress("/org/ganesha/nfsd/ExportMgr", bus_name=NAME, interface="org.ganesha.nfsd.exportmgr")
FULL = (
    "Access_Type = RW; Squash = Root_Squash; Anonymous_Uid = 65534; Anonymous_Gid = 65534;"
    " SecType = sys; PrivilegedPort = TRUE;"
)


def block(number: int, path: Path, clients: str, terms: str = FULL, extra: str = "") -> str:
    client = f"CLIENT {{ Clients = {clients}; {terms} }}" if clients is not None else ""
    return (
        f'EXPORT {{ Export_Id = {number}; Path = "{path}"; Pseudo = "{path}"; Access_Type = None; {extra}'
        f" FSAL {{ Name = VFS; }} {client} }}\n"
    )


def recordings(bus: Bus, work: Path) -> Iterator[tuple[str, str, str, Any]]:
    """(file name, what was done, the method, its arguments)."""
    a, b, none = work / "a", work / "c", work / "none"
    file = work / "change.conf"

    def handed(text: str) -> tuple[str, str]:
        file.write_text(text)
        return str(file), "EXPORT(Export_Id=*)"

    yield "show-two", "two exports in the configuration", "ShowExports", ()
    yield "display-spelled-out", "all terms in CLIENT; IPv4, IPv6, networks", "DisplayExport", (5,)
    yield "display-inherited", "a CLIENT that leaves everything to EXPORT", "DisplayExport", (6,)
    yield (
        "add-bad-list",
        "a new export, two addresses without a comma",
        "AddExport",
        handed(block(7, b, "10.0.0.1 10.0.0.2")),
    )
    yield "display-empty", "after that", "DisplayExport", (7,)
    yield "remove-empty", "it", "RemoveExport", (7,)
    yield "add", "a new export", "AddExport", handed(block(7, b, "*"))
    yield "display-world", "Clients = *", "DisplayExport", (7,)
    yield (
        "update",
        "other terms",
        "UpdateExport",
        handed(
            block(7, b, "10.0.0.9", FULL.replace("RW", "RO").replace("Root_", "All_").replace("= sys", "= krb5, krb5i"))
        ),
    )
    yield "display-read-only-all-squash-krb5", "after that update", "DisplayExport", (7,)
    yield (
        "update-unknown-word",
        "a parameter that there is not",
        "UpdateExport",
        handed(block(7, b, "10.0.0.9", extra="Foo = 1;")),
    )
    yield "update-bad-list", "two addresses without a comma", "UpdateExport", handed(block(7, b, "10.0.0.1 10.0.0.2"))
    yield "display-after-bad-list", "after that: nobody is admitted any more", "DisplayExport", (7,)
    yield "update-bad-address", "300.1.1.1", "UpdateExport", handed(block(7, b, "300.1.1.1"))
    yield "update-other-path", "Path changed", "UpdateExport", handed(block(7, a, "10.0.0.1"))
    yield "add-again", "an export that is there", "AddExport", handed(block(7, b, "10.0.0.1"))
    yield "add-missing-directory", "a path that is not there", "AddExport", handed(block(8, none, "10.0.0.1"))
    yield "add-without-file", "a file that is not there", "AddExport", (str(none), "EXPORT(Export_Id=*)")
    yield "remove", "an export", "RemoveExport", (7,)
    yield "remove-unknown", "an export that is not there", "RemoveExport", (7,)
    yield "display-unknown", "an export that is not there", "DisplayExport", (7,)


def main(target: Path) -> None:
    work = Path(tempfile.mkdtemp(prefix="ganesha-record-"))
    for name in ("a", "b", "c", "g"):
        (work / name).mkdir()
    exports = work / "exports.conf"
    clients = "127.77.0.5, 10.1.0.0/16, 2001:db8::5, 2001:db8:1::/64"
    exports.write_text(block(5, work / "a", clients) + block(6, work / "b", "10.0.0.1", ""))
    target.mkdir(parents=True, exist_ok=True)
    try:
        with PrivateGanesha(work / "g", exports) as ganesha:
            ganesha.start()
            bus = Bus(ganesha.bus, 10.0)
            for name, did, method, arguments in recordings(bus, work):
                signature = {0: None, 1: "q", 2: "ss"}[len(arguments)]
                record: dict[str, Any] = {"did": did, "method": method, "arguments": arguments}
                try:
                    record["body"] = bus.call(EXPORTS, method, signature, arguments)
                except CallFailed as failed:
                    record["error"], record["said"] = failed.name, failed.said
                text = json.dumps(record, indent=1).replace(str(work), "/srv/lab")
                (target / f"{name}.json").write_text(text + "\n")
            bus.close()
    finally:
        shutil.rmtree(work)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
