"""Rings in shared memory: of bytes, of requests, and a vchan's two."""

from __future__ import annotations

from contextlib import suppress
from random import Random

from activations.abi import vchan
from activations.ring import ByteRing, RingError
from activations.sring import BackRing, FrontRing, RingFull
from activations.vchan import VchanError
from activations.vchan.end import CLIENT, SERVER, End
from activations.vchan.layout import Layout

from .noise import number, word, words
from .pages import ignore, page


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
