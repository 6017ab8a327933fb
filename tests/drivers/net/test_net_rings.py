"""The four ends of a network device's rings, each against a peer that writes anything at any time.

There is no Xen here: rings and pages are plain memory, and Xen's copy is a function of the test's.
"""

from __future__ import annotations

import asyncio
import errno
import logging
from collections import deque
from collections.abc import Callable, Sequence
from random import Random
from struct import pack_into, unpack_from
from types import SimpleNamespace

import pytest
from dpkt.ethernet import Ethernet
from dpkt.ip import IP
from dpkt.udp import UDP
from hypothesis import given
from hypothesis import strategies as st

from activations.abi import netif as abi
from activations.abi import ring as ring_abi
from activations.abi.netif import RxFlag
from activations.drivers.net import NetError, Statistics
from activations.drivers.net.back_queue import FromGuest, Terms, ToGuest
from activations.drivers.net.front_queue import FromBack, PacketPages, ToBack
from activations.errors import XenError
from activations.lower import Foreign, Segment
from activations.ring import RingError
from activations.sring import BackRing, FrontRing

PAGES = 40
SIZE = 256
"""Entries of a ring of one page, either kind."""
GUEST = 1
SEEDS = st.integers(0, 1 << 32)


class Peer:
    """The other end of a ring, which writes what `random` says: mostly entries that could be."""

    def __init__(self, seed: int, entry_size: int) -> None:
        self.random = Random(seed)
        self.memory = bytearray(4096)
        self.view = memoryview(self.memory)
        self._entry_size = entry_size

    def write(self, index: int, entry: bytes) -> None:
        at = ring_abi.ENTRIES + index % SIZE * self._entry_size
        self.memory[at : at + len(entry)] = entry

    def read(self, index: int) -> bytes:
        at = ring_abi.ENTRIES + index % SIZE * self._entry_size
        return bytes(self.memory[at : at + self._entry_size])

    def produce(self, index: int, offset: int) -> None:
        """Move the peer's own index: most often to where it should be."""
        if self.random.random() < 0.02:
            index = self.random.choice([index - 1, index + SIZE + 1, self.random.getrandbits(32)])
        pack_into("<I", self.memory, offset, index & 0xFFFFFFFF)

    def scribble(self) -> None:
        """Write over every entry there is."""
        self.memory[ring_abi.ENTRIES :] = self.random.randbytes(4096 - ring_abi.ENTRIES)


def nobody() -> None:
    """Who is to be told of a ring's news here."""


def pages(count: int = PAGES) -> PacketPages:
    return PacketPages(memoryview(bytearray(count * 4096)), range(100, 100 + count))


# The front end's


@given(SEEDS)
def test_whatever_a_back_end_says_it_sends_no_page_is_lost_or_had_twice(seed: int) -> None:
    peer = Peer(seed, abi.RX_ENTRY_SIZE)
    random, figures, stock = peer.random, Statistics(), pages()
    end = FromBack(FrontRing(peer.view, abi.RX_ENTRY_SIZE), stock, nobody, figures)
    produced = 0
    for _ in range(10):
        offered = [*end._posted]
        for id in offered[: random.randrange(len(offered) + 1)]:
            said = id if random.random() < 0.98 else random.getrandbits(16)
            status = random.choice([14, 60, 4096, 4097, 0, -1, -2, random.randrange(-99, 5000)])
            offset = random.choice([0, 0, 0, 64, random.getrandbits(16)])
            flags = random.choice([0, 0, 4, 2, 6, 12, random.getrandbits(16)])
            peer.write(produced, abi.RX_RESPONSE.pack(said, offset, flags, status))
            produced += 1
        peer.produce(produced, ring_abi.RSP_PROD)
        try:
            frames = end.take(SIZE)
        except (NetError, RingError):
            return
        assert all(14 <= len(frame) <= abi.MAX_TX_SIZE for frame in frames)
        held = end._collector.unfinished
        assert len({*stock.free, *end._posted}) == len(stock.free) + len(end._posted)
        assert len(stock.free) + len(end._posted) + held == PAGES
    assert figures.received + figures.bad <= produced


@given(SEEDS)
def test_whatever_a_back_end_answers_no_page_is_lost_or_had_twice(seed: int) -> None:
    peer = Peer(seed, abi.TX_ENTRY_SIZE)
    random, figures, stock = peer.random, Statistics(), pages()
    end = ToBack(FrontRing(peer.view, abi.TX_ENTRY_SIZE), stock, nobody, figures, sg=True)
    produced = 0
    for _ in range(10):
        while end.send(bytes(random.choice([60, 1500, 9000, 65535]))) and random.random() < 0.9:
            pass
        in_flight = [*end._in_flight]
        for id in random.sample(in_flight, random.randrange(len(in_flight) + 1)):
            said = id if random.random() < 0.99 else random.choice([*in_flight, 999])
            peer.write(produced, abi.TX_RESPONSE.pack(said, random.choice([0, 0, -1, -2, 1, 77])))
            produced += 1
        peer.produce(produced, ring_abi.RSP_PROD)
        try:
            end.collect()
        except (NetError, RingError):
            return
        assert {*stock.free, *end._in_flight} == {*range(PAGES)}
        assert len(stock.free) + len(end._in_flight) == PAGES
    assert figures.lost <= figures.sent


def test_a_packet_that_is_answered_twice_ends_the_device() -> None:
    peer = Peer(0, abi.TX_ENTRY_SIZE)
    end = ToBack(FrontRing(peer.view, abi.TX_ENTRY_SIZE), pages(), nobody, Statistics(), sg=True)
    for _ in range(2):
        assert end.send(bytes(60))
    for index in range(2):
        peer.write(index, abi.TX_RESPONSE.pack(0, 0))
    pack_into("<I", peer.memory, ring_abi.RSP_PROD, 2)
    with pytest.raises(NetError, match="answers packet 0, which is not in flight"):
        end.collect()


def datagram() -> bytes:
    """UDP in a frame, with its checksum."""
    udp = UDP(sport=1, dport=2, ulen=13, data=b"hello")
    ip = IP(src=bytes([10, 0, 0, 1]), dst=bytes([10, 0, 0, 2]), p=17, data=udp)
    return bytes(Ethernet(src=b"sender", dst=b"target", data=ip))


@pytest.mark.parametrize("parts", [1, 3])
def test_a_checksum_that_a_back_end_left_blank_is_complete(parts: int) -> None:
    peer, figures, stock = Peer(0, abi.RX_ENTRY_SIZE), Statistics(), pages()
    end = FromBack(FrontRing(peer.view, abi.RX_ENTRY_SIZE), stock, nobody, figures)
    whole = datagram()
    blank = whole[:40] + b"\xde\xad" + whole[42:]
    size = -(-len(blank) // parts)
    for id in range(parts):
        part = blank[id * size : (id + 1) * size]
        stock.write(id, memoryview(part))
        flags = RxFlag.CSUM_BLANK * (not id) | RxFlag.MORE_DATA * (id < parts - 1)
        peer.write(id, abi.RX_RESPONSE.pack(id, 0, flags, len(part)))
    pack_into("<I", peer.memory, ring_abi.RSP_PROD, parts)
    assert end.take(SIZE) == [whole]


# The back end's


class Xen:
    """Copies as Xen does, and refuses some; `meanwhile` is what the guest does during a copy."""

    def __init__(self, random: Random, meanwhile: Callable[[], None] = nobody) -> None:
        self.grants = SimpleNamespace(copy=self.copy)
        self._random = random
        self._meanwhile = meanwhile

    def copy(self, segments: Sequence[Segment]) -> None:
        self._meanwhile()
        for source, dest, length in segments:
            foreign = source if isinstance(source, Foreign) else dest
            assert isinstance(foreign, Foreign)
            assert foreign.domid == GUEST
            assert 0 < length <= 4096 - foreign.offset
            if foreign.ref % 50 == 0:
                raise XenError(errno.EIO, "GNTTABOP_copy", f"reference {foreign.ref}")
            if foreign is source:
                memoryview(dest)[:length] = foreign.ref.to_bytes(4, "little") * (
                    length // 4
                ) + bytes(length % 4)


def terms(xen: Xen, *, sg: bool = True) -> Terms:
    class Log:
        def debug(self, event: str, **details: object) -> None:
            logging.getLogger("activations.test").debug("%s %s", event, details)

    return Terms(xen, GUEST, sg, True, Statistics(), Log())  # type: ignore[arg-type]


PORT = SimpleNamespace(notify=nobody)


def requests(random: Random, count: int) -> list[bytes]:
    """Tx entries that a front end might have meant, mostly."""
    entries = []
    for id in range(count):
        size = random.choice([60, 60, 100, 1500, 4096, 13, 0, random.getrandbits(16)])
        offset = random.choice([0, 0, 0, 64, 4000, random.getrandbits(16)])
        flags = random.choice([0, 0, 0, 1, 4, 4, 8, random.getrandbits(16)])
        ref = random.choice([8, 9, 50, random.getrandbits(32)])
        entries.append(abi.TX_REQUEST.pack(ref, offset, flags, id, size))
    return entries


@given(SEEDS)
def test_whatever_a_front_end_sends_comes_out_whole_or_is_refused(seed: int) -> None:
    peer = Peer(seed, abi.TX_ENTRY_SIZE)
    FrontRing(peer.view, abi.TX_ENTRY_SIZE)
    ring = BackRing(peer.view, abi.TX_ENTRY_SIZE)
    end = FromGuest(terms(Xen(peer.random)), ring, PORT)  # type: ignore[arg-type]
    produced = 0
    for _ in range(20):
        for entry in requests(peer.random, peer.random.randrange(SIZE - ring.in_hand)):
            peer.write(produced, entry)
            produced += 1
        peer.produce(produced, ring_abi.REQ_PROD)
        try:
            while not ring.idle():
                frames = end._frames()
                assert all(14 <= len(frame) <= abi.MAX_TX_SIZE for frame in frames)
        except (NetError, RingError):
            return
        assert ring.in_hand <= abi.MAX_SLOTS + 4, "a packet whose end is to come"


@given(SEEDS)
def test_an_entry_that_is_changed_once_it_was_taken_is_what_it_was(seed: int) -> None:
    """What was looked at is what is copied and answered, though the guest writes meanwhile."""

    def sent(*, meddles: bool) -> tuple[list[bytes], bytes]:
        peer = Peer(seed, abi.TX_ENTRY_SIZE)
        FrontRing(peer.view, abi.TX_ENTRY_SIZE)
        xen = Xen(peer.random, peer.scribble if meddles else nobody)
        end = FromGuest(
            terms(xen),
            BackRing(peer.view, abi.TX_ENTRY_SIZE),
            PORT,  # type: ignore[arg-type]
        )
        entries = [abi.TX_REQUEST.pack(8 + id, 64, 0, id, 60) for id in range(40)]
        for index, entry in enumerate(entries):
            peer.write(index, entry)
        pack_into("<I", peer.memory, ring_abi.REQ_PROD, len(entries))
        frames = end._frames()
        answers = [
            bytes(peer.memory[at : at + abi.TX_RESPONSE.size])
            for at in range(ring_abi.ENTRIES, ring_abi.ENTRIES + 40 * 12, 12)
        ]
        return frames, b"".join(answers)

    assert sent(meddles=True) == sent(meddles=False)


@given(SEEDS, st.booleans())
def test_whatever_pages_a_front_end_offers_they_are_given_back_in_order(
    seed: int, sg: bool
) -> None:
    peer = Peer(seed, abi.RX_ENTRY_SIZE)
    random = peer.random
    FrontRing(peer.view, abi.RX_ENTRY_SIZE)
    known = terms(Xen(random), sg=sg)
    ring = BackRing(peer.view, abi.RX_ENTRY_SIZE)
    end = ToGuest(known, ring, PORT)  # type: ignore[arg-type]
    ids = [random.getrandbits(16) for _ in range(SIZE)]
    for index, id in enumerate(ids):
        peer.write(index, abi.RX_REQUEST.pack(id, random.choice([8, 9, 50, 100])))
    peer.produce(SIZE, ring_abi.REQ_PROD)
    frames = deque(bytes(random.choice([0, 13, 14, 60, 4097, 65535, 65536])) for _ in range(10))
    fit = sum(14 <= len(frame) <= (65535 if sg else 4096) for frame in frames)
    try:
        asyncio.run(end.deliver(frames))
    except RingError:
        return
    assert not frames
    assert known.statistics.sent <= fit
    assert known.statistics.sent + known.statistics.lost == 10
    (answered,) = unpack_from("<I", peer.memory, ring_abi.RSP_PROD)
    answers = [abi.RX_RESPONSE.unpack(peer.read(index))[0] for index in range(answered)]
    assert answers == ids[:answered]
