"""The xenbus handshake: two ends of a device find each other, part, and find each other again."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod

from patience import patience
from rule import refusal

from activations import Domain, Scenario
from activations.ring import RingError
from activations.store import Store
from activations.xenbus import (
    BackDriver,
    BackEnd,
    Device,
    FrontDriver,
    FrontEnd,
    HandshakeTimeout,
    Keys,
    Phase,
    Unplugged,
    Written,
    XenbusState,
    front_device,
    front_devices,
    plug,
    unplug,
)

KIND = "rule"
SERVED_AS = "rules"
SOON = patience(20.0)


class Front(FrontDriver):
    """Publishes a number, and notes what happens to it."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.size = 0

    async def publish(self, back: Keys) -> Written:
        self.said.append("publish")
        return {"ring-ref": 8, "queue-0/event-channel": 3}

    async def connect(self, back: Keys) -> None:
        self.said.append("connect")
        self.size = back.integer("size")

    async def reconfigure(self, back: Keys) -> None:
        self.said.append("reconfigure")
        self.size = back.integer("size")

    async def serve(self) -> None:
        await asyncio.Event().wait()

    async def disconnect(self) -> None:
        self.said.append("disconnect")


class Back(BackDriver):
    """Takes the number, and notes what happens to it. Whoever sets `fault` breaks it."""

    def __init__(self) -> None:
        self.said: list[str] = []
        self.ring = 0
        self.fault = asyncio.Event()

    async def offer(self) -> Written:
        self.said.append("offer")
        return {"feature-rule": 1}

    async def connect(self, front: Keys) -> Written:
        self.ring = front.integer("ring-ref", within=range(1, 100))
        front.integer("queue-0/event-channel")
        self.said.append("connect")
        return {"size": 100}

    async def serve(self) -> None:
        await self.fault.wait()
        raise RingError("the ring makes no sense")

    async def disconnect(self) -> None:
        self.said.append("disconnect")


async def plugged(xen: Domain, devid: int) -> Device:
    """A new device for the guest."""
    device = Device(KIND, devid, await xen.find("guest"), 0, SERVED_AS)
    await plug(xen, device, back={"mode": "w"})
    return device


async def says(store: Store, path: str, state: XenbusState) -> None:
    """Wait until an end says so."""
    async with asyncio.timeout(SOON):
        await store.wait_for(f"{path}/state", lambda value: value == str(int(state)))


async def say(store: Store, path: str, state: XenbusState) -> None:
    """As an end that is played by hand."""
    await store.write(f"{path}/state", int(state))


# The ends come together

together = Scenario("two ends find each other, and a disk that grows is looked at again")


@together.domain("dom0")
async def grows(xen: Domain) -> None:
    device = await plugged(xen, 1)
    async with BackEnd(xen, device, driver := Back()) as end:
        await end.connected(within=SOON)
        assert driver.ring == 8
        await says(xen.store, device.front_path, XenbusState.CONNECTED)
        await end.update({"size": 200})
        await says(xen.store, device.front_path, XenbusState.CLOSED)
    assert driver.said == ["offer", "connect", "disconnect"]
    await unplug(xen, device)


@together.domain("guest")
async def follows(xen: Domain) -> None:
    device = await front_device(xen, KIND, 1)
    assert device == Device(KIND, 1, xen.domid, 0, SERVED_AS)
    assert device in await front_devices(xen, KIND)
    async with FrontEnd(xen, device, driver := Front()) as end:
        await end.connected(within=SOON)
        async with asyncio.timeout(SOON):
            while driver.size != 200:
                await asyncio.sleep(0.01)
    assert driver.said == ["publish", "connect", "reconfigure", "disconnect"]


pulled = Scenario("a device is unplugged while it is in use")


@pulled.domain("dom0")
async def unplugs(xen: Domain) -> None:
    device = await plugged(xen, 2)
    async with BackEnd(xen, device, driver := Back()) as end:
        await end.connected(within=SOON)
        await says(xen.store, device.front_path, XenbusState.CONNECTED)
        await unplug(xen, device)
        await end.reached(Phase.UNPLUGGED, within=SOON)
    assert driver.said == ["offer", "connect", "disconnect"]
    for path in (device.front_path, device.back_path):
        assert not await xen.store.exists(path)
    await unplug(xen, device)  # twice is harmless


@pulled.domain("guest")
async def is_unplugged(xen: Domain) -> None:
    driver = Front()
    end = FrontEnd(xen, await front_device(xen, KIND, 2), driver)
    async with asyncio.timeout(SOON):
        await end.run()
    assert driver.said == ["publish", "connect", "disconnect"]
    assert "rule 2" in str(await refusal(end.connected(), Unplugged))


class Befallen(Back, ABC):
    """Something befalls its device while it does this step, `offer` or `connect`."""

    def __init__(self, xen: Domain, device: Device, step: str) -> None:
        super().__init__()
        self._xen = xen
        self._device = device
        self._step = step

    @abstractmethod
    async def befall(self) -> None: ...

    async def offer(self) -> Written:
        if self._step == "offer":
            await self.befall()
        return await super().offer()

    async def connect(self, front: Keys) -> Written:
        if self._step == "connect":
            await self.befall()
        return await super().connect(front)


class UnpluggedMeanwhile(Befallen):
    unplugging: asyncio.Task[None] | None = None

    async def befall(self) -> None:
        self.unplugging = asyncio.create_task(unplug(self._xen, self._device, within=SOON))
        await says(self._xen.store, self._device.back_path, XenbusState.CLOSING)


hasty = Scenario("who unplugs a device is heard by a back end that is busy")


@hasty.domain("dom0")
async def is_busy(xen: Domain) -> None:
    for devid, step in ((9, "offer"), (10, "connect")):
        device = await plugged(xen, devid)
        driver = UnpluggedMeanwhile(xen, device, step)
        async with BackEnd(xen, device, driver) as end:
            await end.reached(Phase.UNPLUGGED, within=SOON)
            assert driver.unplugging is not None
            await driver.unplugging
        assert driver.said[-1] == "disconnect"
        assert not await xen.store.exists(device.back_path)


@hasty.domain("guest")
async def sees_one_of_them(xen: Domain) -> None:
    driver = Front()
    async with asyncio.timeout(2 * SOON):
        await FrontEnd(xen, await front_device(xen, KIND, 10), driver).run()
    assert driver.said == ["publish", "disconnect"]


# One dies, or leaves, and comes back

restarted = Scenario("a back end that leaves and comes back is connected anew")


@restarted.domain("dom0")
async def comes_back(xen: Domain) -> None:
    device = await plugged(xen, 3)
    for _ in range(3):
        async with BackEnd(xen, device, Back()) as end:
            await end.connected(within=SOON)
            await says(xen.store, device.front_path, XenbusState.CONNECTED)
    await unplug(xen, device)


@restarted.domain("guest")
async def waits_for_it(xen: Domain) -> None:
    driver = Front()
    async with asyncio.timeout(3 * SOON):
        await FrontEnd(xen, await front_device(xen, KIND, 3), driver).run()
    assert driver.said == ["publish", "connect", "disconnect"] * 3


back_died = Scenario("a back end that died without a word is taken up where xenstore left it")


@back_died.domain("dom0")
async def dies_and_comes_back(xen: Domain) -> None:
    device = await plugged(xen, 4)
    store = xen.store
    await say(store, device.back_path, XenbusState.INIT_WAIT)
    await says(store, device.front_path, XenbusState.INITIALISED)
    await store.write(f"{device.back_path}/size", 50)
    await say(store, device.back_path, XenbusState.CONNECTED)
    await says(store, device.front_path, XenbusState.CONNECTED)
    async with BackEnd(xen, device, driver := Back()) as end:  # its second life
        await end.connected(within=SOON)
        assert driver.said == ["offer", "connect"]
        await says(store, device.front_path, XenbusState.CONNECTED)
    await unplug(xen, device)


@back_died.domain("guest")
async def connects_twice(xen: Domain) -> None:
    driver = Front()
    async with asyncio.timeout(2 * SOON):
        await FrontEnd(xen, await front_device(xen, KIND, 4), driver).run()
    assert driver.said == ["publish", "connect", "disconnect"] * 2


front_died = Scenario("a front end that died without a word makes new rings")


@front_died.domain("dom0")
async def takes_new_rings(xen: Domain) -> None:
    device = await plugged(xen, 5)
    async with BackEnd(xen, device, driver := Back()) as end:
        await end.connected(within=SOON)
        await xen.store.wait_for(f"{xen_home(device.front)}/data/rule-5")
    assert driver.said == ["offer", "connect", "disconnect"] * 2
    await unplug(xen, device)


@front_died.domain("guest")
async def dies_and_makes_new_ones(xen: Domain) -> None:
    device = await front_device(xen, KIND, 5)
    store, path = xen.store, device.front_path
    await says(store, device.back_path, XenbusState.INIT_WAIT)
    await store.write(f"{path}/ring-ref", 9)
    await store.write(f"{path}/queue-0/event-channel", 9)
    await say(store, path, XenbusState.INITIALISED)
    await says(store, device.back_path, XenbusState.CONNECTED)
    await say(store, path, XenbusState.CONNECTED)
    async with FrontEnd(xen, device, driver := Front()) as end:  # its second life
        await end.connected(within=SOON)
        assert driver.said == ["publish", "connect"]
    await store.write("data/rule-5", "")


# What goes wrong is said

broken = Scenario("a back end closes a device whose front end says nonsense, and says why")


@broken.domain("dom0")
async def finds_a_key_missing(xen: Domain) -> None:
    device = await plugged(xen, 6)
    async with BackEnd(xen, device, Back()) as end:
        await end.reached(Phase.FAILED, Phase.CLOSED, within=SOON)
        reason = await xen.store.read(f"error/backend/{SERVED_AS}/{device.front}/6/error")
        assert "no key ring-ref" in reason
        assert device.front_path in reason
        assert end.failure in reason
        await end.reached(Phase.CLOSED, within=SOON)
        assert "no key ring-ref" in await end.explain()
    await unplug(xen, device)
    await xen.store.rm("error")


@broken.domain("guest")
async def has_no_keys(xen: Domain) -> None:
    device = await front_device(xen, KIND, 6)
    await say(xen.store, device.front_path, XenbusState.CONNECTED)
    await says(xen.store, device.back_path, XenbusState.CLOSING)
    await say(xen.store, device.front_path, XenbusState.CLOSED)
    await says(xen.store, device.back_path, XenbusState.CLOSED)  # its part goes with this domain


failing = Scenario("a driver that finds its ring broken closes the device, and the front end goes")


@failing.domain("dom0")
async def breaks(xen: Domain) -> None:
    device = await plugged(xen, 7)
    async with BackEnd(xen, device, driver := Back()) as end:
        await end.connected(within=SOON)
        driver.fault.set()
        await end.reached(Phase.CLOSED, within=SOON)
        assert end.failure == "the ring makes no sense"
    assert driver.said == ["offer", "connect", "disconnect"]
    await unplug(xen, device)
    await xen.store.rm("error")


@failing.domain("guest")
async def is_told_to_go(xen: Domain) -> None:
    driver = Front()
    async with FrontEnd(xen, await front_device(xen, KIND, 7), driver) as end:
        await end.reached(Phase.CLOSED, within=SOON)
    assert driver.said == ["publish", "connect", "disconnect"]


stuck = Scenario("a handshake that does not finish says who stands where, and what is missing")


@stuck.domain("dom0")
async def offers_and_no_more(xen: Domain) -> None:
    device = await plugged(xen, 8)
    note = f"{xen_home(device.front)}/data/rule-8"
    await xen.store.wait_for(note, lambda value: value == "seen that nobody serves")
    await say(xen.store, device.back_path, XenbusState.INIT_WAIT)
    await xen.store.wait_for(note, lambda value: value == "seen that it does not connect")
    await unplug(xen, device, within=1)  # the front end lets go, the dead back end says nothing
    assert not await xen.store.exists(device.front_path)


@stuck.domain("guest")
async def is_told(xen: Domain) -> None:
    device = await front_device(xen, KIND, 8)
    async with FrontEnd(xen, device, Front()) as end:
        said = str(await refusal(end.connected(within=0.2), HandshakeTimeout))
        assert f"the front end (domain {xen.domid}) stands in Initialising" in said
        assert "the back end (domain 0) stands in Initialising, as if no program served it" in said
        await xen.store.write("data/rule-8", "seen that nobody serves")
        await end.reached(Phase.PUBLISHED, within=SOON)
        said = str(await refusal(end.connected(within=0.2), HandshakeTimeout))
        assert "the back end (domain 0) stands in InitWait" in said
        await xen.store.write("data/rule-8", "seen that it does not connect")
        await end.reached(Phase.UNPLUGGED, within=SOON)


clings = Scenario("a device whose front end does not let go is removed by force alone")


@clings.domain("dom0")
async def forces(xen: Domain) -> None:
    device = await plugged(xen, 11)
    async with BackEnd(xen, device, Back()) as end:
        await says(xen.store, device.front_path, XenbusState.CONNECTED)
        said = str(await refusal(unplug(xen, device, within=0.2), HandshakeTimeout))
        assert "use force" in said
        assert f"the front end (domain {device.front}) stands in Connected" in said
        await unplug(xen, device, within=0.2, force=True)
        await end.reached(Phase.UNPLUGGED, within=SOON)
    for path in (device.front_path, device.back_path):
        assert not await xen.store.exists(path)


@clings.domain("guest")
async def does_not_let_go(xen: Domain) -> None:
    device = await front_device(xen, KIND, 11)
    async with xen.store.watch(device.front_path) as changes:
        await say(xen.store, device.front_path, XenbusState.CONNECTED)
        async with asyncio.timeout(SOON):
            async for _ in changes:
                if not await xen.store.exists(device.front_path):
                    return


def xen_home(domid: int) -> str:
    return f"/local/domain/{domid}"
