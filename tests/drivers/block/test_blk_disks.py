"""What a block back end can serve: memory, Python objects, a disk that loses its power. Of files
more is in test_blk_file."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable
from errno import EROFS
from pathlib import Path
from random import Random

import pytest
from support.served_disk import CLOCKS, SIZE, finish, image, on, read, write

from activations.drivers.block import FileDisk, MemoryDisk, ObjectDisk, VolatileDisk
from activations.drivers.block.disks import ServedDisk

__all__ = ["image"]


class Source:
    """A Python object as a disk."""

    def __init__(self) -> None:
        self.data = bytearray(SIZE)

    def read(self, offset: int, length: int) -> bytes:
        return bytes(self.data[offset : offset + length])

    def write(self, offset: int, data: bytes) -> None:
        self.data[offset : offset + len(data)] = data


class AsyncSource(Source):
    async def read(self, offset: int, length: int) -> bytes:  # type: ignore[override]
        await asyncio.sleep(0)
        return super().read(offset, length)

    async def write(self, offset: int, data: bytes) -> None:  # type: ignore[override]
        await asyncio.sleep(0)
        super().write(offset, data)


@CLOCKS
@pytest.mark.parametrize("kind", ["file", "memory", "object", "async object", "volatile"])
def test_every_disk_holds_what_was_written_to_it(kind: str, clock: str, image: Path) -> None:
    """Against a model, in pieces of every size."""
    random = Random(1)
    model = bytearray(SIZE)

    async def use(disk: ServedDisk) -> None:
        assert (disk.sectors, disk.sector_size, disk.read_only) == (SIZE // 512, 512, False)
        for _ in range(60):
            offset = random.randrange(SIZE // 512 - 200) * 512
            pieces = [random.randbytes(512 * random.randint(1, 8)) for _ in range(20)]
            await write(disk, offset, *pieces)
            data = b"".join(pieces)
            model[offset : offset + len(data)] = data
            assert await read(disk, offset, *map(len, pieces)) == data
            await finish(disk.flush())
        assert await read(disk, 0, SIZE) == model

    async def main() -> None:
        disks: dict[str, Callable[[], ServedDisk]] = {
            "memory": lambda: MemoryDisk(SIZE),
            "object": lambda: ObjectDisk(Source(), SIZE),
            "async object": lambda: ObjectDisk(AsyncSource(), SIZE),
            "volatile": lambda: VolatileDisk(SIZE),
        }
        if kind != "file":
            return await use(disks[kind]())
        with FileDisk(image) as disk:
            await use(disk)

    on(clock, main)
    if kind == "file":
        assert image.read_bytes() == model


@pytest.mark.parametrize("make", [MemoryDisk, VolatileDisk])
def test_a_disk_in_memory_is_a_copy_in_whole_sectors(make: type[MemoryDisk]) -> None:
    content = bytearray(b"x" * 700)
    disk = make(content)
    content[0] = 0
    assert disk.sectors == 2
    assert bytes(disk.data) == b"x" * 700 + bytes(324)


def test_a_large_discard_in_memory_lets_others_run_and_takes_no_memory_of_its_own() -> None:
    size = 32 << 20
    disk = MemoryDisk(size)
    disk.data[:] = b"x" * size
    turns = 0

    async def main() -> None:
        async def others() -> None:
            nonlocal turns
            while True:
                await asyncio.sleep(0)
                turns += 1

        running = asyncio.create_task(others())
        await finish(disk.discard(512, size - 1024))
        running.cancel()

    tracemalloc.start()
    try:
        on("virtual", main)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert bytes(disk.data) == b"x" * 512 + bytes(size - 1024) + b"x" * 512
    assert turns >= 31
    assert peak < 4 << 20


# Python objects


def test_an_object_that_gives_the_wrong_number_of_bytes_is_an_error() -> None:
    class Short:
        def read(self, offset: int, length: int) -> bytes:
            return bytes(length - 1)

    async def main() -> None:
        with pytest.raises(OSError, match="gave 4095 bytes when asked for 4096"):
            await read(ObjectDisk(Short(), SIZE), 0, 2048, 2048)

    on("virtual", main)


def test_an_object_without_write_is_read_only() -> None:
    class Zeroes:
        def read(self, offset: int, length: int) -> bytes:
            return bytes(length)

    disk = ObjectDisk(Zeroes(), SIZE)
    assert disk.read_only
    with pytest.raises(OSError, match="only be read") as caught:
        disk.write(0, [])
    assert caught.value.errno == EROFS
    assert disk.flush() is None


def test_an_objects_flush_is_called_and_awaited() -> None:
    flushed: list[str] = []

    class Flushed(Source):
        def flush(self) -> None:
            flushed.append("now")

    class FlushedLater(Source):
        async def flush(self) -> None:
            await asyncio.sleep(1)
            flushed.append("later")

    async def main() -> None:
        for source in (Flushed(), FlushedLater()):
            await finish(ObjectDisk(source, SIZE).flush())

    on("virtual", main)
    assert flushed == ["now", "later"]


@pytest.mark.parametrize(("size", "sector_size"), [(1000, 512), (512, 4096), (4096, 1000)])
def test_a_disk_has_whole_sectors(size: int, sector_size: int) -> None:
    with pytest.raises(ValueError, match="a multiple of"):
        ObjectDisk(Source(), size, sector_size=sector_size)


# Power cuts


def cut(survives: Callable[[int], bool]) -> bytes:
    """A flushed disk of a's; then two sectors of b's, then one of c's; then the power goes."""
    disk = VolatileDisk(2048, survives)

    async def main() -> None:
        await write(disk, 0, b"a" * 2048)
        await finish(disk.flush())
        await write(disk, 512, b"b" * 512, b"b" * 512)
        await write(disk, 1024, b"c" * 512)
        assert await read(disk, 0, 2048) == b"a" * 512 + b"b" * 512 + b"c" * 512 + b"a" * 512

    on("virtual", main)
    return bytes(disk.cut_power().data[::512])


def test_a_power_cut_takes_any_write_that_was_not_flushed() -> None:
    assert cut(lambda sector: False) == b"aaaa"
    assert cut(lambda sector: True) == b"abca"
    assert cut(lambda sector: sector == 1) == b"abaa"
    random = Random(1)
    outcomes = {cut(lambda sector: random.random() < 0.5) for _ in range(99)}
    assert outcomes == {b"aaaa", b"abaa", b"aaba", b"abba", b"aaca", b"abca"}


def test_after_a_power_cut_the_disk_goes_on_from_what_was_there() -> None:
    disk = VolatileDisk(1024, lambda sector: sector == 0)

    async def main() -> None:
        await write(disk, 0, b"a" * 1024)
        after = disk.cut_power()
        assert bytes(after.data) == b"a" * 512 + bytes(512)
        await write(after, 512, b"b" * 512)
        assert bytes(after.cut_power().data) == b"a" * 512 + bytes(512)
        await finish(after.flush())
        assert bytes(after.cut_power().data) == b"a" * 512 + b"b" * 512

    on("virtual", main)


def test_a_discard_may_be_lost_as_well() -> None:
    disk = VolatileDisk(b"x" * 512)
    disk.discard(0, 512)
    assert not any(disk.data)
    assert bytes(disk.cut_power().data) == b"x" * 512
