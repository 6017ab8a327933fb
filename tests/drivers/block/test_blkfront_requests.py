"""A block front end's core: what is put into rings, and what becomes of it, without a Xen."""

from __future__ import annotations

import errno
from random import Random
from struct import pack_into

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.block_pages import PAGE, Asked, World

from activations.abi import ring as ring_abi
from activations.abi.blkif import SEGMENT, X86_64, Op, Status
from activations.drivers.block.errors import DiskError, DiskGone
from activations.drivers.block.protocol import BlockError, Indirect, Request, runs_in
from activations.drivers.block.requests import RequestRing
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
    (segment,) = runs_in(request.segments, request).segments
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
    assert len(second.segments) == 8 * SEGMENT.size
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
        (7, errno.EIO, "answered 7, which is not a status"),
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
    queue = RequestRing(memoryview(memory), lambda: None)
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
).map(lambda fields: X86_64.response.pack(*fields)) | st.binary(min_size=16, max_size=16)


@given(st.integers(0, 10) | st.integers(0, 2**32 - 1), st.lists(ENTRIES, max_size=10))
def test_whatever_a_back_end_writes_is_an_answer_or_an_error(
    prod: int, entries: list[bytes]
) -> None:
    memory = bytearray(PAGE)
    world = World()
    queue = RequestRing(memoryview(memory), lambda: None)
    world.requests.attach([queue])
    asked = [
        world.ask(Op.WRITE if number % 2 else Op.READ, number, 512, bytearray(512))
        for number in range(10)
    ]
    pack_into("<I", memory, ring_abi.RSP_PROD, prod)
    for number, entry in enumerate(entries):
        pack_into("16s", memory, ring_abi.ENTRIES + number * X86_64.entry_size, entry)
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
