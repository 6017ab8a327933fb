"""Drivers whose block is left by cancellation: by asyncio's, which comes once, by a program's that
comes again and again, and by anyio's, which comes at every turn. Each parts in order."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any

import anyio
import pytest

from activations import Domain, vchan
from activations.drivers import block, console, net
from activations.drivers.block import MemoryDisk, ObjectDisk
from activations.drivers.net import cable
from activations.own import own_tasks
from activations.xenbus import Device, front_device, plug
from xen_sim import Machine

Holding = Callable[[Callable[[], object]], Awaitable[None]]
"""Holds a block, and calls what it is given once that is entered and its two ends are connected."""
Leaving = Callable[[Holding], Awaitable[None]]


@dataclass(frozen=True)
class Kind:
    """A kind of device: what the toolstack writes, and the blocks that serve and open one."""

    name: str
    keys: dict[str, str | int]
    serve: Callable[[Domain, Device], AbstractAsyncContextManager[Any]]
    open: Callable[[Domain, Device], AbstractAsyncContextManager[Any]]


def serve_disk(xen: Domain, device: Device) -> AbstractAsyncContextManager[Any]:
    return block.serve(xen, device, MemoryDisk(1 << 20))


def serve_card(xen: Domain, device: Device) -> AbstractAsyncContextManager[Any]:
    return net.serve(xen, device, cable()[0])


KINDS = [
    Kind("vbd", {}, serve_disk, block.open),
    Kind("vif", {"mac": "00:16:3e:00:00:01"}, serve_card, net.open),
    Kind("console", {}, console.serve, console.open),
]


# Ways to leave


async def by_a_timeout(hold: Holding) -> None:
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(None) as timeout:
            await hold(lambda: timeout.reschedule(0))


async def by_a_deadline(hold: Holding) -> None:
    """As `anyio.move_on_after` sets one."""
    with anyio.CancelScope() as scope:
        await hold(lambda: setattr(scope, "deadline", 0))
    assert scope.cancelled_caught


async def by_a_task_group(hold: Holding) -> None:
    async with anyio.create_task_group() as group:
        group.start_soon(hold, group.cancel_scope.cancel)


async def by_many_cancels(hold: Holding) -> None:
    held = asyncio.Event()
    holding = asyncio.ensure_future(hold(held.set))
    await held.wait()
    await cancelled_over_and_over(holding)


async def by_cancels_of_every_task(hold: Holding) -> None:
    held = asyncio.Event()
    holding = asyncio.ensure_future(hold(held.set))
    await held.wait()
    while not holding.done():
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.sleep(0.001)
    assert holding.cancelled()


async def by_both_at_once(hold: Holding) -> None:
    """anyio's cancellation does not swallow asyncio's that come as the block is left."""
    held = asyncio.Event()

    async def moved_on() -> None:
        with anyio.CancelScope() as scope:

            def leave() -> None:
                scope.cancel()
                held.set()

            await hold(leave)
        raise AssertionError("it was cancelled from outside as well")

    holding = asyncio.ensure_future(moved_on())
    await held.wait()
    await cancelled_over_and_over(holding)


async def cancelled_over_and_over(task: asyncio.Future[None]) -> None:
    while not task.done():
        task.cancel()
        await asyncio.sleep(0.001)
    assert task.cancelled()


WAYS = [
    by_a_timeout,
    by_a_deadline,
    by_a_task_group,
    by_many_cancels,
    by_cancels_of_every_task,
    by_both_at_once,
]


@asynccontextmanager
async def tidy(xen: Domain) -> AsyncIterator[None]:
    """What the block holds of the domain is given back at its end."""
    await xen.store.exists("data")  # which opens it
    before = set(xen.events.ports)
    yield
    assert set(xen.events.ports) == before
    assert not xen.grants.open
    assert not own_tasks(xen.loop)


async def state(xen: Domain, path: str) -> str:
    return await xen.store.read(f"{path}/state")


async def linked(xen: Domain, device: Device) -> None:
    """Wait until both ends are connected."""
    for path in (device.front_path, device.back_path):
        await xen.store.wait_for(f"{path}/state", lambda value: value == "4")


def holding(
    block: Callable[[], AbstractAsyncContextManager[Any]], ready: Callable[[], Awaitable[Any]]
) -> Holding:
    async def hold(held: Callable[[], object]) -> None:
        async with block():
            await ready()
            held()
            await asyncio.Event().wait()

    return hold


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("leave", WAYS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_back_end_parts_in_order(kind: Kind, leave: Leaving, clock: Any) -> None:
    async def dom0(xen: Domain) -> None:
        device = Device(kind.name, 1, await xen.find("guest"), 0, "test")
        async with tidy(xen):
            await plug(xen, device, front=kind.keys)
            home = f"/local/domain/{device.front}"
            used = partial(xen.store.wait_for, f"{home}/data/used")
            await leave(holding(partial(kind.serve, xen, device), used))
            assert await state(xen, device.back_path) == "6"
        await xen.store.write(f"{home}/data/over", "1")

    async def guest(xen: Domain) -> None:
        async with tidy(xen):
            device = await front_device(xen, kind.name, 1)
            async with kind.open(xen, device):
                await linked(xen, device)
                await xen.store.write("data/used", "1")
                await xen.store.wait_for("data/over")
                assert await state(xen, device.front_path) == "6"

    machine = Machine(clock=clock)
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    machine.run()


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("leave", WAYS)
@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.name)
def test_a_front_end_parts_in_order(kind: Kind, leave: Leaving, clock: Any) -> None:
    async def dom0(xen: Domain) -> None:
        device = Device(kind.name, 1, await xen.find("guest"), 0, "test")
        async with tidy(xen):
            await plug(xen, device, front=kind.keys)
            async with kind.serve(xen, device):
                await xen.store.wait_for(f"/local/domain/{device.front}/data/over")
                await xen.store.wait_for(f"{device.back_path}/state", "6".__eq__)  # it follows

    async def guest(xen: Domain) -> None:
        async with tidy(xen):
            device = await front_device(xen, kind.name, 1)
            open, ready = partial(kind.open, xen, device), partial(linked, xen, device)
            await leave(holding(open, ready))
            assert await state(xen, device.front_path) == "6"
        await xen.store.write("data/over", "1")

    machine = Machine(clock=clock)
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    machine.run()


@pytest.mark.parametrize("clock", ["virtual", "wall"])
@pytest.mark.parametrize("leave", WAYS)
def test_a_listener_takes_its_offer_back(leave: Leaving, clock: Any) -> None:
    async def dom0(xen: Domain) -> None:
        async with tidy(xen):
            listen = partial(vchan.listen, xen, 0, "data/echo")
            await leave(holding(listen, partial(asyncio.sleep, 0)))
            assert not await xen.store.exists("data/echo")

    machine = Machine(clock=clock)
    machine.boot("dom0", dom0)
    machine.run()


def test_a_disk_serves_those_who_clean_up_as_every_task_is_cancelled() -> None:
    """A file system that is unmounted, say: its last write is on the disk."""
    served = MemoryDisk(1 << 20)
    written = bytes(range(256)) * 16

    async def dom0(xen: Domain) -> None:
        device = Device("vbd", 1, await xen.find("guest"), 0, "test")
        await plug(xen, device)
        async with block.serve(xen, device, served):
            await xen.store.wait_for(f"/local/domain/{device.front}/data/over")

    async def guest(xen: Domain) -> None:
        opened = asyncio.Event()

        async def use() -> None:
            async with block.open(xen, await front_device(xen, "vbd", 1)) as disk:
                try:
                    opened.set()
                    await asyncio.Event().wait()
                finally:
                    await disk.write(0, written)
                    await disk.flush()

        using = asyncio.create_task(use())
        await opened.wait()
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.wait([using])
        await xen.store.write("data/over", "1")

    machine = Machine()
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    machine.run()
    there = bytearray(len(written))
    served.read_into(0, [memoryview(there)])
    assert there == written


def test_a_request_under_way_is_no_error_to_the_guest_as_the_back_ends_program_ends() -> None:
    """Every task is cancelled, the disk's own among them; the next back end serves it."""

    class Slow:
        """A disk that takes its time."""

        def __init__(self, seconds: float) -> None:
            self.seconds = seconds

        async def read(self, offset: int, length: int) -> bytes:
            await asyncio.sleep(self.seconds)
            return b"\7" * length

    async def dom0(xen: Domain) -> None:
        device = Device("vbd", 1, await xen.find("guest"), 0, "test")
        await plug(xen, device)

        async def serve(seconds: float) -> None:
            disk = ObjectDisk(Slow(seconds), 1 << 20)
            async with block.serve(xen, device, disk):
                await xen.store.wait_for(f"/local/domain/{device.front}/data/over")

        first = asyncio.create_task(serve(3600))
        await xen.store.wait_for(f"/local/domain/{device.front}/data/reads")
        await asyncio.sleep(1)
        for task in asyncio.all_tasks() - {asyncio.current_task()}:
            task.cancel()
        await asyncio.wait([first])
        await serve(0.1)

    async def guest(xen: Domain) -> bytes:
        async with block.open(xen, await front_device(xen, "vbd", 1)) as disk:
            await xen.store.write("data/reads", "1")
            data = await disk.read(0, 4096)
        await xen.store.write("data/over", "1")
        return data

    machine = Machine()
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    assert machine.run()["guest"] == b"\7" * 4096
