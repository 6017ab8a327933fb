"""What holds of network devices between domains on a simulated Xen and on a real one alike."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextlib import suppress
from functools import partial
from struct import pack

from net_world import (
    A_WHILE,
    ALL,
    DOM0,
    KIND,
    MTU,
    PATIENCE,
    SOON,
    Use,
    World,
    address,
    data_of,
    do_nothing,
    frame,
    plugged,
    two,
    until_gone,
)
from rule import leaves_nothing, refusal

from activations import Domain, Scenario
from activations.abi import netif as abi
from activations.drivers import net
from activations.drivers.net import CableEnd, Nic, NicClosed, Switch, cable
from activations.xenbus import BackEnd, Unplugged, Written, front_device, unplug

# Frames


SIZES = [*range(0, 100, 7), 1486, 1500, 4081, 4082, 4083, 8178, 8179, 9000]
"""Bytes behind the header: about the ends of one page and of two."""


async def echo(world: World) -> None:
    for _ in SIZES * 5:
        each = await world.wire.receive()
        await world.wire.send(each[6:12] + DOM0 + each[12:])


async def hear_the_echo(xen: Domain, nic: Nic) -> None:
    assert nic.mac == address(1)
    assert nic.mtu == MTU

    async def send() -> None:
        for number, size in enumerate(SIZES * 5):
            await nic.send(frame(DOM0, nic.mac, bytes([number]) * size))

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send())
        for number, size in enumerate(SIZES * 5):
            back = await nic.receive()
            assert back == frame(nic.mac, DOM0, bytes([number]) * size), number
    assert (nic.statistics().bad, nic.statistics().lost) == (0, 0)


class Plain(net.NetBack):
    """A back end that knows one event channel a queue, and one queue."""

    async def offer(self) -> Written:
        return {abi.FEATURE_RX_COPY: 1, abi.FEATURE_SG: 1}


every_size = two("frames_of_every_size_pass_both_ways", echo, hear_the_echo)
one_channel = two("one_event_channel_serves_both_rings", echo, hear_the_echo, driver=Plain)


FLOWS, EACH = 7, 40


async def mirror(world: World) -> None:
    for _ in range(FLOWS * EACH):
        each = await world.wire.receive()
        await world.wire.send(each[6:12] + each[:6] + each[12:])


async def hear_flows_in_order(xen: Domain, nic: Nic) -> None:
    """Each pair of addresses keeps its order."""

    async def send() -> None:
        for number in range(EACH):
            for flow in range(FLOWS):
                await nic.send(frame(address(100 + flow), nic.mac, bytes([number])))

    heard: dict[bytes, list[int]] = {}
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(send())
        for _ in range(FLOWS * EACH):
            each = await nic.receive()
            heard.setdefault(each[6:12], []).append(each[14])
    assert list(heard.values()) == [list(range(EACH))] * FLOWS


def on_queues(count: int) -> Use:
    async def use(xen: Domain, nic: Nic) -> None:
        assert await xen.store.read(f"device/{KIND}/0/multi-queue-num-queues") == str(count)
        await hear_flows_in_order(xen, nic)

    return use


several_queues = two("flows_keep_their_order_on_three_queues", mirror, on_queues(3), queues=3)
many_queues = two(
    "four_queues_make_do_with_the_pages_that_can_be_granted", mirror, on_queues(4), queues=4
)


async def take_late(world: World) -> None:
    await world.says("stuck")
    numbers = [int.from_bytes(data_of(await world.wire.receive())[:2], "big") for _ in range(800)]
    assert numbers == list(range(800))


async def send_until_it_waits(xen: Domain, nic: Nic) -> None:
    sent = 0

    async def send() -> None:
        nonlocal sent
        for number in range(800):
            await nic.send(frame(DOM0, nic.mac, pack("!H", number).ljust(46, b"\0")))
            sent += 1

    sending = asyncio.create_task(send())
    before = -1
    while sent != before:
        before = sent
        await asyncio.sleep(A_WHILE)
    assert sent < 800, "the rings and the cable hold less"
    await xen.store.write("data/stuck", 1)
    await sending
    assert nic.statistics().lost == 0


waits = two("who_sends_faster_than_the_wire_takes_waits", take_late, send_until_it_waits)


async def send_many(world: World) -> None:
    for number in range(400):
        await world.wire.send(frame(address(1), DOM0, pack("!H", number)))
    while world.statistics.sent < 400:
        await asyncio.sleep(A_WHILE)
    await world.tell("sent")


async def receive_too_late(xen: Domain, nic: Nic) -> None:
    await xen.store.wait_for("data/sent")
    while nic.statistics().received < 400:
        await asyncio.sleep(A_WHILE)
    first = [int.from_bytes(data_of(await nic.receive()), "big") for _ in range(256)]
    assert first == list(range(256)), "what there was room for, in order"
    assert nic.receive_nowait() is None
    assert nic.statistics().lost == 400 - 256


drops = two("frames_that_nobody_receives_are_dropped_and_counted", send_many, receive_too_late)


# Ends that go


async def refuse_nonsense(xen: Domain, nic: Nic) -> None:
    for size in (0, 13, nic.longest + 1):
        with suppress(ValueError):
            await nic.send(bytes(size))
            raise AssertionError(f"a frame of {size} bytes was sent")
    assert nic.statistics().sent == 0


lengths = two("a_frame_too_short_or_too_long_is_refused", do_nothing, refuse_nonsense)


returns = Scenario("a_back_end_that_dies_and_comes_back_is_joined_anew")


@returns.domain("dom0")
async def die_and_come_back(xen: Domain) -> None:
    guest = await xen.find("guest")
    with leaves_nothing(xen):
        async with asyncio.timeout(PATIENCE), plugged(xen, guest) as device:
            for life in range(3):
                near, far = cable()
                async with net.serve(xen, device, far) as end:
                    await end.connected(within=SOON)
                    await near.send(frame(address(1), DOM0, bytes([life])))
                    while data_of(await near.receive()) != bytes([life]):
                        pass
                    if life == 2:
                        await xen.store.wait_for(f"/local/domain/{guest}/data/done")


@returns.domain("guest")
async def live_through_it(xen: Domain) -> None:
    with leaves_nothing(xen):
        async with asyncio.timeout(PATIENCE):
            device = await front_device(xen, KIND, 0)
            async with net.open(xen, device, within=SOON) as nic:
                for life in range(3):
                    assert data_of(await nic.receive()) == bytes([life])
                    await nic.send(frame(DOM0, nic.mac, bytes([life])))
                await xen.store.write("data/done", 1)
            await until_gone(xen, device)


Backs = Sequence[tuple[type[net.NetBack], int]]
"""Back ends, one after the other, each with the queues that it offers at most."""


async def offer_otherwise_each_time(xen: Domain, backs: Backs) -> None:
    guest = await xen.find("guest")
    with leaves_nothing(xen):
        async with asyncio.timeout(PATIENCE), plugged(xen, guest) as device:
            for life, (driver, queues) in enumerate(backs):
                near, far = cable()
                back = driver(xen, device, far, max_queues=queues)
                async with BackEnd(xen, device, back):
                    await echo_until(xen, near, f"/local/domain/{guest}/data/{life}")


async def echo_until(xen: Domain, near: CableEnd, word: str) -> None:
    async def echo() -> None:
        while True:
            await near.send(await near.receive())

    echoing = asyncio.create_task(echo())
    await xen.store.wait_for(word)
    echoing.cancel()
    await asyncio.wait([echoing])


async def open_otherwise_each_time(xen: Domain, lives: int, before: Sequence[int]) -> None:
    """With each back end, with so many queues, and a last time that outlives it."""
    with leaves_nothing(xen):
        async with asyncio.timeout(PATIENCE):
            device = await front_device(xen, KIND, 0)
            for life in range(lives):
                for queues in before:
                    async with net.open(xen, device, within=SOON, queues=queues) as nic:
                        await hear(nic, b"one life")
                async with net.open(xen, device, within=SOON, queues=4, pages=32) as nic:
                    await hear(nic, b"the last with this one")
                    await xen.store.write(f"data/{life}", 1)
                    if life < lives - 1:
                        await hear(nic, b"the first with the next")
            await until_gone(xen, device)


async def hear(nic: Nic, data: bytes) -> None:
    """Send it until it comes back."""
    listening = asyncio.create_task(nic.receive())
    while not listening.done():
        await nic.send(frame(DOM0, nic.mac, data.ljust(46)))
        await asyncio.wait([listening], timeout=A_WHILE)
    assert data_of(listening.result())


def differ(name: str, backs: Backs, before: Sequence[int]) -> Scenario:
    scenario = Scenario(name)
    scenario.domain("dom0")(partial(offer_otherwise_each_time, backs=backs))
    guest = partial(open_otherwise_each_time, lives=len(backs), before=before)
    scenario.domain("guest")(guest)
    return scenario


other_queues = differ(
    "a_front_end_and_a_back_end_may_come_back_with_other_queues",
    [(net.NetBack, 4), (Plain, 1), (net.NetBack, 2)],
    before=[1],
)


async def unplug_it(world: World) -> None:
    await world.says("open")
    await unplug(world.xen, world.device, within=SOON)


async def be_told(xen: Domain, nic: Nic) -> None:
    await xen.store.write("data/open", 1)
    for _ in range(2):
        with suppress(NicClosed):
            await nic.receive()
            raise AssertionError("a frame came")
    with suppress(NicClosed):
        while True:
            await nic.send(frame(DOM0, nic.mac, b"?"))
            await asyncio.sleep(A_WHILE)


unplugged = two("whoever_waits_is_told_that_the_device_was_unplugged", unplug_it, be_told)


taken = Scenario("a_device_that_is_taken_away_before_it_is_opened_is_unplugged")


@taken.domain("dom0")
async def take_it_away(xen: Domain) -> None:
    guest = await xen.find("guest")
    async with asyncio.timeout(PATIENCE), plugged(xen, guest) as device:
        await xen.store.wait_for(f"/local/domain/{guest}/data/found")
        await unplug(xen, device, within=0)
        await xen.store.write(f"/local/domain/{guest}/data/taken", "")


@taken.domain("guest")
async def open_it_too_late(xen: Domain) -> None:
    async with asyncio.timeout(PATIENCE):
        device = await front_device(xen, KIND, 0)
        await xen.store.write("data/found", "")
        await xen.store.wait_for("data/taken")
        await refusal(net.open(xen, device).__aenter__(), Unplugged)


# A switch


GUESTS = ("red", "green", "blue")
joined = Scenario("a_switch_joins_three_guests")


@joined.domain("dom0")
async def join_them(xen: Domain) -> None:
    """Each hears what it is sent and what is for all, and nothing that is for another."""
    switch = Switch()
    with leaves_nothing(xen):
        async with asyncio.timeout(PATIENCE), asyncio.TaskGroup() as tasks:
            for number, name in enumerate(GUESTS):
                tasks.create_task(join_one(xen, switch, await xen.find(name), number))
    assert not switch.ports
    assert not any(switch.where(address(number + 1)) for number in range(3)), "all are forgotten"


async def join_one(xen: Domain, switch: Switch, guest: int, number: int) -> None:
    async with plugged(xen, guest, number) as device:
        port = switch.port(f"guest {guest}")
        async with net.serve(xen, device, port):
            await xen.store.wait_for(f"/local/domain/{guest}/data/done")
        port.close()


def guest_of(number: int) -> Callable[[Domain], Awaitable[list[str]]]:
    async def main(xen: Domain) -> list[str]:
        with leaves_nothing(xen):
            async with asyncio.timeout(PATIENCE):
                device = await front_device(xen, KIND, number)
                async with net.open(xen, device, within=SOON) as nic:
                    heard = await talk(nic)
                    await xen.store.write("data/done", 1)
                await until_gone(xen, device)
        return heard

    return main


async def talk(nic: Nic) -> list[str]:
    """Find the two others, greet each by its address, and be greeted by each."""
    greeted: set[bytes] = set()
    heard: set[str] = set()

    async def listen() -> None:
        while len(heard) < 2:
            each = await nic.receive()
            assert each[:6] in (ALL, nic.mac), "a frame for another"
            if each[6:12] not in greeted:
                greeted.add(each[6:12])
                await nic.send(frame(each[6:12], nic.mac, b"hello"))
            if each[:6] == nic.mac:
                assert data_of(each)[:5] == b"hello"
                heard.add(each[6:12].hex(":"))

    listening = asyncio.create_task(listen())
    for _ in range(600):  # until all are there
        await nic.send(frame(ALL, nic.mac, b"who is there?"))
        done, _ = await asyncio.wait([listening], timeout=A_WHILE)
        if done:
            break
    await listening
    for _ in range(5):  # for those who came late
        await nic.send(frame(ALL, nic.mac, b"who is there?"))
        await asyncio.sleep(A_WHILE)
    return sorted(heard)


for _number, _name in enumerate(GUESTS):
    joined.domain(_name)(guest_of(_number))


many_other_queues = differ(
    "they_may_come_back_so_again_and_again",
    [(net.NetBack, 4), (net.NetBack, 1), (Plain, 1), (net.NetBack, 2)],
    before=[1, 3],
)
