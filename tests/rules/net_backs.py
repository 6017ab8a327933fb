"""What a network front end makes of back ends that do not keep to the protocol."""

from __future__ import annotations

import asyncio
from struct import pack_into

from net_world import (
    A_WHILE,
    DOM0,
    KIND,
    PATIENCE,
    SOON,
    Use,
    frame,
    plugged,
    until_gone,
)
from raw_net import BackWork, RawBack
from rule import leaves_nothing

from activations import Domain, Scenario
from activations.abi import netif as abi
from activations.abi import ring as ring_abi
from activations.drivers import net
from activations.drivers.net import Nic, NicClosed
from activations.xenbus import BackEnd, Written, front_device

OFFER: Written = {abi.FEATURE_RX_COPY: 1, abi.FEATURE_SG: 1}


def against_back(
    name: str, do: BackWork, use: Use | None = None, *, offers: Written = OFFER, why: str = ""
) -> Scenario:
    """A scenario in which dom0's end is made by hand. What the guest does with its device ends in
    `NicClosed` with the reason `why`; or, where that is empty, by itself."""
    scenario = Scenario(name)

    async def dom0(xen: Domain) -> None:
        guest = await xen.find("guest")
        with leaves_nothing(xen):
            async with (
                asyncio.timeout(PATIENCE),
                plugged(xen, guest) as device,
                BackEnd(xen, device, RawBack(xen, device, do, offers)),
            ):
                await xen.store.wait_for(f"/local/domain/{guest}/data/done")

    async def guest(xen: Domain) -> None:
        reason = ""
        with leaves_nothing(xen):
            async with asyncio.timeout(PATIENCE):
                device = await front_device(xen, KIND, 0)
                try:
                    async with net.open(xen, device, within=SOON) as nic:
                        await (use or just_receive)(xen, nic)
                except NicClosed as error:
                    reason = str(error)
                await xen.store.write("data/done", 1)
                await until_gone(xen, device)
        assert why in reason if why else not reason, reason

    scenario.domain("dom0")(dom0)
    scenario.domain("guest")(guest)
    return scenario


async def just_receive(xen: Domain, nic: Nic) -> None:
    await nic.receive()
    raise AssertionError("a frame came")


async def send_one(xen: Domain, nic: Nic) -> None:
    await nic.send(frame(DOM0, nic.mac, bytes(46)))
    await just_receive(xen, nic)


async def send_two(xen: Domain, nic: Nic) -> None:
    await nic.send(frame(DOM0, nic.mac, bytes(46)))
    await send_one(xen, nic)


async def answer_nothing(back: RawBack) -> None:
    _, _, _, id, _ = await back.sent()
    back.answer(id ^ 1, 0)


async def answer_twice(back: RawBack) -> None:
    sent = [await back.sent() for _ in range(2)]
    for _ in sent:
        back.answer(sent[0][3], 0)


async def answer_far_ahead(back: RawBack) -> None:
    await back.sent()
    pack_into("<I", back.tx_memory, ring_abi.RSP_PROD, 2)
    back.port.notify()


async def answer_too_much(back: RawBack) -> None:
    pack_into("<I", back.rx_memory, ring_abi.RSP_PROD, 5000)
    back.port.notify()


async def fill_another(back: RawBack) -> None:
    id, _ = await back.page()
    back.fill(id ^ 1, 60)


async def fill_for_ever(back: RawBack) -> None:
    for _ in range(19):
        id, _ = await back.page()
        back.fill(id, 100, more=True)


unasked = against_back(
    "an_answer_to_nothing_closes_the_device", answer_nothing, send_one, why="not in flight"
)
twice = against_back(
    "an_answer_given_twice_closes_the_device", answer_twice, send_two, why="not in flight"
)
far_ahead = against_back(
    "an_answer_before_its_packet_closes_the_device", answer_far_ahead, send_one, why="responses to"
)
too_many_answers = against_back(
    "answers_to_what_nobody_asked_close_the_device", answer_too_much, why="responses to"
)
another = against_back("a_page_filled_for_another_closes_the_device", fill_another, why="is next")
for_ever = against_back(
    "a_packet_without_end_closes_the_device", fill_for_ever, why="more than 18 parts"
)
no_copies = against_back(
    "a_back_end_that_gives_no_copies_is_told_so", fill_for_ever, offers={}, why="by copy"
)


async def fill_badly(back: RawBack) -> None:
    """Lengths that cannot be, each a packet; then a good one of two parts, the first empty."""
    for size, offset in ((4097, 0), (100, 4090), (-1, 0), (-2, 0), (3, 0), (32767, 65535)):
        id, _ = await back.page()
        back.fill(id, size, offset=offset)
    id, _ = await back.page()
    back.fill(id, 0, more=True)
    id, _ = await back.page()
    back.fill(id, 14)


async def receive_the_good_one(xen: Domain, nic: Nic) -> None:
    assert await nic.receive() == bytes(14)
    assert (nic.statistics().received, nic.statistics().bad) == (1, 6)


bad_lengths = against_back(
    "lengths_that_cannot_be_cost_a_packet_each", fill_badly, receive_the_good_one
)


async def refuse_and_take(back: RawBack) -> None:
    for status in (-1, -2, 0):
        _, _, _, id, _ = await back.sent()
        back.answer(id, status)


async def send_three(xen: Domain, nic: Nic) -> None:
    for _ in range(3):
        await nic.send(frame(DOM0, nic.mac, bytes(46)))
    while nic.statistics().lost < 2:
        await asyncio.sleep(A_WHILE)
    assert (nic.statistics().sent, nic.statistics().lost) == (3, 2)


refused = against_back("packets_that_are_refused_are_counted", refuse_and_take, send_three)


async def ring_and_ring(back: RawBack) -> None:
    """Thousands of events, and nothing in the rings; then a frame."""
    for _ in range(50):
        for _ in range(100):
            back.port.notify()
        await asyncio.sleep(0)
    id, _ = await back.page()
    back.fill(id, 60)


async def timers_go_on(xen: Domain, nic: Nic) -> None:
    ticks = 0
    arriving = asyncio.create_task(nic.receive())
    while not arriving.done():
        await asyncio.sleep(0.001)
        ticks += 1
    assert len(await arriving) == 60
    assert ticks


flood = against_back("a_flood_of_events_keeps_no_guest_from_working", ring_and_ring, timers_go_on)
