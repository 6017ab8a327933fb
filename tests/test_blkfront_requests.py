"""A block front end's core: what is put into rings, and what becomes of it, without a Xen."""

from __future__ import annotations

import errno
from random import Random
from struct import pack_into
from typing import Any

import pytest
from block_pages import PAGE, Asked, World
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from activations import XenError
from activations.abi import ring as ring_abi
from activations.abi.blkif import ENTRY_SIZE, RESPONSE, SECTOR_SIZE, Op, Status
from activations.drivers.block.errors import DiskError, DiskGone
from activations.drivers.block.pool import Pool
from activations.drivers.block.protocol import BlockError, Indirect, Request
from activations.drivers.block.requests import Queue, Requests
from activations.ring import RingError

STARTS = [0, 2**32 - 1, 2**32 - 5, 2**32 - 32]


def noise(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


# Cutting


def test_a_short_read_is_one_request_of_one_segment() -> None:
    world = World()
    world.back.data[:] = noise(1 << 20)
    asked = world.read(3, 1)
    world.back.take()
    (request,) = world.back.taken
    assert isinstance(request, Request)
    assert (request.op, request.sector) == (Op.READ, 3)
    (segment,) = request.segments
    assert (segment.first, segment.last) == (0, 0)
    world.finish()
    assert asked.okay
    assert asked.data == world.back.data[3 * 512 : 4 * 512]


def test_a_direct_request_has_eleven_segments_and_what_is_longer_is_cut() -> None:
    world = World()
    data = noise(25 * PAGE + 512)
    asked = world.write(8, data)
    world.finish()
    assert asked.okay
    assert world.back.data[8 * 512 :][: len(data)] == data
    assert world.back.done == [(Op.WRITE, 8, 88), (Op.WRITE, 96, 88), (Op.WRITE, 184, 25)]


def test_where_the_back_end_knows_indirect_requests_they_are_as_long_as_it_takes() -> None:
    world = World(max_indirect=32)
    data = noise(40 * PAGE)
    asked = world.write(0, data)
    world.back.take()
    first, second = world.back.taken
    assert isinstance(first, Indirect)
    assert first.nr_segments == 32
    assert isinstance(second, Request), "what fits into a direct request needs no page more"
    assert len(second.segments) == 8
    world.finish()
    assert asked.okay
    assert world.back.data[: len(data)] == data


def test_a_request_of_more_segments_than_one_indirect_page_names() -> None:
    world = World(max_indirect=4096, pages=1300, size=1 << 22, grantable=1300)
    world.back.data[:] = noise(1 << 22)
    asked = world.read(0, 513 * 8)
    world.back.take()
    (request,) = world.back.taken
    assert isinstance(request, Indirect)
    assert (request.nr_segments, len(request.refs)) == (513, 2)
    world.finish()
    assert asked.okay
    assert asked.data == world.back.data[: 513 * PAGE]


@pytest.mark.parametrize("pages", range(1, 30))
def test_any_pool_is_enough_for_any_request(pages: int) -> None:
    """However few pages there are, a request is never cut so long that it waits for ever."""
    world = World(pages=pages, max_indirect=64)
    data = noise(50 * PAGE)
    asked = world.write(0, data)
    world.finish()
    assert asked.okay
    assert world.back.data[: len(data)] == data
    assert world.pool.free == pages


def test_flush_and_discard_carry_no_data() -> None:
    world = World(pages=1)
    flush, discard = world.ask(Op.FLUSH_DISKCACHE), world.ask(Op.DISCARD, 16, 1 << 40)
    assert world.pool.free == 1
    world.finish()
    assert flush.okay
    assert discard.okay
    assert world.back.done == [(Op.FLUSH_DISKCACHE, 0, 0), (Op.DISCARD, 16, (1 << 40) // 512)]


# The line


def test_those_who_find_no_room_are_served_in_the_order_they_came() -> None:
    world = World(pages=4)
    asked = [world.read(8 * number, 8 * (1 + number % 3)) for number in range(40)]
    ended: list[Asked] = []
    while world.back.take():
        world.back.answer()
        world.hear()
        ended += [each for each in asked if each.ended and each not in ended]
    assert ended == asked


def test_a_ring_is_filled_and_no_more() -> None:
    world = World()
    asked = [world.read(number, 1) for number in range(40)]
    assert world.requests.in_flight == 32
    assert world.requests.waiting == 8
    world.finish()
    assert all(each.okay for each in asked)


def test_several_rings_share_the_work() -> None:
    world = World(queues=3)
    for number in range(60):
        world.read(number, 1)
    assert [len(queue.in_flight) for queue in world.queues] == [20, 20, 20]
    world.finish()
    assert world.requests.in_flight == 0


def test_a_busy_back_end_is_not_notified_for_every_request() -> None:
    world = World()
    for number in range(10):
        world.read(number, 1)
    assert world.back.notified == 1
    world.finish()
    world.read(0, 1)
    assert world.back.notified == 2


@pytest.mark.parametrize("start", STARTS)
def test_indices_wrap(start: int) -> None:
    world = World(start=start)
    world.back.data[:] = noise(1 << 20)
    for number in range(100):
        asked = world.read(number, 2)
        world.finish()
        assert asked.okay
        assert asked.data == world.back.data[number * 512 : number * 512 + 1024]


# Answers


@pytest.mark.parametrize(
    ("status", "number", "said"),
    [
        (Status.ERROR, errno.EIO, "the back end failed"),
        (Status.EOPNOTSUPP, errno.EOPNOTSUPP, "does not do it"),
        (7, errno.EIO, "answered 7, which is no status"),
        (-32768, errno.EIO, "answered -32768"),
    ],
)
def test_an_error_is_told_with_its_errno(status: int, number: int, said: str) -> None:
    world = World()
    asked = world.read(0, 8)
    world.back.take()
    world.back.answer(status=status)
    world.hear()
    (error,) = asked.ended
    assert isinstance(error, DiskError)
    assert error.errno == number
    assert said in str(error)
    assert "read of 4096 bytes at 0" in str(error)
    assert world.pool.free == world.pool.size


def test_a_transfer_fails_when_all_its_pieces_are_in_and_no_more_are_cut() -> None:
    """Whoever writes there again afterwards is not overtaken by the rest of it."""
    world = World(pages=22)
    asked = world.write(0, bytes(100 * PAGE))
    assert world.back.take() == 2
    world.back.answer(status=Status.ERROR)
    world.hear()
    assert not asked.ended
    assert world.back.take() == 1
    world.finish()
    (error,) = asked.ended
    assert isinstance(error, DiskError)
    assert len(world.back.done) == 1
    assert world.requests.waiting == 0


def test_an_answer_to_nothing_is_the_back_ends_fault() -> None:
    world = World()
    world.read(0, 1)
    world.back.take()
    world.back.say(77, Op.READ)
    with pytest.raises(BlockError, match="answers request 0x4d, which is not in flight"):
        world.hear()


def test_an_answer_given_twice_is_the_back_ends_fault() -> None:
    world = World()
    first, second = world.read(0, 1), world.read(1, 1)
    world.back.take()
    answered = world.back.taken[0].id
    world.back.answer()
    world.back.say(answered, Op.READ)
    with pytest.raises(BlockError, match="not in flight"):
        world.hear()
    assert first.okay
    assert not second.ended


def test_an_answer_to_another_operation_is_the_back_ends_fault() -> None:
    world = World()
    world.read(0, 1)
    world.back.take()
    world.back.say(world.back.taken[0].id, Op.WRITE)
    with pytest.raises(BlockError, match="READ, as operation 1"):
        world.hear()


def test_more_answers_than_requests_is_the_back_ends_fault() -> None:
    memory = bytearray(PAGE)
    world = World()
    queue = Queue(memoryview(memory), lambda: None)
    world.requests.attach([queue])
    world.read(0, 1)
    pack_into("<I", memory, ring_abi.RSP_PROD, 2)
    with pytest.raises(RingError, match="2 responses to 1 requests"):
        world.requests.collect(queue)


def test_an_answer_that_the_back_end_takes_back_is_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its producer moves on as we look before sleeping, and is back when we look for the answer."""
    world = World()
    asked = world.read(0, 1)
    idle, looks = world.queues[0].ring.idle, [False, False]
    monkeypatch.setattr(world.queues[0].ring, "idle", lambda: idle() and (not looks or looks.pop()))
    world.hear()
    assert not looks
    assert not asked.ended
    world.finish()
    assert asked.okay


ENTRIES = st.tuples(
    st.integers(0, 12) | st.integers(0, 2**64 - 1),
    st.sampled_from([Op.READ, Op.WRITE]) | st.integers(0, 255),
    st.sampled_from([0, -1, -2]) | st.integers(-32768, 32767),
).map(lambda fields: RESPONSE.pack(*fields)) | st.binary(min_size=16, max_size=16)


@given(st.integers(0, 10) | st.integers(0, 2**32 - 1), st.lists(ENTRIES, max_size=10))
def test_whatever_a_back_end_writes_is_an_answer_or_an_error(
    prod: int, entries: list[bytes]
) -> None:
    memory = bytearray(PAGE)
    world = World()
    queue = Queue(memoryview(memory), lambda: None)
    world.requests.attach([queue])
    asked = [
        world.ask(Op.WRITE if number % 2 else Op.READ, number, 512, bytearray(512))
        for number in range(10)
    ]
    pack_into("<I", memory, ring_abi.RSP_PROD, prod)
    for number, entry in enumerate(entries):
        pack_into("16s", memory, ring_abi.ENTRIES + number * ENTRY_SIZE, entry)
    try:
        world.requests.collect(queue)
    except (BlockError, RingError) as error:
        world.requests.end(DiskGone(str(error)))
        world.requests.detach()
        assert all(len(each.ended) == 1 for each in asked)
        assert world.pool.free == world.pool.size
    else:
        assert sum(len(each.ended) for each in asked) == prod


# Who does not wait any more


def test_what_nobody_waits_for_keeps_its_pages_until_it_is_answered() -> None:
    world = World()
    asked = world.read(0, 16)
    world.requests.abandon(asked.transfer)
    assert world.pool.free == world.pool.size - 2
    world.back.data[:] = noise(1 << 20)
    world.finish()
    assert world.pool.free == world.pool.size
    assert asked.data == bytes(16 * 512), "its memory is left alone"
    assert not asked.ended


def test_who_leaves_the_line_is_not_missed() -> None:
    world = World(pages=2)
    asked = [world.read(16 * number, 16) for number in range(5)]
    for each in asked[1:4]:
        world.requests.abandon(each.transfer)
    assert world.requests.waiting == 1
    world.finish()
    assert [each.okay for each in asked] == [True, False, False, False, True]


def test_the_rest_of_a_transfer_that_nobody_waits_for_is_not_sent() -> None:
    world = World(pages=11)
    asked = world.write(0, bytes(100 * PAGE))
    world.requests.abandon(asked.transfer)
    world.finish()
    assert len(world.back.done) == 2, "those that it was cut to at once"


# A back end that dies and comes back


def test_what_was_in_flight_is_sent_again_in_order() -> None:
    world = World(pages=40)
    data = [noise(512, seed) for seed in range(40)]
    asked = [world.write(number, each) for number, each in enumerate(data)]
    world.back.take()
    world.part()
    assert world.requests.in_flight == 0
    world.connect()
    world.requests.fill()
    world.finish()
    assert [sector for _, sector, _ in world.back.done] == list(range(40))
    assert all(each.okay for each in asked)
    assert world.back.data[: 40 * 512] == b"".join(data)


def test_what_was_answered_is_not_sent_again_and_what_nobody_waits_for_neither() -> None:
    world = World()
    first, second, third = (world.write(number, noise(512)) for number in range(3))
    world.back.take()
    world.back.answer()
    world.hear()
    world.requests.abandon(second.transfer)
    world.part()
    world.connect()
    world.requests.fill()
    world.finish()
    assert world.back.done == [(Op.WRITE, 0, 1), (Op.WRITE, 2, 1)]
    assert first.okay
    assert third.okay
    assert world.pool.free == world.pool.size


@pytest.mark.parametrize(("before", "after"), [(32, 0), (256, 12), (0, 256), (600, 32)])
def test_limits_may_be_narrower_afterwards(before: int, after: int) -> None:
    world = World(pages=700, max_indirect=before, size=1 << 22)
    data = noise(900 * PAGE)
    asked = world.write(0, data)
    world.back.take()
    world.part()
    world.connect(max_indirect=after)
    world.requests.fill()
    world.finish()
    assert asked.okay
    assert world.back.data[: len(data)] == data
    assert world.pool.free == world.pool.size


def test_it_may_die_over_and_over() -> None:
    world = World(pages=50, max_indirect=16)
    world.back.data[:] = noise(1 << 20)
    asked = world.read(0, 2048)
    for turn in range(200):
        if asked.ended:
            break
        world.back.take()
        world.back.answer()
        world.hear()
        world.part()
        world.connect(max_indirect=[16, 0, 40][turn % 3], queues=1 + turn % 2)
        world.requests.fill()
    assert asked.okay
    assert asked.data == world.back.data


def test_an_answer_of_before_answers_nothing_afterwards() -> None:
    world = World()
    world.read(0, 1)
    world.back.take()
    old = world.back.taken[0].id
    world.part()
    world.connect()
    world.requests.fill()
    world.back.take()
    world.back.say(old, Op.READ)
    with pytest.raises(BlockError, match="not in flight"):
        world.hear()


# The end


def test_the_end_is_told_to_all_who_wait_and_to_those_who_come_after() -> None:
    world = World(pages=4)
    asked = [world.read(8 * number, 8) for number in range(10)]
    gone = DiskGone("unplugged")
    world.requests.end(gone)
    assert all(each.ended == [gone] for each in asked)
    world.requests.detach()
    assert world.pool.free == 4
    with pytest.raises(DiskGone, match="unplugged"):
        world.read(0, 1)
    world.requests.end(DiskGone("again"))
    with pytest.raises(DiskGone, match="unplugged"):
        world.read(0, 1)


def test_what_is_answered_after_the_end_returns_its_pages() -> None:
    world = World()
    asked = world.read(0, 8)
    world.requests.end(DiskGone("closed"))
    world.back.answer_all()
    world.hear()
    assert len(asked.ended) == 1
    assert world.pool.free == world.pool.size


# Pages


def test_where_fewer_pages_can_be_granted_the_disk_is_slower() -> None:
    world = World(pages=256, grantable=100)
    assert world.pool.size == 64
    asked = world.read(0, 1000)
    world.finish()
    assert asked.okay


def test_no_page_at_all_is_an_error() -> None:
    def share(pages: int) -> Any:
        raise XenError(errno.ENOSPC, "grant", f"{pages} pages")

    with pytest.raises(XenError, match="1 pages"):
        Pool().stock(share, 256)


# All of it in any order


class Chaos(RuleBasedStateMachine):
    """Any number of transfers, answered in any order, given up, interrupted by deaths: those that
    end well have done what they say, and no page is lost.

    Each write has a place of its own, so that the order of answers does not matter.
    """

    PLACE = 30
    """Pages."""

    @initialize(
        pages=st.integers(1, 60),
        max_indirect=st.sampled_from([0, 16, 600]),
        start=st.sampled_from(STARTS),
    )
    def begin(self, pages: int, max_indirect: int, start: int) -> None:
        size = 40 * self.PLACE * PAGE
        self.world = World(pages=pages, max_indirect=max_indirect, start=start, size=size)
        self.world.back.data[:] = noise(size)
        self.model = bytearray(self.world.back.data)
        self.asked: list[tuple[Op, int, bytes, Asked]] = []
        self.place = 0

    @rule(write=st.booleans(), sectors=st.integers(1, 30 * 8))
    def ask(self, write: bool, sectors: int) -> None:
        if self.place == 40:
            return
        sector = self.place * self.PLACE * 8
        self.place += 1
        if write:
            data = noise(sectors * SECTOR_SIZE, self.place)
            self.asked.append((Op.WRITE, sector, data, self.world.write(sector, data)))
        else:
            data = bytes(self.model[sector * SECTOR_SIZE :][: sectors * SECTOR_SIZE])
            self.asked.append((Op.READ, sector, data, self.world.read(sector, sectors)))

    @rule(which=st.integers(0, 1000), status=st.sampled_from([0, 0, 0, -1]))
    def answer(self, which: int, status: int) -> None:
        if hand := self.world.back.take():
            self.world.back.answer(which % hand, status)

    @rule()
    def hear(self) -> None:
        self.world.hear()

    @rule(which=st.integers(0, 1000))
    def give_up(self, which: int) -> None:
        if self.asked:
            *_, asked = self.asked.pop(which % len(self.asked))
            self.world.requests.abandon(asked.transfer)

    @rule(max_indirect=st.sampled_from([0, 16, 600]), queues=st.integers(1, 3))
    def die_and_come_back(self, max_indirect: int, queues: int) -> None:
        self.world.part()
        self.world.connect(max_indirect=max_indirect, queues=queues)
        self.world.requests.fill()

    @invariant()
    def pages_are_free_or_in_use(self) -> None:
        assert 0 <= self.world.pool.free <= self.world.pool.size

    def teardown(self) -> None:
        if not hasattr(self, "world"):
            return
        self.world.hear()
        self.world.finish()
        for op, sector, data, asked in self.asked:
            assert len(asked.ended) == 1
            if asked.okay and op is Op.READ:
                assert asked.data == data
            elif asked.okay:
                at = sector * SECTOR_SIZE
                assert self.world.back.data[at : at + len(data)] == data
        assert self.world.requests.waiting == self.world.requests.in_flight == 0
        assert self.world.pool.free == self.world.pool.size


TestChaos = Chaos.TestCase


def test_without_a_connection_all_wait() -> None:
    requests = Requests(Pool())
    requests.fill()
    assert requests.waiting == 0
