"""The machine room: dom0 and two guests, and what they are busy with.

           dom0                          alice                        bob
           blkback on an image ───────── blkfront: xvda
           switch ─┬─ netback ────────── netfront: eth0
                   └─ netback ─────────────────────────────────────── netfront: eth0
                                         vchan ────────────────────── vchan

dom0 plugs all devices in; then the guests come to them one after another, so that every domain
knows what each of its ports is for. Then all of them are busy at the same time. What is found out
is in what the halves return: nothing is judged here.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import asdict
from pathlib import Path
from time import perf_counter
from typing import Any

from anyio import BrokenResourceError, EndOfStream, IncompleteRead

from activations import vchan
from activations.abi.netif import MAC
from activations.abi.xenstore_paths import home
from activations.demo.disk import CHUNK, Image, digest_of, made_image, read_all
from activations.demo.figures import Meter
from activations.demo.ping import Pinger, Pings, Station
from activations.demo.plan import Plan
from activations.demo.talk import Talk
from activations.domain import Domain
from activations.drivers import block, net
from activations.drivers.block import FileDisk, devid_of
from activations.drivers.block.disk import Disk
from activations.drivers.net import Switch, SwitchPort
from activations.drivers.net.nic import Nic
from activations.scenario import Scenario
from activations.xenbus import BackEnd, Device, Phase, front_device, plug, unplug

XVDA = devid_of("xvda")
SERVED_AS = "room"
"""So that no driver of a Linux in dom0 takes the devices for its own."""
ALICE = Station(bytes.fromhex("00163e000001"), bytes([10, 0, 0, 1]))
BOB = Station(bytes.fromhex("00163e000002"), bytes([10, 0, 0, 2]))
HOME = "data/room"
"""What concerns the room in a domain's folder."""
CHANNEL = "data/room/vchan"
RING = 1 << 16
"""Bytes of the vchan's rings, each way."""
SOON = 60.0
"""Seconds in which the ends of a device find each other, anywhere."""


def machine_room(plan: Plan) -> Scenario:
    """The scenario, with so much to be done."""
    room = Scenario("machine room")

    @room.domain("dom0")
    async def dom0(xen: Domain) -> dict[str, Any]:
        return await _dom0(xen, plan)

    @room.domain("alice")
    async def alice(xen: Domain) -> dict[str, Any]:
        return await _alice(xen, plan)

    @room.domain("bob")
    async def bob(xen: Domain) -> dict[str, Any]:
        return await _bob(xen, plan)

    return room


# dom0


async def _dom0(xen: Domain, plan: Plan) -> dict[str, Any]:
    meter = Meter(xen, plan.every)
    alice, bob = await xen.find("alice"), await xen.find("bob")
    async with AsyncExitStack() as stack:
        path = Path(plan.image or stack.enter_context(made_image(plan.size)))
        file = FileDisk(path, read_only=True, format="raw")  # the plan's maker looked at it
        image = Image(stack.enter_context(file), meter.tick)
        switch = WatchedSwitch(meter)
        xvda = await stack.enter_async_context(_disk(xen, alice, image))
        print(f"xvda of alice is {plan.name}, {plan.size:,} bytes, behind blkback")
        near = await stack.enter_async_context(_interface(xen, alice, ALICE, switch))
        far = await stack.enter_async_context(_interface(xen, bob, BOB, switch))
        print("eth0 of alice and eth0 of bob are plugged into a switch, behind netback")
        await xen.store.write(f"{home(alice)}/{HOME}/other", bob)
        await _connected(meter, xvda, "xvda")
        await _connected(meter, near, "eth0 alice")
        await xen.store.write(f"{home(bob)}/{HOME}/other", alice)
        await _connected(meter, far, "eth0 bob")
        digest = await digest_of(path, plan.size, meter.tick)
        for domid in (alice, bob):
            await xen.store.wait_for(f"{home(domid)}/{HOME}/done")
        meter.tell()
        for domid in (alice, bob):
            await xen.store.write(f"{home(domid)}/{HOME}/closing", 1)
    for domid in (alice, bob):
        await xen.store.write(f"{home(domid)}/{HOME}/closed", 1)
    return {
        "image": {"name": plan.name, "bytes": plan.size, "sha256": digest},
        "switch": {"frames": switch.frames},
    }


@asynccontextmanager
async def _disk(xen: Domain, domid: int, image: Image) -> AsyncIterator[BackEnd]:
    device = Device("vbd", XVDA, domid, xen.domid, SERVED_AS)
    await plug(xen, device)
    async with block.serve(xen, device, image) as end:
        await end.reached(Phase.OFFERED, within=SOON)
        yield end
    await unplug(xen, device)


@asynccontextmanager
async def _interface(
    xen: Domain, domid: int, station: Station, switch: Switch
) -> AsyncIterator[BackEnd]:
    device = Device("vif", 0, domid, xen.domid, SERVED_AS)
    await plug(xen, device, front={MAC: station.mac.hex(":")})
    port = switch.port()
    try:
        async with net.serve(xen, device, port) as end:
            await end.reached(Phase.OFFERED, within=SOON)
            yield end
    finally:
        port.close()
    await unplug(xen, device)


async def _connected(meter: Meter, end: BackEnd, use: str) -> None:
    with meter.naming(use):
        await end.connected(within=SOON)


class WatchedSwitch(Switch):
    """A switch that counts frames, and ticks."""

    def __init__(self, meter: Meter) -> None:
        super().__init__()
        self.frames: int = 0
        self._meter = meter

    def forward(self, source: SwitchPort, frame: bytes) -> None:
        super().forward(source, frame)
        self.frames += 1
        self._meter.tick()


# The guests


async def _alice(xen: Domain, plan: Plan) -> dict[str, Any]:
    meter = Meter(xen, plan.every)
    bob = await _other(xen)
    path = f"{home(xen.domid)}/{CHANNEL}"
    async with _unless_left(), AsyncExitStack() as stack:
        with meter.naming("xvda"):
            found = await front_device(xen, "vbd", XVDA)
            disk = await stack.enter_async_context(block.open(xen, found, within=SOON))
        nic = await _nic(xen, stack, meter, "eth0 alice")
        with meter.naming("vchan"):
            listener = await stack.enter_async_context(
                vchan.listen(xen, bob, path, left=RING, right=RING)
            )
        stream = await stack.enter_async_context(await listener.accept())
        async with asyncio.TaskGroup() as tasks:
            reading = tasks.create_task(_read(disk, plan, meter))
            pinging = tasks.create_task(_ping(nic, plan, meter))
            talking = tasks.create_task(_talk(Talk(stream), plan, meter, begins=False))
        meter.tell()
        await _closing(xen)
    await xen.store.wait_for(f"{HOME}/closed")
    return {"disk": reading.result(), "pings": pinging.result(), "vchan": talking.result()}


async def _bob(xen: Domain, plan: Plan) -> dict[str, Any]:
    meter = Meter(xen, plan.every)
    alice = await _other(xen)
    path = f"{home(alice)}/{CHANNEL}"
    async with _unless_left(), AsyncExitStack() as stack:
        nic = await _nic(xen, stack, meter, "eth0 bob")
        with meter.naming("vchan"):
            stream = await stack.enter_async_context(await vchan.connect(xen, alice, path))
        async with asyncio.TaskGroup() as tasks:
            answering = tasks.create_task(_answer(nic, plan, meter))
            said = await _talk(Talk(stream), plan, meter, begins=True)
            await _closing(xen)
            answering.cancel()
        meter.tell()
    await xen.store.wait_for(f"{HOME}/closed")
    return {"vchan": said}


@asynccontextmanager
async def _unless_left() -> AsyncIterator[None]:
    """If the other guest hangs up before its time, let go of everything, and wait to be ended:
    the other's half says what has happened."""
    left = True
    try:
        yield
        left = False
    except* (EndOfStream, IncompleteRead, BrokenResourceError):
        pass  # what is cancelled in here is a group of errors before Python 3.11.4
    if left:
        await asyncio.Event().wait()


async def _other(xen: Domain) -> int:
    """The other guest's domid; dom0 alone sees who there is."""
    return int(await xen.store.wait_for(f"{HOME}/other"))


async def _closing(xen: Domain) -> None:
    """Say that this guest is done, and wait until both are: till then all ports are there to be
    told of."""
    await xen.store.write(f"{HOME}/done", 1)
    await xen.store.wait_for(f"{HOME}/closing")


async def _nic(xen: Domain, stack: AsyncExitStack, meter: Meter, use: str) -> Nic:
    with meter.naming(use):
        device = await front_device(xen, "vif", 0)
        return await stack.enter_async_context(net.open(xen, device, within=SOON))


async def _read(disk: Disk, plan: Plan, meter: Meter) -> dict[str, Any]:
    ring = meter.ring("xvda", plan.size)
    began = perf_counter()
    digest = await read_all(disk, plan.size, ring, meter.tick)
    seconds = perf_counter() - began
    print(f"xvda: read to its end, {plan.size:,} bytes, {CHUNK >> 10} KiB at a time")
    return {
        "sha256": digest,
        "bytes": plan.size,
        "reads": ring.requests,
        "seconds": round(seconds, 6),
    }


async def _ping(nic: Nic, plan: Plan, meter: Meter) -> dict[str, Any]:
    ring = meter.ring("eth0 alice", 2 * plan.pings + 2)
    pinger, pings = Pinger(nic, Station(nic.mac, ALICE.address), ring), Pings()
    peer = await pinger.find(BOB.address)
    print(f"eth0: {dotted(peer.address)} is at {peer.mac.hex(':')}")
    began = perf_counter()
    for sequence in range(plan.pings):
        await pinger.ping(peer, sequence, pings)
        meter.tick()
    seconds = perf_counter() - began
    print(f"eth0: {pings.sent:,} pings, {pings.answered:,} answers")
    return {
        "sent": pings.sent,
        "answered": pings.answered,
        "typical": round(pings.typical(), 9),
        "seconds": round(seconds, 6),
    }


async def _answer(nic: Nic, plan: Plan, meter: Meter) -> None:
    ring = meter.ring("eth0 bob", 2 * plan.pings + 2)
    pinger = Pinger(nic, Station(nic.mac, BOB.address), ring)
    while True:
        await pinger.answer_one()
        meter.tick()


async def _talk(talk: Talk, plan: Plan, meter: Meter, *, begins: bool) -> dict[str, Any]:
    await talk.converse(begins=begins, show=lambda line: print(f"“{line}”"))
    ring = meter.ring("vchan bob" if begins else "vchan alice", plan.talk)
    began = perf_counter()
    digests = await talk.exchange(plan.talk, seed=int(begins), ring=ring, tick=meter.tick)
    seconds = perf_counter() - began
    return {**asdict(digests), "bytes": plan.talk, "seconds": round(seconds, 6)}


def dotted(address: bytes) -> str:
    """An IPv4 address as people write it."""
    return ".".join(map(str, address))
