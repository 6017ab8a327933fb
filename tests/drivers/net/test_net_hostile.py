"""A network driver whose peer jumps from state to state and writes anything into its keys: it keeps
its head, gives back what it took, and connects once the peer behaves."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from random import Random

import pytest
from support.hostile_keys import misbehave, take_away
from support.parameters import one_in

from activations import Domain
from activations.drivers import net
from activations.drivers.net import Nic, NicClosed, cable
from activations.xenbus import (
    Device,
    Phase,
    XenbusError,
    XenbusState,
    front_device,
    plug,
    unplug,
)
from xen_sim import Machine

FRONT_KEYS = [
    "tx-ring-ref",
    "rx-ring-ref",
    "event-channel",
    "event-channel-tx",
    "event-channel-rx",
    "multi-queue-num-queues",
    "request-rx-copy",
    "feature-sg",
    "feature-rx-notify",
    "queue-0/tx-ring-ref",
    "queue-1/rx-ring-ref",
]
BACK_KEYS = [
    "feature-rx-copy",
    "feature-sg",
    "feature-split-event-channels",
    "multi-queue-max-queues",
]
SOON = 60
MAC = bytes.fromhex("00163e000001")


async def echo(nic: Nic) -> None:
    async with asyncio.timeout(SOON):
        await nic.send(b"\xff" * 6 + MAC + b"\x88\xb5hello")
        assert await nic.receive() == MAC + b"\xff" * 6 + b"\x88\xb5hello"


@pytest.mark.parametrize("seed", one_in(1, range(30)))
def test_a_back_end_serves_once_its_front_end_behaves(seed: int) -> None:
    async def dom0(xen: Domain) -> None:
        device = Device("vif", 0, await xen.find("guest"), 0)
        await plug(xen, device, front={"mac": MAC.hex(":")})
        near, far = cable()
        async with net.serve(xen, device, far):
            frame = await near.receive()
            await near.send(frame[6:12] + frame[:6] + frame[12:])
            await unplug(xen, device)
        assert not xen.grants.open

    async def guest(xen: Domain) -> None:
        device = await front_device(xen, "vif", 0)
        await misbehave(xen.store, device.front_path, FRONT_KEYS, Random(seed))
        await take_away(xen.store, device.front_path, *FRONT_KEYS)
        await xen.store.write(f"{device.front_path}/state", int(XenbusState.CLOSED))
        await asyncio.sleep(1)
        async with net.open(xen, device, within=SOON) as nic:
            await echo(nic)
            with pytest.raises(NicClosed, match="was unplugged"):
                await nic.receive()
        assert not xen.grants.open

    machine = Machine(seed=seed)
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    machine.run()


@pytest.mark.parametrize("seed", one_in(1, range(30)))
def test_a_front_end_connects_once_its_back_end_behaves(seed: int) -> None:
    """It may have to be opened again: a back end that makes no sense closes the device."""

    async def dom0(xen: Domain) -> None:
        guest = await xen.find("guest")
        device = Device("vif", 0, guest, 0)
        await plug(xen, device, front={"mac": MAC.hex(":")})
        await misbehave(xen.store, device.back_path, BACK_KEYS, Random(seed))
        await take_away(xen.store, device.back_path, *BACK_KEYS)
        await xen.store.write(f"{device.back_path}/state", int(XenbusState.CLOSED))
        await asyncio.sleep(1)
        await xen.store.write(f"/local/domain/{guest}/data/behaves", 1)
        near, far = cable()
        async with net.serve(xen, device, far):
            while True:
                frame = await near.receive()
                await near.send(frame[6:12] + frame[:6] + frame[12:])
                if await xen.store.exists(f"/local/domain/{guest}/data/echoed"):
                    break
            await unplug(xen, device)
        assert not xen.grants.open

    async def guest(xen: Domain) -> None:
        device = await front_device(xen, "vif", 0)
        while not await xen.store.exists("data/behaves"):
            with suppress(NicClosed, XenbusError, TimeoutError):
                async with net.open(xen, device, within=1) as nic:
                    async with asyncio.timeout(0.1):
                        await nic.receive()
                    raise AssertionError("a frame came of a back end that has no rings")
            assert not xen.grants.open
            await asyncio.sleep(0.1)
        async with net.open(xen, device, within=SOON) as nic:
            await echo(nic)
            await xen.store.write("data/echoed", 1)
            with pytest.raises(NicClosed, match="was unplugged"):
                while True:
                    await nic.send(b"\xff" * 6 + MAC + b"\x88\xb5bye")
                    await nic.receive()
        assert not xen.grants.open

    machine = Machine(seed=seed)
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    machine.run()


@pytest.mark.parametrize("seed", one_in(1, range(10)))
def test_a_guest_whose_folder_is_gone_from_one_moment_to_the_next_leaves_nothing(seed: int) -> None:
    """As when its domain is destroyed, with frames under way both ways."""

    async def dom0(xen: Domain) -> None:
        _ = xen.store
        ports = set(xen.events.ports)
        device = Device("vif", 0, await xen.find("guest"), 0)
        await plug(xen, device, front={"mac": MAC.hex(":")})
        near, far = cable()
        async with net.serve(xen, device, far) as end:
            for _ in range(100):
                frame = await near.receive()
                await near.send(frame[6:12] + frame[:6] + frame[12:])
            await xen.store.rm(device.front_path)
            await end.reached(Phase.UNPLUGGED, within=SOON)
            assert not xen.grants.open
            assert set(xen.events.ports) == ports
        await xen.store.rm(device.back_path)

    async def guest(xen: Domain) -> None:
        async with net.open(xen, await front_device(xen, "vif", 0)) as nic:
            with pytest.raises(NicClosed, match="was unplugged"):
                while True:
                    await nic.send(b"\xff" * 6 + MAC + b"\x88\xb5" + bytes(1000))
                    nic.receive_nowait()
        assert not xen.grants.open

    machine = Machine(seed=seed)
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    machine.run()
