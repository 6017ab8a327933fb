"""A network device as its user in the guest sees it: frames."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace

from activations.abi.netif import MAX_TX_SIZE
from activations.drivers.net.errors import NicClosed
from activations.drivers.net.frames import FrameQueue
from activations.drivers.net.statistics import Statistics
from activations.drivers.net.transmit import HEADER

_TAG = 4
"""Bytes of a VLAN tag."""

Put = Callable[[bytes], bool]


class Nic:
    """What `front.open` gives: an `Interface`, for any number of tasks.

    While the back end is away, senders wait, and nothing comes. Raises `NicClosed` once the device
    is closed or unplugged.
    """

    def __init__(self, mac: bytes, mtu: int, capacity: int) -> None:
        self.mac = mac
        """This end's address, six bytes."""
        self.mtu = mtu
        """Bytes that a frame may have behind its header."""
        self._statistics = Statistics()
        self._put: Put | None = None
        self._room = asyncio.Event()
        self._line = asyncio.Lock()
        self._incoming = FrameQueue(capacity)
        self._end: NicClosed | None = None

    def __repr__(self) -> str:
        state = "closed" if self._end else "connected" if self._put else "waits for its back end"
        return f"<Nic {self.mac.hex(':')}: {state}>"

    @property
    def longest(self) -> int:
        """Bytes of the longest frame that can be sent."""
        return min(self.mtu + HEADER + _TAG, MAX_TX_SIZE)

    async def send(self, frame: bytes) -> None:
        """Send an Ethernet frame, which begins with its receiver's address. Returns when it is in
        the ring; waits for room there, first come first served.

        Raises `ValueError` for one shorter than 14 bytes or longer than `longest`.
        """
        if not HEADER <= len(frame) <= self.longest:
            raise ValueError(
                f"a frame of {len(frame)} bytes: it must have {HEADER} to {self.longest}"
            )
        if self._line.locked() or not self._sent(frame):
            async with self._line:
                while not self._sent(frame):
                    self._room.clear()
                    await self._room.wait()

    async def receive(self) -> bytes:
        """The next frame."""
        return await self._incoming.get()

    def receive_nowait(self) -> bytes | None:
        """The next frame that is there already; None if there is none."""
        return self._incoming.get_nowait()

    def _sent(self, frame: bytes) -> bool:
        if self._end is not None:
            raise self._end.with_traceback(None)
        return self._put is not None and self._put(frame)

    # What the driver calls

    def attach(self, put: Put | None) -> None:
        """What puts frames into a ring, if there is room; None while there is no ring."""
        self._put = put
        self.make_room()

    def make_room(self) -> None:
        """There may be room in the ring."""
        self._room.set()

    def statistics(self) -> Statistics:
        """What it has sent and received so far, over all its connections. `lost` are frames that
        the back end refused or did not answer before it died, and those received that were not
        taken in time."""
        return replace(self._statistics)

    def arrived(self, frame: bytes) -> None:
        """Take in a frame: for the front end below, not for who uses the interface."""
        if not self._incoming.put(frame):
            self._statistics.lost += 1

    def end(self, error: NicClosed) -> None:
        """The device is gone: all who wait are told why. What arrived can be taken still."""
        self._end = self._end or error
        self._incoming.end(error)
        self.make_room()
