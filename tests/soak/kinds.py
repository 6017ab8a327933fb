"""The four kinds of device that the soak uses: how each is made, served, and used with every answer
looked at. They know nothing of what is done to them meanwhile."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from random import Random

from activations import Domain, vchan
from activations.drivers import block, console, net
from activations.drivers.block import MemoryDisk
from activations.drivers.net import cable
from activations.store import StoreError
from activations.xenbus import Device, front_device, plug, unplug

from .peers import TYPED, echo

SOON = 1.0
"""Seconds, of virtual time."""

Tick = Callable[[], object]


class Kind(ABC):
    """One kind of device, between a guest and whoever serves it."""

    name: str

    @abstractmethod
    async def make(self, xen: Domain, guest: int) -> None:
        """As a toolstack: have the guest find it. `xen` serves it."""

    @abstractmethod
    async def serve(self, xen: Domain, guest: int) -> None:
        """Serve it until it is gone."""

    @abstractmethod
    async def use(
        self, xen: Domain, random: Random, tick: Tick, *, checked: bool, pause: float
    ) -> None:
        """Use it for ever, with a tick for each answer that was right, and a pause of so many
        seconds after it. Unless `checked`, whoever serves it may answer anything."""

    async def unmake(self, xen: Domain, guest: int) -> None:
        """Take it away, whatever the ends say."""


class OfXenbus(Kind):
    kind: str
    devid: int

    def device(self, xen: Domain, guest: int) -> Device:
        return Device(self.kind, self.devid, guest, xen.domid, served_as=f"soak-{self.kind}")

    def front(self) -> dict[str, str | int]:
        return {}

    async def make(self, xen: Domain, guest: int) -> None:
        await plug(xen, self.device(xen, guest), front=self.front())

    async def unmake(self, xen: Domain, guest: int) -> None:
        await unplug(xen, self.device(xen, guest), within=0.1, force=True)


class Disk(OfXenbus):
    name, kind, devid = "disk", "vbd", 51712
    SECTORS = 64

    async def serve(self, xen: Domain, guest: int) -> None:
        disk = MemoryDisk(self.SECTORS * 512)
        async with block.serve(xen, self.device(xen, guest), disk):
            await asyncio.Event().wait()

    async def use(
        self, xen: Domain, random: Random, tick: Tick, *, checked: bool, pause: float
    ) -> None:
        device = await front_device(xen, self.kind, self.devid)
        async with block.open(xen, device, within=SOON, pages=8, ring_order=0) as disk:
            while True:
                at = random.randrange(self.SECTORS - 8) * 512
                data = random.randbytes(512 * random.randint(1, 8))
                await disk.write(at, data)
                found = await disk.read(at, len(data))
                assert found == data or not checked
                tick()
                await asyncio.sleep(pause)


class Net(OfXenbus):
    name, kind, devid = "net", "vif", 0

    def front(self) -> dict[str, str | int]:
        return {"mac": "00:16:3e:00:00:01"}

    async def serve(self, xen: Domain, guest: int) -> None:
        near, far = cable()
        async with net.serve(xen, self.device(xen, guest), far):
            while True:
                await near.send(await near.receive())

    async def use(
        self, xen: Domain, random: Random, tick: Tick, *, checked: bool, pause: float
    ) -> None:
        device = await front_device(xen, self.kind, self.devid)
        async with net.open(xen, device, within=SOON, pages=32) as nic:
            while True:
                frame = random.randbytes(14 + random.randrange(1400))
                await nic.send(frame)
                async with asyncio.timeout(SOON):
                    found = await nic.receive()
                assert found == frame or not checked
                tick()
                await asyncio.sleep(pause)


class Console(OfXenbus):
    name, kind, devid = "console", "console", 1

    async def serve(self, xen: Domain, guest: int) -> None:
        async with console.serve(xen, self.device(xen, guest)) as tty:
            await echo(tty.receive, tty.send)

    async def use(
        self, xen: Domain, random: Random, tick: Tick, *, checked: bool, pause: float
    ) -> None:
        device = await front_device(xen, self.kind, self.devid)
        async with console.open(xen, device) as tty:
            await converse(tty.receive, tty.send, random, tick, checked, pause)


class Vchan(Kind):
    name = "vchan"

    def path(self, guest: int) -> str:
        return f"/local/domain/{guest}/data/soak"

    async def make(self, xen: Domain, guest: int) -> None:
        """The listener makes it."""

    async def serve(self, xen: Domain, guest: int) -> None:
        async with (
            vchan.listen(xen, guest, self.path(guest), left=1024, right=2048) as listener,
            await listener.accept() as stream,
        ):
            await echo(stream.receive, stream.send)

    async def use(
        self, xen: Domain, random: Random, tick: Tick, *, checked: bool, pause: float
    ) -> None:
        async with asyncio.timeout(SOON):
            stream = await vchan.connect(xen, 0, self.path(xen.domid))
        async with stream:
            await converse(stream.receive, stream.send, random, tick, checked, pause)


Receive = Callable[[], Awaitable[bytes]]
Send = Callable[[bytes], Awaitable[None]]


async def converse(
    receive: Receive, send: Send, random: Random, tick: Tick, checked: bool, pause: float
) -> None:
    while True:
        said = random.randbytes(random.randint(1, 700))
        await send(said)
        heard = b""
        while len(heard) < len(said):
            heard += await receive()
        assert heard == said or not checked
        tick()
        await asyncio.sleep(pause)


KINDS: tuple[Kind, ...] = (Disk(), Net(), Console(), Vchan())


def of(error: BaseException) -> list[BaseException]:
    """The errors in one, however they were grouped."""
    if isinstance(error, BaseExceptionGroup):
        return [each for one in error.exceptions for each in of(one)]
    return [error]


def typed(error: BaseException) -> bool:
    """Whether it is nothing but what a driver may say."""
    return all(isinstance(each, (*TYPED, StoreError)) for each in of(error))
