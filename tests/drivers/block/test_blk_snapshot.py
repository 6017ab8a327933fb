"""A snapshot: what is written is read back, and the disk below it stays as it is."""

from __future__ import annotations

import asyncio
import errno
from collections.abc import Iterator
from pathlib import Path
from random import Random
from typing import Any

import pytest

from activations.drivers.block import FileDisk, MemoryDisk, ObjectDisk, SnapshotDisk
from activations.drivers.block.disks import Done

SECTORS = 64
CONTENT = Random(1).randbytes(SECTORS * 512)


class Slow:
    """The content, some turns later."""

    async def read(self, offset: int, length: int) -> bytes:
        for _ in range(offset // 512 % 3):
            await asyncio.sleep(0)
        return CONTENT[offset : offset + length]


@pytest.fixture(params=["memory", "slow", "file"])
def base(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Any]:
    if request.param == "memory":
        yield MemoryDisk(CONTENT, read_only=True)
    elif request.param == "slow":
        yield ObjectDisk(Slow(), len(CONTENT))
    else:
        path = tmp_path / "image"
        path.write_bytes(CONTENT)
        with FileDisk(path, read_only=True, format="raw") as disk:
            yield disk
        assert path.read_bytes() == CONTENT


async def ended(done: Done) -> None:
    if done is not None:
        await done


def pieces(data: bytearray, chance: Random) -> list[memoryview]:
    """The same bytes, as several buffers of whole sectors."""
    view, at, found = memoryview(data), 0, []
    while at < len(data):
        length = 512 * chance.randint(1, 4)
        found.append(view[at : at + length])
        at += length
    return found


async def read(disk: Any, offset: int, length: int, chance: Random) -> bytes:
    data = bytearray(length)
    await ended(disk.read_into(offset, pieces(data, chance)))
    return bytes(data)


@pytest.mark.parametrize("seed", range(3))
def test_it_reads_as_a_disk_that_was_written_to(base: Any, seed: int) -> None:
    async def main() -> None:
        chance, model = Random(seed), MemoryDisk(CONTENT)
        with SnapshotDisk(base) as disk:
            assert (disk.sectors, disk.read_only) == (SECTORS, False)
            for _ in range(150):
                first = chance.randrange(SECTORS)
                offset, length = first * 512, 512 * chance.randint(1, SECTORS - first)
                if chance.random() < 0.4:
                    length = min(length, 4 * 512)
                    data = bytearray(chance.randbytes(length))
                    await ended(disk.write(offset, pieces(data, chance)))
                    model.write(offset, [memoryview(data)])
                else:
                    found = await read(disk, offset, length, chance)
                    assert found == await read(model, offset, length, chance)
        assert await read(base, 0, len(CONTENT), chance) == CONTENT

    asyncio.run(main())


def test_a_write_that_failed_leaves_what_was_there(
    base: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def full() -> None:
        await asyncio.sleep(0)
        raise OSError(errno.ENOSPC, "the layer is full")

    async def main() -> None:
        with SnapshotDisk(base) as disk:
            monkeypatch.setattr(disk._layer, "write", lambda offset, buffers: full())
            with pytest.raises(OSError, match="the layer is full"):
                await ended(disk.write(0, [memoryview(bytes(1024))]))
            assert await read(disk, 0, 2048, Random(0)) == CONTENT[:2048]

    asyncio.run(main())


def test_a_read_that_fails_in_one_part_ends_when_all_parts_have() -> None:
    """They write into the same pages, which are given back then."""
    ends: list[int] = []

    class Failing:
        async def read(self, offset: int, length: int) -> bytes:
            if offset == 0:
                raise OSError(errno.EIO, "bad sector")
            for _ in range(5):
                await asyncio.sleep(0)
            ends.append(offset)
            return bytes(length)

    async def main() -> None:
        with SnapshotDisk(ObjectDisk(Failing(), len(CONTENT))) as disk:
            await ended(disk.write(512, [memoryview(bytes(512))]))
            with pytest.raises(OSError, match="bad sector"):
                await ended(disk.read_into(0, [memoryview(bytearray(2048))]))
            assert ends == [1024]

    asyncio.run(main())


def test_a_part_that_fails_at_once_is_told_when_all_parts_have_ended(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    ends: list[str] = []

    class Failing:
        def read(self, offset: int, length: int) -> bytes:
            raise OSError(errno.EIO, "bad sector")

    async def slow() -> None:
        await asyncio.sleep(0)
        ends.append("layer")

    async def main() -> None:
        with SnapshotDisk(ObjectDisk(Failing(), len(CONTENT))) as disk:
            await ended(disk.write(0, [memoryview(bytes(512))]))
            monkeypatch.setattr(disk._layer, "read_into", lambda offset, buffers: slow())
            with pytest.raises(OSError, match="bad sector"):
                await ended(disk.read_into(0, [memoryview(bytearray(1024))]))
            assert ends == ["layer"]

    asyncio.run(main())


def shared_memory() -> int:
    """Bytes that this process has of memory that is shared: what a map is that nobody keeps."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("RssShmem:")[2].split()[0]) << 10


def test_what_is_only_read_takes_no_memory() -> None:
    class Zeroes:
        def read(self, offset: int, length: int) -> bytes:
            return bytes(length)

    before = shared_memory()
    with SnapshotDisk(ObjectDisk(Zeroes(), 16 << 30)) as disk:
        for offset in range(0, 16 << 30, 4096 * 512):
            assert disk.read_into(offset, [memoryview(bytearray(512))]) is None
        assert shared_memory() - before < 1 << 20


def test_a_disk_that_is_larger_than_can_be_has_no_layer() -> None:
    class Huge:
        sectors, sector_size = 1 << 52, 512

    before = set(Path("/proc/self/fd").iterdir())
    with pytest.raises(OSError, match=r"Cannot allocate memory|File too large"):
        SnapshotDisk(Huge())  # type: ignore[arg-type]
    assert len(set(Path("/proc/self/fd").iterdir())) == len(before)


def test_its_layer_takes_no_room_until_it_is_written_and_has_no_name(tmp_path: Path) -> None:
    with SnapshotDisk(MemoryDisk(1 << 20), folder=tmp_path):
        assert list(tmp_path.iterdir()) == []


def test_a_layer_that_cannot_be_says_so(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        SnapshotDisk(MemoryDisk(512), folder=tmp_path / "none")
