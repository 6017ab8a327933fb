"""A disk read by a guest's Linux, served by Python and by Linux's xen-blkback in turn.

Both serve the same file of dom0, xen-blkback by way of a loop device. The guest reads past its page
cache, so that each read goes through the ring. `PIECES` describe the reads.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from mmap import mmap
from pathlib import Path
from random import Random
from statistics import median
from time import perf_counter

import activations
from activations import Domain
from activations.drivers import block
from activations.drivers.block import FileDisk
from activations.xenbus import Device, plug, unplug

scenario = activations.Scenario("block rates")

MIB = 1 << 20
SIZE = 64 * MIB
ROUNDS = 5
RANDOM_READS = 200
OURS = (51712, Path("/dev/xvda"))
THEIRS = (51728, Path("/dev/xvdb"))
IMAGE = Path("/run/block-rates.img")
LOOP = "/dev/loop0"


async def command(*argv: str) -> None:
    process = await asyncio.create_subprocess_exec(*argv)
    assert await process.wait() == 0, f"{argv} failed"


@contextmanager
def image() -> Iterator[None]:
    try:
        with IMAGE.open("wb") as file:
            for _ in range(0, SIZE, MIB):
                file.write(os.urandom(MIB))
        yield
    finally:
        IMAGE.unlink()


@asynccontextmanager
async def plugged(xen: Domain, device: Device, **back: str | int) -> AsyncIterator[None]:
    front = {"virtual-device": device.devid, "device-type": "disk"}
    await plug(xen, device, front=front, back={"mode": "w", "removable": 1, **back})
    yield
    await unplug(xen, device, within=60)


@asynccontextmanager
async def loop_device() -> AsyncIterator[None]:
    await command("insmod", "/modules/loop.ko")
    await command("insmod", "/modules/xen-blkback.ko")
    await command("losetup", LOOP, str(IMAGE))
    try:
        yield
    finally:
        await command("losetup", "-d", LOOP)
        await command("rmmod", "xen-blkback")
        await command("rmmod", "loop")


@scenario.domain("dom0")
async def dom0(xen: Domain) -> None:
    guest = await xen.find("guest")
    ours = Device("vbd", OURS[0], guest, 0, served_as="pyvbd")
    theirs = Device("vbd", THEIRS[0], guest, 0)
    params = {"params": LOOP, "physical-device": "7:0", "type": "phy", "dev": "xvdb"}
    with image(), FileDisk(IMAGE) as disk:
        async with (
            loop_device(),
            plugged(xen, theirs, **params),
            plugged(xen, ours),
            block.serve(xen, ours, disk),
        ):
            await xen.store.wait_for(f"/local/domain/{guest}/data/measured")
            await unplug(xen, ours)


def sequential(node: Path) -> float:
    """MiB a second, in reads of 1 MiB."""
    began = perf_counter()
    for _ in reads(node, range(0, SIZE, MIB), MIB):
        pass
    return SIZE / MIB / (perf_counter() - began)


def scattered(node: Path) -> float:
    """Reads of 4 KiB a second, one after another."""
    random = Random(1)
    offsets = [random.randrange(SIZE // 4096) * 4096 for _ in range(RANDOM_READS)]
    began = perf_counter()
    for _ in reads(node, offsets, 4096):
        pass
    return RANDOM_READS / (perf_counter() - began)


def reads(node: Path, offsets: range | list[int], size: int) -> Iterator[None]:
    """Each into a buffer of its own alignment, as O_DIRECT wants it."""
    descriptor = os.open(node, os.O_RDONLY | os.O_DIRECT)
    try:
        with mmap(-1, size) as buffer:
            for offset in offsets:
                assert os.preadv(descriptor, [buffer], offset) == size
                yield
    finally:
        os.close(descriptor)


def compare(measure: object) -> dict[str, float]:
    """Medians of rounds in which each was measured once, and the median of each round's ratio."""
    assert callable(measure)
    pairs = [(measure(THEIRS[1]), measure(OURS[1])) for _ in range(ROUNDS + 1)][1:]
    return {
        "theirs": median(theirs for theirs, _ in pairs),
        "ours": median(ours for _, ours in pairs),
        "ratio": median(ours / theirs for theirs, ours in pairs),
    }


@scenario.domain("guest")
async def guest(xen: Domain) -> dict[str, dict[str, float]]:
    await command("insmod", "/modules/xen-blkfront.ko")
    for _, node in (OURS, THEIRS):
        while not await asyncio.to_thread(node.exists):
            await asyncio.sleep(0.05)
    result = {}
    for name, measure in (("sequential", sequential), ("scattered", scattered)):
        result[name] = await asyncio.to_thread(compare, measure)
        print(name, result[name])
    await xen.store.write("data/measured", 1)
    while await asyncio.to_thread(lambda: any(node.exists() for _, node in (OURS, THEIRS))):
        await asyncio.sleep(0.05)
    await command("rmmod", "xen-blkfront")
    return result
