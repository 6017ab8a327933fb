"""Two domains with a vchan between them, on the simulated Xen."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

from anyio import EndOfStream

from activations import Domain, vchan
from activations.vchan import VchanStream
from xen_sim import Machine

KEY = "data/vchan"
PATH = f"/local/domain/1/{KEY}"

Main = Callable[[Domain], Awaitable[Any]]


def run(dom0: Main, guest: Main, **options: Any) -> dict[str, Any]:
    machine = Machine(**options)
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    return machine.run()


async def received(stream: VchanStream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += await stream.receive(size - len(data))
    return bytes(data)


async def to_the_end(stream: VchanStream) -> bytes:
    data = bytearray()
    with suppress(EndOfStream):
        while True:
            data += await stream.receive()
    return bytes(data)


def pair(
    serve: Callable[..., Awaitable[Any]], call: Callable[..., Awaitable[Any]], **options: Any
) -> dict[str, Any]:
    """Run both on the two ends of a vchan with rings of 1 and 2 KiB."""

    async def dom0(xen: Domain) -> Any:
        async with vchan.listen(xen, 1, PATH, left=1024, right=1024) as listener:
            stream = await listener.accept()
        async with stream:
            return await serve(stream)

    async def guest(xen: Domain) -> Any:
        async with await vchan.connect(xen, 0, KEY) as stream:
            return await call(stream)

    return run(dom0, guest, **options)


async def idle(stream: VchanStream) -> bytes:
    return await to_the_end(stream)
