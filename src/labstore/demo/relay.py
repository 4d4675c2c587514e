"""Instances on loopback: each has an address of its own in 127.0.0.0/8, from which its connections reach the server.

libnfs cannot choose its source address, so it connects to a relay that can. As a kernel client would, a relay speaks
from a port below 1024 where it may (unless it shall not: `reserved`).
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
import random
import socket
import threading
from collections.abc import Coroutine
from typing import Any

CHUNK = 1 << 16
_RESERVED = range(600, 1024)
"""Ports that a kernel client takes its own from (sunrpc.min_resvport and up)."""
_TAKEN = (errno.EADDRINUSE, errno.EADDRNOTAVAIL, errno.EACCES)
"""A port that is not to be had: taken, taken towards this server, or below 1024 without the right to it."""
_START_DEADLINE = 10.0


class Relays:
    """One thread that carries the connections of any number of instances to the server's port on 127.0.0.1."""

    def __init__(self, server_port: int, reserved: bool = True) -> None:
        self.server_port, self.reserved = server_port, reserved
        self._loop = asyncio.new_event_loop()
        self._ports: dict[str, int] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._thread = threading.Thread(target=self._loop.run_forever, name="relays", daemon=True)
        self._thread.start()

    def port_of(self, address: str) -> int:
        """The port on 127.0.0.1 whose connections reach the server from `address`."""
        if address not in self._ports:
            self._ports[address] = self._run(self._listen(address))
        return self._ports[address]

    def close(self) -> None:
        """End every connection and the thread."""
        if not self._thread.is_alive():
            return
        with contextlib.suppress(TimeoutError):
            self._run(self._shut())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_DEADLINE)
        self._loop.close()

    def __enter__(self) -> Relays:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _run(self, work: Coroutine[Any, Any, Any]) -> Any:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(_START_DEADLINE)

    async def _listen(self, address: str) -> int:
        async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            task = asyncio.current_task()
            assert task is not None
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
            await self._carry(address, reader, writer)

        server = await asyncio.start_server(carry, "127.0.0.1", 0)
        return int(server.sockets[0].getsockname()[1])

    async def _carry(self, address: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.closing(writer):
            try:
                there_reader, there = await self._reach(address)
            except OSError:
                return
            with contextlib.closing(there):
                await asyncio.gather(_pump(reader, there), _pump(there_reader, writer))

    async def _reach(self, address: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Bound is not yet had: another connection of this address may hold the port, which connect(2) says."""
        for port in [*(random.sample(_RESERVED, len(_RESERVED)) if self.reserved else ()), 0]:
            own = socket.socket()
            own.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            own.setblocking(False)
            try:
                own.bind((address, port))
                await asyncio.get_running_loop().sock_connect(own, ("127.0.0.1", self.server_port))
                return await asyncio.open_connection(sock=own)
            except OSError as error:
                own.close()
                if error.errno not in _TAKEN:
                    raise
            except BaseException:
                own.close()
                raise
        raise OSError(errno.EADDRNOTAVAIL, "no port to speak from", address)

    async def _shut(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Pass on until one side ends; then the other side sees the end too."""
    try:
        while data := await reader.read(CHUNK):
            writer.write(data)
            await writer.drain()
    except OSError:
        pass
    finally:
        with contextlib.suppress(OSError):
            writer.close()
