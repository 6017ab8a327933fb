"""A domain that is suspended and resumed has lost its ports and its watches. Its devices connect
anew by themselves, wherever in the handshake that struck, and at either end."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import Random

import pytest
from support.parameters import one_in

from activations import Domain, Port
from activations.ring import RingError
from activations.store import StoreClosed
from activations.xenbus import (
    BackDriver,
    BackEnd,
    Device,
    FrontDriver,
    FrontEnd,
    Handshake,
    Keys,
    Phase,
    Written,
    front_device,
    plug,
)
from xen_sim import Machine

SOON = 20
QUIET = 5
"""Seconds in which all that was going to happen has happened."""
MOMENTS = one_in(3, range(0, 200, 5))
"""Turns of the loop that pass before a suspend: connected after 170, parted after 80."""


class Held:
    """A port, and an event that came through it since this connection began."""

    def __init__(self, xen: Domain) -> None:
        self.xen = xen
        self.port: Port | None = None
        self.heard = asyncio.Event()
        self.fault: RingError | None = None

    async def serve(self) -> None:
        assert self.port is not None
        self.port.notify()
        async for _ in self.port:
            self.heard.set()
            if self.fault is not None:
                raise self.fault

    async def disconnect(self) -> None:
        self.heard.clear()
        if self.port is not None:
            self.port.close()
            self.port = None


class Front(Held, FrontDriver):
    async def publish(self, back: Keys) -> Written:
        self.port = self.xen.events.alloc_unbound(0)
        return {"event-channel": self.port.number}

    async def connect(self, back: Keys) -> None:
        back.flag("feature-x")


class Back(Held, BackDriver):
    async def offer(self) -> Written:
        return {"feature-x": 1}

    async def connect(self, front: Keys) -> Written:
        domid = await self.xen.find("guest")
        self.port = self.xen.events.bind_interdomain(domid, front.integer("event-channel"))
        await self.port.wait()  # binding's own
        return {}


Use = Callable[["World", Domain, Handshake, Held], Awaitable[None]]


class World:
    """A device's two ends, each used by what its domain does with it."""

    def __init__(self, dom0: Use, guest: Use, *, seed: int | None = None) -> None:
        self.machine = Machine(seed=seed)
        self.used = {"dom0": dom0, "guest": guest}

    def run(self) -> None:
        self.machine.boot("dom0", self._dom0)
        self.machine.boot("guest", self._guest)
        self.machine.run()

    def suspend(self, xen: Domain) -> None:
        self.machine.suspend(xen.loop)

    async def _dom0(self, xen: Domain) -> None:
        device = Device("rule", 1, await xen.find("guest"), 0)
        await plug(xen, device)
        driver = Back(xen)
        async with BackEnd(xen, device, driver) as end:
            await self.used["dom0"](self, xen, end, driver)
        assert driver.port is None

    async def _guest(self, xen: Domain) -> None:
        driver = Front(xen)
        async with FrontEnd(xen, await front_device(xen, "rule", 1), driver) as end:
            await self.used["guest"](self, xen, end, driver)
        assert driver.port is None
        await asyncio.sleep(QUIET)  # its part of xenstore goes with it


async def use(world: World, xen: Domain, end: Handshake, driver: Held) -> None:
    """Find the ends connected once all is quiet, and events to come through."""
    await asyncio.sleep(QUIET)
    assert end.phase is Phase.CONNECTED
    assert driver.heard.is_set()


def struck(*moments: int) -> Use:
    """The same in a domain that is suspended after so many turns of its loop, and so many more."""

    async def use_all_the_same(world: World, xen: Domain, end: Handshake, driver: Held) -> None:
        for turns in moments:
            for _ in range(turns):
                await asyncio.sleep(0)
            world.suspend(xen)
        assert xen.generation == len(moments)
        await use(world, xen, end, driver)

    return use_all_the_same


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_front_end_that_was_suspended_connects_anew(moment: int) -> None:
    World(use, struck(moment)).run()


@pytest.mark.parametrize("moment", MOMENTS)
def test_a_back_end_that_was_suspended_connects_anew(moment: int) -> None:
    World(struck(moment), use).run()


@pytest.mark.parametrize("seed", one_in(3, range(30)))
def test_both_may_be_suspended_time_and_again_in_any_order(seed: int) -> None:
    random = Random(seed)
    dom0, guest = ([random.randrange(60) for _ in range(random.randrange(6))] for _ in range(2))
    World(struck(*dom0), struck(*guest), seed=seed).run()


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize("leaver", ["front", "back"])
def test_an_end_that_is_suspended_as_it_leaves_has_left(leaver: str, moment: int) -> None:
    """It gives back what it holds, and the other end learns of it."""

    async def leave(world: World, xen: Domain, end: Handshake, driver: Held) -> None:
        await end.connected(within=SOON)
        await asyncio.sleep(1)

        async def strike() -> None:
            for _ in range(moment):
                await asyncio.sleep(0)
            world.suspend(xen)

        xen.loop.create_task(strike())

    async def stay(world: World, xen: Domain, end: Handshake, driver: Held) -> None:
        await end.connected(within=SOON)
        await end.reached(Phase.CLOSED, within=SOON)
        assert driver.port is None

    World(*((stay, leave) if leaver == "front" else (leave, stay))).run()


class IdleFront(FrontDriver):
    async def publish(self, back: Keys) -> Written:
        return {"protocol": "none"}

    async def connect(self, back: Keys) -> None:
        pass

    async def serve(self) -> None:
        await asyncio.Event().wait()

    async def disconnect(self) -> None:
        pass


class IdleBack(BackDriver):
    async def offer(self) -> Written:
        return {}

    async def connect(self, front: Keys) -> Written:
        return {}

    serve = IdleFront.serve
    disconnect = IdleFront.disconnect


def test_a_front_end_whose_domain_was_restored_finds_its_device_under_the_new_domid() -> None:
    """As after `xl restore`: the domain has another number, and no device there until the toolstack
    has made it. It is dom0 that goes under these numbers here: it may write anywhere."""
    machine = Machine()
    before, after = 1, 2

    async def dom0(xen: Domain) -> None:
        async def serve(device: Device) -> None:
            await plug(xen, device)
            await BackEnd(xen, device, IdleBack()).run()

        xen.domid = before
        async with asyncio.TaskGroup() as others:
            serving = others.create_task(serve(Device("rule", 1, before, 0)))
            device = await front_device(xen, "rule", 1)
            async with FrontEnd(xen, device, IdleFront()) as end:
                await end.connected(within=SOON)
                serving.cancel()
                xen.loop._lower.domid = after  # type: ignore[attr-defined]
                machine.suspend(xen.loop)
                await asyncio.sleep(QUIET)
                assert end.phase is Phase.FRESH
                serving = others.create_task(serve(Device("rule", 1, after, 0)))
                await end.connected(within=SOON)
                assert end.device == Device("rule", 1, after, 0)
            assert await xen.store.read(f"{end.device.front_path}/state") == "6"
            serving.cancel()

    async def stand_by(xen: Domain) -> None:
        await asyncio.sleep(10 * QUIET)

    machine.boot("dom0", dom0)
    machine.boot("saved", stand_by)
    machine.boot("restored", stand_by)
    machine.run()


def test_a_device_that_had_failed_stays_so() -> None:
    async def fail(world: World, xen: Domain, end: Handshake, driver: Held) -> None:
        driver.fault = RingError("the ring makes no sense")
        await end.reached(Phase.CLOSED, within=SOON)
        world.suspend(xen)
        await asyncio.sleep(QUIET)
        assert end.phase is Phase.CLOSED
        assert end.failure == "the ring makes no sense"

    async def see_it_fail(world: World, xen: Domain, end: Handshake, driver: Held) -> None:
        await end.reached(Phase.CLOSED, within=SOON)
        await asyncio.sleep(QUIET)
        assert end.phase is Phase.CLOSED

    World(fail, see_it_fail).run()


def test_a_store_that_goes_without_a_suspend_ends_the_end() -> None:
    async def lose_it(world: World, xen: Domain, end: Handshake, driver: Held) -> None:
        await end.connected(within=SOON)
        xen.store.close()
        await end.reached(Phase.UNPLUGGED)

    with pytest.raises(StoreClosed, match="the store was closed"):
        World(lose_it, use).run()
