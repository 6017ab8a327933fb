"""A Python end in a guest; in dom0 vchan-socket-proxy, and a Unix socket at its other side: for
test_vchan_libxenvchan.py.

The proxy as client connects once somebody connects to its socket; the rings are the guest's. As
server it connects to a socket once a client has come; its rings are of 1 and 2 KiB, and nothing
makes them larger. So 8 MiB go around the one 8,192 times, each time with an event for the proxy,
which always sleeps in between; 64 MiB through the rings of a guest's server, 256 times.

Of a client that closes, the proxy throws away what it has not read yet. Hence the guest waits until
dom0 has all of it.
"""

from __future__ import annotations

import asyncio
import os
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress
from functools import partial
from socket import AF_UNIX

from anyio import EndOfStream
from much import MUCH, exchange
from patience import patience

from activations import Domain, Scenario, vchan
from activations.vchan import VchanStream

PROXY = "/usr/lib/xen-4.17/bin/vchan-socket-proxy"
SOCKET = f"/run/vchan-proxy-{os.getpid()}"
KEY = "data/proxy"
HEARD = "data/proxy-heard"
RING = 1 << 18
PATIENCE = patience(200)
"""Seconds. The proxy as server needs 6 of them where two processors do nothing else, and many
times as many where they do: then one emulated processor waits for the other."""
SILENCE = 60
"""Seconds in which something has to come, anyhow."""
PAUSE = 0.02
"""Seconds between two looks at the proxy's socket. To be woken for every KiB of it would take the
processor that the proxy needs, dom0's only one."""

LESS = 1 << 20
"""Bytes each way, in the short form."""
AROUND = 1 << 23
"""And through rings of 1 and 2 KiB, in the long one."""


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


class Plug:
    """A connection with the proxy."""

    def __init__(self, connected: socket.socket) -> None:
        connected.setblocking(False)
        self._socket = connected
        self._loop = asyncio.get_running_loop()

    async def send(self, data: bytes) -> None:
        await self._loop.sock_sendall(self._socket, data)

    async def receive(self) -> bytes:
        await asyncio.sleep(PAUSE)
        async with asyncio.timeout(SILENCE):
            return await self._loop.sock_recv(self._socket, 1 << 18)

    def __enter__(self) -> Plug:
        return self

    def __exit__(self, *exc: object) -> None:
        self._socket.close()


async def connection() -> Plug:
    """To the proxy's socket, once it listens."""
    while True:
        connecting = socket.socket(AF_UNIX)
        with suppress(OSError):
            connecting.connect(SOCKET)
            return Plug(connecting)
        connecting.close()
        await asyncio.sleep(0.01)


async def exchange_with(plug: Plug, size: int) -> dict[str, str]:
    return await exchange(2, plug.send, plug.receive, size)


async def exchange_by(stream: VchanStream, size: int) -> dict[str, str]:
    return await exchange(1, stream.send, stream.receive, size)


Half = Callable[[Domain, int], Awaitable[dict[str, str]]]


def through(name: str, dom0: Half, guest: Half, size: int) -> Scenario:
    scenario = Scenario(name)
    scenario.domain("dom0")(partial(dom0, size=size))
    scenario.domain("guest")(partial(guest, size=size))
    return scenario


# The proxy as client


async def connects_to_the_proxy(xen: Domain, size: int) -> dict[str, str]:
    """Closes from this side, which the proxy passes on."""
    home = f"/local/domain/{await xen.find('guest')}"
    async with asyncio.timeout(PATIENCE):
        await xen.store.wait_for(f"{home}/{KEY}/event-channel")
        async with proxy("client", await xen.find("guest")):
            with await connection() as plug:
                sums = await exchange_with(plug, size)
            await xen.store.wait_for(f"{home}/{KEY}/over")
    return sums


async def serves_the_proxy(xen: Domain, size: int) -> dict[str, str]:
    async with asyncio.timeout(PATIENCE):
        async with vchan.listen(xen, 0, KEY, left=RING, right=RING) as listener:
            stream = await listener.accept()
        async with stream:
            sums = await exchange_by(stream, size)
            try:
                assert not await stream.receive(), "nothing more was sent"
            except EndOfStream:
                await xen.store.write(f"{KEY}/over", 1)
    return sums


client = through("through_a_client", connects_to_the_proxy, serves_the_proxy, LESS)
client_long = through("long: through_a_client", connects_to_the_proxy, serves_the_proxy, MUCH)


# The proxy as server


async def is_connected_to(xen: Domain, size: int) -> dict[str, str]:
    guest = await xen.find("guest")
    await xen.store.write("/local/domain/0/domid", 0)  # where libxenvchan looks
    async with asyncio.timeout(PATIENCE):
        with socket.socket(AF_UNIX) as listening:
            listening.bind(SOCKET)
            listening.listen()
            listening.setblocking(False)
            async with proxy("server", guest):
                with Plug((await xen.loop.sock_accept(listening))[0]) as plug:
                    sums = await exchange_with(plug, size)
                    await xen.store.write(f"/local/domain/{guest}/{HEARD}", 1)
                    assert await plug.receive() == b"", "the guest has closed, and all had come"
    return sums


async def calls_the_proxy(xen: Domain, size: int) -> dict[str, str]:
    """Closes from this side, which the proxy passes on."""
    async with asyncio.timeout(PATIENCE), await vchan.connect(xen, 0, KEY) as stream:
        sums = await exchange_by(stream, size)
        await xen.store.wait_for(HEARD)
    return sums


server = through("through_a_server", is_connected_to, calls_the_proxy, LESS)
server_long = through("long: through_a_server", is_connected_to, calls_the_proxy, AROUND)
