"""A block front end's core over the lives of its back ends, without a Xen: what is sent again, what
is told at the end, and all of it in any order."""

from __future__ import annotations

import errno
from random import Random
from typing import Any

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.block_pages import PAGE, Asked, World

from activations import XenError
from activations.abi.blkif import SECTOR_SIZE, Op
from activations.drivers.block.errors import DiskGone
from activations.drivers.block.pool import Pool
from activations.drivers.block.protocol import BlockError
from activations.drivers.block.requests import Requests


def noise(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


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
        start=st.sampled_from([0, 2**32 - 1, 2**32 - 5]),
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


class TestChaos(Chaos.TestCase):  # type: ignore[misc]
    settings = settings(max_examples=30)


@pytest.mark.long
class TestMuchChaos(Chaos.TestCase):  # type: ignore[misc]
    settings = settings(max_examples=300)


def test_without_a_connection_all_wait() -> None:
    requests = Requests(Pool())
    requests.fill()
    assert requests.waiting == 0
