"""Two ends of which each begins anew because the other does: neither acts on what the other has
taken back, nor says anything that sends it back, so that they do not chase each other for ever."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from activations import Domain
from activations.abi.xenbus import XenbusState as State
from activations.ring import RingError
from activations.xenbus import BackDriver, BackEnd, Device, FrontDriver, FrontEnd, Keys, plug
from activations.xenbus.driver import Written
from xen_sim import Machine

DEVICE = Device("rule", 1, 0, 0)
"""Both ends are in dom0."""
SOON = 10.0


class Idle:
    """What both drivers do not do."""

    async def serve(self) -> None:
        await asyncio.Event().wait()

    async def disconnect(self) -> None:
        """It has nothing to give back."""


class Front(Idle, FrontDriver):
    def __init__(self, meanwhile: Callable[[], Awaitable[object]]) -> None:
        self.meanwhile = meanwhile

    async def publish(self, back: Keys) -> Written:
        await self.meanwhile()
        return {"ring-ref": 8}

    async def connect(self, back: Keys) -> None:
        """There is nothing to take."""


class Back(Idle, BackDriver):
    def __init__(self, meanwhile: Callable[[], Awaitable[object]]) -> None:
        self.meanwhile = meanwhile

    async def offer(self) -> Written:
        return {"feature-rule": 1}

    async def connect(self, front: Keys) -> Written:
        front.integer("ring-ref")
        await self.meanwhile()
        return {}


def said(main: Callable[[Domain, list[State]], Awaitable[None]], path: str) -> list[State]:
    """The states that an end says in a world where the other end is played."""
    states: list[State] = []

    async def note(xen: Domain) -> None:
        async with xen.store.watch(f"{path}/state") as changes:
            async for _ in changes:
                state = State(int(await xen.store.read(f"{path}/state")))
                if states[-1:] != [state]:
                    states.append(state)

    async def dom0(xen: Domain) -> None:
        await plug(xen, DEVICE)
        noting = asyncio.create_task(note(xen))
        async with asyncio.timeout(SOON):
            await main(xen, states)
        noting.cancel()

    machine = Machine()
    machine.boot("dom0", dom0)
    machine.run()
    return states


async def says(xen: Domain, path: str, state: State) -> None:
    await xen.store.write(f"{path}/state", int(state))


async def until(states: list[State], state: State) -> None:
    while states[-1:] != [state]:
        await asyncio.sleep(0.01)


def test_a_front_end_does_not_publish_for_an_offer_that_was_taken_back() -> None:
    async def main(xen: Domain, states: list[State]) -> None:
        takes_back = [True]

        async def meanwhile() -> None:
            if takes_back.pop(0):
                takes_back.append(False)
                await says(xen, DEVICE.back_path, State.INITIALISING)

        await says(xen, DEVICE.back_path, State.INIT_WAIT)
        async with FrontEnd(xen, DEVICE, Front(meanwhile)):
            while takes_back != [False]:
                await asyncio.sleep(0.01)
            await asyncio.sleep(1)
            assert states == [State.INITIALISING]
            await says(xen, DEVICE.back_path, State.INIT_WAIT)
            await until(states, State.INITIALISED)
            await says(xen, DEVICE.back_path, State.CLOSED)

    assert said(main, DEVICE.front_path)[:2] == [State.INITIALISING, State.INITIALISED]


def test_a_back_end_that_met_the_keys_of_the_dead_lets_its_offer_stand() -> None:
    async def main(xen: Domain, states: list[State]) -> None:
        tries = 0

        async def meanwhile() -> None:
            nonlocal tries
            tries += 1
            if tries == 1:  # the front end has died, and its next life publishes
                await says(xen, DEVICE.front_path, State.INITIALISING)
                await xen.store.write(f"{DEVICE.front_path}/ring-ref", 9)
                await says(xen, DEVICE.front_path, State.INITIALISED)
                raise RingError("there is no such page any more")

        await xen.store.write(f"{DEVICE.front_path}/ring-ref", 8)
        async with BackEnd(xen, DEVICE, Back(meanwhile)):
            await until(states, State.INIT_WAIT)
            await says(xen, DEVICE.front_path, State.INITIALISED)
            await until(states, State.CONNECTED)
            await says(xen, DEVICE.front_path, State.CLOSED)
        assert tries == 2

    begins = [State.INITIALISING, State.INIT_WAIT, State.CONNECTED]
    assert said(main, DEVICE.back_path)[:3] == begins
