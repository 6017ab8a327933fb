"""A Python end in a guest; in dom0 vchan-socket-proxy, and a Unix socket at its other side: for
tests/test_vchan_libxenvchan.py.

The proxy as client connects once somebody connects to its socket. As server it connects to a
socket once a client has come; its rings are the smallest there are, of 1 and 2 KiB, so that 64 MiB
would take it minutes, and 1 MiB goes through it instead.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from anyio import EndOfStream
from much import MUCH, exchange

from activations import Domain, Scenario, vchan
from activations.vchan import VchanStream

PROXY = "/usr/lib/xen-4.17/bin/vchan-socket-proxy"
SOCKET = f"/run/vchan-proxy-{os.getpid()}"
KEY = "data/proxy"
RING = 1 << 18
LESS = 1 << 20
PATIENCE = 240
Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]

through_a_client = Scenario("through_a_client")
through_a_server = Scenario("through_a_server")


@asynccontextmanager
async def proxy(role: str, guest: int) -> AsyncIterator[None]:
    """The proxy, until it is ended: it would serve one connection after another for ever."""
    path = f"/local/domain/{guest}/{KEY}"
    process = await asyncio.create_subprocess_exec(PROXY, "-m", role, str(guest), path, SOCKET)
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def connection() -> Streams:
    """To the proxy's socket, once it listens."""
    while True:
        with suppress(OSError):
            return await asyncio.open_unix_connection(SOCKET)
        await asyncio.sleep(0.01)


async def exchange_with(streams: Streams, total: int) -> dict[str, str]:
    reader, writer = streams

    async def send(data: bytes) -> None:
        writer.write(data)
        await writer.drain()

    return await exchange(2, send, lambda: reader.read(1 << 16), total)


async def exchange_by(stream: VchanStream, total: int) -> dict[str, str]:
    return await exchange(1, stream.send, stream.receive, total)


@through_a_client.domain("dom0")
async def connects_to_the_proxy(xen: Domain) -> dict[str, str]:
    """Closes from this side, which the proxy passes on."""
    guest = await xen.find("guest")
    async with asyncio.timeout(PATIENCE):
        await xen.store.wait_for(f"/local/domain/{guest}/{KEY}/event-channel")
        async with proxy("client", guest):
            streams = await connection()
            sums = await exchange_with(streams, MUCH)
            streams[1].close()
            await streams[1].wait_closed()
            await xen.store.wait_for(f"/local/domain/{guest}/{KEY}/over")
    return sums


@through_a_client.domain("guest")
async def serves_the_proxy(xen: Domain) -> dict[str, str]:
    async with asyncio.timeout(PATIENCE):
        async with vchan.listen(xen, KEY, 0, left=RING, right=RING) as listener:
            stream = await listener.accept()
        async with stream:
            sums = await exchange_by(stream, MUCH)
            try:
                assert not await stream.receive(), "nothing more was sent"
            except EndOfStream:
                await xen.store.write(f"{KEY}/over", 1)
    return sums


@through_a_server.domain("dom0")
async def is_connected_to(xen: Domain) -> dict[str, str]:
    guest = await xen.find("guest")
    connected: asyncio.Future[Streams] = xen.loop.create_future()
    await xen.store.write("/local/domain/0/domid", 0)  # where libxenvchan looks
    async with asyncio.timeout(PATIENCE):
        server = await asyncio.start_unix_server(
            lambda *streams: connected.set_result(streams), SOCKET
        )
        async with server, proxy("server", guest):
            streams = await connected
            sums = await exchange_with(streams, LESS)
            assert await streams[0].read() == b"", "the guest has closed, and all had come"
            streams[1].close()
    return sums


@through_a_server.domain("guest")
async def calls_the_proxy(xen: Domain) -> dict[str, str]:
    """Closes from this side, which the proxy passes on."""
    async with asyncio.timeout(PATIENCE), await vchan.connect(xen, 0, KEY) as stream:
        return await exchange_by(stream, LESS)
