"""A way on which everything is late: `LISTEN HOST PORT SECONDS`. What comes in goes out half of the seconds later, in
either direction, as fast as it came; the kernel of a machine that has netem does the same."""

from __future__ import annotations

import asyncio
import contextlib
import sys

_MOST = 256
"""Pieces that may be under way in one direction: far more than a link of 100 Mbit/s carries in its delay."""


async def carry(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, seconds: float) -> None:
    loop = asyncio.get_running_loop()
    under_way: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_MOST)

    async def arrive() -> None:
        while True:
            at, data = await under_way.get()
            await asyncio.sleep(max(0.0, at - loop.time()))
            if not data:
                return
            writer.write(data)
            await writer.drain()

    arriving = asyncio.create_task(arrive())
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            await under_way.put((loop.time() + seconds, data))
    await under_way.put((loop.time() + seconds, b""))
    with contextlib.suppress(OSError):
        await arriving
    writer.close()


async def main(listen: int, host: str, port: int, seconds: float) -> None:
    async def meet(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        far_reader, far_writer = await asyncio.open_connection(host, port)
        await asyncio.gather(carry(reader, far_writer, seconds / 2), carry(far_reader, writer, seconds / 2))

    server = await asyncio.start_server(meet, "127.0.0.1", listen)
    print("ready", flush=True)
    async with server:
        await server.serve_forever()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(main(int(sys.argv[1]), sys.argv[2], int(sys.argv[3]), float(sys.argv[4])))
