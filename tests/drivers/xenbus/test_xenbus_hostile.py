"""An end whose peer writes whatever it likes keeps its head, and connects once the peer behaves.

The peer is played by hand: `support.hostile_keys`.
"""

from __future__ import annotations

import asyncio
from random import Random

import pytest
from support.hostile_keys import misbehave
from support.parameters import one_in

from activations import Domain
from activations.store import Store
from activations.xenbus import (
    BackDriver,
    BackEnd,
    Device,
    FrontDriver,
    FrontEnd,
    Keys,
    Phase,
    Written,
    XenbusState,
    front_device,
    plug,
)
from xen_sim import Machine


class Counting:
    """Whether what was begun is given back, once each."""

    def __init__(self) -> None:
        self.held = 0

    def take(self) -> None:
        self.held += 1

    async def serve(self) -> None:
        assert self.held
        await asyncio.Event().wait()

    async def disconnect(self) -> None:
        self.held = 0


class Back(Counting, BackDriver):
    async def offer(self) -> Written:
        return {"feature-x": 1}

    async def connect(self, front: Keys) -> Written:
        self.take()
        front.integer("ring-ref", within=range(1, 100))
        return {"sectors": 8}


class Front(Counting, FrontDriver):
    async def publish(self, back: Keys) -> Written:
        back.flag("feature-x")
        self.take()
        return {"ring-ref": 8}

    async def connect(self, back: Keys) -> None:
        back.integer("sectors")

    async def reconfigure(self, back: Keys) -> None:
        back.integer("sectors")


async def say(store: Store, path: str, state: XenbusState) -> None:
    await store.write(f"{path}/state", int(state))


async def hear(store: Store, path: str, *states: XenbusState) -> None:
    wanted = {str(int(state)) for state in states}
    async with asyncio.timeout(30):
        await store.wait_for(f"{path}/state", wanted.__contains__)


@pytest.mark.parametrize("seed", one_in(3, range(40)))
def test_a_back_end_connects_once_its_front_end_behaves(seed: int) -> None:
    async def dom0(xen: Domain) -> None:
        device = Device("rule", 1, await xen.find("guest"), 0)
        await plug(xen, device)
        async with BackEnd(xen, device, driver := Back()) as end:
            await xen.store.wait_for(f"/local/domain/{device.front}/data/behaves")
            await end.reached(Phase.CONNECTED, within=60)
            assert driver.held == 1
            assert not end.failure, "what had been wrong is over"
        assert driver.held == 0

    async def guest(xen: Domain) -> None:
        device = await front_device(xen, "rule", 1)
        store, path, back = xen.store, device.front_path, device.back_path
        await misbehave(store, path, ["ring-ref"], Random(seed))
        await say(store, path, XenbusState.CLOSED)
        await asyncio.sleep(1)
        await say(store, path, XenbusState.INITIALISING)
        await hear(store, back, XenbusState.INIT_WAIT)
        await store.write(f"{path}/ring-ref", 8)
        await say(store, path, XenbusState.INITIALISED)
        await hear(store, back, XenbusState.CONNECTED)
        await store.write("data/behaves", "")
        await hear(store, back, XenbusState.CLOSING)
        await say(store, path, XenbusState.CLOSED)

    machine = Machine(seed=seed)
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    machine.run()


@pytest.mark.parametrize("seed", one_in(3, range(40)))
def test_a_front_end_connects_once_its_back_end_behaves(seed: int) -> None:
    async def dom0(xen: Domain) -> None:
        device = Device("rule", 1, await xen.find("guest"), 0)
        await plug(xen, device)
        store, path, front = xen.store, device.back_path, device.front_path
        await misbehave(store, path, ["sectors"], Random(seed))
        await say(store, path, XenbusState.CLOSED)
        await asyncio.sleep(1)
        await say(store, path, XenbusState.INITIALISING)
        await hear(store, front, XenbusState.INITIALISING)
        await store.write(f"{path}/sectors", 8)
        await store.write(f"{path}/feature-x", 1)
        await say(store, path, XenbusState.INIT_WAIT)
        await hear(store, front, XenbusState.INITIALISED)
        await say(store, path, XenbusState.CONNECTED)
        await hear(store, front, XenbusState.CLOSING)
        await say(store, path, XenbusState.CLOSED)

    async def guest(xen: Domain) -> None:
        device = await front_device(xen, "rule", 1)
        async with FrontEnd(xen, device, driver := Front()) as end:
            await end.reached(Phase.CONNECTED, within=60)
            while await xen.store.read(f"{device.back_path}/state") != "4":
                await end.reached(Phase.CONNECTED, within=60)
                await asyncio.sleep(0.1)
            await asyncio.sleep(10)
            await end.reached(Phase.CONNECTED, within=60)
            assert driver.held == 1
        assert driver.held == 0

    machine = Machine(seed=seed)
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    machine.run()


def test_a_back_end_that_died_as_it_closed_is_not_taken_for_unplugged() -> None:
    async def dom0(xen: Domain) -> None:
        device = Device("rule", 1, await xen.find("guest"), 0)
        await plug(xen, device)
        await say(xen.store, device.back_path, XenbusState.CLOSING)
        async with BackEnd(xen, device, Back()) as end:
            await end.connected(within=30)

    async def guest(xen: Domain) -> None:
        async with FrontEnd(xen, await front_device(xen, "rule", 1), Front()) as end:
            await end.connected(within=30)
            await end.reached(Phase.CLOSED, within=30)

    machine = Machine()
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    machine.run()
