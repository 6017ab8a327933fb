"""The two peers of a disk, an interface and a vchan, written so that either may be killed at any
time, and what its clients are told by them.

A client uses the device and tells what came of it; a server serves it, in dom0 or in a driver
domain, for which dom0 is the toolstack. They know nothing of who kills them, and whoever is killed
cleans nothing up: its next life finds what the first has left in xenstore.

This file goes to a real Xen as it stands: its scenarios are at its end.
"""

from __future__ import annotations

import asyncio
import os
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path
from random import Random
from typing import Protocol

from anyio import BrokenResourceError, ClosedResourceError, EndOfStream

from activations import Domain, Scenario, vchan
from activations.drivers import block, net
from activations.drivers.block import FileDisk, ServedDisk
from activations.drivers.net import cable
from activations.errors import ActivationsError
from activations.xenbus import BackEnd, Device, DeviceExists, Phase, front_device, plug, unplug

TYPED = (
    ActivationsError,
    BrokenResourceError,
    ClosedResourceError,
    EndOfStream,
    TimeoutError,
)
"""What a driver may say of a peer that breaks the rules, or is gone."""


@contextmanager
def typed() -> Iterator[None]:
    """What a driver may say is no fault, however it is grouped."""
    try:
        yield
    except* TYPED:
        pass


SECTOR = 512
SECTORS = 32
WRITERS = 3
PACE = float(os.environ.get("XEN_LAB_PACE", "1"))
"""How many times longer than on an idle machine everything takes."""


class Told(Protocol):
    """Who is told by a client, and outlives it."""

    @property
    def done(self) -> bool:
        """Whether everybody may end."""

    def changes(self) -> None:
        """The device is about to be let go, or taken away, and to come back as another."""

    def opened(self) -> None:
        """The device is there, and connected."""

    def asked(self) -> int:
        """Something is asked for now; to be given back with the answer."""

    def answered(self, asked: int) -> None:
        """What was asked for then has come."""

    def writing(self, sector: int, number: int) -> None:
        """This writing of a sector is under way."""

    def wrote(self, sector: int, number: int) -> None:
        """It was acknowledged."""

    def found(self, sector: int, number: int) -> None:
        """The sector was read."""


class LostWrite(Exception):
    """A sector holds what no longer may be there, or what nobody wrote."""


class Sectors:
    """What sectors hold, as far as their client has told. What a write has returned for is there;
    what is under way is there, or what was before it.

    Where not everything is heard that was told (a domain is destroyed with its console), a sector
    may be further.
    """

    def __init__(self, *, all_heard: bool = True) -> None:
        self._all_heard = all_heard
        self._acknowledged = [0] * SECTORS
        self._under_way = [0] * SECTORS
        self.writes = 0
        """Those that were acknowledged."""

    def writing(self, sector: int, number: int) -> None:
        self._under_way[sector] = number

    def wrote(self, sector: int, number: int) -> None:
        self._acknowledged[sector] = self._under_way[sector] = number
        self.writes += 1

    def found(self, sector: int, number: int) -> None:
        least, most = self._acknowledged[sector], self._under_way[sector]
        if number < least or (self._all_heard and number > most):
            raise LostWrite(f"sector {sector} holds write {number}, and {least} was acknowledged")
        self._acknowledged[sector] = self._under_way[sector] = number


def content(sector: int, number: int) -> bytes:
    """What a sector holds after so many writes: it can be told from every other."""
    if number == 0:
        return bytes(SECTOR)
    return number.to_bytes(8, "little") + Random(f"{sector} {number}").randbytes(SECTOR - 8)


def number_of(sector: int, found: bytes) -> int:
    """Which write this is. Raises `LostWrite` if it is none, or parts of several."""
    number = int.from_bytes(found[:8], "little")
    if found != content(sector, number):
        raise LostWrite(f"sector {sector} holds what nobody wrote")
    return number


class Peers(ABC):
    """Both ends of one device, and who makes it."""

    kind = ""
    devid = 0

    def __init__(
        self, told: Told, random: Random, *, slow: float = 1.0, restless: bool = False
    ) -> None:
        self.told = told
        self.random = random
        self.slow = slow
        """How many times longer than in the simulator one is to wait for what may not come."""
        self.restless = restless
        """A client leaves and comes back every now and then, with other numbers of queues and
        pages; and a toolstack takes the device away, and makes it anew."""

    def leaves(self) -> bool:
        """Whether this end parts now."""
        if self.restless and self.random.random() < 0.2:
            self.told.changes()
            return True
        return self.told.done

    def queues(self) -> int:
        return self.random.randint(1, 4) if self.restless else 1

    # Where dom0 serves

    async def dom0(self, xen: Domain) -> None:
        """Serve each guest of that name, one after the other."""
        while not self.told.done:
            guest = await xen.find("guest")
            with suppress(asyncio.CancelledError), typed():
                await self.serve_until_gone(xen, guest)

    async def serve_until_gone(self, xen: Domain, guest: int) -> None:
        device = self.device(guest, 0)
        with suppress(DeviceExists):  # an earlier life of this program has made it
            await plug(xen, device, front={"mac": "00:16:3e:00:00:01"})
        await self.serve(xen, device)
        await unplug(xen, device, within=0.1 * self.slow, force=True)

    # Where a driver domain does

    async def toolstack(self, xen: Domain) -> None:
        """In dom0: what `xl` does for a guest with a driver domain, and again when either is gone:
        the device is taken away, and made anew with who comes next."""
        while not self.told.done:
            guest, driver = await xen.find("guest"), await xen.find("driver")
            with typed():
                await self.make(xen, guest, driver)
                while not self.leaves() and await both_there(xen, guest, driver):
                    await asyncio.sleep(0.01 * self.slow)
                await self.unmake(xen, guest, driver)

    async def make(self, xen: Domain, guest: int, driver: int) -> None:
        device = self.device(guest, driver)
        await plug(xen, device, front={"mac": "00:16:3e:00:00:01"})
        await xen.store.write(f"/local/domain/{driver}/data/serve", guest)

    async def unmake(self, xen: Domain, guest: int, driver: int) -> None:
        with typed():
            await xen.store.rm(f"/local/domain/{driver}/data/serve")
        await unplug(xen, self.device(guest, driver), within=0.1 * self.slow, force=True)

    async def driver(self, xen: Domain) -> None:
        while not self.told.done:
            with suppress(asyncio.CancelledError), typed():
                async with asyncio.timeout(self.slow):  # of virtual time: it ends by and by
                    guest = int(await xen.store.wait_for("data/serve"))
                await self.serve(xen, self.device(guest, xen.domid))
            await asyncio.sleep(1e-3)  # the toolstack takes it away

    # Either

    def device(self, guest: int, server: int) -> Device:
        return Device(self.kind, self.devid, guest, server, f"soak-{self.kind}")

    @abstractmethod
    async def serve(self, xen: Domain, device: Device) -> None:
        """Until the guest is gone, or done."""

    async def until_over(self, end: BackEnd) -> None:
        while not self.told.done:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.01 * self.slow):
                    await end.reached(Phase.UNPLUGGED)
                return

    async def guest(self, xen: Domain) -> None:
        while not self.told.done:
            with typed():
                await self.use(xen)
            await asyncio.sleep(1e-3)  # an offer of the dead is refused at once

    @abstractmethod
    async def use(self, xen: Domain) -> None:
        """Until it is done, or the device is gone."""


async def both_there(xen: Domain, *domids: int) -> bool:
    found = [await xen.store.exists(f"/local/domain/{domid}/domid") for domid in domids]
    return all(found)


class DiskPeers(Peers):
    """Writers, each with sectors of its own. What a write has returned for is there after any
    number of deaths; what it had not, is there or what was before it."""

    kind, devid = "vbd", 51712

    def __init__(
        self,
        told: Told,
        random: Random,
        disk: Callable[[], ServedDisk],
        *,
        sectors: int = SECTORS,
        writers: int = WRITERS,
        slow: float = 1.0,
        restless: bool = False,
    ) -> None:
        super().__init__(told, random, slow=slow, restless=restless)
        self.disk = disk
        self.sectors = sectors
        self.writers = writers

    async def serve(self, xen: Domain, device: Device) -> None:
        async with block.serve(xen, device, self.disk()) as end:
            await self.until_over(end)

    async def use(self, xen: Domain) -> None:
        device = await front_device(xen, self.kind, self.devid)
        queues = self.queues()
        async with block.open(
            xen, device, within=self.slow, pages=8 * queues, ring_order=0, queues=queues
        ) as disk:
            self.told.opened()
            held = [await self.look(disk, sector) for sector in range(self.sectors)]
            async with asyncio.TaskGroup() as tasks:
                for writer in range(self.writers):
                    mine = range(writer, self.sectors, self.writers)
                    tasks.create_task(self.write(disk, held, mine))

    async def write(self, disk: block.Disk, held: list[int], mine: Sequence[int]) -> None:
        while not self.leaves():
            sector = self.random.choice(mine)
            number = held[sector] + 1
            self.told.writing(sector, number)
            asked = self.told.asked()
            await disk.write(sector * SECTOR, content(sector, number))
            held[sector] = number
            self.told.wrote(sector, number)
            self.told.answered(asked)
            if self.random.random() < 0.1:
                await disk.flush()
            if self.random.random() < 0.2:
                await self.look(disk, self.random.choice(mine))

    async def look(self, disk: block.Disk, sector: int) -> int:
        number = number_of(sector, await disk.read(sector * SECTOR, SECTOR))
        self.told.found(sector, number)
        return number


class NetPeers(Peers):
    """Frames, which the server sends back. Some are lost with who is killed; then others get
    through."""

    kind = "vif"
    PATIENCE = 0.05
    """Seconds until a frame is sent again."""

    async def serve(self, xen: Domain, device: Device) -> None:
        near, far = cable()
        async with net.serve(xen, device, far) as end, asyncio.TaskGroup() as tasks:
            echoing = tasks.create_task(self.echo(near))
            await self.until_over(end)
            echoing.cancel()

    async def echo(self, near: net.Interface) -> None:
        while True:
            await near.send(await near.receive())

    async def use(self, xen: Domain) -> None:
        device = await front_device(xen, self.kind, self.devid)
        async with net.open(xen, device, within=self.slow, pages=32, queues=self.queues()) as nic:
            self.told.opened()
            number = 0
            while not self.leaves():
                number += 1
                frame = number.to_bytes(14, "big") + self.random.randbytes(100)
                asked = self.told.asked()
                await nic.send(frame)
                with suppress(TimeoutError):
                    async with asyncio.timeout(self.PATIENCE * self.slow):
                        while (found := await nic.receive())[:14] != frame[:14]:
                            pass  # of one that was given up
                        assert found == frame
                        self.told.answered(asked)


class VchanPeers(Peers):
    """A stream each way. Who is left is told that the other one is gone, and a new one connects.

    That a guest, the other end, was destroyed, Xen tells dom0 alone; so a client of a driver
    domain's does not wait for an answer for ever.
    """

    kind = "vchan"
    PATIENCE = 0.2
    """Seconds until a client of a driver domain's takes it for dead."""

    async def serve_until_gone(self, xen: Domain, guest: int) -> None:
        await self.serve(xen, self.device(guest, 0))

    async def make(self, xen: Domain, guest: int, driver: int) -> None:
        await xen.store.write(f"/local/domain/{guest}/data/server", driver)
        await xen.store.write(f"/local/domain/{driver}/data/serve", guest)

    async def unmake(self, xen: Domain, guest: int, driver: int) -> None:
        for home in (f"/local/domain/{driver}/data/serve", f"/local/domain/{guest}/data/server"):
            with typed():
                await xen.store.rm(home)

    def path(self, server: int, guest: int) -> str:
        return f"/local/domain/{guest if server == 0 else server}/data/soak"

    async def serve(self, xen: Domain, device: Device) -> None:
        guest, path = device.front, self.path(xen.domid, device.front)
        async with vchan.listen(xen, guest, path, left=1024, right=2048) as listener:
            accepting = asyncio.create_task(listener.accept())
            while not accepting.done():
                await asyncio.wait([accepting], timeout=0.01 * self.slow)
                if self.told.done or not await self.expected(xen, guest):
                    accepting.cancel()  # nobody comes any more
            async with accepting.result() as stream:
                await self.talk(stream)

    async def talk(self, stream: vchan.VchanStream) -> None:
        await echo(stream.receive, stream.send)

    async def expected(self, xen: Domain, guest: int) -> bool:
        """Whether that guest is there. A driver domain has its toolstack's word for it."""
        if xen.domid == 0:
            return await both_there(xen, guest)
        serve = "data/serve"
        return await xen.store.exists(serve) and await xen.store.read(serve) == str(guest)

    async def use(self, xen: Domain) -> None:
        server, patience = 0, None
        if await xen.store.exists("data/server"):
            server, patience = int(await xen.store.read("data/server")), self.PATIENCE * self.slow
        async with asyncio.timeout(0.1 * self.slow):
            stream = await vchan.connect(xen, server, self.path(server, xen.domid))
        async with stream:
            self.told.opened()
            while not self.leaves():
                said = self.random.randbytes(self.random.randint(1, 1500))
                asked = self.told.asked()
                async with asyncio.timeout(patience):
                    await stream.send(said)
                    heard = b""
                    while len(heard) < len(said):
                        heard += await stream.receive()
                assert heard == said
                self.told.answered(asked)


async def echo(
    receive: Callable[[], Awaitable[bytes]], send: Callable[[bytes], Awaitable[None]]
) -> None:
    while True:
        await send(await receive())


# On a real Xen: each half is a process, which is started, and killed, by itself


class Printed:
    """Tells by printing, so that who is killed has told what it was told."""

    done = False

    def changes(self) -> None:
        """Nobody waits for that moment."""

    def opened(self) -> None:
        print("opened")

    def asked(self) -> int:
        return 0

    def answered(self, asked: int) -> None:
        print("answered")

    def writing(self, sector: int, number: int) -> None:
        """Of no use to who does not hear everything."""

    def wrote(self, sector: int, number: int) -> None:
        print("wrote", sector, number)

    def found(self, sector: int, number: int) -> None:
        print("found", sector, number)


IMAGE = Path("/run/soak.img")


@cache
def image() -> FileDisk:
    """Opened once in a process: who opens a file that is served is refused, itself included."""
    if not IMAGE.exists():
        IMAGE.write_bytes(bytes(SECTORS * SECTOR))
    return FileDisk(IMAGE)


def scenario(name: str, peers: Callable[[], Peers]) -> Scenario:
    """Where dom0 serves."""
    made = Scenario(name)
    made.domain("dom0")(lambda xen: peers().dom0(xen))
    made.domain("guest")(lambda xen: peers().guest(xen))
    return made


def driven(name: str, peers: Callable[[], Peers]) -> Scenario:
    """Where a driver domain does."""
    made = Scenario(name)
    made.domain("dom0")(lambda xen: peers().toolstack(xen))
    made.domain("driver")(lambda xen: peers().driver(xen))
    made.domain("guest")(lambda xen: peers().guest(xen))
    return made


SLOW = 10 * PACE


def on_vchan() -> Peers:
    return VchanPeers(Printed(), Random(), slow=SLOW)


on_disk = scenario("disk", lambda: DiskPeers(Printed(), Random(), image, slow=SLOW))
on_net = scenario("net", lambda: NetPeers(Printed(), Random(), slow=SLOW))
vchan_of_dom0 = scenario("vchan", on_vchan)
vchan_of_driver = driven("vchan-driver", on_vchan)
