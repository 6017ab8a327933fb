"""A disk on a file: what is done at once, what by a thread, and what becomes of what goes wrong."""

from __future__ import annotations

import asyncio
import os
import threading
import weakref
from collections.abc import Awaitable, Callable, Coroutine, Iterator
from contextlib import contextmanager
from errno import EAGAIN, EFBIG, EINVAL, EIO, ENOSPC, EOPNOTSUPP
from pathlib import Path
from random import Random
from resource import RLIMIT_FSIZE, getrlimit, setrlimit
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from support.needs import leave_out
from support.pace import patience
from support.raw_blkfront import RawFront, serving
from support.served_disk import CLOCKS, SIZE, finish, image, on, read, write

from activations.abi.blkif import Op, Status
from activations.drivers.block import FileDisk, file
from activations.drivers.block.disks import Done
from activations.drivers.block.protocol import Segment

__all__ = ["image"]


@pytest.fixture
def on_a_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """The image lies on a device, whatever tests keep their files on."""
    monkeypatch.setattr(file, "_in_memory", lambda fd: False)


# Opening and closing


def test_a_file_that_others_write_or_read_is_locked(image: Path) -> None:
    with FileDisk(image), pytest.raises(BlockingIOError, match="has locked it"):
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


def test_closing_waits_for_the_threads(
    image: Path, on_a_device: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Else they would work on a file that is another's by then."""
    may_end = threading.Event()
    ended: list[bool] = []

    def slow(fd: int) -> None:
        may_end.wait()
        ended.append(os.fstat(fd).st_size == SIZE)

    monkeypatch.setattr(os, "fdatasync", slow)

    async def main() -> None:
        disk = FileDisk(image)
        flushes = [disk.flush() for _ in range(20)]
        threading.Timer(0.05, may_end.set).start()
        disk.close()
        assert ended == [True] * 20
        for done in flushes:
            await finish(done)

    on("wall", main)


# Reading, writing, discarding


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


# Who does it


Answer = Callable[[int], int | None]
"""What the kernel says to a call with these flags: how much it does, None for all; or it raises."""


class Calls:
    """Stands for a function of `os`: notes whether the main thread called it, and with which
    flags."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, name: str, answer: Answer = lambda flags: None
    ) -> None:
        self.seen: list[tuple[bool, int]] = []
        self._answer = answer
        self._function = getattr(os, name)
        monkeypatch.setattr(os, name, self)

    def __call__(self, fd: int, buffers: Any = None, *args: int) -> Any:
        flags = args[1] if len(args) > 1 else 0
        self.seen.append((threading.current_thread() is threading.main_thread(), flags))
        most = self._answer(flags)
        if buffers is None:
            return self._function(fd)
        return self._function(fd, buffers if most is None else [buffers[0][:most]], args[0])


ASKED = (True, os.RWF_NOWAIT)
AT_ONCE = (True, 0)
BY_A_THREAD = (False, 0)


def can_all(flags: int) -> None:
    pass


def can_some(flags: int) -> int | None:
    return 512 if flags else None


def would_wait(flags: int) -> None:
    if flags:
        raise BlockingIOError(EAGAIN, "not at once")


def cannot_tell(number: int) -> Answer:
    def answer(flags: int) -> None:
        if flags:
            raise OSError(number, "cannot be asked")

    return answer


async def twice(disk: FileDisk) -> None:
    """What `Calls` are to see, both ways."""
    for _ in range(2):
        await write(disk, 4096, b"x" * 4096)
        assert await read(disk, 4096, 4096) == b"x" * 4096


@pytest.mark.usefixtures("on_a_device")
@pytest.mark.parametrize(
    ("answer", "seen"),
    [
        (can_all, [ASKED, ASKED]),
        (can_some, [ASKED, BY_A_THREAD] * 2),
        (would_wait, [ASKED, BY_A_THREAD] * 2),
        (cannot_tell(EOPNOTSUPP), [ASKED, BY_A_THREAD, BY_A_THREAD]),
        (cannot_tell(EINVAL), [ASKED, BY_A_THREAD, BY_A_THREAD]),
    ],
)
def test_what_can_be_done_at_once_is_and_the_rest_by_a_thread(
    answer: Answer,
    seen: list[tuple[bool, int]],
    image: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Reads and writes alike; a file system that cannot tell is asked once."""
    reads, writes = (Calls(monkeypatch, name, answer) for name in ("preadv", "pwritev"))

    async def main() -> None:
        with FileDisk(image) as disk:
            await twice(disk)

    on("wall", main)
    assert reads.seen == seen
    assert writes.seen == seen


@pytest.mark.usefixtures("on_a_device")
def test_flushes_and_discards_are_done_by_a_thread(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    flushes = Calls(monkeypatch, "fdatasync")
    monkeypatch.setattr(file, "_punch_hole", lambda fd, *place: os.fdatasync(fd))

    async def main() -> None:
        with FileDisk(image) as disk:
            await finish(disk.flush())
            await finish(disk.discard(0, 4096))

    on("wall", main)
    assert flushes.seen == [BY_A_THREAD, BY_A_THREAD]


@pytest.mark.usefixtures("on_a_device")
def test_on_the_virtual_clock_there_are_no_threads(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = [Calls(monkeypatch, name, would_wait) for name in ("preadv", "pwritev")]
    flushes = Calls(monkeypatch, "fdatasync")

    async def main() -> None:
        with FileDisk(image) as disk:
            await twice(disk)
            assert disk.flush() is None

    on("virtual", main)
    assert [call.seen for call in calls] == [[ASKED, AT_ONCE] * 2] * 2
    assert flushes.seen == [AT_ONCE]


def test_what_is_in_memory_is_done_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """As on /dev/shm, a tmpfs, which cannot be asked and is not."""
    if not os.access("/dev/shm", os.W_OK):
        leave_out("disks on a file system in memory", "mount -t tmpfs tmpfs /dev/shm")
    calls = [Calls(monkeypatch, name, cannot_tell(EOPNOTSUPP)) for name in ("preadv", "pwritev")]
    flushes = Calls(monkeypatch, "fdatasync")

    with TemporaryDirectory(dir="/dev/shm") as folder:
        path = Path(folder, "disk.img")
        path.write_bytes(bytes(SIZE))

        async def main() -> None:
            with FileDisk(path) as disk:
                await twice(disk)
                assert disk.flush() is None

        on("wall", main)
    assert [call.seen for call in calls] == [[AT_ONCE, AT_ONCE]] * 2
    assert flushes.seen == [AT_ONCE]


class Held:
    """Makes a function of `os` wait, where it is not told not to, until it may go on."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
        self.begun, self.may_end = threading.Event(), threading.Event()
        Calls(monkeypatch, name, self._answer)

    def _answer(self, flags: int) -> None:
        would_wait(flags)
        self.begun.set()
        assert self.may_end.wait(patience(10))

    async def has_begun(self) -> None:
        assert await asyncio.to_thread(self.begun.wait, patience(10))


@pytest.mark.usefixtures("on_a_device")
@pytest.mark.parametrize("name", ["pwritev", "preadv", "fdatasync"])
def test_what_waits_keeps_nobody_waiting(
    name: str, image: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither others who use this disk, nor those of other disks, nor a timer."""
    other = tmp_path / "other.img"
    other.write_bytes(b"other" * 4096)
    held = Held(monkeypatch, name)

    async def main() -> None:
        with FileDisk(image) as disk, FileDisk(other) as second:
            work: dict[str, Callable[[], Done]] = {
                "pwritev": lambda: disk.write(0, [memoryview(b"x" * 512)]),
                "preadv": lambda: disk.read_into(0, [memoryview(bytearray(512))]),
                "fdatasync": disk.flush,
            }
            done = work[name]()
            assert isinstance(done, asyncio.Future)
            await held.has_begun()
            if name == "pwritev":
                assert await read(disk, 4096, 512) == bytes(512)
                assert await read(second, 0, 5) == b"other"
            else:
                await write(disk, 4096, b"y" * 512)
                await write(second, 0, b"y" * 512)
            assert not done.done()
            held.may_end.set()
            await done

    on("wall", main)


@pytest.mark.usefixtures("on_a_device")
def test_a_flush_is_answered_when_what_was_written_is_on_the_disk(
    image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And not before, also where a thread had written it."""
    order: list[str] = []
    Calls(monkeypatch, "pwritev", would_wait)
    held = Held(monkeypatch, "fdatasync")
    whole, sync = file._whole, os.fdatasync

    def written(*args: Any) -> None:
        whole(*args)
        order.append("written")

    def synced(fd: int) -> None:
        sync(fd)
        order.append("on the disk")

    monkeypatch.setattr(file, "_whole", written)
    monkeypatch.setattr(os, "fdatasync", synced)

    async def use(front: RawFront) -> None:
        segment = Segment(front.page(b"x" * 512).refs[0], 0, 0)
        assert await front.status(front.request(Op.WRITE, 0, [segment])) == Status.OKAY
        order.append("written, it says")
        flushing = asyncio.create_task(front.flush())
        await held.has_begun()
        for _ in range(10):
            await asyncio.sleep(0)
        assert not flushing.done()
        held.may_end.set()
        assert await flushing == Status.OKAY
        order.append("flushed, it says")

    with FileDisk(image) as disk:
        serving(disk, use, clock="wall")
    assert order == ["written", "written, it says", "on the disk", "flushed, it says"]
    assert image.read_bytes()[:513] == b"x" * 512 + b"\0"


@pytest.mark.usefixtures("on_a_device")
@pytest.mark.parametrize("fails", [False, True])
def test_a_thread_holds_on_to_nothing_once_it_is_done(
    fails: bool, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A page cannot be unmapped while a view of it lives."""

    def answer(flags: int) -> None:
        would_wait(flags)
        if fails:
            raise OSError(EIO, "worn out")

    Calls(monkeypatch, "pwritev", answer)

    async def main() -> None:
        with FileDisk(image) as disk:
            view = memoryview(bytes(512))
            lives = weakref.ref(view)
            done = disk.write(0, [view])
            del view
            assert isinstance(done, asyncio.Future)
            await asyncio.wait([done])
            assert isinstance(done.exception(), OSError) is fails
            del done
            assert lives() is None

    on("wall", main)


# What goes wrong

PLACES = pytest.mark.parametrize("place", ["in a thread", "on the virtual clock", "in memory"])


def run_in(
    place: str, monkeypatch: pytest.MonkeyPatch, main: Callable[[], Coroutine[Any, Any, None]]
) -> None:
    monkeypatch.setattr(file, "_in_memory", lambda fd: place == "in memory")
    on("virtual" if place == "on the virtual clock" else "wall", main)


@PLACES
@pytest.mark.parametrize("number", [ENOSPC, EIO])
@pytest.mark.parametrize("asked", [would_wait, cannot_tell(EOPNOTSUPP)])
@pytest.mark.parametrize("name", ["preadv", "pwritev", "fdatasync"])
def test_what_the_kernel_refuses_is_an_error_wherever_it_is_done(
    name: str, asked: Answer, number: int, place: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the disk goes on."""
    refused = [False]

    def answer(flags: int) -> None:
        asked(flags)
        if refused[0]:
            raise OSError(number, os.strerror(number))

    Calls(monkeypatch, name, answer)

    async def main() -> None:
        with FileDisk(image) as disk:
            work: dict[str, Callable[[], Awaitable[object]]] = {
                "pwritev": lambda: write(disk, 0, bytes(4096)),
                "preadv": lambda: read(disk, 0, 4096),
                "fdatasync": lambda: finish(disk.flush()),
            }
            for refused[0] in (True, False, True):
                if not refused[0]:
                    await work[name]()
                    continue
                with pytest.raises(OSError, match=os.strerror(number)) as caught:
                    await work[name]()
                assert caught.value.errno == number

    run_in(place, monkeypatch, main)


@PLACES
def test_a_file_that_was_cut_short_is_an_error(
    place: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with FileDisk(image) as disk:
            os.truncate(image, 4096)
            with pytest.raises(OSError, match="the file ends at 4096") as caught:
                await read(disk, 0, 8192)
            assert caught.value.errno == EIO

    run_in(place, monkeypatch, main)


@PLACES
def test_a_device_that_is_full_is_an_error(
    place: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The kernel's own word for it, from /dev/full."""

    async def main() -> None:
        with FileDisk(image) as disk:
            full = os.open("/dev/full", os.O_RDWR)
            os.dup2(full, disk._fd)
            os.close(full)
            with pytest.raises(OSError, match="No space left") as caught:
                await write(disk, 0, bytes(4096))
            assert caught.value.errno == ENOSPC

    run_in(place, monkeypatch, main)


@contextmanager
def files_no_longer_than(size: int) -> Iterator[None]:
    """As a file system that is full: what is beyond is not written, by anybody in this process."""
    soft, hard = getrlimit(RLIMIT_FSIZE)
    setrlimit(RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        setrlimit(RLIMIT_FSIZE, (soft, hard))


@PLACES
def test_a_write_that_was_done_in_part_is_an_error(
    place: str, image: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def main() -> None:
        with FileDisk(image) as disk:
            with files_no_longer_than(6144):
                with pytest.raises(OSError, match="too large") as caught:
                    await write(disk, 4096, b"x" * 4096)
                assert caught.value.errno == EFBIG
            assert await read(disk, 4096, 4096) == b"x" * 2048 + bytes(2048)
            await write(disk, 4096, b"x" * 4096)

    run_in(place, monkeypatch, main)
    assert image.read_bytes()[4096:8193] == b"x" * 4096 + b"\0"


@pytest.mark.usefixtures("on_a_device")
@CLOCKS
def test_a_front_end_is_told_that_its_write_was_not_done(clock: Any, image: Path) -> None:
    """And it goes on using the disk."""

    async def use(front: RawFront) -> None:
        with files_no_longer_than(4096):
            assert await front.write(0, b"x" * 4096) == Status.OKAY
            assert await front.write(8, b"y" * 4096) == Status.ERROR
            assert await front.flush() == Status.OKAY
            assert await front.read(0, 9) == b"x" * 4096 + bytes(512)
        assert await front.write(8, b"z" * 4096) == Status.OKAY

    with FileDisk(image) as disk:
        served = serving(disk, use, clock=clock)
    assert served.statistics.errors == 1
    assert not served.failure
    assert image.read_bytes()[:8193] == b"x" * 4096 + b"z" * 4096 + b"\0"
