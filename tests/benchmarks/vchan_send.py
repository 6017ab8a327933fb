"""A vchan's `send` between two simulated domains, of what fits into the ring at once."""

from __future__ import annotations

from typing import Any

from checkout import Checkout
from measure import Table, clock

SIZE = 4096
RING = 1 << 18
BATCH = RING // SIZE
"""Writes that fill the ring."""
BATCHES = 40


def sends(tree: Checkout) -> float:
    """Fill the ring, over and over; what takes it out again is not timed."""
    from activations.vchan import connect, listen

    async def dom0(xen: Any) -> float:
        key = "/local/domain/1/data/bench"
        async with listen(xen, 1, key, left=RING, right=RING) as listener:
            stream = await listener.accept()
        data, taken = bytes(SIZE), 0.0
        async with stream:
            for _ in range(BATCHES):
                began = clock()
                for _ in range(BATCH):
                    await stream.send(data)
                taken += clock() - began
                await stream.receive()
        return taken

    async def guest(xen: Any) -> None:
        async with await connect(xen, 0, "/local/domain/1/data/bench") as stream:
            for _ in range(BATCHES):
                left = RING
                while left:
                    left -= len(await stream.receive(RING))
                await stream.send(b".")

    machine = tree.Machine()
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    taken: float = machine.run()["dom0"]
    return taken


def copies() -> float:
    """What nobody gets around: the bytes are copied into memory."""
    memory, data = memoryview(bytearray(RING)), memoryview(bytes(SIZE))
    taken = 0.0
    for _ in range(BATCHES):
        began = clock()
        for offset in range(0, RING, SIZE):
            memory[offset : offset + SIZE] = data
        taken += clock() - began
    return taken


TABLES = {
    "vchan between two simulated domains, a send of 4 KiB that fits": Table(
        BATCHES * BATCH,
        "µs a send",
        {"send": sends},
        {"a copy of 4 KiB": copies},
    )
}
