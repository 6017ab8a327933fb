"""A block back end whose disk takes its time, or fails, or whose front end goes meanwhile."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from errno import EAGAIN, EIO, EOPNOTSUPP
from pathlib import Path

import pytest
from support.pace import patience
from support.raw_blkfront import (
    DEVID,
    PERSISTENT,
    SIZE,
    RawFront,
    Slow,
    noise,
    serving,
    use_front,
)

from activations import Domain
from activations.abi.blkif import Op, Status
from activations.drivers import block
from activations.drivers.block import BlkBack, FileDisk, MemoryDisk, ObjectDisk
from activations.drivers.block.disks import Buffers, Done
from activations.drivers.block.pages import KeptPages
from activations.drivers.block.protocol import Segment
from activations.xenbus import Device, plug
from xen_sim import Machine


@PERSISTENT
def test_a_request_that_takes_long_holds_up_no_other(persistent: bool) -> None:
    source = Slow()
    data = noise(4096)

    async def use(front: RawFront) -> None:
        slow = front.request(Op.READ, 2000, [Segment(front.page().refs[0], 0, 7)])
        quick = front.request(Op.READ, 1, [Segment(front.page().refs[0], 0, 7)])
        first, second = await front.ask(slow, quick)
        assert [first.id, second.id] == [quick.id, slow.id]
        assert await front.write(8, data) == Status.OKAY
        assert await front.flush() == Status.OKAY
        assert await front.read(8, 8) == data

    serving(ObjectDisk(source, SIZE), use, persistent=persistent)
    assert source.said == ["read 512", "read 1024000", "flush", "read 4096"]


class Faulty(MemoryDisk):
    """Fails as the sector says."""

    def read_into(self, offset: int, buffers: Buffers) -> Done:
        match offset // 512:
            case 0:
                raise OSError(EIO, "worn out")
            case 1:
                raise OSError(EOPNOTSUPP, "never heard of it")
            case 2:
                raise ZeroDivisionError
            case 3:
                return self.fail_later()
            case 4:
                return self.give_up()
        return super().read_into(offset, buffers)

    async def fail_later(self) -> None:
        await asyncio.sleep(1)
        raise OSError(EIO, "worn out")

    async def give_up(self) -> None:
        raise asyncio.CancelledError


def test_a_disk_that_fails_costs_the_request_and_nothing_else() -> None:
    statuses = []

    async def use(front: RawFront) -> None:
        for sector in range(6):
            segment = Segment(front.page().refs[0], 0, 0)
            statuses.append(await front.status(front.request(Op.READ, sector, [segment])))

    back = serving(Faulty(SIZE), use)
    error = Status.ERROR
    assert statuses == [error, Status.EOPNOTSUPP, error, error, error, Status.OKAY]
    assert back.statistics.errors == 5


@PERSISTENT
def test_a_front_end_that_goes_leaves_nothing_under_way(persistent: bool) -> None:
    """Requests that were not answered are given up, and their pages unmapped."""
    source = Slow()

    async def use(front: RawFront) -> None:
        far = [
            front.request(Op.READ, sector, [Segment(front.page().refs[0], 0, 7)])
            for sector in range(3000, 3010)
        ]
        front.put(*far)
        await asyncio.sleep(0.1)

    serving(ObjectDisk(source, SIZE), use, persistent=persistent)
    assert source.said == []


@PERSISTENT
def test_a_front_end_that_dies_leaves_nothing_mapped(persistent: bool) -> None:
    """Its folder is gone from one moment to the next, as when its domain is destroyed."""
    source = Slow()

    async def use(front: RawFront) -> None:
        pages = [front.page() for _ in range(10)]
        front.put(*[front.request(Op.READ, 3000, [Segment(page.refs[0], 0, 7)]) for page in pages])
        await asyncio.sleep(0.1)
        await front.xen.store.rm(front.device.front_path)
        await front.gone()
        await asyncio.sleep(0.1)
        front.give_pages_back()

    serving(ObjectDisk(source, SIZE), use, persistent=persistent)
    assert source.said == []


def test_a_back_end_gives_every_queue_back_however_often_it_is_cancelled() -> None:
    """Each has a request that does not want to end."""

    class Stubborn(Slow):
        async def read(self, offset: int, length: int) -> bytes:
            try:
                await asyncio.sleep(100)
            finally:
                await asyncio.sleep(1)
            raise AssertionError("it is cancelled")

    async def dom0(xen: Domain) -> None:
        guest = await xen.find("guest")
        device = Device("vbd", DEVID, guest, 0, served_as="pyvbd")
        await plug(xen, device)
        connected = asyncio.Event()

        async def serve() -> None:
            async with block.serve(xen, device, ObjectDisk(Stubborn(), SIZE)) as end:
                await end.connected(10)
                connected.set()
                await asyncio.Event().wait()

        serving = asyncio.create_task(serve())
        await connected.wait()
        await asyncio.sleep(0.5)
        while not serving.done():
            serving.cancel()
            await asyncio.sleep(0.1)
        assert serving.cancelled()
        assert not xen.grants.open

    async def guest(xen: Domain) -> None:
        await use_front(xen, use, queues=3)

    async def use(front: RawFront) -> None:
        page = front.page()
        for number in range(3):
            front.use_queue(number)
            front.put(front.request(Op.READ, 0, [Segment(page.refs[0], 0, 7)]))
        await asyncio.sleep(5)

    machine = Machine()
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    machine.run()


def test_a_front_end_that_goes_waits_for_what_a_thread_does_with_its_pages(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A thread cannot be stopped, and pages that it works on must not be unmapped."""
    image = tmp_path / "disk.img"
    image.write_bytes(bytes(SIZE))
    preadv, close_pages, disconnect = os.preadv, KeptPages.close, BlkBack.disconnect
    begun, parting = threading.Event(), threading.Event()
    order: list[str] = []

    async def let_it_end() -> None:
        for _ in range(20):  # turns in which the pages would go
            await asyncio.sleep(0)
        parting.set()

    async def part(back: BlkBack) -> None:
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(let_it_end())
            await disconnect(back)

    def close(pages: KeptPages) -> None:
        order.append("unmapped")
        close_pages(pages)

    def slow(fd: int, buffers: Sequence[memoryview], offset: int, flags: int = 0) -> int:
        if flags:
            raise BlockingIOError(EAGAIN, "not at hand")
        begun.set()
        assert parting.wait(patience(10))
        count = preadv(fd, buffers, offset)
        order.append("read")
        return count

    monkeypatch.setattr(os, "preadv", slow)
    monkeypatch.setattr(KeptPages, "close", close)
    monkeypatch.setattr(BlkBack, "disconnect", part)

    async def use(front: RawFront) -> None:
        front.put(front.request(Op.READ, 0, [Segment(front.page().refs[0], 0, 7)]))
        assert await asyncio.to_thread(begun.wait, patience(10))

    with FileDisk(image) as disk:
        served = serving(disk, use, clock="wall")
    assert order == ["read", "unmapped"]
    assert served.statistics.requests == 0, "nobody was left to be answered"
