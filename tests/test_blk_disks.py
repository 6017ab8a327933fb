"""What a block back end can serve: files, memory, Python objects, a disk that loses its power."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Awaitable, Callable
from errno import EAGAIN, EIO, EOPNOTSUPP, EROFS
from pathlib import Path
from random import Random
from typing import Any

import pytest

import activations
from activations import Domain
from activations.drivers.block import FileDisk, MemoryDisk, ObjectDisk, VolatileDisk
from activations.drivers.block.disks import Done, ServedDisk

SIZE = 1 << 20
CLOCKS = pytest.mark.parametrize("clock", ["virtual", "wall"])


async def finish(done: Done) -> None:
    if done is not None:
        await done


async def write(disk: ServedDisk, offset: int, *pieces: bytes) -> None:
    await finish(disk.write(offset, [memoryview(piece) for piece in pieces]))


async def read(disk: ServedDisk, offset: int, *lengths: int) -> bytes:
    pieces = [bytearray(length) for length in lengths]
    await finish(disk.read_into(offset, [memoryview(piece) for piece in pieces]))
    return b"".join(pieces)


def on(clock: str, main: Callable[[], Awaitable[None]]) -> None:
    async def run(xen: Domain) -> None:
        await main()

    activations.run(run, clock=clock)


@pytest.fixture
def image(tmp_path: Path) -> Path:
    path = tmp_path / "disk.img"
    path.write_bytes(bytes(SIZE))
    return path


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


# Files


def test_a_file_that_others_write_or_read_is_locked(image: Path) -> None:
    with FileDisk(image), pytest.raises(BlockingIOError):
        FileDisk(image, read_only=True)
    reader = FileDisk(image, read_only=True)
    with reader, FileDisk(image, read_only=True), pytest.raises(BlockingIOError):
        FileDisk(image)
    with FileDisk(image) as disk:
        assert disk.sectors == SIZE // 512


def test_what_is_no_file_cannot_be_served(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="neither a file nor a block device"):
        FileDisk(tmp_path)
    with pytest.raises(FileNotFoundError):
        FileDisk(tmp_path / "nothing")


def test_a_file_is_closed_once_however_often_that_is_asked(image: Path) -> None:
    disk = FileDisk(image)
    disk.close()
    disk.close()


@CLOCKS
def test_a_file_that_was_cut_short_is_an_error(clock: str, image: Path) -> None:
    async def main() -> None:
        with FileDisk(image) as disk:
            os.truncate(image, 4096)
            with pytest.raises(OSError, match="the file ends at 4096") as caught:
                await read(disk, 0, 8192)
            assert caught.value.errno == EIO

    on(clock, main)


def test_more_buffers_than_a_call_takes_are_read_and_written(image: Path) -> None:
    data = Random(2).randbytes(1500 * 512)

    async def main() -> None:
        with FileDisk(image) as disk:
            await write(disk, 512, *[data[at : at + 512] for at in range(0, len(data), 512)])
            assert await read(disk, 512, *[512] * 1500) == data

    on("virtual", main)


def test_what_is_discarded_takes_no_room(image: Path) -> None:
    image.write_bytes(b"x" * SIZE)
    sizes: list[os.stat_result] = []

    async def main() -> None:
        with FileDisk(image) as disk:
            await finish(disk.flush())
            sizes.append(await asyncio.to_thread(image.stat))
            await finish(disk.discard(0, SIZE // 2))
            sizes.append(await asyncio.to_thread(image.stat))
            assert await read(disk, 0, SIZE) == bytes(SIZE // 2) + b"x" * (SIZE // 2)
            await finish(disk.discard(0, 0))

    on("wall", main)
    before, after = sizes
    assert after.st_blocks < before.st_blocks
    assert after.st_size == before.st_size


def record_threads(monkeypatch: pytest.MonkeyPatch, name: str) -> list[bool]:
    """For each call of a function of `os`: whether it was made in the main thread."""
    calls: list[bool] = []
    function = getattr(os, name)

    def recorded(*args: Any) -> Any:
        calls.append(threading.current_thread() is threading.main_thread())
        return function(*args)

    monkeypatch.setattr(os, name, recorded)
    return calls


def test_a_flush_is_done_by_a_thread(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = record_threads(monkeypatch, "fdatasync")

    async def main() -> None:
        with FileDisk(image) as disk:
            await finish(disk.flush())

    on("wall", main)
    on("virtual", main)
    assert calls == [False, True], "on the virtual clock there are no threads"


class Storage:
    """Stands for `os.preadv`: as a page cache that holds some, or as a file system that cannot
    tell what it holds."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, *, cached: int = 0, tells: bool = True):
        self.calls: list[tuple[bool, int]] = []
        self.cached = cached
        self.tells = tells
        self.preadv = os.preadv
        monkeypatch.setattr(os, "preadv", self)

    def __call__(self, fd: int, buffers: Any, offset: int, flags: int = 0) -> int:
        self.calls.append((threading.current_thread() is threading.main_thread(), flags))
        if flags:
            if not self.tells:
                raise OSError(EOPNOTSUPP, "cannot tell")
            if not self.cached:
                raise BlockingIOError(EAGAIN, "not at hand")
            return self.preadv(fd, [buffers[0][: self.cached]], offset)
        return self.preadv(fd, buffers, offset)


@pytest.mark.parametrize("cached", [0, 512])
def test_what_the_page_cache_lacks_is_read_by_a_thread(
    cached: int, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """All of it, or what is missing at the end."""
    image.write_bytes(b"x" * SIZE)
    storage = Storage(monkeypatch, cached=cached)

    async def main() -> None:
        with FileDisk(image) as disk:
            assert await read(disk, 0, 4096) == b"x" * 4096

    on("wall", main)
    assert storage.calls == [(True, os.RWF_NOWAIT), (False, 0)]


def test_a_file_system_that_cannot_tell_is_asked_once(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    storage = Storage(monkeypatch, tells=False)

    async def main() -> None:
        with FileDisk(image) as disk:
            for _ in range(2):
                assert await read(disk, 0, 4096) == bytes(4096)

    on("wall", main)
    assert storage.calls == [(True, os.RWF_NOWAIT), (True, 0), (True, 0)]


def test_closing_waits_for_the_threads(image: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Else they would work on a file that is another's by then."""
    may_end = threading.Event()
    ended: list[bool] = []

    def slow(fd: int) -> None:
        may_end.wait(5)
        ended.append(os.fstat(fd).st_size == SIZE)

    monkeypatch.setattr(os, "fdatasync", slow)

    async def main() -> None:
        disk = FileDisk(image)
        done = disk.flush()
        threading.Timer(0.05, may_end.set).start()
        disk.close()
        assert ended == [True]
        await finish(done)

    on("wall", main)


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
    with pytest.raises(ValueError, match="cannot be"):
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
