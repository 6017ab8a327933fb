"""The disk of the machine room: an image, the disk it is in dom0, and a guest that reads it all."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

from activations.abi.blkif import SECTOR_SIZE
from activations.demo.figures import Ring
from activations.drivers.block import FileDisk
from activations.drivers.block.disk import Disk
from activations.drivers.block.disks import Buffers, Done

CHUNK = 1 << 15
"""Bytes that are asked for at once."""
AHEAD = 16
"""Reads that are under way."""

Tick = Callable[[], None]


@contextmanager
def made_image(size: int) -> Iterator[Path]:
    """A file of so many bytes that look random and are the same every time."""
    with TemporaryDirectory(prefix="machine-room-") as folder:
        path = Path(folder, "image")
        with path.open("wb") as file:
            for piece in noise(size):
                file.write(piece)
        yield path


def noise(size: int, piece: int = 1 << 20) -> Iterator[bytes]:
    """So many bytes that look random and are the same every time, in pieces."""
    for at in range(0, size, piece):
        yield hashlib.shake_256(b"machine room %d" % at).digest(min(piece, size - at))


async def digest_of(path: Path, size: int, tick: Tick) -> str:
    """SHA-256 of the first `size` bytes, read past all drivers."""
    digest, left = hashlib.sha256(), size
    with path.open("rb") as file:
        while piece := file.read(min(left, CHUNK)):
            digest.update(piece)
            left -= len(piece)
            tick()
            await asyncio.sleep(0)
    return digest.hexdigest()


class Image:
    """A file as a disk, read-only and of whole sectors: what its last one lacks is zeroes.

    `tick` is called for every read.
    """

    sector_size = SECTOR_SIZE
    read_only = True
    discard_granularity = 0

    def __init__(self, file: FileDisk, size: int, tick: Tick) -> None:
        self.sectors = -(-size // SECTOR_SIZE)
        self._file = file
        self._whole = file.sectors * SECTOR_SIZE
        self._last = _last_sector(file.path, self._whole, self.sectors * SECTOR_SIZE)
        self._tick = tick

    def read_into(self, offset: int, buffers: Buffers) -> Done:
        self._tick()
        if offset + sum(map(len, buffers)) > self._whole:
            *others, last = buffers
            last[-SECTOR_SIZE:] = self._last
            buffers = [buffer for buffer in (*others, last[:-SECTOR_SIZE]) if buffer]
        return self._file.read_into(offset, buffers) if buffers else None

    def write(self, offset: int, buffers: Buffers) -> Done:
        raise AssertionError("a back end writes to no disk that is read-only")

    def discard(self, offset: int, length: int) -> Done:
        raise AssertionError("a back end discards nothing of a disk that is read-only")

    def flush(self) -> Done:
        return None


def _last_sector(path: Path, begin: int, end: int) -> bytes:
    """The sector that the file fills in part; nothing where it fills all of them."""
    with path.open("rb") as file:
        file.seek(begin)
        return file.read(end - begin).ljust(end - begin, b"\0")


async def read_all(disk: Disk, size: int, ring: Ring, tick: Tick) -> str:
    """SHA-256 of the first `size` bytes, read with several requests under way at a time."""
    digest = hashlib.sha256()
    begun: deque[asyncio.Task[bytes]] = deque()
    offsets = iter(range(0, size, CHUNK))
    async with asyncio.TaskGroup() as tasks:
        for at in range(0, size, CHUNK):
            while len(begun) < AHEAD and (offset := next(offsets, None)) is not None:
                length = min(CHUNK, disk.size - offset)
                begun.append(tasks.create_task(disk.read(offset, length), name=f"read at {offset}"))
            ring.in_flight = len(begun)
            piece = await begun.popleft()
            digest.update(piece[: size - at])
            ring.count(len(piece), done=min(len(piece), size - at))
            tick()
    ring.in_flight = 0
    return digest.hexdigest()
