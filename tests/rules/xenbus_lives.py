"""Lives of a device's two ends: what one leaves to the next, what the other misses of it, and a
device that is taken away, or made anew, under their hands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

from xenbus import KIND, SERVED_AS, SOON, Back, Befallen, Front, plugged, say, says, xen_home

from activations import Domain, Scenario
from activations.store import Nodes
from activations.xenbus import (
    BackEnd,
    Device,
    FrontEnd,
    Keys,
    Phase,
    Written,
    XenbusState,
    front_device,
    plug,
    unplug,
)
from activations.xenbus.keys import read_keys

# What a life leaves to the next


class Varied(Front):
    """Publishes what it is told to."""

    writes = ("ring-ref*", "queue-*", "queues", "order", "event-channel")

    def __init__(self, keys: Written) -> None:
        super().__init__()
        self.keys = keys

    async def publish(self, back: Keys) -> Written:
        await super().publish(back)
        return self.keys


class Taking(Back):
    """Offers what it is told to, and notes what it was given."""

    writes = ("feature-rule", "size", "limit")

    def __init__(self, offers: Written) -> None:
        super().__init__()
        self.offers = offers
        self.given: list[dict[str, str]] = []

    async def offer(self) -> Written:
        await super().offer()
        return self.offers

    async def connect(self, front: Keys) -> Written:
        self.given.append({name: value for name, value in front.lasting.items() if value})
        return {"size": 100}


TOOLSTACK_S = {"handle", "backend", "backend-id"}
LIVES: list[dict[str, str | int]] = [
    {"queues": 2, "queue-0/ring-ref": 8, "queue-1/ring-ref": 9, "event-channel": 3},
    {"ring-ref": 8, "event-channel": 3},
    {"order": 1, "ring-ref0": 8, "ring-ref1": 9, "event-channel": 3},
    {"queues": 2, "queue-0/ring-ref0": 8, "queue-0/ring-ref1": 9, "order": 1},
    {"ring-ref": 8},
]

differ = Scenario("what one life of a front end published and the next does not is gone")


@differ.domain("dom0")
async def is_given_what_this_life_says(xen: Domain) -> None:
    device = Device(KIND, 20, await xen.find("guest"), 0, SERVED_AS)
    await plug(xen, device, front={"handle": 20})
    async with BackEnd(xen, device, driver := Taking({"feature-rule": 1})):
        await xen.store.wait_for(f"{xen_home(device.front)}/data/lives")
    wanted = [{name: str(value) for name, value in life.items()} for life in LIVES]
    for given, keys in zip(driver.given, [*wanted, wanted[-1]], strict=True):
        assert given.pop("handle") == "20"
        assert {name: given[name] for name in given if name not in TOOLSTACK_S} == keys
    await unplug(xen, device)


@differ.domain("guest")
async def lives_in_many_ways(xen: Domain) -> None:
    device = await front_device(xen, KIND, 20)
    for keys in LIVES:
        async with FrontEnd(xen, device, Varied(keys)) as end:
            await end.connected(within=SOON)
        left = set(await xen.store.list(device.front_path))
        assert left == {*TOOLSTACK_S, "state"}, "another driver may come next"
    await say(xen.store, device.front_path, XenbusState.INITIALISING)  # it dies, of many queues
    await says(xen.store, device.back_path, XenbusState.INIT_WAIT)
    for name, value in LIVES[0].items():
        await xen.store.write(f"{device.front_path}/{name}", value)
    async with FrontEnd(xen, device, Varied(LIVES[-1])) as end:
        await end.connected(within=SOON)
    await xen.store.write("data/lives", "")


offers_less = Scenario("what one life of a back end offered and the next does not is gone")


@offers_less.domain("dom0")
async def offers_less_each_time(xen: Domain) -> None:
    device = await plugged(xen, 21)
    for offers in ({"feature-rule": 1, "limit": 3}, {"limit": 2}, {}):
        async with BackEnd(xen, device, Taking(offers)) as end:
            await end.connected(within=SOON)
            await says(xen.store, device.front_path, XenbusState.CONNECTED)
            back = await read_keys(xen.store, "", device.back_path)
            assert {"feature-rule", "limit"} & set(back) == set(offers)
            assert back["mode"] == "w", "the toolstack's"
    await unplug(xen, device)


@offers_less.domain("guest")
async def takes_less_each_time(xen: Domain) -> None:
    limits = []

    class Limited(Front):
        async def publish(self, back: Keys) -> Written:
            limits.append(back.integer("limit", 0))
            return await super().publish(back)

    async with asyncio.timeout(3 * SOON):
        await FrontEnd(xen, await front_device(xen, KIND, 21), Limited()).run()
    assert limits == [3, 2, 0]


# States that a watch misses


def unseen(device: Device, ring: int) -> Callable[[Nodes], Awaitable[None]]:
    """A front end's new life up to Connected, which comes to the other's sight in one step."""

    async def change(nodes: Nodes) -> None:
        for state in (XenbusState.CLOSED, XenbusState.INITIALISING, XenbusState.CONNECTED):
            await nodes.write(f"{device.front_path}/ring-ref", ring)
            await nodes.write(f"{device.front_path}/queue-0/event-channel", ring)
            await nodes.write(f"{device.front_path}/state", int(state))

    return change


hasty = Scenario("a front end that waits for nobody is connected, whatever was missed of it")


@hasty.domain("dom0")
async def misses_it(xen: Domain) -> None:
    device = await plugged(xen, 22)
    async with BackEnd(xen, device, driver := Back()) as end:
        async with asyncio.timeout(SOON):
            async for phase in end.phases():
                if phase is Phase.CONNECTED and driver.ring == 13:
                    break
        assert driver.said.count("connect") == 4
        await xen.store.write(f"{xen_home(device.front)}/data/rule-22", "")
    assert driver.said.count("disconnect") >= 4
    await unplug(xen, device)


@hasty.domain("guest")
async def waits_for_nobody(xen: Domain) -> None:
    device = await front_device(xen, KIND, 22)
    store, front, back = xen.store, device.front_path, device.back_path
    await store.transact(unseen(device, 10))
    await says(store, back, XenbusState.CONNECTED)
    await say(store, front, XenbusState.CLOSED)
    await says(store, back, XenbusState.CLOSED)
    await store.transact(unseen(device, 11))  # of which Closed is seen, and Connected
    await says(store, back, XenbusState.CONNECTED)
    await say(store, front, XenbusState.CLOSING)
    await says(store, back, XenbusState.CLOSING)
    await store.transact(unseen(device, 12))  # Closing, and Connected
    await says(store, back, XenbusState.CONNECTED)
    await store.transact(unseen(device, 13))  # Connected, and Connected
    await store.wait_for("data/rule-22")
    await says(store, back, XenbusState.CLOSING)
    await say(store, front, XenbusState.CLOSED)


# A device that goes, or is another


class TakenAway(Befallen):
    """Removed by force."""

    async def befall(self) -> None:
        await self._xen.store.rm(self._device.front_path)
        await self._xen.store.rm(self._device.back_path)


taken_away = Scenario("nothing comes back of a device that was removed while its back end was busy")


@taken_away.domain("dom0")
async def is_busy_with_what_goes(xen: Domain) -> None:
    for devid, step in ((23, "offer"), (24, "connect")):
        device = await plugged(xen, devid)
        async with BackEnd(xen, device, driver := TakenAway(xen, device, step)) as end:
            await end.reached(Phase.UNPLUGGED, within=SOON)
        assert driver.said[-1] == "disconnect"
        for gone in (device.front_path, device.back_path, device.error_path("back")):
            assert not await xen.store.exists(gone)
    await xen.store.write(f"{xen_home(device.front)}/data/rule-24", "")


@taken_away.domain("guest")
async def sees_it_go(xen: Domain) -> None:
    device = await front_device(xen, KIND, 24)
    async with asyncio.timeout(2 * SOON):
        await FrontEnd(xen, device, Front()).run()
    await xen.store.wait_for("data/rule-24")
    assert not await xen.store.exists(device.front_path)


elsewhere = Scenario("a device that was made anew elsewhere is another: nothing is written into it")


@elsewhere.domain("dom0")
async def moves_it(xen: Domain) -> None:
    device = await plugged(xen, 25)
    moved = Device(KIND, 25, device.front, 0, "moved")
    async with BackEnd(xen, device, driver := Back()) as end:
        await says(xen.store, device.front_path, XenbusState.CONNECTED)

        async def change(nodes: Nodes) -> None:
            await nodes.rm(device.back_path)
            for name in await nodes.list(device.front_path):
                await nodes.rm(f"{device.front_path}/{name}")
            await nodes.write(f"{device.front_path}/backend", moved.back_path)
            await nodes.write(f"{device.front_path}/backend-id", 0)
            await nodes.write(f"{device.front_path}/state", int(XenbusState.INITIALISING))
            await nodes.write(f"{moved.back_path}/state", int(XenbusState.INITIALISING))
            await nodes.write(f"{moved.back_path}/frontend", moved.front_path)

        await xen.store.transact(change)
        await end.reached(Phase.UNPLUGGED, within=SOON)
        await xen.store.wait_for(f"{xen_home(device.front)}/data/rule-25")
    assert driver.said == ["offer", "connect", "disconnect"]
    assert set(await xen.store.list(moved.front_path)) == {"backend", "backend-id", "state"}
    assert await xen.store.read(f"{moved.front_path}/state") == "1"
    assert not await xen.store.exists(device.back_path)
    await unplug(xen, device)  # there is none any more
    assert await xen.store.exists(moved.front_path)
    await unplug(xen, moved, within=0.1, force=True)


@elsewhere.domain("guest")
async def is_told_that_it_is_gone(xen: Domain) -> None:
    device = await front_device(xen, KIND, 25)
    driver = Front()
    async with asyncio.timeout(SOON):
        await FrontEnd(xen, device, driver).run()
    assert driver.said.count("connect") == driver.said.count("disconnect") == 1
    await xen.store.write("data/rule-25", "")
    async with xen.store.watch(device.front_path) as changes, asyncio.timeout(SOON):
        async for _ in changes:
            if not await xen.store.exists(device.front_path):
                return


in_place = Scenario("a device that was made anew in its old place is connected again")


@in_place.domain("dom0")
async def makes_it_anew(xen: Domain) -> None:
    device = await plugged(xen, 26)
    async with BackEnd(xen, device, driver := Back()):
        await says(xen.store, device.front_path, XenbusState.CONNECTED)

        async def change(nodes: Nodes) -> None:
            for path in (device.front_path, device.back_path):
                for name in await nodes.list(path):
                    if name not in ("backend", "backend-id", "frontend", "frontend-id"):
                        await nodes.rm(f"{path}/{name}")
                await nodes.write(f"{path}/state", int(XenbusState.INITIALISING))

        await xen.store.transact(change)
        await says(xen.store, device.front_path, XenbusState.CONNECTED)
        assert driver.said.count("connect") == 2
    await unplug(xen, device)


@in_place.domain("guest")
async def begins_anew_with_it(xen: Domain) -> None:
    driver = Front()
    async with asyncio.timeout(3 * SOON):
        await FrontEnd(xen, await front_device(xen, KIND, 26), driver).run()
    assert driver.said.count("connect") == driver.said.count("disconnect") == 2
