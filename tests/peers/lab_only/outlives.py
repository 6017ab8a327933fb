"""A program that outlives the suspends of its domain, and prints what it sees of them."""

from __future__ import annotations

import asyncio
import sys
from contextlib import AsyncExitStack

import activations
from activations import Domain, GenerationEnded
from activations.drivers import block
from activations.drivers.block import Disk
from activations.store import StoreClosed
from activations.xenbus import front_device

DISK = "disk"
"""The argument that has it use one."""
VBD = "vbd"
XVDC = 51744


async def main(xen: Domain) -> None:
    async with AsyncExitStack() as stack:
        disk: Disk | None = None
        if DISK in sys.argv:
            device = await front_device(xen, VBD, XVDC)
            disk = await stack.enter_async_context(block.open(xen, device))
        while True:
            if disk is not None:
                said = await disk.read(0, 512)
                print("the disk says", said[:5].decode())
            port = xen.events.alloc_unbound(0)
            await xen.store.write("data/port", str(port.number))
            print("generation", xen.generation, "of domain", xen.domid)
            async with asyncio.TaskGroup() as both:
                both.create_task(events(port, xen.generation))
                both.create_task(changes(xen))


async def events(port: activations.Port, generation: int) -> None:
    try:
        async for _ in port:
            print("event of generation", generation)
    except GenerationEnded:
        print("the port's generation ended")


async def changes(xen: Domain) -> None:
    try:
        async with xen.store.watch("data/word") as paths:
            async for path in paths:
                if await xen.store.exists(path):
                    print("word", await xen.store.read(path))
    except StoreClosed as error:
        print("the store ended:", error)


if __name__ == "__main__":
    sys.stdout.reconfigure(line_buffering=True)  # type: ignore[union-attr]
    activations.run(main, backend="linux")
