"""Kinds of kills in which several things go wrong at the same moment, and those of devices that are
not left alone meanwhile: they change their queues, or are taken away and made anew."""

from __future__ import annotations

import asyncio
from functools import partial
from random import Random

from activations import Domain, vchan
from activations.drivers.block import MemoryDisk
from activations.xenbus import Device

from .kills import DEVICES, Blow, Kind
from .peers import SECTOR, SECTORS, DiskPeers, NetPeers, Peers, Sectors, Told, VchanPeers, echo

BOTH: tuple[Blow, ...] = (
    ("guest restarted", "dom0 restarted"),
    ("dom0 restarted", "guest restarted"),
)
SUSPENDED: tuple[Blow, ...] = (
    ("guest migrated", "dom0 restarted"),
    ("dom0 restarted", "guest migrated"),
    ("guest migrated", "guest restarted"),
    ("guest migrated", "guest migrated"),
)
OF_XENSTORE: tuple[Blow, ...] = (
    ("guest restarted", "connection lost"),
    ("dom0 restarted", "connection lost"),
    ("guest restarted", "connection lost", "dom0 restarted"),
)
MANY = 30


def restless_disk(told: Told, random: Random) -> Peers:
    disk = MemoryDisk(SECTORS * SECTOR)
    return DiskPeers(told, random, lambda: disk, restless=True)


restless_net = partial(NetPeers, restless=True)


class BoundedVchan(VchanPeers):
    """Its server bounds how long it waits for its client: that one was suspended is told to nobody,
    as long as it keeps its number."""

    async def talk(self, stream: vchan.VchanStream) -> None:
        async def receive() -> bytes:
            async with asyncio.timeout(self.PATIENCE * self.slow):
                return await stream.receive()

        await echo(receive, stream.send)


class Share:
    """What one of many is told; all of them have an answer as soon as the last one has."""

    def __init__(self, told: Told, all_of_them: list[Share]) -> None:
        self._told = told
        self._all = all_of_them
        self._sectors = Sectors()
        self._answered = -1
        self.changes = told.changes
        self.opened = told.opened
        self.asked = told.asked
        self.writing = self._sectors.writing
        self.wrote = self._sectors.wrote
        self.found = self._sectors.found

    @property
    def done(self) -> bool:
        return self._told.done

    def answered(self, asked: int) -> None:
        self._answered = asked
        self._told.answered(min(each._answered for each in self._all))


class OneOfMany(DiskPeers):
    """A disk with a number of its own."""

    def __init__(self, told: Told, random: Random, devid: int) -> None:
        self.devid = devid
        disk = MemoryDisk(SECTOR)
        super().__init__(told, random, lambda: disk, sectors=1, writers=1)


class ManyDisks(Peers):
    """As many disks of one guest, all of which one program serves."""

    def __init__(self, told: Told, random: Random) -> None:
        super().__init__(told, random)
        shares: list[Share] = []
        shares += (Share(told, shares) for _ in range(MANY))
        self.disks = [OneOfMany(share, random, devid) for devid, share in enumerate(shares)]

    async def dom0(self, xen: Domain) -> None:
        async with asyncio.TaskGroup() as tasks:
            for disk in self.disks:
                tasks.create_task(disk.dom0(xen))

    async def guest(self, xen: Domain) -> None:
        async with asyncio.TaskGroup() as tasks:
            for disk in self.disks:
                tasks.create_task(disk.guest(xen))

    async def serve(self, xen: Domain, device: Device) -> None:
        raise NotImplementedError("each disk does")

    async def use(self, xen: Domain) -> None:
        raise NotImplementedError("each disk does")


KINDS = {
    **{f"{device}-both": Kind(peers, BOTH) for device, peers in DEVICES.items()},
    **{
        f"{device}-suspended": Kind(peers, SUSPENDED)
        for device, peers in {**DEVICES, "vchan": BoundedVchan}.items()
    },
    **{f"{device}-xenstore": Kind(peers, OF_XENSTORE) for device, peers in DEVICES.items()},
    "disk-queues": Kind(restless_disk, [("dom0 restarted",)], aimed=True),
    "net-queues": Kind(restless_net, [("dom0 restarted",)], aimed=True),
    "disk-anew": Kind(restless_disk, [("driver restarted",)], driven=True, aimed=True),
    "net-anew": Kind(restless_net, [("driver restarted",)], driven=True, aimed=True),
    "disks-dom0": Kind(ManyDisks, [("dom0 restarted",)], kills=1),
}
