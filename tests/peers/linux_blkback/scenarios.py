"""Our block front end in a guest's user space, Linux's xen-blkback in dom0: for
test_blkfront_linux.py. The guest's kernel is without its own front end, a module."""

from __future__ import annotations

import asyncio
import fcntl
import os
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from functools import partial
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any
from unittest.mock import patch

from disk_model import check, digest
from patience import patience

from activations import Domain, Scenario
from activations.drivers import block
from activations.drivers.block import Disk, front
from activations.xenbus import Device, Keys, Written, front_device, plug, unplug
from activations.xenbus.keys import read_keys

DEVID = 51712
SIZE = 8 << 20
PATIENCE = patience(240)
IMAGE = Path("/run/blkback.img")
MAX_QUEUES = Path("/sys/module/xen_blkback/parameters/max_queues")
LOOP_SET_FD, LOOP_CLR_FD, LOOP_CTL_GET_FREE = 0x4C00, 0x4C01, 0x4C82

Use = Callable[[Disk], Awaitable[Any]]


def loaded(module: str) -> bool:
    return Path(f"/sys/module/{module.replace('-', '_')}").exists()


async def run(*argv: str) -> None:
    process = await asyncio.create_subprocess_exec(*argv)
    assert await process.wait() == 0, argv


async def load(*modules: str) -> None:
    """Load kernel modules that are not loaded yet."""
    for module in modules:
        if not loaded(module):
            await run("insmod", f"/modules/{module}.ko")


def offer_two_queues() -> None:
    """Linux offers one for each of its processors, of which dom0 has one here."""
    MAX_QUEUES.write_text("2")


@contextmanager
def loop_device(content: bytes) -> Iterator[Path]:
    """A block device over a file in memory."""
    IMAGE.write_bytes(content)
    with Path("/dev/loop-control").open("rb") as control:
        path = Path(f"/dev/loop{fcntl.ioctl(control, LOOP_CTL_GET_FREE)}")
    with path.open("r+b") as device, IMAGE.open("r+b") as image:
        fcntl.ioctl(device, LOOP_SET_FD, image.fileno())
        try:
            yield path
        finally:
            fcntl.ioctl(device, LOOP_CLR_FD)
    IMAGE.unlink()


def keys(path: Path) -> dict[str, str]:
    """What xen-blkback has to find in its folder."""
    number = path.stat().st_rdev
    return {
        "physical-device": f"{os.major(number):x}:{os.minor(number):x}",
        "mode": "w",
        "type": "phy",
        "params": str(path),
        "dev": "xvda",
        "device-type": "disk",
    }


def with_linux(
    name: str,
    use: Use,
    *,
    kind: Any = "pvh",
    driver: type[block.BlkFront] = block.BlkFront,
    **options: Any,
) -> Scenario:
    """A scenario in which the guest uses the disk and says what it holds then, and dom0 looks.
    dom0 gives the keys of both ends; the guest, how many seconds it took, and what `use` gave."""
    scenario = Scenario(name)

    async def dom0(xen: Domain) -> dict[str, str]:
        await load("loop", "xen-blkback")
        offer_two_queues()
        guest = await xen.find("guest")
        device = Device("vbd", DEVID, guest, 0)
        told = f"/local/domain/{guest}/data"
        with loop_device(Random(1).randbytes(SIZE)) as path:
            async with asyncio.timeout(PATIENCE):
                await plug(xen, device, back=keys(path), front={"virtual-device": DEVID})
                said = await xen.store.wait_for(f"{told}/digest")
                front = await read_keys(xen.store, "the front end", device.front_path)
                back = await read_keys(xen.store, "the back end", device.back_path)
                await xen.store.write(f"{told}/seen", 1)
                await xen.store.wait_for(f"{told}/closed")
                await unplug(xen, device, within=PATIENCE)
            held = await asyncio.to_thread(IMAGE.read_bytes)
            assert sha256(held).hexdigest() == said
        return {**front, **back}

    async def guest(xen: Domain) -> Any:
        if loaded("xen-blkfront"):  # by another test: it would take the device
            await run("rmmod", "xen-blkfront")
        async with asyncio.timeout(PATIENCE):
            device = await front_device(xen, "vbd", DEVID)
            opening = block.open(xen, device, within=PATIENCE, **options)
            with patch.object(front, "BlkFront", driver):
                async with opening as disk:
                    assert (disk.size, disk.sector_size) == (SIZE, 512)
                    start = xen.loop.time()
                    result = await use(disk)
                    seconds = xen.loop.time() - start
                    await xen.store.write("data/digest", await digest(disk, disk.size))
                    await xen.store.wait_for("data/seen")  # its keys go with it
            assert not xen.grants.open
            await xen.store.write("data/closed", 1)
        return {"seconds": seconds, "result": result}

    scenario.domain("dom0")(dom0)
    scenario.domain("guest", kind=kind)(guest)
    return scenario


async def read_it_all(disk: Disk) -> None:
    assert await digest(disk, disk.size) == sha256(Random(1).randbytes(SIZE)).hexdigest()


def small(operations: int) -> Use:
    return partial(check, operations=operations, tasks=32, most=8)


def large(operations: int) -> Use:
    return partial(check, operations=operations, tasks=8, most=600)


class Unsaid(block.BlkFront):
    """Has no key `protocol`."""

    async def publish(self, back: Keys) -> Written:
        keys = await super().publish(back)
        return {name: keys[name] for name in keys if name != "protocol"}


async def flush_and_discard(disk: Disk) -> dict[str, bool]:
    await disk.write(0, b"\xff" * 65536)
    if disk.can_flush:
        await disk.flush()
    if disk.can_discard:
        await disk.discard(8192, 16384)
        assert await disk.read(0, 65536) == b"\xff" * 8192 + bytes(16384) + b"\xff" * 40960
    return {"flush": disk.can_flush, "discard": disk.can_discard}


same_bytes = with_linux("the same bytes on either side", read_it_all)
model = with_linux("300 reads and writes agree with a model", small(300))
model_long = with_linux("long: ten thousand reads and writes agree with a model", small(10_000))
queues = with_linux(
    "large ones over several queues and long rings", large(20), queues=2, ring_order=4
)
queues_long = with_linux(
    "long: large ones over several queues and long rings", large(320), queues=2, ring_order=4
)
mapped_anew = with_linux(
    "large ones where pages are mapped for each request, from a PV guest",
    large(20),
    kind="pv",
    persistent=False,
)
mapped_anew_long = with_linux(
    "long: large ones where pages are mapped for each request, from a PV guest",
    large(320),
    kind="pv",
    persistent=False,
)
of_32_bits = with_linux("as a 32-bit front end", large(20), protocol="x86_32-abi")
unsaid = with_linux(
    "as a 32-bit front end that does not say so", large(20), driver=Unsaid, protocol="x86_32-abi"
)
of_32_bits_long = with_linux("long: as a 32-bit front end", large(64), protocol="x86_32-abi")
unsaid_long = with_linux(
    "long: as a 32-bit front end that does not say so",
    large(64),
    driver=Unsaid,
    protocol="x86_32-abi",
)
offered = with_linux("flush and discard", flush_and_discard)
