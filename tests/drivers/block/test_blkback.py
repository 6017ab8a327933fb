"""The back end of block devices on the simulator, before a front end made by hand."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Sequence
from errno import EAGAIN, EIO, EOPNOTSUPP
from pathlib import Path
from random import Random

import pytest
from support.pace import patience
from support.raw_blkfront import (
    DEVID,
    HOSTILE,
    LAYOUTS,
    PERSISTENT,
    SIZE,
    RawFront,
    Served,
    Slow,
    noise,
    serve_until_done,
    serving,
    use_front,
)

from activations import Domain
from activations.abi import blkif as abi
from activations.abi.blkif import X86_32, Layout, Op, Status
from activations.abi.ring import RSP_PROD
from activations.drivers import block
from activations.drivers.block import BlkBack, FileDisk, MemoryDisk, ObjectDisk, VolatileDisk
from activations.drivers.block.disks import Buffers, Done
from activations.drivers.block.pages import KeptPages
from activations.drivers.block.protocol import Discard, Indirect, Request, Segment
from activations.xenbus import Device, FrontEnd, front_device, plug
from xen_sim import Machine

# Reading and writing


@LAYOUTS
@PERSISTENT
@pytest.mark.parametrize("sectors", [1, 7, 8, 9, 88, 89, 2048])
def test_what_was_written_is_read(sectors: int, persistent: bool, layout: Layout) -> None:
    """One sector; parts of pages; the most a request has; the most an indirect one has."""
    data = noise(sectors * 512)

    async def use(front: RawFront) -> None:
        assert await front.write(3, data) == Status.OKAY
        assert await front.read(3, sectors) == data
        assert await front.read(3 + sectors, 1) == bytes(512)

    disk = MemoryDisk(SIZE)
    figures = serving(disk, use, persistent=persistent, layout=layout).statistics
    assert bytes(disk.data[3 * 512 : (3 + sectors) * 512]) == data
    assert (figures.requests, figures.errors) == (3, 0)
    assert (figures.sectors_written, figures.sectors_read) == (sectors, sectors + 1)


@LAYOUTS
@PERSISTENT
@pytest.mark.parametrize(("order", "queues"), [(0, 4), (1, 1), (2, 2), (4, 1)])
def test_rings_of_any_length_and_several_of_them(
    order: int, queues: int, persistent: bool, layout: Layout
) -> None:
    """Each ring is filled to the last entry, twice over."""

    async def use(front: RawFront) -> None:
        page = front.page(b"a")
        for number in range(queues):
            front.use_queue(number)
            size = front.ring.size
            assert size == 32 << order
            for _ in range(2):
                writes = [
                    front.request(Op.WRITE, sector, [Segment(page.refs[0], 0, 0)])
                    for sector in range(size)
                ]
                responses = await front.ask(*writes)
                assert [response.id for response in responses] == [write.id for write in writes]
                assert all(response.status == Status.OKAY for response in responses)

    disk = MemoryDisk(SIZE)
    back = serving(disk, use, order=order, queues=queues, persistent=persistent, layout=layout)
    assert back.statistics.requests == 2 * queues * (32 << order)
    assert disk.data[: (32 << order) * 512 : 512] == b"a" * (32 << order)


@LAYOUTS
@pytest.mark.parametrize("seed", range(5))
def test_many_requests_of_every_kind_at_once_do_what_they_would_one_by_one(
    seed: int, layout: Layout
) -> None:
    """Against a model: writes, reads and discards at random, direct and indirect."""
    random = Random(seed)
    model = bytearray(SIZE)
    disk = MemoryDisk(SIZE)

    async def use(front: RawFront) -> None:
        for _ in range(12):
            expected = []
            requests: list[Request | Indirect | Discard] = []
            for _ in range(random.randrange(1, 9)):
                sector, segments = random.randrange(3000), []
                op = random.choice([Op.READ, Op.WRITE, Op.DISCARD])
                at = sector * 512
                if op is Op.DISCARD:
                    count = random.randrange(20)
                    model[at : at + count * 512] = bytes(count * 512)
                    requests.append(Discard(front.next_id(), sector, count))
                    continue
                for _ in range(random.choice([1, 2, 11, 12, 30])):
                    page = front.page(random.randbytes(4096))
                    first = random.randrange(8)
                    segment = Segment(page.refs[0], first, random.randrange(first, 8))
                    segments.append(segment)
                    inside = slice(segment.offset, segment.offset + segment.length)
                    there = slice(at, at + segment.length)
                    if op is Op.WRITE:
                        model[there] = page.memory[inside]
                    else:
                        expected.append((page, inside, bytes(model[there])))
                    at += segment.length
                requests.append(front.request(op, sector, segments))
            responses = await front.ask(*requests)
            assert [response.status for response in responses] == [Status.OKAY] * len(requests)
            for page, inside, data in expected:
                assert page.memory[inside] == data
            front.give_pages_back()

    serving(disk, use, seed=seed, persistent=False, layout=layout)
    assert disk.data == model


def test_a_front_end_that_does_not_say_how_it_lays_requests_out_does_it_as_32_bit_ones() -> None:
    """So it is with Linux's xen-blkback."""
    data = noise(SIZE // 2)

    async def use(front: RawFront) -> None:
        assert await front.write(0, data) == Status.OKAY
        assert await front.read(0, len(data) // 512) == data

    disk = MemoryDisk(SIZE)
    served = serving(disk, use, layout=X86_32, says={abi.PROTOCOL: None})
    assert (served.failure, served.statistics.errors) == ("", 0)
    assert disk.data.startswith(data)


def test_a_life_of_32_bits_and_one_of_64_follow_each_other_on_one_device() -> None:
    """As a boot loader's and its kernel's do."""
    data = noise(SIZE // 2)

    async def read(front: RawFront) -> None:
        assert await front.read(0, len(data) // 512) == data

    async def guest(xen: Domain) -> None:
        for layout in (*abi.LAYOUTS.values(), X86_32):
            front = RawFront(xen, await front_device(xen, "vbd", DEVID), layout=layout)
            async with FrontEnd(xen, front.device, front) as end:
                await end.connected(60)
                await read(front)
            front.give_pages_back()
            await front.leftovers.aclose()
        await use_front(xen, read)

    async def dom0(xen: Domain) -> Served:
        return await serve_until_done(xen, MemoryDisk(data))

    machine = Machine()
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    served = machine.run()["dom0"]
    assert (served.failure, served.statistics.errors) == ("", 0)


def test_the_answers_to_a_round_of_requests_are_published_at_once() -> None:
    async def use(front: RawFront) -> None:
        page = front.page()
        read = [front.request(Op.READ, 0, [Segment(page.refs[0], 0, 7)]) for _ in range(32)]
        await front.ask(*read)

    assert serving(MemoryDisk(SIZE), use).statistics.notifications == 1


def test_much_that_was_read_is_announced_before_its_round_is_over() -> None:
    """256 KiB at a time, so that the front end has something to do meanwhile."""
    announced: list[int] = []
    memory = memoryview(b"")

    class Watched(MemoryDisk):
        def read_into(self, offset: int, buffers: Buffers) -> Done:
            with memory[RSP_PROD : RSP_PROD + 4] as produced:
                announced.append(int.from_bytes(produced, "little"))
            return super().read_into(offset, buffers)

    async def use(front: RawFront) -> None:
        nonlocal memory
        page = front.page().refs[0]
        reads = [front.request(Op.READ, 0, [Segment(page, 0, 7)] * 32) for _ in range(6)]
        with front.links[0].grant.memory[:] as memory:
            await front.ask(*reads)

    figures = serving(Watched(SIZE), use).statistics
    assert announced == [0, 0, 2, 2, 4, 4]
    assert figures.notifications == 1, "an event for the first; the front end asked for no more"


def kept(uses: Sequence[Sequence[int]], *, together: int = 1, **limits: int) -> list[int]:
    """Which of a persistent front end's pages the back end keeps mapped after requests that used
    these. `together` pages at a time were granted, and can be mapped so."""
    kept: list[int] = []

    async def use(front: RawFront) -> None:
        grants = [front.page(pages=together) for _ in range(6 // together)]
        refs = [ref for grant in grants for ref in grant.refs]
        for numbers in uses:
            segments = [Segment(refs[number], 0, 7) for number in numbers]
            assert await front.status(front.request(Op.READ, 0, segments)) == Status.OKAY
        for number, grant in enumerate(grants):
            try:
                grant.close()
            except OSError:
                kept.append(number)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KeptPages.__init__, "__kwdefaults__", {**GENEROUS, **limits})
        serving(MemoryDisk(SIZE), use)
    return kept


GENEROUS = {"limit": 1000, "mappings": 1000}


def test_pages_of_a_front_end_that_keeps_them_stay_mapped_up_to_a_limit() -> None:
    """Those that were used last stay."""
    uses = [[0], [1], [2], [3], [0], [4], [5]]
    assert kept(uses) == [0, 1, 2, 3, 4, 5]
    assert kept(uses, limit=4) == [0, 3, 4, 5]
    assert kept(uses, mappings=4) == [0, 3, 4, 5]


def test_a_request_may_use_more_pages_than_stay_mapped() -> None:
    assert len(kept([[0, 1, 2, 3, 4, 5]], limit=2)) == 2
    assert kept([[0], [5, 5, 5, 5], [5]], limit=1) == [5]


def test_requests_that_fail_leave_nothing_mapped() -> None:
    async def use(front: RawFront) -> None:
        for _ in range(5):
            refs = [front.page().refs[0] for _ in range(5)]
            segments = [Segment(ref, 0, 7) for ref in (*refs, HOSTILE)]
            assert await front.status(front.request(Op.READ, 0, segments)) == Status.ERROR
        front.give_pages_back()

    serving(MemoryDisk(SIZE), use)


def test_pages_that_a_request_lacks_are_mapped_in_one_piece() -> None:
    assert kept([[0, 1, 2], [3, 4, 5]], together=3, mappings=1) == [1]
    assert kept([[0, 1, 2], [3, 4, 5]], together=3, mappings=2) == [0, 1]


def test_pages_of_any_other_front_end_are_not_mapped_at_all() -> None:
    async def use(front: RawFront) -> None:
        await front.read(0, 100)
        front.put(front.request(Op.READ, 3000, [Segment(front.page().refs[0], 0, 7)]))
        await asyncio.sleep(0.1)
        front.give_pages_back()

    serving(ObjectDisk(Slow(), SIZE), use, persistent=False)


def test_pages_that_are_in_use_stay_mapped_beyond_the_limit() -> None:
    async def use(front: RawFront) -> None:
        pages = [front.page() for _ in range(5)]
        slow = [front.request(Op.READ, 2000, [Segment(page.refs[0], 0, 7)]) for page in pages]
        quick = front.request(Op.READ, 1, [Segment(front.page().refs[0], 0, 7)])
        front.put(*slow, quick)
        assert (await front.response()).id == quick.id
        for page in pages:
            with pytest.raises(OSError, match="mapped by domain 0"):
                page.close()
        for _ in slow:
            assert (await front.response()).status == Status.OKAY

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KeptPages.__init__, "__kwdefaults__", {"limit": 2, "mappings": 3})
        serving(ObjectDisk(Slow(), SIZE), use)


# Disks that take their time, and disks that fail


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


# What is offered, and what is not


def test_a_barrier_is_not_supported() -> None:
    async def use(front: RawFront) -> None:
        assert front.back is not None
        assert not front.back.flag(abi.FEATURE_BARRIER)
        page = front.page(b"x")
        barrier = front.request(Op.WRITE_BARRIER, 0, [Segment(page.refs[0], 0, 7)])
        assert await front.status(barrier) == Status.EOPNOTSUPP

    disk = MemoryDisk(SIZE)
    serving(disk, use)
    assert not any(disk.data)


def test_discards_are_done_where_the_disk_can() -> None:
    async def use(front: RawFront) -> None:
        assert front.back is not None
        assert front.back.flag(abi.FEATURE_DISCARD)
        assert await front.discard(1, 2) == Status.OKAY
        assert await front.discard(1, 2, secure=True) == Status.EOPNOTSUPP
        assert await front.discard(SIZE // 512, 1) == Status.ERROR

    disk = MemoryDisk(b"x" * SIZE)
    serving(disk, use)
    assert bytes(disk.data[:2048]) == b"x" * 512 + bytes(1024) + b"x" * 512

    async def use_other(front: RawFront) -> None:
        assert front.back is not None
        assert abi.FEATURE_DISCARD not in front.back
        assert await front.discard(1, 2) == Status.EOPNOTSUPP

    serving(ObjectDisk(Slow(), SIZE), use_other)


@pytest.mark.parametrize("by", ["disk", "toolstack"])
def test_a_disk_that_is_read_only_is_not_changed(by: str) -> None:
    async def use(front: RawFront) -> None:
        assert front.back is not None
        assert front.back.integer(abi.INFO) == abi.Info.READONLY
        assert await front.write(0, bytes(512)) == Status.ERROR
        assert await front.discard(0, 8) == Status.ERROR
        assert await front.flush() == Status.OKAY
        assert await front.read(0, 8) == b"x" * 4096

    disk = MemoryDisk(b"x" * SIZE, read_only=by == "disk")
    serving(disk, use, mode="r" if by == "toolstack" else "w")
    assert disk.data == b"x" * SIZE


def test_a_disk_of_large_sectors_says_so_and_holds_requests_to_it() -> None:
    async def use(front: RawFront) -> None:
        assert front.back is not None
        assert front.back.integer(abi.SECTORS) == SIZE // 512
        assert front.back.integer(abi.SECTOR_SIZE_KEY) == 4096
        assert await front.write(8, bytes(4096)) == Status.OKAY
        assert await front.write(7, bytes(4096)) == Status.ERROR
        assert await front.write(8, bytes(512)) == Status.ERROR

    source = Slow()
    serving(ObjectDisk(source, SIZE, sector_size=4096), use)


# A power cut


@pytest.mark.parametrize("seed", range(10))
def test_what_was_flushed_is_there_after_a_power_cut_at_any_point(seed: int) -> None:
    """The front end writes a counter into each of some sectors, flushes now and then, and the
    power goes after every request: a sector then holds what it held at the last flush that was
    answered, or something written since."""
    random = Random(seed)
    disk = VolatileDisk(16 * 512, lambda sector: random.random() < 0.5)
    cuts = 0

    async def use(front: RawFront) -> None:
        nonlocal cuts
        flushed = [0] * 16
        since: list[set[int]] = [set() for _ in range(16)]
        now = list(flushed)
        for count in range(1, 60):
            if random.random() < 0.2:
                assert await front.flush() == Status.OKAY
                flushed, since = list(now), [set() for _ in range(16)]
            else:
                sector = random.randrange(16)
                await front.write(sector, bytes([count]) * 512)
                now[sector] = count
                since[sector].add(count)
            after = disk.cut_power()
            cuts += 1
            for sector in range(16):
                [value] = set(after.data[sector * 512 : (sector + 1) * 512])
                assert value in {flushed[sector]} | since[sector]

    serving(disk, use)
    assert cuts == 59
    assert disk.flushes > 0
