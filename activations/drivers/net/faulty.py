"""A wire in a world where packets are lost, doubled, and overtake each other: for the explorer.

What a back end is plugged into is wrapped where such faults may happen, and only there. A frame
that is overtaken comes behind the next one; where none comes, it is lost.
"""

from __future__ import annotations

from collections import deque

from activations import promises
from activations.drivers.net.wire import Interface


def wrapped(wire: Interface) -> Interface:
    """The wire as it is joined: with faults, if somebody explores who has some."""
    return FaultyWire(wire) if promises.faulty("packets") else wire


class FaultyWire:
    """Another interface, which may lose frames, as any network."""

    def __init__(self, wire: Interface) -> None:
        self._wire = wire
        self._sent = _Way("frame from the guest")
        self._received = _Way("frame to the guest")
        self._ready: deque[bytes] = deque()

    async def send(self, frame: bytes) -> None:
        for each in self._sent.passing(frame):
            await self._wire.send(each)

    async def receive(self) -> bytes:
        while not self._ready:
            self._ready += self._received.passing(await self._wire.receive())
        return self._ready.popleft()

    def receive_nowait(self) -> bytes | None:
        while not self._ready:
            frame = self._wire.receive_nowait()
            if frame is None:
                return None
            self._ready += self._received.passing(frame)
        return self._ready.popleft()


class _Way:
    """One direction of it."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._overtaken: list[bytes] = []

    def passing(self, frame: bytes) -> list[bytes]:
        """What comes out as this frame goes in."""
        match promises.fault("packets", self._name, "lost", "doubled", "overtaken"):
            case "lost":
                return []
            case "doubled":
                frames = [frame, frame]
            case "overtaken":
                self._overtaken.append(frame)
                return []
            case _:
                frames = [frame]
        behind, self._overtaken = self._overtaken, []
        return frames + behind
