"""A disk that loses its power: for tests of what has to be there afterwards.

A real disk keeps writes in a cache until it is flushed. When its power goes, what was flushed is
on the medium; of what was not, any sector may be or not be, in any combination, since the disk
writes back in whatever order it likes. A program that holds its promises on this disk, at any
point and with any outcome, holds them.
"""

from __future__ import annotations

from collections.abc import Callable

from activations.abi.blkif import SECTOR_SIZE
from activations.drivers.block.disks import Buffers, Done, MemoryDisk


class VolatileDisk(MemoryDisk):
    """A disk in memory with a cache that only `flush` empties for certain.

    `survives(sector)` decides in a power cut, for each sector written since the last flush, oldest
    first, and for each of its writes, whether that write reached the medium. `lambda sector: False`
    loses all; a seeded `random.Random` or a tape explores.
    """

    def __init__(
        self,
        content: int | bytes | bytearray,
        survives: Callable[[int], bool] = lambda sector: False,
    ) -> None:
        super().__init__(content)
        self._survives = survives
        self._medium = bytearray(self.data)
        self._unflushed: list[tuple[int, bytes]] = []
        self.flushes: int = 0

    def write(self, offset: int, buffers: Buffers) -> Done:
        super().write(offset, buffers)
        self._note(offset, sum(map(len, buffers)))
        return None

    def flush(self) -> Done:
        self._medium[:] = self.data
        self._unflushed.clear()
        self.flushes += 1
        return None

    def discard(self, offset: int, length: int) -> Done:
        self.data[offset : offset + length] = bytes(length)
        self._note(offset, length)
        return None

    def cut_power(self) -> VolatileDisk:
        """What is on the medium, as the disk that is there when the power is back. This one is
        as it was, so that other outcomes can be asked for."""
        medium = bytearray(self._medium)
        for sector, data in self._unflushed:
            if self._survives(sector):
                start = sector * SECTOR_SIZE
                medium[start : start + SECTOR_SIZE] = data
        return VolatileDisk(medium, self._survives)

    def _note(self, offset: int, length: int) -> None:
        for start in range(offset, offset + length, SECTOR_SIZE):
            sector = bytes(self.data[start : start + SECTOR_SIZE])
            self._unflushed.append((start // SECTOR_SIZE, sector))
