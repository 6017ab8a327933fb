"""A disk beside a model of it, used by several tasks at once: what was written has to be read."""

from __future__ import annotations

import asyncio
from hashlib import sha256
from random import Random

from activations.drivers.block import Disk

SECTOR = 512


async def check(
    disk: Disk, operations: int, *, tasks: int = 8, most: int = 64, seed: int = 1
) -> None:
    """So many random reads and writes in all, half and half, of 1 to `most` sectors, by tasks that
    have a part of the disk each; then the whole disk is read and compared."""
    share = disk.sectors // tasks
    parts = [bytearray(share * SECTOR) for _ in range(tasks)]
    async with asyncio.TaskGroup() as group:
        for number, part in enumerate(parts):
            start, random = number * share * SECTOR, Random(seed * 1000 + number)
            group.create_task(_use(disk, start, part, operations // tasks, most, random))
    whole = b"".join(parts)
    assert await digest(disk, len(whole)) == sha256(whole).hexdigest()


async def digest(disk: Disk, length: int, *, step: int = 1 << 18) -> str:
    """SHA-256 of the disk's first bytes."""
    summed = sha256()
    for start in range(0, length, step):
        summed.update(await disk.read(start, min(step, length - start)))
    return summed.hexdigest()


async def _use(
    disk: Disk, start: int, part: bytearray, operations: int, most: int, random: Random
) -> None:
    await disk.write(start, part)
    for _ in range(operations):
        size = random.randint(1, most) * SECTOR
        at = random.randrange((len(part) - size) // SECTOR + 1) * SECTOR
        if random.random() < 0.5:
            part[at : at + size] = random.randbytes(size)
            await disk.write(start + at, part[at : at + size])
        else:
            assert await disk.read(start + at, size) == part[at : at + size]
