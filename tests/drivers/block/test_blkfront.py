"""A block front end on the simulator: what it keeps, and what it believes of a back end's keys."""

from __future__ import annotations

import asyncio
import gc
import tracemalloc
from collections.abc import Awaitable, Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.places import RULES

from activations import Domain
from activations.drivers import block
from activations.drivers.block import BlockError, Disk, MemoryDisk
from activations.drivers.block.offer import Geometry, Offer
from activations.own import own_tasks
from activations.xenbus import BackEnd, Device, Keys, XenbusError, front_device, plug
from xen_sim import Machine

SIZE = 1 << 20


def on_a_disk(use: Callable[[Disk], Awaitable[Any]], machine: Machine, **options: Any) -> Any:
    """What `use` gives, in a guest whose disk dom0 serves from memory."""
    done = False  # not in the guest's part of xenstore, which goes with it

    async def dom0(xen: Domain) -> None:
        device = Device("vbd", 51712, await xen.find("guest"), 0, "test")
        await plug(xen, device)
        async with block.serve(xen, device, MemoryDisk(SIZE)):
            while not done:
                await asyncio.sleep(1)

    async def guest(xen: Domain) -> Any:
        nonlocal done
        device = await front_device(xen, "vbd", 51712)
        async with block.open(xen, device, **options) as disk:
            result = await use(disk)
        done = True
        return result

    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    return machine.run()["guest"]


def test_memory_does_not_grow() -> None:
    async def use(disk: Disk) -> int:
        async def read(count: int) -> int:
            for number in range(count):
                await disk.read(number * 4096 % SIZE, 4096)
            gc.collect()
            return tracemalloc.get_traced_memory()[0]

        before = await read(1000)
        return await read(5000) - before

    tracemalloc.start()
    try:
        assert on_a_disk(use, Machine()) < 10_000
    finally:
        tracemalloc.stop()


class Slow(block.BlkBack):
    """Takes three seconds to say that it is done."""

    async def disconnect(self) -> None:
        await super().disconnect()
        await asyncio.sleep(3)


def test_a_front_end_parts_in_order_however_often_it_is_cancelled() -> None:
    """It waits for the back end's word, and leaves nothing behind."""

    async def dom0(xen: Domain) -> None:
        device = Device("vbd", 51712, await xen.find("guest"), 0, "test")
        await plug(xen, device)
        async with BackEnd(xen, device, Slow(xen, device, MemoryDisk(SIZE))):
            await xen.store.wait_for(f"/local/domain/{device.front}/data/done")

    async def guest(xen: Domain) -> None:
        used = asyncio.Event()

        async def use() -> None:
            async with block.open(xen, await front_device(xen, "vbd", 51712)) as disk:
                await disk.read(0, SIZE)
                used.set()
                await asyncio.Event().wait()

        using = asyncio.create_task(use())
        await used.wait()
        while not using.done():
            using.cancel()
            await asyncio.sleep(0.1)
        assert using.cancelled()
        device = await front_device(xen, "vbd", 51712)
        assert await xen.store.read(f"{device.back_path}/state") == "6"
        assert not xen.grants.open
        assert not own_tasks(xen.loop)
        await xen.store.write("data/done", 1)

    machine = Machine()
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    machine.run()


@pytest.mark.parametrize("seed", range(20))
def test_no_answer_is_missed_wherever_the_domains_are_interrupted(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(RULES)
    from disk_model import check

    on_a_disk(lambda disk: check(disk, 60, most=40), Machine(seed=seed, explore=True), pages=16)


@pytest.mark.parametrize(
    "options", [{"pages": 0}, {"queues": 0}, {"ring_order": 5}, {"ring_order": -1}]
)
def test_what_makes_no_disk_is_refused_at_once(options: dict[str, int]) -> None:
    async def use(disk: Disk) -> None:
        raise AssertionError("there is a disk")

    with pytest.raises(ValueError, match="a disk has 1 page and 1 queue at least"):
        on_a_disk(use, Machine(), **options)


def test_a_protocol_that_there_is_none_of_is_refused_at_once() -> None:
    async def use(disk: Disk) -> None:
        raise AssertionError("there is a disk")

    with pytest.raises(ValueError, match="not a protocol of disks: x86_64-abi, x86_32-abi"):
        on_a_disk(use, Machine(), protocol="x86_16-abi")


VALUES = st.text(max_size=30) | st.integers().map(str) | st.sampled_from(["512", "4096", "0", "1"])
NAMES = st.sampled_from(
    [
        "sectors",
        "sector-size",
        "info",
        "feature-flush-cache",
        "feature-discard",
        "feature-max-indirect-segments",
        "max-ring-page-order",
        "multi-queue-max-queues",
    ]
)


@given(st.dictionaries(NAMES, VALUES))
def test_whatever_a_back_end_says_of_itself_is_sense_or_an_error(said: dict[str, str]) -> None:
    keys = Keys("the back end", "/back", said)
    with suppress(XenbusError):
        offer = Offer.of(keys)
        assert 0 <= offer.ring_order < 1 << 32
        assert 0 <= offer.queues < 1 << 32
    try:
        geometry = Geometry.of(keys)
    except (XenbusError, BlockError):
        return
    assert 0 <= geometry.sectors < 1 << 54
    assert geometry.sector_size in [512 << order for order in range(11)]
