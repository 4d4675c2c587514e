"""A private NFS-Ganesha on loopback, with a message bus of its own: nothing outside its directory is touched.

(One exception: where rpcbind runs, Debian's Ganesha registers NFSv4 there and takes it back when it ends; NFSv4 clients
never ask.)
"""

from __future__ import annotations

import contextlib
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

from labstore.demo.child import Child, ChildFailed
from labstore.system.dbus import Bus, BusFailed
from labstore.system.ganesha import NAME

LONGEST_SOCKET = 107
"""Characters of a Unix socket's path (unix(7))."""
START_DEADLINE = 60.0

_BUS = """<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-BUS Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path={socket}</listen>
  <auth>EXTERNAL</auth>
  {policy}
</busconfig>
"""
ROOT_ALONE = f"""<policy context="default">
    <allow user="root"/>
    <allow own="{NAME}"/>
    <allow send_destination="*"/>
    <allow receive_sender="*"/>
  </policy>"""
# allow_set_io_flusher_fail: from 5 on the server ends where it may not set that flag (prctl(2), PR_SET_IO_FLUSHER); 4.3
# does not know the word and says so in its log.
_CONFIG = """NFS_CORE_PARAM {{
    NFS_Port = {port};
    Bind_addr = {address};
    Protocols = 4;
    Enable_NLM = false;
    Enable_RQUOTA = false;
    Enable_UDP = false;
    mount_path_pseudo = true;
    allow_set_io_flusher_fail = true;
}}
NFSV4 {{
    Graceless = {graceless};
    Grace_Period = {grace};
    RecoveryBackend = fs;
    RecoveryRoot = "{directory}/recovery";
    UseGetpwnam = true;
    Only_Numeric_Owners = true;
}}
NFS_KRB5 {{ Active_krb5 = false; }}
LOG {{ Default_Log_Level = EVENT; }}
{rest}%include "{exports}"
"""


class PrivateGanesha:
    """A server whose exports are in the file `exports` (which must be there before `start`: a missing file stops it).

    `directory` is its own and must have a short path (the bus's socket is in it). `grace` in seconds, 0 for none: after
    a restart clients that held locks can reclaim them for so long, and everybody else waits. `rest` is added to the
    configuration. `policy` is the bus's: who may say what to whom.
    """

    def __init__(
        self,
        directory: Path,
        exports: Path,
        port: int | None = None,
        grace: int = 0,
        rest: str = "",
        policy: str = ROOT_ALONE,
    ) -> None:
        self.directory, self.exports = directory, exports
        self.bus = directory / "bus"
        if len(str(self.bus)) > LONGEST_SOCKET:
            raise ValueError(f"{self.bus} is too long for a socket")
        self.port = port or free_port()
        self.grace, self.rest, self.policy = grace, rest, policy
        self._bus: Child | None = None
        self._server: Child | None = None

    @property
    def log(self) -> Path:
        return self.directory / "ganesha.log"

    @property
    def pid(self) -> int:
        """The running server's process id. Raises ChildFailed where it does not run."""
        if self._server is None:
            raise ChildFailed("ganesha.nfsd", "does not run")
        return self._server.pid

    @property
    def running(self) -> bool:
        return self._server is not None and self._server.running

    def start_bus(self) -> None:
        """Start the message bus alone: exports can be prepared then, for a server that is not running yet."""
        if self._bus is not None and self._bus.running:
            return
        (self.directory / "recovery").mkdir(parents=True, exist_ok=True)
        self.bus.unlink(missing_ok=True)
        config = self.directory / "bus.conf"
        config.write_text(_BUS.format(socket=self.bus, policy=self.policy))
        argv = ["dbus-daemon", f"--config-file={config}", "--nofork", "--nopidfile"]
        self._bus = Child(argv, self.directory / "bus.log")
        self._bus.wait_until(self._bus_answers, 10.0)

    def start(self, deadline: float = START_DEADLINE) -> float:
        """Start it; returns the seconds until it answered on its port and on the bus. Raises ChildFailed."""
        self.start_bus()
        config = self.directory / "ganesha.conf"
        config.write_text(
            _CONFIG.format(
                port=self.port,
                address="127.0.0.1",
                graceless="false" if self.grace else "true",
                grace=self.grace or 10,
                directory=self.directory,
                exports=self.exports,
                rest=self.rest + "\n" if self.rest else "",
            )
        )
        argv = ["ganesha.nfsd", "-F", "-f", str(config), "-L", str(self.log), "-p", str(self.directory / "pid")]
        env = {"DBUS_SYSTEM_BUS_ADDRESS": f"unix:path={self.bus}"}
        self._server = Child([*argv, "-N", "NIV_EVENT"], self.directory / "ganesha.out", env)
        self._server.log = self.log
        try:
            return self._server.wait_until(self._answers, deadline)
        except ChildFailed:
            self._server.stop()
            raise

    def stop(self) -> None:
        """End the server as an administrator would; the bus stays."""
        if self._server is not None:
            self._server.stop()

    def send(self, number: signal.Signals) -> None:
        """Send the server a signal (SIGSTOP: it hangs)."""
        if self._server is not None:
            self._server.send(number)

    def kill(self) -> None:
        """End the server as a crash would; the bus stays."""
        if self._server is not None:
            self._server.kill()

    def close(self) -> None:
        """End everything that was started."""
        self.stop()
        if self._bus is not None:
            self._bus.stop()
        self.bus.unlink(missing_ok=True)

    def __enter__(self) -> PrivateGanesha:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def log_text(self) -> str:
        """Its log, whole; empty where it has not written one."""
        with contextlib.suppress(FileNotFoundError):
            return self.log.read_text("utf-8", "replace")
        return ""

    def _bus_answers(self) -> bool:
        with _connection(self.bus) as bus:
            return bus is not None

    def _answers(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), 1.0).close()
        except OSError:
            return False
        with _connection(self.bus) as bus:
            return bus is not None and bus.has_owner(NAME)


@contextlib.contextmanager
def _connection(path: Path) -> Iterator[Bus | None]:
    try:
        bus = Bus(path, 2.0)
    except BusFailed:
        yield None
        return
    try:
        yield bus
    finally:
        bus.close()


def free_port() -> int:
    """A TCP port on loopback that nobody listens on at this moment."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
