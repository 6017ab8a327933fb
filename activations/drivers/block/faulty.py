"""A disk in a world where disks are slow, fail, and lose their power: for the explorer.

The disk that is served is wrapped where such faults may happen, and only there. What it has been
given to write since the last flush is in its cache: when its power goes, none of that is on the
medium, or every other sector of it, and the operation that met it fails. Then it is there again, as
a disk behind a bus that was reset.
"""

from __future__ import annotations

import asyncio
from errno import EIO
from inspect import isawaitable

from activations import promises
from activations.drivers.block.disks import Buffers, Done, ServedDisk

FAULTS = ("slow", "failing", "power cut", "torn by a power cut")
SLOW_SECONDS = 0.01


def wrapped(disk: ServedDisk) -> ServedDisk:
    """The disk as it is served: with faults, if somebody explores who has some."""
    return FaultyDisk(disk) if promises.faulty("disks") else disk


class FaultyDisk:
    """Another disk, which keeps its promises and no more."""

    def __init__(self, disk: ServedDisk) -> None:
        self._disk = disk
        self._flushed: dict[int, bytes] = {}
        """What the medium holds of each sector that was written since the last flush."""

    @property
    def sectors(self) -> int:
        return self._disk.sectors

    @property
    def sector_size(self) -> int:
        return self._disk.sector_size

    @property
    def read_only(self) -> bool:
        return self._disk.read_only

    @property
    def discard_granularity(self) -> int:
        return self._disk.discard_granularity

    async def read_into(self, offset: int, buffers: Buffers) -> None:
        await self._may_go_wrong("read")
        await _done(self._disk.read_into(offset, buffers))

    async def write(self, offset: int, buffers: Buffers) -> None:
        await self._may_go_wrong("write")
        await self._remember(offset, sum(map(len, buffers)))
        await _done(self._disk.write(offset, buffers))

    async def flush(self) -> None:
        await self._may_go_wrong("flush")
        before, self._flushed = self._flushed, {}
        try:
            await _done(self._disk.flush())
        except BaseException:
            self._flushed |= before
            raise

    async def discard(self, offset: int, length: int) -> None:
        await self._may_go_wrong("discard")
        await self._remember(offset, length)
        await _done(self._disk.discard(offset, length))

    async def _may_go_wrong(self, what: str) -> None:
        match promises.fault("disks", f"disk {what}", *FAULTS):
            case "slow":
                await asyncio.sleep(SLOW_SECONDS)
            case "failing":
                raise OSError(EIO, f"the disk does not {what}")
            case "power cut":
                await self._lose_power(every=1, what=what)
            case "torn by a power cut":
                await self._lose_power(every=2, what=what)

    async def _remember(self, offset: int, length: int) -> None:
        for start in range(offset, offset + length, self.sector_size):
            if start not in self._flushed:
                held = bytearray(self.sector_size)
                await _done(self._disk.read_into(start, [memoryview(held)]))
                self._flushed.setdefault(start, bytes(held))

    async def _lose_power(self, every: int, what: str) -> None:
        lost, self._flushed = list(self._flushed.items())[::every], {}
        for start, held in lost:
            await _done(self._disk.write(start, [memoryview(held)]))
        raise OSError(EIO, f"the disk lost its power, and does not {what}")


async def _done(done: Done) -> None:
    if isawaitable(done):
        await done


def served(disk: FaultyDisk) -> ServedDisk:
    """Have the type checker hold it against the protocol."""
    return disk
