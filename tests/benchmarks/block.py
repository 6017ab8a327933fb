"""Block devices between two simulated domains: our front end, our back end, a disk in memory."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from typing import Any

from checkout import Checkout
from measure import Figure, Ours, Table, clock

READS = 2_048
MANY_READS = 100_000
SIZE = 4096
DISK = 1 << 20


def between_domains(tree: Checkout, use: Callable[[Any], Awaitable[Any]]) -> Any:
    """What `use` gives, in a guest whose disk dom0 serves."""
    from activations.drivers import block
    from activations.drivers.block import MemoryDisk
    from activations.xenbus import Device, front_device, plug

    async def dom0(xen: Any) -> None:
        device = Device("vbd", 51712, await xen.find("guest"), 0, "bench")
        await plug(xen, device)
        async with block.serve(xen, device, MemoryDisk(DISK)):
            await xen.store.wait_for(f"{device.front_path.partition('/device')[0]}/data/done")

    async def guest(xen: Any) -> Any:
        async with block.open(xen, await front_device(xen, "vbd", 51712)) as disk:
            result = await use(disk)
        await xen.store.write("data/done", 1)
        return result

    machine = tree.Machine()
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    return machine.run()["guest"]


async def read(disk: Any, tasks: int, reads: int) -> float:
    """Seconds for so many reads in all, by so many tasks at once."""

    async def one(number: int) -> None:
        for turn in range(reads // tasks):
            await disk.read((number + turn * tasks) * SIZE % DISK, SIZE)

    began = clock()
    async with asyncio.TaskGroup() as group:
        for number in range(tasks):
            group.create_task(one(number))
    return clock() - began


def reads_by(tasks: int) -> Ours:
    return lambda tree: float(between_domains(tree, partial(read, tasks=tasks, reads=READS)))


def by_queues() -> float:
    """The same within one loop: a task that answers from a queue with a copy of the bytes."""

    async def main() -> float:
        data = bytearray(DISK)
        asked: asyncio.Queue[tuple[int, asyncio.Future[bytes]]] = asyncio.Queue()

        async def serve() -> None:
            while True:
                offset, answer = await asked.get()
                answer.set_result(bytes(data[offset : offset + SIZE]))

        async def one(number: int) -> None:
            for turn in range(READS // 32):
                answer = asyncio.get_running_loop().create_future()
                asked.put_nowait(((number + turn * 32) * SIZE % DISK, answer))
                await answer

        serving = asyncio.create_task(serve())
        began = clock()
        async with asyncio.TaskGroup() as group:
            for number in range(32):
                group.create_task(one(number))
        taken = clock() - began
        serving.cancel()
        return taken

    return asyncio.run(main())


def resident() -> float:
    """MiB of this process that are in memory."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmRSS:")[2].split()[0]) / 1024


def memory() -> list[Figure]:
    tree = Checkout(Path(__file__).resolve().parents[2])

    async def use(disk: Any) -> list[float]:
        await read(disk, 32, READS)
        before = resident()
        await read(disk, 32, MANY_READS)
        return [before, resident()]

    before, after = tree.within(lambda tree: between_domains(tree, use))
    return [
        Figure(f"after {READS:,}", before, "MiB resident", 1.0),
        Figure(f"after {MANY_READS:,} more", after, "MiB resident", after / before),
    ]


TABLES: dict[str, Table | Callable[[], list[Figure]]] = {
    "Block reads of 4 KiB between two simulated domains": Table(
        READS,
        "µs a read",
        {"128 tasks": reads_by(128), "32 tasks": reads_by(32), "one task": reads_by(1)},
        {"asyncio, 32 tasks and a queue, no domains": by_queues},
    ),
    f"Memory over {MANY_READS:,} block reads": memory,
}
