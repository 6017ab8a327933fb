"""What a network device is plugged into, and the simplest such thing: a cable.

A frame is `bytes`: an Ethernet frame without its check sequence, 14 bytes at least, with complete
checksums inside.
"""

from __future__ import annotations

import asyncio
from typing import Protocol

from activations.drivers.net.errors import NicClosed
from activations.drivers.net.frames import FrameQueue

CAPACITY = 256
"""Frames that wait to be received, by default."""
BATCH = 64
"""Frames, or entries of a ring, that are taken before others have their turn."""


class Interface(Protocol):
    """Where frames go in and come out: one end of something that has another."""

    async def send(self, frame: bytes) -> None:
        """Give a frame to the other end. It may be lost: networks lose frames. May wait, for
        a slow receiver to make room."""

    async def receive(self) -> bytes:
        """The next frame from the other end, waited for."""

    def receive_nowait(self) -> bytes | None:
        """The next frame that is there already; None if there is none."""


class CableEnd:
    """One end of a cable: see `cable`."""

    def __init__(self, incoming: FrameQueue, outgoing: FrameQueue) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    async def send(self, frame: bytes) -> None:
        """Raises `NicClosed` if either end is closed."""
        await self._outgoing.put_patiently(frame)

    async def receive(self) -> bytes:
        """Raises `NicClosed` if either end is closed and all that was sent is received."""
        return await self._incoming.get()

    def receive_nowait(self) -> bytes | None:
        return self._incoming.get_nowait()

    def close(self) -> None:
        """Pull the cable out, at both ends."""
        for queue in (self._incoming, self._outgoing):
            queue.end(NicClosed("the cable was pulled out"))


def cable(capacity: int = CAPACITY) -> tuple[CableEnd, CableEnd]:
    """The two ends of a cable that holds up to `capacity` frames each way. It loses none: who
    sends into a full one waits."""
    one, other = FrameQueue(capacity), FrameQueue(capacity)
    return CableEnd(one, other), CableEnd(other, one)


async def join(one: Interface, other: Interface) -> None:
    """Pass frames on between two interfaces, both ways, until cancelled or either fails."""
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_pass_on(one, other))
        tasks.create_task(_pass_on(other, one))


async def _pass_on(source: Interface, sink: Interface) -> None:
    while True:
        await sink.send(await source.receive())
        while (frame := source.receive_nowait()) is not None:
            await sink.send(frame)
        await asyncio.sleep(0)
