"""A real slapd on loopback, with the shape of the original's directory."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time
import uuid
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from labstore.demo.child import freeze
from labstore.model.dbusers_settings import LdapSettings, Tls
from labstore.model.secret import Secret
from tests.support.mariadb import free_port, scratch

SERVER = "/usr/sbin/slapd"
BASE = "dc=wikimedia,dc=org"
ADMIN, READER, PASSWORD = f"cn=admin,{BASE}", f"cn=proxyagent,ou=profile,{BASE}", "a-test-directory"
TOOLS = f"ou=people,ou=servicegroups,{BASE}"
PEOPLE = f"ou=people,{BASE}"
GROUP = f"cn=project-tools,ou=groups,{BASE}"
_CONF = """
include /etc/ldap/schema/core.schema
include /etc/ldap/schema/cosine.schema
include /etc/ldap/schema/nis.schema
include /etc/ldap/schema/inetorgperson.schema
modulepath /usr/lib/ldap
moduleload back_mdb
moduleload syncprov
moduleload ppolicy
pidfile {directory}/slapd.pid
sizelimit {sizelimit}
{tls}
access to * by dn.exact="{reader}" read by anonymous auth by * none
database mdb
maxsize 268435456
suffix "{base}"
rootdn "{admin}"
rootpw {password}
directory {directory}/data
dbnosync
index objectClass,uid,cn,entryUUID,entryCSN eq
limits dn.exact="{reader}" size={sizelimit} size.prtotal={prtotal}
overlay syncprov
overlay ppolicy
"""


def need_slapd() -> None:
    if not Path(SERVER).exists() or shutil.which("openssl") is None:
        pytest.skip("slapd is not installed (slapd, openssl)")


def certificate(directory: Path) -> tuple[Path, Path]:
    """A certificate for 127.0.0.1 that is its own authority, and its key."""
    cert, key = directory / "server.pem", directory / "server.key"
    if cert.exists():
        return cert, key
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=IP:127.0.0.1,DNS:localhost"),
            *("-keyout", str(key), "-out", str(cert)),
        ],
        check=True,
        capture_output=True,
    )
    key.chmod(0o644)
    return cert, key


@dataclass
class Slapd:
    """One server. `sizelimit` is what it gives without pages."""

    directory: Path
    tls: bool = False
    sizelimit: int = 500
    prtotal: str = "unlimited"
    port: int = field(default_factory=free_port)
    _process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"ldap://127.0.0.1:{self.port}"

    @property
    def ca(self) -> Path:
        return self.directory.parent / "server.pem"

    def settings(self, *others: Slapd, **changes: object) -> LdapSettings:
        made: dict[str, object] = {
            "bind_dn": READER,
            "password": Secret(PASSWORD),
            "tls": Tls.VERIFY if self.tls else Tls.OFF,
            "ca_file": self.ca if self.tls else None,
            "connect_deadline": 1.0,
            "deadline": 5.0,
            "doorbell": False,
        }
        return LdapSettings((self.url, *(other.url for other in others)), **(made | changes))  # type: ignore[arg-type]

    def make(self) -> None:
        (self.directory / "data").mkdir(parents=True)
        tls = ""
        if self.tls:
            cert, key = certificate(self.directory.parent)
            tls = f"TLSCertificateFile {cert}\nTLSCertificateKeyFile {key}"
        self.configure(tls)
        self.load(
            f"dn: {BASE}\nobjectClass: dcObject\nobjectClass: organization\ndc: wikimedia\no: test\n",
            *(f"dn: ou={ou},{BASE}\nobjectClass: organizationalUnit\nou: {ou}\n" for ou in ("people", "groups")),
            *(f"dn: ou={ou},{BASE}\nobjectClass: organizationalUnit\nou: {ou}\n" for ou in ("profile", "ppolicies")),
            f"dn: ou=servicegroups,{BASE}\nobjectClass: organizationalUnit\nou: servicegroups\n",
            f"dn: {TOOLS}\nobjectClass: organizationalUnit\nou: people\n",
            f"dn: {READER}\nobjectClass: applicationProcess\nobjectClass: simpleSecurityObject\ncn: proxyagent\n"
            f"userPassword: {PASSWORD}\n",
        )

    def configure(self, tls: str = "") -> None:
        text = _CONF.format(
            directory=self.directory,
            tls=tls,
            base=BASE,
            admin=ADMIN,
            reader=READER,
            password=PASSWORD,
            sizelimit=self.sizelimit,
            prtotal=self.prtotal,
        )
        (self.directory / "slapd.conf").write_text(text)

    def load(self, *ldif: str) -> None:
        """Add entries while the server is down."""
        subprocess.run(
            ["/usr/sbin/slapadd", "-q", "-f", str(self.directory / "slapd.conf")],
            input="\n".join(ldif).encode(),
            check=True,
            capture_output=True,
        )

    def start(self) -> None:
        scheme = f"ldap://127.0.0.1:{self.port}"
        self._process = subprocess.Popen(
            [SERVER, "-d", "0", "-h", scheme, "-f", str(self.directory / "slapd.conf")],
            stdin=subprocess.DEVNULL,
            stdout=(self.directory / "log").open("ab"),
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        ends = time.monotonic() + 20
        while not self._answers():
            assert time.monotonic() < ends and self._process.poll() is None, (self.directory / "log").read_text()
            time.sleep(0.03)

    def _answers(self) -> bool:
        asked = subprocess.run(
            ["ldapsearch", "-x", "-H", self.url, "-b", BASE, "-s", "base", "-D", ADMIN, "-w", PASSWORD],
            capture_output=True,
            check=False,
        )
        return asked.returncode == 0

    def modify(self, *ldif: str) -> None:
        """Change entries of the running server, as administrator: LDIF with change types."""
        subprocess.run(
            ["ldapmodify", "-x", "-H", self.url, "-D", ADMIN, "-w", PASSWORD],
            input="\n".join(ldif).encode(),
            check=True,
            capture_output=True,
            env={**os.environ, "LDAPTLS_REQCERT": "never"},
        )

    def add(self, *ldif: str) -> None:
        # the server gives running additions their identity itself
        bare = (re.sub(r"entryUUID: .*\n", "", entry) for entry in ldif)
        self.modify(*(entry.replace("\n", "\nchangetype: add\n", 1) for entry in bare))

    def remove(self, dn: str) -> None:
        self.modify(f"dn: {dn}\nchangetype: delete\n")

    def lock(self, dn: str) -> None:
        self.modify(f"dn: {dn}\nchangetype: modify\nadd: pwdAccountLockedTime\npwdAccountLockedTime: 000001010000Z\n")

    def unlock(self, dn: str) -> None:
        self.modify(f"dn: {dn}\nchangetype: modify\ndelete: pwdAccountLockedTime\n")

    def stop(self) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(signal.SIGCONT)
            self._process.kill()
            self._process.wait(10)

    def freeze(self) -> None:
        assert self._process is not None
        freeze(self._process.pid)

    def thaw(self) -> None:
        assert self._process is not None
        self._process.send_signal(signal.SIGCONT)


def tool(name: str, uid: int) -> str:
    """A tool's entry."""
    return (
        f"dn: uid=tools.{name},{TOOLS}\nobjectClass: person\nobjectClass: posixAccount\nobjectClass: inetOrgPerson\n"
        f"cn: tools.{name}\nsn: tools.{name}\nuid: tools.{name}\nuidNumber: {uid}\ngidNumber: {uid}\n"
        f"homeDirectory: /data/project/{name}\nentryUUID: {_uuid(name, uid)}\n"
    )


def person(name: str, uid: int) -> str:
    return (
        f"dn: uid={name},{PEOPLE}\nobjectClass: person\nobjectClass: posixAccount\nobjectClass: inetOrgPerson\n"
        f"cn: {name.title()}\nsn: {name}\nuid: {name}\nuidNumber: {uid}\ngidNumber: 500\nhomeDirectory: /home/{name}\n"
        f"entryUUID: {_uuid(name, uid)}\n"
    )


def _uuid(name: str, uid: int) -> uuid.UUID:
    """The same on every server, as replication has it."""
    return uuid.uuid5(uuid.NAMESPACE_DNS, f"{name}-{uid}")


def group(names: Iterable[str]) -> str:
    members = "".join(f"member: uid={name},{PEOPLE}\n" for name in names)
    return f"dn: {GROUP}\nobjectClass: groupOfNames\ncn: project-tools\n{members}"


@contextlib.contextmanager
def running(count: int = 1, tls: bool = False, ldif: Iterable[str] = (), **options: object) -> Iterator[list[Slapd]]:
    """So many servers with the same entries (each with its own entryUUIDs unless the LDIF says)."""
    need_slapd()
    entries = list(ldif)
    with scratch("slapd") as directory:
        servers = [Slapd(directory / str(number), tls, **options) for number in range(count)]  # type: ignore[arg-type]
        try:
            for server in servers:
                server.make()
                if entries:
                    server.load(*entries)
                server.start()
            yield servers
        finally:
            for server in servers:
                server.stop()
