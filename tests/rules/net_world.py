"""What the rules of network devices have in common.

The devices are of a kind that no kernel has a driver for: the guests' kernels leave them alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

from patience import patience
from rule import leaves_nothing

from activations import Domain, Scenario
from activations.drivers import net
from activations.drivers.net import CableEnd, Nic, Statistics, cable
from activations.xenbus import BackEnd, Device, front_device, plug, unplug

KIND = "rulevif"
PATIENCE = patience(240)
SOON = patience(60.0)
A_WHILE = 0.2
MTU = 9000
DOM0 = bytes([0, 0x16, 0x3E, 0, 0, 0xFF])
ALL = b"\xff" * 6

Use = Callable[[Domain, Nic], Awaitable[object]]
Behind = Callable[["World"], Awaitable[object]]


def address(number: int) -> bytes:
    return bytes([0, 0x16, 0x3E, 0, 0, number])


def frame(to: bytes, by: bytes, data: bytes) -> bytes:
    return to + by + b"\x12\x34" + data


def data_of(each: bytes) -> bytes:
    return each[14:]


@asynccontextmanager
async def plugged(xen: Domain, guest: int, number: int = 0) -> AsyncIterator[Device]:
    """A device for the guest, until the block is left."""
    device = Device(KIND, number, guest, xen.domid)
    mac = address(number + 1).hex(":")
    await plug(xen, device, front={"mac": mac, "mtu": MTU, "handle": number}, back={"mac": mac})
    yield device
    await unplug(xen, device, within=SOON)


async def until_gone(xen: Domain, device: Device) -> None:
    """Wait until dom0 is done with the device: a guest that ends takes its part of xenstore with
    it, on which dom0 is still at work."""
    async with xen.store.watch(device.front_path) as changes:
        async for _ in changes:
            if not await xen.store.exists(device.front_path):
                return


class World:
    """What a rule's dom0 half works with: the wire's near end, and the guest's part of
    xenstore."""

    def __init__(self, xen: Domain, guest: int, device: Device, wire: CableEnd) -> None:
        self.xen = xen
        self.device = device
        self.wire = wire
        self.statistics = Statistics()
        self._home = f"/local/domain/{guest}/data"

    async def says(self, word: str) -> str:
        """Wait for the guest to write this node."""
        return await self.xen.store.wait_for(f"{self._home}/{word}")

    async def tell(self, word: str) -> None:
        await self.xen.store.write(f"{self._home}/{word}", 1)


def two(
    name: str,
    behind: Behind,
    use: Use,
    *,
    queues: int = 1,
    driver: type[net.NetBack] = net.NetBack,
) -> Scenario:
    """A scenario of a device in a guest and a cable behind its back end in dom0, and what each
    half does there. Nothing may be left open."""
    scenario = Scenario(name)

    async def dom0(xen: Domain) -> None:
        guest = await xen.find("guest")
        with leaves_nothing(xen):
            async with asyncio.timeout(PATIENCE), plugged(xen, guest) as device:
                near, far = cable()
                world = World(xen, guest, device, near)
                back = driver(xen, device, far, statistics=world.statistics)
                async with BackEnd(xen, device, back) as end:
                    await end.connected(within=SOON)
                    await behind(world)
                    await world.says("done")

    async def guest(xen: Domain) -> None:
        with leaves_nothing(xen):
            async with asyncio.timeout(PATIENCE):
                device = await front_device(xen, KIND, 0)
                async with net.open(xen, device, within=SOON, queues=queues) as nic:
                    await use(xen, nic)
                    await xen.store.write("data/done", 1)
                await until_gone(xen, device)

    scenario.domain("dom0")(dom0)
    scenario.domain("guest")(guest)
    return scenario


async def do_nothing(world: World) -> None:
    pass
