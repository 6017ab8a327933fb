"""The disk of the machine room: an image, the disk it is in dom0, and a guest that reads it all."""

from __future__ import annotations

import asyncio
import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

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
    """A file as a disk that is only read. `tick` is called for every read."""

    read_only = True
    discard_granularity = 0

    def __init__(self, file: FileDisk, tick: Tick) -> None:
        self.sectors: int = file.sectors
        self.sector_size: int = file.sector_size
        self._file = file
        self._tick = tick

    def read_into(self, offset: int, buffers: Buffers) -> Done:
        self._tick()
        return self._file.read_into(offset, buffers)

    def write(self, offset: int, buffers: Buffers) -> Done:
        raise AssertionError("a back end writes to no disk that is read-only")

    def discard(self, offset: int, length: int) -> Done:
        raise AssertionError("a back end discards nothing of a disk that is read-only")

    def flush(self) -> Done:
        return None


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
