"""A block back end before front ends that mean harm: each costs itself a request, or its device."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from errno import EIO, ENOSPC
from random import Random
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from support.raw_blkfront import (
    HANDLE,
    HOSTILE,
    LAYOUTS,
    PERSISTENT,
    SIZE,
    RawFront,
    Served,
    Slow,
    Use,
    noise,
    serve_until_done,
    serving,
    use_front,
)

from activations import Domain
from activations.abi import blkif as abi
from activations.abi.blkif import X86_64, Layout, Op, Status
from activations.drivers.block import MemoryDisk, ObjectDisk, queue
from activations.drivers.block.disks import Buffers, Done
from activations.drivers.block.pages import CopiedPages, KeptPages
from activations.drivers.block.protocol import Indirect, Request, Segment, encode, encode_segments
from activations.grants import Grant
from activations.sring import BackRing
from activations.xenbus import HandshakeTimeout, Keys, Written
from xen_sim import Machine


@PERSISTENT
def test_a_page_that_was_not_granted_costs_the_request(persistent: bool) -> None:
    async def use(front: RawFront) -> None:
        page = front.page().refs[0]
        for op in (Op.READ, Op.WRITE):
            segments = [Segment(page, 0, 7), Segment(page, 0, 3), Segment(HOSTILE, 0, 7)]
            assert await front.status(front.request(op, 0, segments)) == Status.ERROR
        table = Indirect(Op.READ, 9, 0, HANDLE, 20, (HOSTILE,))
        assert await front.status(table) == Status.ERROR
        assert await front.read(0, 8) == bytes(4096)

    serving(MemoryDisk(SIZE), use, persistent=persistent)


@PERSISTENT
def test_a_page_granted_for_reading_alone_is_not_read_into(persistent: bool) -> None:
    async def use(front: RawFront) -> None:
        page = front.page(b"mine", writable=False)
        read = front.request(Op.READ, 0, [Segment(page.refs[0], 0, 7)])
        assert await front.status(read) == Status.ERROR
        assert page.memory[:4] == b"mine"

    serving(MemoryDisk(b"x" * SIZE), use, persistent=persistent)


def test_requests_beyond_the_disk_are_refused() -> None:
    last = SIZE // 512 - 1

    async def use(front: RawFront) -> None:
        page = front.page(b"x" * 4096).refs[0]
        for sector in (last, last + 1, (1 << 55) - 1, (1 << 64) - 1, (1 << 64) - 8):
            for op in (Op.READ, Op.WRITE):
                request = front.request(op, sector, [Segment(page, 0, 1)])
                assert await front.status(request) == Status.ERROR
            assert await front.discard(sector, 2) == Status.ERROR
        assert await front.discard(0, (1 << 64) - 1) == Status.ERROR
        request = front.request(Op.WRITE, last, [Segment(page, 0, 0)])
        assert await front.status(request) == Status.OKAY

    disk = MemoryDisk(SIZE)
    serving(disk, use)
    assert len(disk.data) == SIZE
    assert not any(disk.data[:-512])


@LAYOUTS
def test_nonsense_is_answered_under_its_own_id(layout: Layout) -> None:
    """And the same id may be used by any number of requests: it is the front end's affair."""
    random = Random(5)

    async def use(front: RawFront) -> None:
        for op in [*range(16), 255]:
            raw = bytearray(random.randbytes(layout.entry_size))
            raw[0] = op
            raw[layout.id.size - 8 : layout.id.size] = (77).to_bytes(8, "little")
            [response] = await front.ask(bytes(raw))
            assert response.id == 77
            assert response.status in (Status.ERROR, Status.EOPNOTSUPP, Status.OKAY)
        page = front.page().refs[0]
        same = Request(Op.READ, 77, 0, HANDLE, encode_segments([Segment(page, 0, 7)]))
        responses = await front.ask(*[same] * 32)
        assert [(each.id, each.status) for each in responses] == [(77, Status.OKAY)] * 32

    serving(MemoryDisk(SIZE), use, layout=layout)


@LAYOUTS
@pytest.mark.once
@settings(deadline=None, max_examples=40)
@given(
    st.lists(
        st.tuples(
            st.integers(0, 7) | st.integers(0, 255),
            st.integers(0, 12) | st.integers(0, 255),
            st.binary(min_size=8, max_size=8),
            st.binary(min_size=96, max_size=96),
        ),
        min_size=1,
        max_size=32,
    ),
    st.booleans(),
)
def test_any_ring_of_bytes_is_answered_entry_for_entry(
    layout: Layout, entries: list[tuple[int, int, bytes, bytes]], persistent: bool
) -> None:
    filling = bytes(layout.id.size - 10)

    async def use(front: RawFront) -> None:
        responses = await front.ask(
            *(bytes([op, count]) + filling + id + rest for op, count, id, rest in entries)
        )
        ids = [each.id.to_bytes(8, "little") for each in responses]
        assert sorted(ids) == sorted(id for _, _, id, _ in entries)
        assert await front.read(0, 1) is not None

    served = serving(MemoryDisk(SIZE), use, persistent=persistent, layout=layout)
    assert served.statistics.requests == len(entries) + 1
    assert not served.failure


def test_segments_that_change_after_they_were_sent_are_checked_as_they_are_used() -> None:
    """Whatever a table of segments holds by the time it is looked at: it is copied, then
    checked, and an end beyond the page is never used."""

    async def use(front: RawFront) -> None:
        page = front.page(noise(4096)).refs[0]
        request = front.request(Op.WRITE, 0, [Segment(page, 0, 7)] * 20)
        table = front.pages[-1]
        for bad in ((5, 4), (0, 8), (200, 255)):
            abi.SEGMENT.pack_into(table.memory, 19 * 8, page, *bad)
            assert await front.status(request) == Status.ERROR

    disk = MemoryDisk(SIZE)
    serving(disk, use)
    assert not any(disk.data)


@PERSISTENT
def test_requests_that_change_once_they_were_taken_are_done_as_they_were(
    persistent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The whole ring becomes noise as soon as a request was taken from it, and the table of an
    indirect one as soon as it was copied."""
    tables: list[Grant] = []
    spoiled = {"rings": 0, "tables": 0}
    take, pages = BackRing.take_some, KeptPages if persistent else CopiedPages
    copy_of = pages.copy_of

    def take_and_spoil(ring: BackRing, most: int) -> list[bytes]:
        if entries := take(ring, most):
            ring._entries[:] = b"\xff" * len(ring._entries)
            spoiled["rings"] += 1
        return entries

    def copy_and_spoil(own: Any, refs: Any, length: int) -> bytes:
        copied = copy_of(own, refs, length)
        for table in tables:
            table.memory[:] = b"\xff" * len(table.memory)
            spoiled["tables"] += 1
        return copied

    monkeypatch.setattr(BackRing, "take_some", take_and_spoil)
    monkeypatch.setattr(pages, "copy_of", copy_and_spoil)

    async def use(front: RawFront) -> None:
        page = front.page(noise(4096))
        assert await front.status(front.request(Op.WRITE, 8, [Segment(page.refs[0], 0, 7)])) == 0
        many = front.request(Op.WRITE, 16, [Segment(page.refs[0], 0, 7)] * 20)
        tables.append(front.pages[-1])
        assert await front.status(many) == Status.OKAY
        assert await front.read(8, 8) == noise(4096)

    disk = MemoryDisk(SIZE)
    serving(disk, use, persistent=persistent)
    assert disk.data[:4096] == bytes(4096)
    assert disk.data[4096 : 22 * 4096] == noise(4096) * 21
    assert not any(disk.data[22 * 4096 :])
    assert spoiled == {"rings": 3, "tables": 1}


def test_a_ring_that_is_ahead_before_it_is_attached_is_refused() -> None:
    async def use(front: RawFront) -> None:
        raise AssertionError("it must not connect")

    class Ahead(RawFront):
        async def publish(self, back: Keys) -> Written:
            keys = await super().publish(back)
            self.links[0].grant.memory[:4] = (33).to_bytes(4, "little")
            return keys

    assert "33 requests in a ring of 32" in refused(Ahead, use)


def test_what_a_front_end_makes_of_the_back_ends_indices_is_its_own_affair() -> None:
    """Answers go where they belong, however the shared ones read."""

    async def use(front: RawFront) -> None:
        header = front.links[0].grant.memory
        for garbage in (b"\xff" * 4, bytes(4), b"\x12\x34\x56\x78"):
            page = front.page()
            front.put(front.request(Op.READ, 0, [Segment(page.refs[0], 0, 7)]))
            header[8:12] = garbage  # how far the answers are
            await asyncio.sleep(0.01)
            assert (await front.response()).status == Status.OKAY
            assert page.memory == b"x" * 4096

    assert not serving(MemoryDisk(b"x" * SIZE), use).failure


def test_pages_in_use_are_copied_where_they_would_be_too_many_pieces() -> None:
    """Each piece is a descriptor on Linux, which other guests' devices need too."""

    async def use(front: RawFront) -> None:
        pages = [front.page() for _ in range(8)]
        reads = [front.request(Op.READ, 2000, [Segment(page.refs[0], 0, 7)]) for page in pages]
        front.put(*reads)
        await asyncio.sleep(0.1)
        mapped = 0
        for page in pages:
            try:
                page.close()
            except OSError:
                mapped += 1
        assert mapped == 4
        for _ in reads[:4]:
            assert (await front.response()).status == Status.OKAY
        for _ in reads[4:]:
            assert (await front.response()).status == Status.ERROR, "its page was taken back"

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(KeptPages.__init__, "__kwdefaults__", {"limit": 1000, "mappings": 2})
        serving(ObjectDisk(Slow(), SIZE), use)


class Crowd:
    """A disk that takes a second for each read, and counts how many are under way."""

    def __init__(self) -> None:
        self.now = self.most = 0

    async def read(self, offset: int, length: int) -> bytes:
        self.now += 1
        self.most = max(self.most, self.now)
        await asyncio.sleep(1)
        self.now -= 1
        return bytes(length)


@PERSISTENT
def test_one_page_named_by_every_request_does_not_fill_the_back_ends_memory(
    persistent: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(queue, "IN_WORK", 16 * 4096)

    async def use(front: RawFront) -> None:
        page = front.page().refs[0]
        reads = [front.request(Op.READ, 0, [Segment(page, 0, 7)]) for _ in range(front.ring.size)]
        responses = await front.ask(*reads)
        assert [each.status for each in responses] == [Status.OKAY] * 128

    crowd = Crowd()
    serving(ObjectDisk(crowd, SIZE), use, order=2, persistent=persistent)
    assert crowd.most <= 16 + queue.ROUND


def test_a_disk_that_keeps_failing_is_in_the_log_once(caplog: pytest.LogCaptureFixture) -> None:
    """Once for each kind of failure: its front end decides how often."""

    class Failing(MemoryDisk):
        def read_into(self, offset: int, buffers: Buffers) -> Done:
            raise OSError(EIO if offset else ENOSPC, "no")

    async def use(front: RawFront) -> None:
        page = front.page().refs[0]
        for sector in (0, 8) * 20:
            read = front.request(Op.READ, sector, [Segment(page, 0, 7)])
            assert await front.status(read) == Status.ERROR

    figures = serving(Failing(SIZE), use).statistics
    assert figures.errors == 40
    warnings = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert len(warnings) == 2


def test_a_producer_too_far_ahead_has_its_device_closed() -> None:
    async def use(front: RawFront) -> None:
        memory = front.links[0].grant.memory
        memory[:4] = (33).to_bytes(4, "little")
        front.port.notify()
        await front.gone()

    assert "33 requests in a ring of 32" in serving(MemoryDisk(SIZE), use).failure


@PERSISTENT
def test_a_ring_that_breaks_with_requests_under_way_is_let_go_all_the_same(
    persistent: bool,
) -> None:
    async def use(front: RawFront) -> None:
        page = front.page()
        front.put(front.request(Op.READ, 3000, [Segment(page.refs[0], 0, 7)]))
        await asyncio.sleep(0.1)
        front.links[0].grant.memory[:4] = (1000).to_bytes(4, "little")
        front.port.notify()
        await front.gone()
        page.close()

    failure = serving(ObjectDisk(Slow(), SIZE), use, persistent=persistent).failure
    assert "1000 requests" in failure


@pytest.mark.parametrize(
    ("says", "reason"),
    [
        ({abi.PROTOCOL: "arm-abi"}, "'arm-abi', and this x86_64-abi and x86_32-abi alone"),
        ({abi.PROTOCOL: ""}, "speaks ''"),
        ({abi.EVENT_CHANNEL: None}, "event-channel"),
        ({abi.RING_REF: None}, "ring-ref"),
        ({abi.RING_REF: "many"}, "ring-ref"),
        ({abi.RING_REF: HOSTILE}, str(HOSTILE)),
        ({abi.EVENT_CHANNEL: 900}, "900"),
        ({abi.RING_PAGE_ORDER: 5}, "ring-page-order"),
        ({abi.NUM_QUEUES: 5}, "multi-queue-num-queues"),
        ({abi.NUM_QUEUES: 2}, "queue-0/"),
    ],
)
def test_a_front_end_that_cannot_be_understood_is_refused_by_name(says: Any, reason: str) -> None:
    async def use(front: RawFront) -> None:
        raise AssertionError("it must not connect")

    assert reason in refused(RawFront, use, says=says)


def refused(kind: type[RawFront], use: Use, **options: Any) -> str:
    """Why a front end is refused, which it has to be."""

    async def guest(xen: Domain) -> None:
        with pytest.raises(HandshakeTimeout):
            await use_front(xen, use, kind=kind, patience=5, **options)
        await xen.store.write(f"/local/domain/{xen.domid}/data/done", "1")

    async def dom0(xen: Domain) -> Served:
        return await serve_until_done(xen, MemoryDisk(SIZE))

    machine = Machine()
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    failure: str = machine.run()["dom0"].failure
    return failure


def test_a_flood_of_events_without_requests_does_nothing() -> None:
    async def use(front: RawFront) -> None:
        for _ in range(300):
            front.port.notify()
            await asyncio.sleep(0)
        assert await front.read(0, 1) == bytes(512)

    assert serving(MemoryDisk(SIZE), use).statistics.requests == 1


def test_a_front_end_that_never_stops_asking_keeps_nobody_else_from_running() -> None:
    """The back end's domain does other things meanwhile."""
    turns: list[Callable[[], None]] = []
    others = 0
    turns_of_others: list[int] = []
    busy = True

    class Refilling(MemoryDisk):
        """Each read is followed by another request, put in before the answer is out: the ring is
        never empty."""

        def read_into(self, offset: int, buffers: Buffers) -> Done:
            turns[0]()
            return super().read_into(offset, buffers)

    async def dom0(xen: Domain) -> None:
        async def other_work() -> None:
            nonlocal others
            while busy:
                await asyncio.sleep(0)
                others += 1

        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(other_work())
            await serve_until_done(xen, Refilling(SIZE))

    async def use(front: RawFront) -> None:
        page = encode_segments([Segment(front.page().refs[0], 0, 7)])
        entry = encode(X86_64, Request(Op.READ, 1, 0, HANDLE, page))
        asked = 40

        def ask_again() -> None:
            nonlocal asked
            while front.ring.take() is not None:
                pass
            if asked < 2000 and front.ring.free:
                front.ring.put(entry)
                front.ring.push()
                asked += 1
                turns_of_others.append(others)

        nonlocal busy
        turns.append(ask_again)
        front.put(*[entry] * asked)
        async with asyncio.timeout(0.1):
            while asked < 2000:
                await asyncio.sleep(1e-6)
        busy = False
        assert len(set(turns_of_others)) > 2000 / 64, "they ran between the requests"

    async def guest(xen: Domain) -> None:
        await use_front(xen, use, order=4)

    machine = Machine()
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    machine.run()
