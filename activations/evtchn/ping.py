"""Round trips through one event channel: there and back, one at a time.

A trip that takes longer than it may is lost. Which answer belongs to which trip the board says, so
one that comes late is told from the next, and the two are not taken for each other.
"""

from __future__ import annotations

import asyncio
import time
from dataclasses import dataclass, field
from typing import Any

from activations.evtchn.halves import Channels, check_here
from activations.evtchn.latency import Latencies

COUNT = 10_000
TIMEOUT = 1.0


@dataclass(frozen=True, slots=True)
class Ping:
    """How many trips, and how. Seconds."""

    count: int | None = COUNT
    """None: until it is cancelled."""
    interval: float = 0.0
    """Between two trips."""
    timeout: float = TIMEOUT
    """After which one is lost."""

    channels = 1


@dataclass(slots=True)
class Trips:
    """What came of it, at any time."""

    sent: int = 0
    lost: int = 0
    came: int = 0
    """Events that the other half got."""
    answered: int = 0
    back: int = 0
    """Answers that came back, late ones too."""
    latencies: Latencies = field(default_factory=Latencies)

    @property
    def coalesced(self) -> int:
        """Events that came on top of one that was pending still, there and back; none while no
        trip is lost."""
        return max(self.sent - self.came, 0) + max(self.answered - self.back, 0)

    @property
    def well(self) -> bool:
        return not self.lost

    def as_data(self) -> dict[str, Any]:
        """For JSON. Times in nanoseconds."""
        return {
            "sent": self.sent,
            "returned": len(self.latencies),
            "lost": self.lost,
            "coalesced": self.coalesced,
            "latency_ns": self.latencies.as_data(),
        }


async def ping(channels: Channels, how: Ping, trips: Trips) -> None:
    """Make the trips, and count them in `trips`, which is right at any time. Raises `HalfMissing`
    if the other half leaves."""
    board, port = channels.board, channels.ports[0]
    before = port.statistics().fired
    while how.count is None or trips.sent < how.count:
        if how.interval and trips.sent:
            await asyncio.sleep(how.interval)
        number = board.count_sent(0)
        trips.sent += 1
        try:
            async with asyncio.timeout(how.timeout):
                began = time.perf_counter_ns()
                port.notify()
                while board.seen(0) != number:
                    await port.wait()
                    check_here(channels)
            trips.latencies.add(time.perf_counter_ns() - began)
        except TimeoutError:
            trips.lost += 1
        finally:
            trips.came, trips.answered = board.fired(0), board.answered(0)
            trips.back = port.statistics().fired - before
