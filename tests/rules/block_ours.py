"""What holds of our block front end and back end together, on a simulated Xen and on a real one."""

from __future__ import annotations

import asyncio
from random import Random
from typing import Any

from block import done, opened, refusal, two, using
from disk_model import check

from activations import Domain, Scenario
from activations.abi import blkif as abi
from activations.drivers import block
from activations.drivers.block import Disk, DiskError, MemoryDisk
from activations.drivers.block.disks import Buffers
from activations.xenbus import BackEnd, Device, Written
from activations.xenbus.keys import read_keys

SIZE = 1 << 20


def content(seed: int = 1) -> bytes:
    return Random(seed).randbytes(SIZE)


def checked(
    name: str, *, size: int = SIZE // 2, operations: int = 80, most: int = 200, **options: Any
) -> Scenario:
    async def serve(xen: Domain, device: Device) -> None:
        async with block.serve(xen, device, MemoryDisk(size), max_queues=3):
            await done(xen, device)

    async def use(xen: Domain, disk: Disk) -> None:
        await check(disk, operations, tasks=4, most=most)

    return two(name, serve, using(use, **options))


LITTLE = {"size": SIZE // 16, "operations": 40, "most": 24}
"""For what goes page by page."""
one_page = checked("reads and writes by many tasks at once agree with a model", ring_order=0)
four_pages = checked("they do over a ring of four pages", ring_order=2)
sixteen_pages = checked("they do over a ring of sixteen pages", ring_order=4, pages=128)
three_queues = checked("they do over three queues", queues=3, ring_order=1)
few_pages = checked("they do with hardly any pages", **LITTLE, pages=3)
one_data_page = checked("they do with a single page", **LITTLE, pages=1)
of_32_bits = checked("they do as a 32-bit front end", ring_order=1, protocol="x86_32-abi")
no_persistence = checked("they do where pages are mapped for each request", persistent=False)


# Flush, discard, resize


class Noted(MemoryDisk):
    """Counts flushes."""

    flushes = 0

    def flush(self) -> None:
        self.flushes += 1


async def serve_noted(xen: Domain, device: Device) -> None:
    disk = Noted(content())
    async with block.serve(xen, device, disk):
        await done(xen, device)
    assert disk.flushes == 2
    assert disk.data[4096:8192] == bytes(4096)
    assert disk.data[8192:] == content()[8192:]


async def flush_and_discard(xen: Domain, disk: Disk) -> None:
    assert disk.can_flush
    assert disk.can_discard
    await disk.flush()
    await disk.discard(4096, 4096)
    await disk.flush()
    assert await disk.read(0, disk.size) == content()[:4096] + bytes(4096) + content()[8192:]


flushes = two("a flush and a discard come to the disk", serve_noted, using(flush_and_discard))


class Slow(MemoryDisk):
    """Takes so long that its front end's whole ring is under way when it is asked to end."""

    def read_into(self, offset: int, buffers: Buffers) -> Any:
        return self._later(offset, buffers)

    async def _later(self, offset: int, buffers: Buffers) -> None:
        await asyncio.sleep(30)
        super().read_into(offset, buffers)


async def serve_slowly_then_fast(xen: Domain, device: Device) -> None:
    reading = f"/local/domain/{device.front}/data/reading"
    async with block.serve(xen, device, Slow(content(1))):
        await xen.store.wait_for(reading)
        await asyncio.sleep(0.2)
    async with block.serve(xen, device, MemoryDisk(content(2))):
        await done(xen, device)


async def read_through(xen: Domain, disk: Disk) -> None:
    async with asyncio.TaskGroup() as group:
        parts = [group.create_task(disk.read(n * 4096, 4096)) for n in range(100)]
        await xen.store.write("data/reading", 1)
    assert b"".join([part.result() for part in parts]) == content(2)[: 100 * 4096]


restarts = two(
    "a back end that is started anew serves what the one before did not",
    serve_slowly_then_fast,
    using(read_through),
)


# Lives that differ


async def serve_three_queues(xen: Domain, device: Device) -> None:
    async with block.serve(xen, device, MemoryDisk(content()), max_queues=3):
        await done(xen, device)


OPTIONS: list[dict[str, Any]] = [
    {"queues": 3, "ring_order": 2},
    {"queues": 1, "ring_order": 0},
    {"queues": 1, "ring_order": 4, "pages": 64},
    {"queues": 2, "ring_order": 0, "persistent": False},
    {},
]


async def open_in_many_ways(xen: Domain) -> None:
    for number, options in enumerate(OPTIONS):
        async with opened(xen, **options) as disk:
            assert await disk.read(4096 * number, 4096) == content()[4096 * number :][:4096]
            await disk.write(4096 * number, bytes(4096))


differ = two(
    "a front end may be opened again with other queues and rings",
    serve_three_queues,
    open_in_many_ways,
)


class OnePage(block.BlkBack):
    """Takes rings of a page alone."""

    async def offer(self) -> Written:
        return {**await super().offer(), abi.MAX_RING_PAGE_ORDER_KEY: 0}


async def serve_with_less_each_time(xen: Domain, device: Device) -> None:
    home = f"/local/domain/{device.front}/data"
    async with block.serve(xen, device, Slow(content(1)), max_queues=4):
        await xen.store.wait_for(f"{home}/reading")
        await asyncio.sleep(0.2)
    async with BackEnd(xen, device, OnePage(xen, device, Slow(content(2)), max_queues=2)) as end:
        await end.connected()
        await asyncio.sleep(0.2)
    async with BackEnd(
        xen, device, OnePage(xen, device, MemoryDisk(content(3)), max_queues=1)
    ) as end:
        await end.connected()
        front = await read_keys(xen.store, "", device.front_path)
        assert abi.RING_PAGE_ORDER not in front
        assert abi.NUM_QUEUES not in front
        assert abi.RING_REF in front
        await done(xen, device)


async def read_through_it_all(xen: Domain, disk: Disk) -> None:
    async with asyncio.TaskGroup() as group:
        parts = [group.create_task(disk.read(n * 4096, 4096)) for n in range(100)]
        await xen.store.write("data/reading", 1)
    assert b"".join([part.result() for part in parts]) == content(3)[: 100 * 4096]


less = two(
    "a back end that comes back with fewer queues and smaller rings is published less",
    serve_with_less_each_time,
    using(read_through_it_all, queues=4, ring_order=2),
)


# A disk that changes


async def serve_then_grow(xen: Domain, device: Device) -> None:
    disk = MemoryDisk(SIZE)
    async with block.serve(xen, device, disk) as end:
        await end.connected()
        disk.data += bytes(SIZE)
        disk.sectors *= 2
        await end.update({"sectors": disk.sectors})
        await done(xen, device)


async def see_it_grow(xen: Domain, disk: Disk) -> None:
    while disk.size == SIZE:
        await asyncio.sleep(0.01)
    assert disk.size == 2 * SIZE
    await disk.write(SIZE, content())
    assert await disk.read(SIZE, SIZE) == content()


grows = two("a disk that grows is longer for its user", serve_then_grow, using(see_it_grow))


class Faulty(MemoryDisk):
    """Cannot read its first sector."""

    def read_into(self, offset: int, buffers: Buffers) -> None:
        if not offset:
            raise OSError(5, "the medium is bad here")
        super().read_into(offset, buffers)


async def serve_faulty(xen: Domain, device: Device) -> None:
    async with block.serve(xen, device, Faulty(content())):
        await done(xen, device)


async def read_past_the_fault(xen: Domain, disk: Disk) -> None:
    error = await refusal(disk.read(0, 4096), DiskError)
    assert isinstance(error, OSError)
    assert error.errno == 5
    assert await disk.read(512, 4096) == content()[512 : 512 + 4096]


faulty = two(
    "a fault of the disk is an error of its request", serve_faulty, using(read_past_the_fault)
)
