"""What a network back end makes of front ends that do not keep to the protocol."""

from __future__ import annotations

import asyncio
from struct import pack, pack_into

from net_world import (
    DOM0,
    KIND,
    PATIENCE,
    SOON,
    Behind,
    World,
    address,
    data_of,
    do_nothing,
    frame,
    plugged,
    until_gone,
)
from raw_net import FrontWork, RawFront
from rule import leaves_nothing

from activations import Domain, Scenario
from activations.abi import netif as abi
from activations.abi import ring as ring_abi
from activations.abi.netif import Extra, TxFlag
from activations.drivers import net
from activations.drivers.net import cable
from activations.xenbus import FrontEnd, Phase, Written, front_device


def against_front(
    name: str,
    do: FrontWork,
    *,
    keys: Written | None = None,
    why: str = "",
    behind: Behind = do_nothing,
) -> Scenario:
    """A scenario in which the guest's end is made by hand. The device is to be closed with the
    reason `why`; or, where that is empty, `do` runs to its end and `behind` in dom0 with it."""
    scenario = Scenario(name)

    async def dom0(xen: Domain) -> None:
        guest = await xen.find("guest")
        with leaves_nothing(xen):
            async with asyncio.timeout(PATIENCE), plugged(xen, guest) as device:
                near, far = cable()
                world = World(xen, guest, device, near)
                async with net.serve(xen, device, far, statistics=world.statistics) as end:
                    if why:
                        await behind(world)
                        await end.reached(Phase.FAILED, within=SOON)
                        assert why in end.failure, end.failure
                    else:
                        await end.connected(within=SOON)
                        await behind(world)
                        await world.says("done")
                    await world.tell("over")

    async def guest(xen: Domain) -> None:
        with leaves_nothing(xen):
            async with asyncio.timeout(PATIENCE):
                device = await front_device(xen, KIND, 0)
                front = RawFront(xen, device, do, keys or {})
                try:
                    async with FrontEnd(xen, device, front):
                        if not why:
                            await front.done
                            await xen.store.write("data/done", 1)
                        await xen.store.wait_for("data/over")
                finally:
                    await front.leftovers.aclose()
                await until_gone(xen, device)

    scenario.domain("dom0")(dom0)
    scenario.domain("guest")(guest)
    return scenario


async def sit(front: RawFront) -> None:
    pass


async def send_bad_packets(front: RawFront) -> None:
    """Each is answered in every entry that it took, and after all of them a good one passes."""
    more, extra = TxFlag.MORE_DATA, TxFlag.EXTRA_INFO
    request = front.request
    gso = abi.EXTRA_INFO.pack(Extra.GSO, 0, bytes(6))
    cases: list[tuple[list[bytes], list[tuple[int, int]]]] = [
        ([request(13, id=1)], [(1, -1)]),
        ([request(100, id=2, offset=4000)], [(2, -1)]),
        ([request(100, more, id=3), request(101, id=4)], [(3, -1), (4, -1)]),
        ([request(100, more, id=5), request(0, id=6, offset=4097)], [(5, -1), (6, -1)]),
        ([request(60, extra, id=7), gso], [(7, -1), (0, 1)]),
        ([request(60, id=8, ref=99_999)], [(8, -1)]),
        ([request(60, TxFlag.CSUM_BLANK, id=9)], [(9, -1)]),
    ]
    for entries, answers in cases:
        front.put(*entries)
        assert await front.answers(len(answers)) == answers
    # and all in one batch, with a good one among them
    front.data[:60] = frame(DOM0, address(1), b"good".ljust(46, b"\0"))
    front.put(*cases[5][0], request(60, id=20), *cases[0][0])
    assert sorted(await front.answers(3)) == [(1, -1), (8, -1), (20, 0)]


async def only_the_good_one_comes(world: World) -> None:
    assert data_of(await world.wire.receive())[:4] == b"good"
    assert world.wire.receive_nowait() is None
    assert (world.statistics.received, world.statistics.bad) == (1, 9)


bad_packets = against_front(
    "bad_packets_are_answered_as_errors_and_good_ones_pass",
    send_bad_packets,
    behind=only_the_good_one_comes,
)


async def send_empty_pieces(front: RawFront) -> None:
    """The pages of those were never granted."""
    more = TxFlag.MORE_DATA
    front.data[:60] = frame(DOM0, address(1), b"held".ljust(46, b"\0"))
    front.put(
        front.request(60, more, id=1),
        front.request(0, more, id=2, ref=99_999),
        front.request(0, id=3, ref=99_999),
    )
    assert await front.answers(3) == [(1, 0), (2, 0), (3, 0)]


async def what_is_held_comes(world: World) -> None:
    arrived = await world.wire.receive()
    assert len(arrived) == 60
    assert data_of(arrived)[:4] == b"held"


empty_pieces = against_front(
    "a_packet_may_have_empty_pieces_after_the_first", send_empty_pieces, behind=what_is_held_comes
)


async def send_blank(front: RawFront) -> None:
    ip = pack("!BBHHHBBH8s", 0x45, 0, 28 + 5, 0, 0, 64, 17, 0, bytes([10, 0, 0, 1, 10, 0, 0, 2]))
    datagram = pack("!4H", 1, 2, 13, 0xDEAD) + b"hello"
    front.data[:47] = DOM0 + address(1) + b"\x08\x00" + ip + datagram
    front.put(front.request(47, TxFlag.CSUM_BLANK | TxFlag.DATA_VALIDATED, id=1))
    assert await front.answers(1) == [(1, 0)]


async def is_complete(world: World) -> None:
    arrived = await world.wire.receive()
    # by hand: all words of pseudo header and datagram, carries folded, turned around
    assert arrived[40:42] == (0xA7FC).to_bytes(2, "big"), arrived[40:42].hex()
    assert arrived[42:] == b"hello"


blank = against_front(
    "a_checksum_that_was_left_blank_is_complete_on_the_wire", send_blank, behind=is_complete
)


async def offer_a_bad_page(front: RawFront) -> None:
    front.offer(99_999, front.ref)
    assert await front.arrivals(2) == [(0, 0, 0, -1), (1, 0, 0, 60)]
    assert bytes(front.data[14:18]) == b"1234"


async def send_two(world: World) -> None:
    for _ in range(2):
        await world.wire.send(frame(address(1), DOM0, b"1234".ljust(46, b"\0")))
    await world.says("done")
    assert (world.statistics.sent, world.statistics.lost) == (1, 1)


bad_page = against_front(
    "a_page_that_was_not_granted_loses_one_frame", offer_a_bad_page, behind=send_two
)


async def pretend_work(front: RawFront) -> None:
    pack_into("<I", front.tx_memory, ring_abi.REQ_PROD, 1000)
    front.port.notify()


async def pretend_pages(front: RawFront) -> None:
    pack_into("<I", front.rx_memory, ring_abi.REQ_PROD, 1000)
    front.port.notify()


async def send_one_to_it(world: World) -> None:
    await world.wire.send(frame(address(1), DOM0, bytes(46)))


async def send_nineteen_pieces(front: RawFront) -> None:
    front.put(*[front.request(1000, TxFlag.MORE_DATA) for _ in range(19)])


async def send_endless_extras(front: RawFront) -> None:
    more = abi.EXTRA_INFO.pack(Extra.HASH, abi.EXTRA_FLAG_MORE, bytes(6))
    front.put(front.request(60, TxFlag.EXTRA_INFO), *[more] * 20)


broken_ring = against_front(
    "a_ring_index_out_of_range_closes_the_device", pretend_work, why="requests in a ring of 256"
)
broken_rx_ring = against_front(
    "an_index_of_pages_out_of_range_closes_the_device",
    pretend_pages,
    behind=send_one_to_it,
    why="requests in a ring of 256",
)
too_many = against_front(
    "a_packet_of_too_many_pieces_closes_the_device",
    send_nineteen_pieces,
    why="more than 18 pieces",
)
endless = against_front(
    "extra_infos_without_end_close_the_device", send_endless_extras, why="extra infos"
)
no_ring = against_front(
    "a_front_end_without_a_ring_is_told_so", sit, keys={"tx-ring-ref": ""}, why="tx-ring-ref"
)
bad_ring = against_front(
    "a_ring_that_was_not_granted_closes_the_device",
    sit,
    keys={"rx-ring-ref": 99_999},
    why="99999",
)
flips = against_front(
    "a_front_end_that_takes_no_copies_is_told_so",
    sit,
    keys={"request-rx-copy": 0},
    why="by copy",
)
no_port = against_front(
    "a_port_that_cannot_be_closes_the_device",
    sit,
    keys={"event-channel": (1 << 32) - 1},
    why="EVTCHNOP_bind_interdomain",
)
no_number = against_front(
    "a_key_that_is_no_number_closes_the_device",
    sit,
    keys={"event-channel": "9" * 100},
    why="event-channel = '999",
)
many_queues = against_front(
    "more_queues_than_offered_close_the_device",
    sit,
    keys={"multi-queue-num-queues": 5},
    why="multi-queue-num-queues = '5'",
)


async def ring_and_ring(front: RawFront) -> None:
    """Thousands of events, and nothing in the ring; then a packet."""
    for _ in range(50):
        for _ in range(100):
            front.port.notify()
        await asyncio.sleep(0)
    front.data[:60] = frame(DOM0, address(1), b"at last".ljust(46, b"\0"))
    front.put(front.request(60, id=1))
    assert await front.answers(1) == [(1, 0)]


async def timers_go_on(world: World) -> None:
    ticks = 0
    arriving = asyncio.create_task(world.wire.receive())
    while not arriving.done():
        await asyncio.sleep(0.001)
        ticks += 1
    assert data_of(await arriving)[:7] == b"at last"
    assert ticks


flood = against_front(
    "a_flood_of_events_keeps_nobody_from_working", ring_and_ring, behind=timers_go_on
)
