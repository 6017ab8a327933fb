"""What takes bytes of somebody else's, without a machine around it: parsers, and ends of rings.

Each is handed what a peer, a guest or a file may hold. It is to give its own typed error, or to go
on; and what it holds of its domain, pages above all, is to be there afterwards. Live drivers on a
machine are in `live`.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random
from struct import pack_into
from typing import Any

from support.block_pages import World

from activations.abi import netif, vchan, xs_wire
from activations.abi.blkif import LAYOUTS, Op
from activations.drivers.block.names import devid_of, name_of, place_of
from activations.drivers.block.offer import Geometry, Offer
from activations.drivers.block.protocol import (
    BadRequest,
    BlockError,
    Discard,
    Indirect,
    check_range,
    decode,
    runs_in,
)
from activations.drivers.net import checksum, queues, receive, transmit
from activations.drivers.net.errors import BadPacket, NetError
from activations.drivers.net.front_queue import FromBack, Pages, ToBack
from activations.drivers.net.statistics import Statistics
from activations.ring import ByteRing, RingError
from activations.sring import BackRing, FrontRing, RingFull
from activations.store import Permission, WireError
from activations.store.page import StorePage
from activations.store.wire import Decoder, Message, octets
from activations.vchan import VchanError
from activations.vchan.end import CLIENT, SERVER, End
from activations.vchan.layout import Layout
from activations.xenbus import BadKey, Keys, MissingKey
from xen_kernel.assembly import Refused
from xen_kernel.errors import KernelError
from xen_sim.explore.token import TokenError
from xen_sim.xenstored import Xenstored, toolstack
from xen_sim.xenstored.ring import RingServer

from .files import BATCH, failures, kernel_assembly, kernel_scenario, of_each, recording, token
from .hostile import Feed, Subject
from .noise import number, spoilt, word, words
from .noise import text as said

PAGE = 4096


def page(pages: int = 1) -> memoryview:
    return memoryview(bytearray(pages * PAGE))


def ignore() -> None:
    pass


# xenstore


def messages(random: Random) -> None:
    decoder, taken = Decoder(), 0
    while taken < 3:
        header = words(random, 3) + random.choice((5, 0, 200, 4096, 4097)).to_bytes(4, "little")
        for message in decoder.feed(random.choice((header, random.randbytes(30)))):
            assert len(message.payload) <= xs_wire.PAYLOAD_MAX
        assert decoder.missing > 0
        taken += 1


def store_page(random: Random) -> None:
    """A guest's end: xenstored is believed no more than anybody."""
    memory = page()
    memory[2048:2080] = words(random, 8)
    end = StorePage(memory)
    outside = bytes(memory[2080:])
    with suppress(RingError):
        assert len(end.responses.read()) <= xs_wire.RING_SIZE
    with suppress(RingError):
        assert end.requests.write(random.randbytes(random.randrange(2000))) <= xs_wire.RING_SIZE
    assert memory[2080:] == outside


def store_server() -> Feed:
    """A guest that says anything, in pieces of any size, beside one that is served all the same."""
    xenstored = Xenstored()
    toolstack.introduce_dom0(xenstored)
    for domid in (1, 2):
        toolstack.introduce(xenstored, domid, f"guest{domid}")
    neighbour = xenstored.connect(2)
    paths = ("data", "data/x", "/", "/local/domain/1", "@releaseDomain", "/local/domain/2/data")

    def feed(random: Random) -> int:
        hostile = xenstored.connect(1)
        for _ in range(BATCH):
            payload = b"\0".join(
                octets(said(random, *paths)) for _ in range(random.randrange(4))
            ) + random.choice((b"", b"\0"))
            kind, of = random.randrange(30), random.choice((0, 0, 0, 1, number(random)))
            raw = Message(kind, payload[:4096], 1, of).encode()
            hostile.receive(spoilt(random, raw) if random.random() < 0.02 else raw)
            hostile.take_output()
        neighbour.receive(Message(xs_wire.MessageType.WRITE, b"data/mine\0here").encode())
        neighbour.receive(Message(xs_wire.MessageType.READ, b"data/mine\0").encode())
        assert neighbour.take_output().endswith(b"OK\0" + neighbour_reply)
        hostile.break_off()
        hostile.close()
        xenstored.release(1)
        toolstack.release(xenstored, 1)
        toolstack.introduce(xenstored, 1, "guest1")
        return BATCH

    neighbour_reply = Message(xs_wire.MessageType.READ, b"here").encode()
    return feed


def store_ring() -> Feed:
    """A guest that writes anything into its page, the indices above all."""
    xenstored = Xenstored()
    toolstack.introduce_dom0(xenstored)
    toolstack.introduce(xenstored, 1, "guest")

    def feed(random: Random) -> int:
        for _ in range(BATCH // 10):
            memory = page()
            connection = xenstored.connect(1)
            server = RingServer(memory, connection, ignore)
            for _ in range(10):
                if random.random() < 0.5:
                    memory[2048:2064] = words(random, 4)
                else:
                    raw = Message(random.randrange(30), b"data\0x", 1, 0).encode()
                    memory[: len(raw)] = raw
                    pack_into("<2I", memory, 2048, 0, len(raw))
                server.kick()
            connection.close()
        return BATCH

    return feed


def permission(random: Random) -> None:
    wire = random.choice("nrwbx") + said(random, "1", "65535", "65536")
    assert Permission.parse(wire) == Permission.parse(str(Permission.parse(wire)))


# Keys


NAMES = ("ring-ref", "event-channel", "tx-ring-ref", "rx-ring-ref", "event-channel-tx", "mac")
NAMES += ("event-channel-rx", "multi-queue-num-queues", "queue-0/tx-ring-ref", "sectors")
NAMES += (
    "sector-size",
    "info",
    "queue-0/rx-ring-ref",
    "queue-0/event-channel",
    "max-ring-page-order",
)
NAMES += ("multi-queue-max-queues", "feature-flush-cache", "feature-max-indirect-segments")


def keys(random: Random) -> None:
    """What a driver asks of the other end's folder."""
    folder = {name: said(random, "8", "00:16:3e:00:00:01") for name in random.sample(NAMES, 10)}
    other = Keys("the other end", "/path", folder)
    ask: Callable[[Keys], Any] = random.choice(
        (
            lambda other: queues.read(other, 4),
            queues.read_mac,
            Offer.of,
            Geometry.of,
            lambda other: other.integer("ring-ref", within=range(1, 100)),
            lambda other: other.flag("info"),
        )
    )
    ask(other)


# Rings


def byte_ring(random: Random) -> None:
    """The console's, xenstore's and vchan's: no more than the ring is ever touched."""
    memory = page()
    memory[:8] = words(random, 2)
    ring = ByteRing(memory[1024:2048], memory, cons=0, prod=4)
    for _ in range(3):
        with suppress(RingError):
            assert len(ring.read(random.choice((None, number(random))))) <= 1024
        with suppress(RingError):
            assert ring.write(random.randbytes(random.randrange(2000))) <= 1024
        memory[random.choice((0, 4)) :][:4] = word(random)
    assert not any(memory[8:1024])
    assert not any(memory[2048:])


def front_ring(random: Random) -> None:
    memory = page()
    ring = FrontRing(memory, 112, start=number(random))
    for _ in range(random.randrange(40)):
        with suppress(RingFull):
            ring.put(b"request")
    ring.push()
    taken = 0
    for _ in range(4):
        memory[4 * random.randrange(4) :][:4] = word(random)
        with suppress(RingError):
            while ring.take() is not None:
                taken += 1
        ring.idle()
    assert taken <= ring.size


def back_ring(random: Random) -> None:
    memory = page()
    memory[:16] = words(random, 4)
    ring = BackRing(memory, 112)
    for _ in range(4):
        memory[4 * random.randrange(4) :][:4] = word(random)
        with suppress(RingError):
            assert len(ring.take_some(number(random))) <= ring.size
        assert ring.in_hand <= ring.size
        with suppress(RingFull):
            ring.put(b"response")
        ring.push()
        ring.idle()


# Disks


def block_request(random: Random) -> None:
    """As a back end takes one, to the last sector of it."""
    layout = random.choice([*LAYOUTS.values()])
    raw = bytearray(random.randbytes(layout.entry_size))
    if random.random() < 0.9:
        raw[0], raw[1] = random.randrange(8), random.randrange(14)
    if random.random() < 0.5:
        for at in range(layout.request.size, layout.entry_size - 8, 8):
            raw[at + 4 : at + 6] = bytes((random.randrange(9), random.randrange(9)))
    request = decode(layout, bytes(raw), max_indirect=256)
    if isinstance(request, Discard):
        check_range(request, request.sectors, disk_sectors=4096)
        assert request.sector + request.sectors <= 4096
        return
    if isinstance(request, Indirect):
        segments = random.randbytes(PAGE * len(request.refs))
    else:
        segments = request.segments
    if segments:
        runs = runs_in(segments, request)
        assert all(each.offset + each.length <= PAGE for each in runs.segments)
        check_range(request, runs.sectors, disk_sectors=4096)


def block_answers(random: Random) -> int:
    """A back end that answers anything: no page of the front end's is lost."""
    world = World(pages=32)
    memory = world.back.rings[0]._entries.obj
    asked = [world.read(number * 8, 8) for number in range(8)]
    world.back.take()
    fed = 0
    try:
        for _ in range(8):
            fed += 1
            right = random.random() < 0.6
            id = world.back.taken[0].id if right and world.back.taken else number(random)
            op = random.choice((Op.READ, Op.READ, random.randrange(256)))
            if random.random() < 0.1:
                memory[8:12] = word(random)  # how far the answers are
            else:
                world.back.rings[0].put(
                    LAYOUTS["x86_64-abi"].response.pack(id, op, random.choice((0, -1, -2, 99)))
                )
                world.back.rings[0].push()
                del world.back.taken[:1]
            world.hear()
    except (BlockError, RingError, RingFull):
        pass
    world.part()
    world.connect()
    world.requests.fill()
    world.finish()
    assert all(len(each.ended) == 1 for each in asked)
    assert world.pool.free == world.pool.size
    return fed


def block_names(random: Random) -> None:
    devid = number(random)
    place_of(devid)
    name_of(devid)
    devid_of("xvd" + said(random, "a", "zz", "a15", "aaaaaa", "b300"))


# Networks


def tx_requests() -> Feed:
    """Into the back end: packets of any number of pieces, sizes and extra infos."""
    gatherer = transmit.Gatherer()

    def feed(random: Random) -> int:
        nonlocal gatherer
        for _ in range(BATCH):
            raw = netif.TX_REQUEST.pack(
                number(random),
                random.choice((0, 4095, 4096, random.getrandbits(16))),
                random.choice((0, 0, 4, 8, 12, random.getrandbits(16))),
                random.getrandbits(16),
                random.choice((0, 13, 14, 60, 4096, 65535)),
            )
            try:
                packet = gatherer.add(raw if random.random() < 0.8 else random.randbytes(len(raw)))
            except BadPacket:
                continue
            except NetError:
                gatherer = transmit.Gatherer()
            else:
                if packet is not None:
                    assert 14 <= packet.size <= 65535
                    assert all(each.offset + each.size <= PAGE for each in packet.pieces)
        return BATCH

    return feed


def rx_responses(random: Random) -> int:
    """Into the front end: what a back end says that it has put into which page."""
    memory, pages = page(), Pages(page(64), range(64))
    end = FromBack(FrontRing(memory, netif.RX_ENTRY_SIZE), pages, ignore, Statistics())
    fed = 0
    try:
        for at in range(40):
            fed += 1
            entry = netif.RX_RESPONSE.pack(
                at if random.random() < 0.97 else random.getrandbits(16),
                random.choice((0, 0, 4000, random.getrandbits(16))),
                random.choice((0, 0, 4, 8, 1, 3, random.getrandbits(16))),
                random.choice((14, 60, 4096, 0, -1, random.getrandbits(15))),
            )
            start = 64 + (at & 255) * netif.RX_ENTRY_SIZE
            memory[start : start + len(entry)] = entry
            told = at + 1 if random.random() < 0.98 else number(random)
            memory[8:12] = told.to_bytes(4, "little")
            for frame in end.take(64):
                assert len(frame) <= 65535
    except (NetError, RingError):
        return fed
    assert len(pages.free) + end.ring.in_flight + end._collector.unfinished == 64
    return fed


def tx_answers(random: Random) -> int:
    """Into the front end: answers to what it has sent, or to nothing."""
    memory, pages = page(), Pages(page(32), range(32))
    end = ToBack(FrontRing(memory, netif.TX_ENTRY_SIZE), pages, ignore, Statistics(), sg=True)
    while end.send(bytes(random.choice((60, 1500, 9000)))):
        pass
    fed = 0
    try:
        for at in range(20):
            fed += 1
            id = at if random.random() < 0.95 else random.getrandbits(16)
            entry = netif.TX_RESPONSE.pack(id, random.choice((0, -1, -2, 7)))
            start = 64 + at * netif.TX_ENTRY_SIZE
            memory[start : start + len(entry)] = entry
            told = at + 1 if random.random() < 0.95 else number(random)
            memory[8:12] = told.to_bytes(4, "little")
            end.collect()
    except (NetError, RingError):
        return fed
    assert len(pages.free) + end.ring.in_flight == 32
    return fed


def rx_requests(random: Random) -> None:
    receive.decode_request(random.randbytes(netif.RX_ENTRY_SIZE))


def blank_checksum(random: Random) -> None:
    """A frame whose checksum the other end has left to us."""
    kinds = (b"\x08\0", b"\x86\xdd", b"\x81\0", b"\x88\xa8", random.randbytes(2))
    frame = bytearray(random.randbytes(12) + random.choice(kinds))
    frame += bytes((random.choice((0x45, 0x4F, 0x60, random.randrange(256))), 0))
    frame += random.choice((0, 20, 28, 60, 1500, 65535)).to_bytes(2, "big") + bytes(4)
    frame += bytes((64, random.choice((6, 17, 0, 43, 60, 44, random.randrange(256)))))
    frame += random.randbytes(random.randrange(80))
    before = bytes(frame)
    try:
        checksum.complete(frame)
    except checksum.NoChecksum:
        assert frame == before
        raise
    assert len(frame) == len(before)
    queues.flow(frame)


# vchan


def vchan_fields(random: Random) -> None:
    memory = page()
    left, right = memory[1024:2048], memory[2048:]
    pair = End(SERVER, memory, left, right, ignore), End(CLIENT, memory, right, left, ignore)
    memory[:24] = words(random, 6) if random.random() < 0.7 else random.randbytes(24)
    for end in pair:
        with suppress(VchanError):
            end.read(number(random))
        with suppress(VchanError):
            end.write(memoryview(bytes(random.randrange(3000))))
        end.ask(vchan.Notify.WRITE)
        _ = end.peer_left
    assert not any(memory[24:1024])


def vchan_orders(random: Random) -> None:
    Layout.of(random.choice((10, 11, 12, 20, 21, number(random))), random.randrange(24))


SUBJECTS = (
    Subject("store-wire", "xs_wire's messages, cut anywhere", of_each(messages, WireError)),
    Subject("store-page", "a guest's end of xenstore's page", of_each(store_page)),
    Subject("store-server", "requests to xenstored", store_server),
    Subject("store-ring", "xenstored's end of a guest's page", store_ring),
    Subject("permission", "a permission's text", of_each(permission, ValueError)),
    Subject("keys", "a device's keys", of_each(keys, BadKey, MissingKey, BlockError)),
    Subject("byte-ring", "a ring of bytes", of_each(byte_ring)),
    Subject("front-ring", "a ring of requests, its front end", of_each(front_ring)),
    Subject("back-ring", "a ring of requests, its back end", of_each(back_ring, RingError)),
    Subject("block-request", "a disk's requests", of_each(block_request, BadRequest)),
    Subject("block-answers", "a disk's answers", lambda: block_answers),
    Subject("block-names", "a disk's name and number", of_each(block_names, ValueError)),
    Subject("net-tx-requests", "packets of a front end's", tx_requests),
    Subject("net-rx-responses", "packets of a back end's", lambda: rx_responses),
    Subject("net-tx-answers", "a back end's answers to packets", lambda: tx_answers),
    Subject("net-rx-requests", "a front end's empty pages", of_each(rx_requests)),
    Subject("checksum", "frames with their checksum blank", of_each(blank_checksum, NetError)),
    Subject("vchan-end", "a vchan's page", of_each(vchan_fields)),
    Subject("vchan-orders", "the sizes of a vchan's rings", of_each(vchan_orders, VchanError)),
    Subject("recording", "a recording's file", recording),
    Subject("failures", "the explorer's kept failures", failures),
    Subject("token", "an explorer's token", of_each(token, TokenError)),
    Subject("kernel-scenario", "a kernel's scenario", of_each(kernel_scenario, KernelError)),
    Subject("kernel-assembly", "a kernel's inline assembly", of_each(kernel_assembly, Refused)),
)
