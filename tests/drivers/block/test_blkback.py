"""The back end of block devices on the simulator, before a front end made by hand."""

from __future__ import annotations

from random import Random

import pytest
from support.raw_blkfront import (
    DEVID,
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
from activations.drivers.block import MemoryDisk, ObjectDisk, VolatileDisk
from activations.drivers.block.disks import Buffers, Done
from activations.drivers.block.protocol import Discard, Indirect, Request, Segment
from activations.xenbus import FrontEnd, front_device
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
