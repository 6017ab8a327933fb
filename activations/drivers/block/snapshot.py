"""A disk over another one, which stays as it is: what is written goes into a layer of its own.

The layer is a file without a name, as long as the disk, in which only what was written takes room.
A map says, a byte for each sector, which of the two has the sector now; its own pages, too, come to
be where something is written. A write is marked in the map once it is done: until then, and after a
write that failed, a sector that was never written before is the other disk's.
"""

from __future__ import annotations

import asyncio
import mmap
import os
from collections.abc import Awaitable, Iterator, Sequence
from pathlib import Path
from tempfile import mkstemp

from activations.abi.blkif import SECTOR_SIZE
from activations.drivers.block.disks import Buffers, Done, ServedDisk
from activations.drivers.block.file import FileDisk
from activations.own import own

_BASE, _LAYER = b"\0", b"\1"


class SnapshotDisk:
    """`base` as it is now, to be written to at will: `base` never hears of it, and what was written
    is gone when this is closed. Close it when it is not served any more: use `with`.

    `base` stays its owner's. The layer is in `folder`, or else where temporary files are. Raises
    `OSError` where it cannot be.
    """

    read_only = False
    discard_granularity = 0

    def __init__(self, base: ServedDisk, *, folder: str | os.PathLike[str] | None = None) -> None:
        self.sectors: int = base.sectors
        self.sector_size: int = base.sector_size
        self._base = base
        size = base.sectors * SECTOR_SIZE
        private = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS  # shared pages come to be by being read
        self._map = mmap.mmap(-1, max(1, size // base.sector_size), flags=private)
        self._layer = _file_without_a_name(size, folder)

    def __enter__(self) -> SnapshotDisk:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()

    def close(self) -> None:
        """Throw away what was written. Twice is harmless."""
        self._layer.close()
        self._map.close()

    def read_into(self, offset: int, buffers: Buffers) -> Done:
        waiting: list[Awaitable[None]] = []
        for disk, at, pieces in self._parts(offset, buffers):
            try:
                done = disk.read_into(at, pieces)
            except Exception as error:
                if not waiting:
                    raise
                done = _failed(error)  # once those have ended that write into the same pages
            if done is not None:
                waiting.append(done)
        if len(waiting) < 2:
            return waiting[0] if waiting else None
        return _all_of(waiting)

    def write(self, offset: int, buffers: Buffers) -> Done:
        first = offset // self.sector_size
        count = sum(map(len, buffers)) // self.sector_size
        done = self._layer.write(offset, buffers)
        if done is None:
            self._map[first : first + count] = _LAYER * count
            return None
        work = asyncio.ensure_future(done)

        def written(work: asyncio.Future[None]) -> None:
            failed = work.cancelled() or work.exception() is not None
            if not failed and not self._map.closed:
                self._map[first : first + count] = _LAYER * count

        work.add_done_callback(written)
        return work

    def flush(self) -> Done:
        return None

    def discard(self, offset: int, length: int) -> Done:
        return None

    def _parts(
        self, offset: int, buffers: Buffers
    ) -> Iterator[tuple[ServedDisk, int, list[memoryview]]]:
        """Who has what, in pieces as long as can be."""
        size = self.sector_size
        at, end = offset // size, (offset + sum(map(len, buffers))) // size
        rest = list(buffers)
        while at < end:
            written = self._map[at : at + 1] == _LAYER
            other = self._map.find(_BASE if written else _LAYER, at, end)
            stop = end if other < 0 else other
            pieces, rest = _cut(rest, (stop - at) * size)
            yield self._layer if written else self._base, at * size, pieces
            at = stop


def _file_without_a_name(size: int, folder: str | os.PathLike[str] | None) -> FileDisk:
    descriptor, name = mkstemp(prefix="activations-snapshot-", dir=folder)
    try:
        os.truncate(descriptor, size)
        return FileDisk(name, format="raw")
    finally:
        os.close(descriptor)
        Path(name).unlink()


def _cut(buffers: Sequence[memoryview], length: int) -> tuple[list[memoryview], list[memoryview]]:
    """So many bytes of them, and the rest."""
    head: list[memoryview] = []
    for number, buffer in enumerate(buffers):
        if length < len(buffer):
            if length:
                head.append(buffer[:length])
            return head, [buffer[length:], *buffers[number + 1 :]]
        head.append(buffer)
        length -= len(buffer)
    return head, []


def _failed(error: Exception) -> asyncio.Future[None]:
    work: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    work.set_exception(error)
    return work


def _all_of(waiting: Sequence[Awaitable[None]]) -> asyncio.Future[None]:
    """Done when the last of them is, for they write into the same pages; fails as the first that
    did."""
    works = [asyncio.ensure_future(each) for each in waiting]
    both: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    left = set(works)

    def ended(work: asyncio.Future[None]) -> None:
        left.discard(work)
        if left or both.done():
            return
        failures = [each.exception() for each in works if not each.cancelled()]
        if failure := next(filter(None, failures), None):
            both.set_exception(failure)
        elif any(each.cancelled() for each in works):
            both.cancel()
        else:
            both.set_result(None)

    for work in works:
        if isinstance(work, asyncio.Task):
            own(work)
        work.add_done_callback(ended)
    return both
