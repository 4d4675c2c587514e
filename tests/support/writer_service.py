"""The credential file service on a free port of loopback, in a thread, with whatever writer a test hands in."""

from __future__ import annotations

import contextlib
import socket
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import uvicorn

from labstore.daemons.writerd import Service, application
from labstore.model.dbusers_settings import (
    DbusersSettings,
    FileDirectorySettings,
    FilesSettings,
    LedgerSettings,
    RemoteFilesSettings,
    WriterSettings,
)
from labstore.model.secret import Secret
from labstore.ports.credential_writer import CredentialWriter
from tests.support.hang import HANGS

PASSWORD = Secret("who may ask")


@dataclass
class Running:
    """`standby` may be set to a reason why this node does not write."""

    writer: CredentialWriter
    files: FilesSettings = FilesSettings()  # noqa: RUF009 - frozen
    standby: str | None = None
    port: int = 0

    def settings(self) -> DbusersSettings:
        return DbusersSettings(
            FileDirectorySettings(Path("people.yaml")),
            LedgerSettings(),
            (),
            self.files,
            writer=WriterSettings("127.0.0.1", self.port, "labstore", PASSWORD),
        )

    @property
    def service(self) -> Service:
        return Service(self.settings, self.writer, lambda: self.standby)

    def client(self, password: Secret = PASSWORD) -> RemoteFilesSettings:
        return RemoteFilesSettings(f"http://127.0.0.1:{self.port}/v1", "labstore", password, deadline=20.0)


@contextlib.contextmanager
def serving(writer: CredentialWriter) -> Iterator[Running]:
    running = Running(writer)
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        running.port = listener.getsockname()[1]
        config = uvicorn.Config(application(running.service), log_level="error", access_log=False)
        server = uvicorn.Server(config)
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]}, daemon=True)
        thread.start()
        ends = time.monotonic() + HANGS
        while not server.started and time.monotonic() < ends:
            time.sleep(0.005)
        try:
            yield running
        finally:
            server.should_exit = True
            thread.join(HANGS)
