"""A network device lives through a suspend of either domain: whoever sends waits meanwhile, and
what was under way is lost, and counted."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager, suppress

import pytest
from support.parameters import one_in

from activations import Domain
from activations.drivers import net
from activations.drivers.net import CableEnd, Nic, Statistics, cable
from activations.xenbus import Device, front_device, plug
from xen_sim import Machine

GUEST = bytes.fromhex("00163e000001")
DOM0 = bytes.fromhex("00163e0000ff")
QUIET = 5
"""Seconds in which all that was going to happen has happened."""
MOMENTS = one_in(3, range(0, 240, 10))
"""Turns of the loop that pass before a suspend: it strikes anywhere in a stream of frames."""
FRAMES, LAST = 300, 1000


def numbered(to: bytes, by: bytes, number: int) -> bytes:
    """A frame of one of two flows, by turns: on two queues each has its own."""
    return to + by[:5] + bytes([number % 2]) + b"\x88\xb5" + number.to_bytes(4, "big")


def number_of(frame: bytes) -> int:
    return int.from_bytes(frame[14:18], "big")


class World:
    """A guest with a card, dom0 behind it with a cable, and what each of them does."""

    def __init__(self, *, queues: int = 1) -> None:
        self.machine = Machine()
        self.queues = queues
        self.statistics = Statistics()
        """The back end's."""

    def run(
        self,
        behind: Callable[[Domain, CableEnd], Awaitable[None]],
        use: Callable[[Domain, Nic], Awaitable[None]],
    ) -> None:
        async def dom0(xen: Domain) -> None:
            _ = xen.store
            async with self.served(xen) as near:
                await behind(xen, near)

        async def guest(xen: Domain) -> None:
            device = await front_device(xen, "vif", 0)
            async with net.open(xen, device, queues=self.queues) as nic:
                await use(xen, nic)
            await asyncio.sleep(QUIET)
            assert not xen.grants.open

        self.machine.boot("dom0", dom0)
        self.machine.boot("guest", guest)
        self.machine.run()

    @asynccontextmanager
    async def served(self, xen: Domain) -> AsyncIterator[CableEnd]:
        device = Device("vif", 0, await xen.find("guest"), 0)
        await plug(xen, device, front={"mac": GUEST.hex(":")})
        near, far = cable()
        async with net.serve(xen, device, far, statistics=self.statistics) as end:
            await end.connected()
            yield near
        assert not xen.grants.open

    async def strike(self, xen: Domain, turns: int) -> None:
        for _ in range(turns):
            await asyncio.sleep(0)
        self.machine.suspend(xen.loop)


def in_order(heard: list[int]) -> bool:
    """Whether no frame came twice, or overtook another of its flow."""
    flows = (
        [number for number in heard if number % 2],
        [number for number in heard if not number % 2],
    )
    return all(flow == sorted(set(flow)) for flow in flows)


async def hear(near: CableEnd, heard: list[int]) -> None:
    """Take all that comes until nothing does any more."""
    with suppress(TimeoutError):
        while True:
            async with asyncio.timeout(QUIET):
                heard.append(number_of(await near.receive()))


@pytest.mark.parametrize("queues", [1, 2])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("suspended", ["dom0", "guest"])
def test_frames_that_a_suspend_takes_along_are_counted(
    suspended: str, moment: int, queues: int
) -> None:
    world = World(queues=queues)
    heard: list[int] = []
    lost = 0

    async def behind(xen: Domain, near: CableEnd) -> None:
        if suspended == "dom0":
            xen.loop.create_task(world.strike(xen, moment))
        await hear(near, heard)

    async def use(xen: Domain, nic: Nic) -> None:
        nonlocal lost
        if suspended == "guest":
            xen.loop.create_task(world.strike(xen, moment))
        for number in range(FRAMES):
            await nic.send(numbered(DOM0, GUEST, number))
        await asyncio.sleep(2 * QUIET)
        assert nic.statistics().sent == FRAMES
        lost = nic.statistics().lost

    world.run(behind, use)
    assert in_order(heard)
    assert FRAMES - lost - world.statistics.lost <= len(heard) <= FRAMES
    assert max(heard) == FRAMES - 1, "what is sent after the resume arrives"


@pytest.mark.parametrize("queues", [1, 2])
@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("suspended", ["dom0", "guest"])
def test_the_guest_goes_on_receiving(suspended: str, moment: int, queues: int) -> None:
    world = World(queues=queues)
    heard: list[int] = []

    async def behind(xen: Domain, near: CableEnd) -> None:
        if suspended == "dom0":
            xen.loop.create_task(world.strike(xen, moment))
        for number in range(FRAMES):
            await near.send(numbered(GUEST, DOM0, number))
        await asyncio.sleep(QUIET)
        await near.send(numbered(GUEST, DOM0, LAST))
        await asyncio.sleep(QUIET)

    async def use(xen: Domain, nic: Nic) -> None:
        if suspended == "guest":
            xen.loop.create_task(world.strike(xen, moment))
        while LAST not in heard:
            heard.append(number_of(await nic.receive()))
        assert nic.statistics().received == len(heard)

    world.run(behind, use)
    assert in_order(heard)
    assert world.statistics.sent + world.statistics.lost == FRAMES + 1
    if suspended == "dom0":
        assert len(heard) == world.statistics.sent, "what the back end had sent is not lost"


def test_a_sender_waits_until_the_device_is_connected_anew() -> None:
    world = World()
    heard: list[int] = []

    async def behind(xen: Domain, near: CableEnd) -> None:
        await hear(near, heard)

    async def use(xen: Domain, nic: Nic) -> None:
        for number in range(10):
            world.machine.suspend(xen.loop)
            while "waits for its back end" not in repr(nic):
                await asyncio.sleep(0)
            await nic.send(numbered(DOM0, GUEST, number))
            await asyncio.sleep(1)
        assert (nic.statistics().sent, nic.statistics().lost) == (10, 0)

    world.run(behind, use)
    assert heard == list(range(10))
