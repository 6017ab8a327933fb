"""A switch: joins several network devices into one network, and learns who is where.

A frame for an address that was seen as a sender goes to that sender's port; any other, and one for
many, goes to all. What a port's receiver does not take in time is dropped: one that sleeps
does not hold up the others.
"""

from __future__ import annotations

import asyncio

from activations.drivers.net.errors import NicClosed
from activations.drivers.net.frames import FrameQueue
from activations.drivers.net.transmit import HEADER
from activations.drivers.net.wire import CAPACITY

AGEING = 300.0
"""Seconds after which an address that sent nothing is forgotten, as in IEEE 802.1D."""
ADDRESSES = 1024
"""Addresses that are remembered: a guest can make up any number."""

_GROUP = 1
"""The bit of an address's first byte that makes it many stations' address."""


class Switch:
    """Passes frames between its ports. `ageing` in seconds of the loop's clock."""

    def __init__(self, *, ageing: float = AGEING, addresses: int = ADDRESSES) -> None:
        self.ports: list[SwitchPort] = []
        self._ageing = ageing
        self._addresses = addresses
        self._seen: dict[bytes, tuple[SwitchPort, float]] = {}
        """Whose port an address is behind and when it last sent; who sent last, last."""

    def port(self, name: str = "", *, capacity: int = CAPACITY) -> SwitchPort:
        """A new port, whose receiver may be `capacity` frames behind. `close` removes it."""
        port = SwitchPort(self, name or f"port {len(self.ports)}", capacity)
        self.ports.append(port)
        return port

    def where(self, address: bytes) -> SwitchPort | None:
        """The port that an address of six bytes is behind; None if that is not known."""
        port, when = self._seen.get(address, (None, 0.0))
        return port if self._now() - when < self._ageing else None

    def forward(self, source: SwitchPort, frame: bytes) -> None:
        """Pass on a frame that came in at a port. One without a proper sender is dropped."""
        if len(frame) < HEADER or frame[6] & _GROUP:
            source.refused += 1
            return
        self._learn(frame[6:12], source)
        target = None if frame[0] & _GROUP else self.where(frame[:6])
        if target is None:
            for port in self.ports:
                if port is not source:
                    port.incoming.put(frame)
        elif target is not source:
            target.incoming.put(frame)

    def remove(self, port: SwitchPort) -> None:
        """No frame goes there any more, and the addresses behind it are forgotten."""
        if port in self.ports:
            self.ports.remove(port)
            self._seen = {key: value for key, value in self._seen.items() if value[0] is not port}

    def _learn(self, address: bytes, port: SwitchPort) -> None:
        self._seen.pop(address, None)
        self._seen[address] = port, self._now()
        if len(self._seen) > self._addresses:
            del self._seen[next(iter(self._seen))]

    def _now(self) -> float:
        return asyncio.get_running_loop().time()


class SwitchPort:
    """One port of a switch, an `Interface` to whatever is plugged in there."""

    def __init__(self, switch: Switch, name: str, capacity: int) -> None:
        self.name = name
        self.refused = 0
        """Frames that came in and made no sense."""
        self.incoming: FrameQueue = FrameQueue(capacity)
        """What is to be received here; its `dropped` counts what was not."""
        self._switch = switch

    def __repr__(self) -> str:
        return f"<SwitchPort {self.name}: {len(self.incoming)} frames wait>"

    async def send(self, frame: bytes) -> None:
        """Into the switch; never waits."""
        self._switch.forward(self, frame)

    async def receive(self) -> bytes:
        """Raises `NicClosed` if the port is closed."""
        return await self.incoming.get()

    def receive_nowait(self) -> bytes | None:
        return self.incoming.get_nowait()

    def close(self) -> None:
        """Take the port out of its switch."""
        self._switch.remove(self)
        self.incoming.end(NicClosed(f"{self.name} was taken out of its switch"))
