"""Networks: packets in pieces, either way, and their checksums."""

from __future__ import annotations

from random import Random

from activations.abi import netif
from activations.drivers.net import checksum, queues, receive, transmit
from activations.drivers.net.errors import BadPacket, NetError
from activations.drivers.net.front_queue import FromBack, PacketPages, ToBack
from activations.drivers.net.statistics import Statistics
from activations.ring import RingError
from activations.sring import FrontRing

from .hostile import BATCH, Feed
from .noise import number
from .pages import PAGE, ignore, page


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
    memory, pages = page(), PacketPages(page(64), range(64))
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
    memory, pages = page(), PacketPages(page(32), range(32))
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
