"""What holds of network devices between domains on a simulated Xen and on a real one alike.

The devices are of a kind that no kernel has a driver for: the guests' kernels leave them alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager, suppress
from struct import pack, pack_into

from raw_net import BackWork, FrontWork, RawBack, RawFront

from activations import Domain, Scenario
from activations.abi import netif as abi
from activations.abi import ring as ring_abi
from activations.abi.netif import Extra, TxFlag
from activations.drivers.net import (
    CableEnd,
    Figures,
    Nic,
    NicClosed,
    Switch,
    cable,
)
from activations.drivers.net import back as netback
from activations.drivers.net import front as netfront
from activations.xenbus import (
    BackEnd,
    Device,
    FrontEnd,
    Phase,
    Written,
    front_device,
    plug,
    unplug,
)

KIND = "rulevif"
PATIENCE = 240
SOON = 60.0
A_WHILE = 0.2
MTU = 9000
DOM0 = bytes([0, 0x16, 0x3E, 0, 0, 0xFF])
ALL = b"\xff" * 6

Use = Callable[[Domain, Nic], Awaitable[object]]
Behind = Callable[["Behindness"], Awaitable[object]]


def address(number: int) -> bytes:
    return bytes([0, 0x16, 0x3E, 0, 0, number])


def frame(to: bytes, by: bytes, data: bytes) -> bytes:
    return to + by + b"\x12\x34" + data


def data_of(each: bytes) -> bytes:
    return each[14:]


@contextmanager
def leaves_nothing(xen: Domain) -> Iterator[None]:
    """All ports and grants opened within are closed at the end; the store's port is its own."""
    _ = xen.store
    before = set(xen.events.ports)
    yield
    assert set(xen.events.ports) == before
    assert not xen.grants.open


@asynccontextmanager
async def plugged(xen: Domain, guest: int, number: int = 0) -> AsyncIterator[Device]:
    """A device for the guest, until the block is left."""
    device = Device(KIND, number, guest, xen.domid)
    mac = address(number + 1).hex(":")
    await plug(xen, device, front={"mac": mac, "mtu": MTU, "handle": number}, back={"mac": mac})
    yield device
    await unplug(xen, device, within=SOON)


async def until_gone(xen: Domain, device: Device) -> None:
    """Wait until dom0 is done with the device: a guest that ends takes its part of xenstore with
    it, on which dom0 is still at work."""
    async with xen.store.watch(device.front_path) as changes:
        async for _ in changes:
            if not await xen.store.exists(device.front_path):
                return


class Behindness:
    """What a rule's dom0 half works with: the wire's near end, and the guest's part of
    xenstore."""

    def __init__(self, xen: Domain, guest: int, device: Device, wire: CableEnd) -> None:
        self.xen = xen
        self.device = device
        self.wire = wire
        self.figures = Figures()
        self._home = f"/local/domain/{guest}/data"

    async def says(self, word: str) -> str:
        """Wait for the guest to write this node."""
        return await self.xen.store.wait_for(f"{self._home}/{word}")

    async def tell(self, word: str) -> None:
        await self.xen.store.write(f"{self._home}/{word}", 1)


def two(
    name: str,
    behind: Behind,
    use: Use,
    *,
    queues: int = 1,
    driver: type[netback.NetBack] = netback.NetBack,
) -> Scenario:
    """A scenario of a device in a guest and a cable behind its back end in dom0, and what each
    half does there. Nothing may be left open."""
    scenario = Scenario(name)

    async def dom0(xen: Domain) -> None:
        guest = await xen.find("guest")
        with leaves_nothing(xen):
            async with asyncio.timeout(PATIENCE), plugged(xen, guest) as device:
                near, far = cable()
                world = Behindness(xen, guest, device, near)
                back = driver(xen, device, far, figures=world.figures)
                async with BackEnd(xen, device, back) as end:
                    await end.connected(within=SOON)
                    await behind(world)
                    await world.says("done")

    async def guest(xen: Domain) -> None:
        with leaves_nothing(xen):
            async with asyncio.timeout(PATIENCE):
                device = await front_device(xen, KIND, 0)
                async with netfront.open(xen, device, within=SOON, queues=queues) as nic:
                    await use(xen, nic)
                    await xen.store.write("data/done", 1)
                await until_gone(xen, device)

    scenario.domain("dom0")(dom0)
    scenario.domain("guest")(guest)
    return scenario


# Frames


SIZES = [*range(0, 100, 7), 1486, 1500, 4081, 4082, 4083, 8178, 8179, 9000]
"""Bytes behind the header: about the ends of one page and of two."""


async def echo(world: Behindness) -> None:
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
    assert (nic.figures.bad, nic.figures.lost) == (0, 0)


class Plain(netback.NetBack):
    """A back end that knows one event channel a queue, and one queue."""

    async def offer(self) -> Written:
        return {abi.FEATURE_RX_COPY: 1, abi.FEATURE_SG: 1}


every_size = two("frames_of_every_size_pass_both_ways", echo, hear_the_echo)
one_channel = two("one_event_channel_serves_both_rings", echo, hear_the_echo, driver=Plain)


FLOWS, EACH = 7, 40


async def mirror(world: Behindness) -> None:
    for _ in range(FLOWS * EACH):
        each = await world.wire.receive()
        await world.wire.send(each[6:12] + each[:6] + each[12:])


async def hear_flows_in_order(xen: Domain, nic: Nic) -> None:
    """The keys name three queues, and each pair of addresses keeps its order."""
    assert await xen.store.read(f"device/{KIND}/0/multi-queue-num-queues") == "3"

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


several_queues = two(
    "flows_keep_their_order_on_three_queues", mirror, hear_flows_in_order, queues=3
)


async def take_late(world: Behindness) -> None:
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
    assert nic.figures.lost == 0


waits = two("who_sends_faster_than_the_wire_takes_waits", take_late, send_until_it_waits)


async def send_many(world: Behindness) -> None:
    for number in range(400):
        await world.wire.send(frame(address(1), DOM0, pack("!H", number)))
    while world.figures.sent < 400:
        await asyncio.sleep(A_WHILE)
    await world.tell("sent")


async def receive_too_late(xen: Domain, nic: Nic) -> None:
    await xen.store.wait_for("data/sent")
    while nic.figures.received < 400:
        await asyncio.sleep(A_WHILE)
    first = [int.from_bytes(data_of(await nic.receive()), "big") for _ in range(256)]
    assert first == list(range(256)), "what there was room for, in order"
    assert nic.receive_nowait() is None
    assert nic.figures.lost == 400 - 256


drops = two("frames_that_nobody_receives_are_dropped_and_counted", send_many, receive_too_late)


# Ends that go


async def do_nothing(world: Behindness) -> None:
    pass


async def refuse_nonsense(xen: Domain, nic: Nic) -> None:
    for size in (0, 13, nic.longest + 1):
        with suppress(ValueError):
            await nic.send(bytes(size))
            raise AssertionError(f"a frame of {size} bytes was sent")
    assert nic.figures.sent == 0


lengths = two("a_frame_too_short_or_too_long_is_refused", do_nothing, refuse_nonsense)


returns = Scenario("a_back_end_that_dies_and_comes_back_is_joined_anew")


@returns.domain("dom0")
async def die_and_come_back(xen: Domain) -> None:
    guest = await xen.find("guest")
    with leaves_nothing(xen):
        async with asyncio.timeout(PATIENCE), plugged(xen, guest) as device:
            for life in range(3):
                near, far = cable()
                async with netback.serve(xen, device, far) as end:
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
            async with netfront.open(xen, device, within=SOON) as nic:
                for life in range(3):
                    assert data_of(await nic.receive()) == bytes([life])
                    await nic.send(frame(DOM0, nic.mac, bytes([life])))
                await xen.store.write("data/done", 1)
            await until_gone(xen, device)


async def unplug_it(world: Behindness) -> None:
    await unplug(world.xen, world.device, within=SOON)


async def be_told(xen: Domain, nic: Nic) -> None:
    for _ in range(2):
        with suppress(NicClosed):
            await nic.receive()
            raise AssertionError("a frame came")
    with suppress(NicClosed):
        while True:
            await nic.send(frame(DOM0, nic.mac, b"?"))
            await asyncio.sleep(A_WHILE)


unplugged = two("whoever_waits_is_told_that_the_device_was_unplugged", unplug_it, be_told)


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
        async with netback.serve(xen, device, port):
            await xen.store.wait_for(f"/local/domain/{guest}/data/done")
        port.close()


def guest_of(number: int) -> Callable[[Domain], Awaitable[list[str]]]:
    async def main(xen: Domain) -> list[str]:
        with leaves_nothing(xen):
            async with asyncio.timeout(PATIENCE):
                device = await front_device(xen, KIND, number)
                async with netfront.open(xen, device, within=SOON) as nic:
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


# Front ends that are not ours


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
                world = Behindness(xen, guest, device, near)
                async with netback.serve(xen, device, far, figures=world.figures) as end:
                    if why:
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
                async with FrontEnd(xen, device, front):
                    if not why:
                        await front.done
                        await xen.store.write("data/done", 1)
                    await xen.store.wait_for("data/over")
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
        ([request(100, more, id=5), request(0, id=6)], [(5, -1), (6, -1)]),
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


async def only_the_good_one_comes(world: Behindness) -> None:
    assert data_of(await world.wire.receive())[:4] == b"good"
    assert world.wire.receive_nowait() is None
    assert (world.figures.received, world.figures.bad) == (1, 9)


bad_packets = against_front(
    "bad_packets_are_answered_as_errors_and_good_ones_pass",
    send_bad_packets,
    behind=only_the_good_one_comes,
)


async def send_blank(front: RawFront) -> None:
    ip = pack("!BBHHHBBH8s", 0x45, 0, 28 + 5, 0, 0, 64, 17, 0, bytes([10, 0, 0, 1, 10, 0, 0, 2]))
    datagram = pack("!4H", 1, 2, 13, 0xDEAD) + b"hello"
    front.data[:47] = DOM0 + address(1) + b"\x08\x00" + ip + datagram
    front.put(front.request(47, TxFlag.CSUM_BLANK | TxFlag.DATA_VALIDATED, id=1))
    assert await front.answers(1) == [(1, 0)]


async def is_complete(world: Behindness) -> None:
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


async def send_two(world: Behindness) -> None:
    for _ in range(2):
        await world.wire.send(frame(address(1), DOM0, b"1234".ljust(46, b"\0")))
    await world.says("done")
    assert (world.figures.sent, world.figures.lost) == (1, 1)


bad_page = against_front(
    "a_page_that_was_not_granted_loses_one_frame", offer_a_bad_page, behind=send_two
)


async def pretend_work(front: RawFront) -> None:
    pack_into("<I", front.tx_memory, ring_abi.REQ_PROD, 1000)
    front.port.notify()


async def send_nineteen_pieces(front: RawFront) -> None:
    front.put(*[front.request(1000, TxFlag.MORE_DATA) for _ in range(19)])


async def send_endless_extras(front: RawFront) -> None:
    more = abi.EXTRA_INFO.pack(Extra.HASH, abi.EXTRA_FLAG_MORE, bytes(6))
    front.put(front.request(60, TxFlag.EXTRA_INFO), *[more] * 20)


broken_ring = against_front(
    "a_ring_index_out_of_range_closes_the_device", pretend_work, why="requests in a ring of 256"
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


async def timers_go_on(world: Behindness) -> None:
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


# Back ends that are not ours


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
                    async with netfront.open(xen, device, within=SOON) as nic:
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


async def answer_nothing(back: RawBack) -> None:
    _, _, _, id, _ = await back.sent()
    back.answer(id ^ 1, 0)


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
    "an_answer_to_nothing_closes_the_device", answer_nothing, send_one, why="not under way"
)
too_many_answers = against_back(
    "answers_to_what_nobody_asked_close_the_device", answer_too_much, why="responses to"
)
another = against_back(
    "a_page_filled_for_another_closes_the_device", fill_another, why="was to be answered"
)
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
    assert (nic.figures.received, nic.figures.bad) == (1, 6)


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
    while nic.figures.lost < 2:
        await asyncio.sleep(A_WHILE)
    assert (nic.figures.sent, nic.figures.lost) == (3, 2)


refused = against_back("packets_that_are_refused_are_counted", refuse_and_take, send_three)
