"""Python's back end in dom0 before the xen-blkfront of a guest's Linux: for
test_blkback_linux.py."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from functools import partial
from hashlib import sha256
from mmap import mmap
from pathlib import Path
from typing import Any

from patience import patience

from activations import Domain, Scenario
from activations.drivers.block import BlkBack, FileDisk, ObjectDisk
from activations.drivers.block.disks import ServedDisk
from activations.drivers.block.errors import ImageInUse
from activations.xenbus import BackEnd, Device, plug, unplug

DEVID = 51712
"""xvda."""
NODE = Path("/dev/xvda")
MOUNT = Path("/tmp/xvda")
IMAGE = Path("/run/xvda.img")
MODULES = ("crc16", "crc32c_generic", "mbcache", "jbd2", "ext4")
PATIENCE = patience(240)
MIB = 1 << 20


async def command(*argv: str) -> str:
    """Run a program to its end; what it printed. A failure is an error with all of it."""
    process = await asyncio.create_subprocess_exec(
        *argv, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    text = output.decode(errors="replace")
    assert process.returncode == 0, f"{argv} ended with {process.returncode}: {text}"
    return text


async def until(condition: Callable[[], bool], what: str) -> None:
    for _ in range(600):
        if condition():
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"never: {what}")


def loaded() -> set[str]:
    text = Path("/proc/modules").read_text()
    return {line.split()[0] for line in text.splitlines()}


async def load(*modules: str) -> None:
    present = await asyncio.to_thread(loaded)
    for module in modules:
        if module not in present:
            await command("insmod", f"/modules/{module}.ko")


async def load_blkfront(parameters: Sequence[str]) -> None:
    await load(*MODULES)
    if "xen_blkfront" in await asyncio.to_thread(loaded):  # by another test, with other parameters
        await unload_blkfront()
    await command("insmod", "/modules/xen-blkfront.ko", *parameters)


async def unload_blkfront() -> None:
    """So that the kernel leaves the devices of others alone."""
    with suppress(AssertionError):
        await command("umount", str(MOUNT))
    for _ in range(100):
        with suppress(AssertionError):  # as long as a disk is on its way out
            await command("rmmod", "xen_blkfront")
            return
        await asyncio.sleep(0.1)
    raise AssertionError("xen-blkfront cannot be unloaded: its disk is in use")


async def tell(xen: Domain, word: str) -> None:
    """The guest's turn is over."""
    await xen.store.write("data/said", word)


async def told(xen: Domain, guest: int, word: str) -> None:
    await xen.store.wait_for(f"/local/domain/{guest}/data/said", lambda said: said == word)


async def serve_until(xen: Domain, guest: int, disk: ServedDisk, word: str) -> BlkBack:
    """Plug the disk in, serve it until the guest says the word, and unplug it."""
    device = Device("vbd", DEVID, guest, 0, served_as="pyvbd")
    front = {"virtual-device": DEVID, "device-type": "disk"}
    await plug(xen, device, front=front, back={"mode": "w", "removable": 1})
    back = BlkBack(xen, device, disk)
    async with BackEnd(xen, device, back) as end:
        await end.connected(60)
        await told(xen, guest, word)
        await unplug(xen, device)
    assert not xen.grants.open
    return back


def two(
    name: str,
    serve: Callable[[Domain, int], Awaitable[Any]],
    use: Callable[[Domain], Awaitable[Any]],
    *parameters: str,
) -> Scenario:
    """`parameters` are those of the kernel's module."""
    scenario = Scenario(name)

    async def dom0(xen: Domain) -> Any:
        guest = await xen.find("guest")
        async with asyncio.timeout(PATIENCE):
            return await serve(xen, guest)

    async def guest(xen: Domain) -> Any:
        await load_blkfront(parameters)
        try:
            async with asyncio.timeout(PATIENCE):
                return await use(xen)
        finally:
            await unload_blkfront()

    scenario.domain("dom0")(dom0)
    scenario.domain("guest")(guest)
    return scenario


# A file system


@contextmanager
def image(size: int) -> Iterator[None]:
    """A file of zeroes that takes no room yet."""
    IMAGE.touch()
    try:
        os.truncate(IMAGE, size)
        yield
    finally:
        IMAGE.unlink()


def make_files(total: int) -> dict[str, str]:
    """So many bytes in files of many sizes; their sums."""
    sums = {}
    sizes = [1, 511, 4096, 4097, 100_001, MIB, 3 * MIB + 5]
    left, number = total, 0
    while left:
        size = min(sizes[number % len(sizes)], left)
        folder = MOUNT / f"folder-{number % 5}"
        folder.mkdir(exist_ok=True)
        data = os.urandom(size)
        (folder / f"file-{number}").write_bytes(data)
        sums[f"{folder.name}/file-{number}"] = sha256(data).hexdigest()
        left, number = left - size, number + 1
    return sums


def sums_of_files() -> dict[str, str]:
    return {
        str(path.relative_to(MOUNT)): sha256(path.read_bytes()).hexdigest()
        for path in MOUNT.glob("folder-*/*")
    }


async def serve_a_file_twice(xen: Domain, guest: int, *, total: int) -> Any:
    """From the same file, as another device each time for all that the guest knows."""
    with image(2 * total), FileDisk(IMAGE) as disk:
        first = await serve_until(xen, guest, disk, "written")
        await told(xen, guest, "gone")
        second = await serve_until(xen, guest, disk, "read")
    assert first.statistics().sectors_written * 512 > total
    assert second.statistics().sectors_read * 512 > total
    assert first.statistics().flushes > 0
    assert first.statistics().errors == second.statistics().errors == 0
    return [repr(first.statistics()), repr(second.statistics())]


async def use_a_file_system(xen: Domain, *, total: int) -> None:
    await until(NODE.exists, "the disk appears")
    await command("mkfs.ext4", "-q", "-F", str(NODE))
    await command("mkdir", "-p", str(MOUNT))
    await command("mount", "-t", "ext4", str(NODE), str(MOUNT))
    sums = await asyncio.to_thread(make_files, total)
    await command("umount", str(MOUNT))
    await command("e2fsck", "-f", "-n", str(NODE))
    await tell(xen, "written")
    await until(lambda: not NODE.exists(), "the disk goes")
    await tell(xen, "gone")
    await until(NODE.exists, "the disk is back")
    await command("e2fsck", "-f", "-n", str(NODE))
    await command("mount", "-t", "ext4", "-o", "ro", str(NODE), str(MOUNT))
    assert await asyncio.to_thread(sums_of_files) == sums
    await command("umount", str(MOUNT))
    await tell(xen, "read")


def file_system(name: str, total: int) -> Scenario:
    """A file system twice as large as what is in its files."""
    return two(
        name, partial(serve_a_file_twice, total=total), partial(use_a_file_system, total=total)
    )


files = file_system("a_file_system_survives", 8 * MIB)
files_long = file_system("long: a_file_system_survives", 64 * MIB)


# A Python object, through the longest ring and the largest requests, without persistent grants


class Pattern:
    """16 MiB that tell where they lie; those who ask wait a little."""

    size = 16 * MIB

    @staticmethod
    def content(offset: int, length: int) -> bytes:
        return b"".join(at.to_bytes(512, "big") for at in range(offset, offset + length, 512))

    async def read(self, offset: int, length: int) -> bytes:
        await asyncio.sleep(0)
        return self.content(offset, length)


async def serve_a_pattern(xen: Domain, guest: int) -> None:
    back = await serve_until(xen, guest, ObjectDisk(Pattern(), Pattern.size), "read")
    figures = back.statistics()
    assert figures.errors == 0
    assert figures.sectors_read * 512 >= Pattern.size
    assert figures.sectors_read / figures.requests > 512, "requests were small"


def read_it_all() -> str:
    """In pieces of 1 MiB, past the page cache: each comes as one request."""
    descriptor = os.open(NODE, os.O_RDONLY | os.O_DIRECT)
    found = sha256()
    try:
        with mmap(-1, MIB) as buffer:
            while os.readv(descriptor, [buffer]):
                found.update(buffer)
    finally:
        os.close(descriptor)
    return found.hexdigest()


def is_read_only() -> bool:
    """Whether Linux knows that it is."""
    return Path("/sys/block/xvda/ro").read_text().strip() == "1"


async def use_a_pattern(xen: Domain) -> None:
    await until(NODE.exists, "the disk appears")
    wanted = sha256(Pattern.content(0, Pattern.size)).hexdigest()
    assert await asyncio.to_thread(read_it_all) == wanted
    assert await asyncio.to_thread(is_read_only), "an object without write is read-only"
    await tell(xen, "read")


pattern = two(
    "a_python_object_is_read_as_a_disk",
    serve_a_pattern,
    use_a_pattern,
    *("max_ring_page_order=4", "max_indirect_segments=256", "feature_persistent=0"),
)


# A block device of dom0's

block_device = Scenario("a_block_device_is_served_unless_it_is_mounted")
LOOP = "/dev/loop7"


@block_device.domain("dom0")
async def use_a_block_device(xen: Domain) -> None:
    await load("loop", *MODULES)
    with image(8 * MIB):
        await command("losetup", LOOP, str(IMAGE))
        try:
            await check_device()
            await command("mkfs.ext4", "-q", "-F", LOOP)
            await command("mkdir", "-p", str(MOUNT))
            await command("mount", "-t", "ext4", LOOP, str(MOUNT))
            try:
                assert refused_as_mounted()
            finally:
                await command("umount", str(MOUNT))
        finally:
            await command("losetup", "-d", LOOP)


async def check_device() -> None:
    """It is as large as its file, and holds what was written but for what was discarded."""
    data = os.urandom(MIB)
    with FileDisk(LOOP) as disk:
        assert (disk.sectors, disk.sector_size) == (8 * MIB // 512, 512)
        buffer = bytearray(2 * MIB)
        for work in (
            partial(disk.write, MIB, [memoryview(data)]),
            disk.flush,
            partial(disk.discard, MIB, 4096),
            partial(disk.read_into, MIB, [memoryview(buffer)]),
        ):
            done = work()
            if done is not None:
                await done
        assert buffer == bytes(4096) + data[4096:] + bytes(MIB)


def refused_as_mounted() -> bool:
    try:
        FileDisk(LOOP).close()
    except ImageInUse as error:
        return str(MOUNT) in str(error)
    return False
