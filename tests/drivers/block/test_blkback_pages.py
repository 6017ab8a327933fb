"""Which pages of a front end a block back end keeps mapped."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import pytest
from support.raw_blkfront import (
    HOSTILE,
    SIZE,
    RawFront,
    Slow,
    serving,
)

from activations.abi.blkif import Op, Status
from activations.drivers.block import MemoryDisk, ObjectDisk
from activations.drivers.block.pages import KeptPages
from activations.drivers.block.protocol import Segment


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
