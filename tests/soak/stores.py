"""xenstore: its messages, its pages, what the other end of a device writes there."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from random import Random
from struct import pack_into
from typing import Any

from activations.abi import xs_wire
from activations.drivers.block.offer import Geometry, Offer
from activations.drivers.net import queues
from activations.ring import RingError
from activations.store import Permission
from activations.store.page import StorePage
from activations.store.wire import Decoder, Message, octets
from activations.xenbus import Keys
from xen_sim.xenstored import Xenstored, toolstack
from xen_sim.xenstored.ring import RingServer

from .hostile import BATCH, Feed
from .noise import number, spoilt, words
from .noise import text as said
from .pages import ignore, page


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
