"""As many events as there is time for, through many channels, by many senders.

Xen keeps one bit a port, so events that come on top of a pending one are coalesced; but the last
one of each channel is never lost: when the senders have ended, the other half sees each channel's
last counter, or that channel's last event was lost.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass
from typing import Any

from activations.evtchn.halves import Channels, check_here

PORTS = 64
SENDERS = 8
SECONDS = 5.0
SETTLING = 10.0
"""Seconds after the last event in which it has to have come."""
_AT_ONCE = 16
"""Events that a sender sends before it lets others run."""


@dataclass(frozen=True, slots=True)
class Flood:
    """How much is sent."""

    channels: int = PORTS
    senders: int = SENDERS
    count: int | None = None
    """Events in all; None: as many as there is time for."""
    seconds: float | None = SECONDS
    """None: for as long as it takes."""


@dataclass(slots=True)
class Water:
    """What came of it."""

    sent: int = 0
    delivered: int = 0
    lost: int = 0
    """Channels whose last event never came."""
    channels: int = 0
    ns: int = 0
    """From the first event sent to the last."""

    @property
    def coalesced(self) -> int:
        """Events that came on top of one that was pending still."""
        return max(self.sent - self.delivered, 0)

    @property
    def well(self) -> bool:
        return not self.lost

    def as_data(self) -> dict[str, Any]:
        """For JSON. Times in nanoseconds."""
        return {
            "sent": self.sent,
            "delivered": self.delivered,
            "coalesced": self.coalesced,
            "lost": self.lost,
            "channels": self.channels,
            "ns": self.ns,
        }


async def flood(channels: Channels, how: Flood, water: Water) -> None:
    """Send, then wait until each channel's last event has come, or for ten seconds. What was
    counted is in `water`, cancelled or not. Raises `HalfMissing` if the other half leaves."""
    board, ports = channels.board, channels.ports
    water.channels = len(ports)
    began = time.perf_counter_ns()
    ends = None if how.seconds is None else began + round(how.seconds * 1e9)

    def over() -> bool:
        if how.count is not None and water.sent >= how.count:
            return True
        return ends is not None and time.perf_counter_ns() >= ends

    async def sender(index: int) -> None:
        while True:
            for _ in range(_AT_ONCE):
                if over():
                    return
                board.count_sent(index)
                water.sent += 1
                ports[index].notify()
                index = (index + 1) % len(ports)
            check_here(channels)
            await asyncio.sleep(0)

    try:
        async with asyncio.TaskGroup() as senders:
            for number in range(how.senders):
                senders.create_task(sender(number * len(ports) // how.senders))
        water.ns = time.perf_counter_ns() - began
        await _settle(channels)
    finally:
        water.ns = water.ns or time.perf_counter_ns() - began
        water.delivered = sum(board.fired(index) for index in range(len(ports)))
        water.lost = sum(board.seen(index) != board.sent(index) for index in range(len(ports)))


async def _settle(channels: Channels) -> None:
    """Wait until all that was sent has been seen; not for ever."""
    board = channels.board
    waiting = set(range(len(channels.ports)))
    ends = time.monotonic() + SETTLING
    while waiting and time.monotonic() < ends:
        check_here(channels)
        waiting -= {index for index in waiting if board.seen(index) == board.sent(index)}
        await asyncio.sleep(0.001)
