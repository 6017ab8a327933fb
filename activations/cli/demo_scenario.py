"""The demo's scenario: what an event channel keeps, told by two domains as it happens.

Both keep to one timetable that begins when they have shaken hands. Each returns a diary: what it
did and saw, when, and what its port counted. On the virtual clock a tick is 10 ms and the nap an
hour; where time is real, ticks are long enough for an emulated machine and the nap is short.
"""

import asyncio
from itertools import count
from typing import Any

from activations import Domain, Port, Scenario
from activations.loop import VirtualEventLoop

demo = Scenario("demo")

BURST = 10
ROUNDS = 100
KEY = "data/demo"

order = count()
"""Tells moments of the same instant apart where both domains live in one process."""


class Diary:
    """What one domain did and saw, and when. It begins at time 0 with how they met."""

    def __init__(self, xen: Domain, port: Port, met: str) -> None:
        self.port = port
        self.sent = 1
        """Notifies. Shaking hands took one of each domain."""
        self.moments: list[dict[str, Any]] = []
        virtual = isinstance(xen.loop, VirtualEventLoop)
        self.tick = 0.010 if virtual else 0.250
        self.nap = 3600 if virtual else 1
        self._xen = xen
        self._zero = xen.time_ns()
        self._note(0, "met", met)

    def note(self, chapter: str, text: str) -> None:
        self._note(self._xen.time_ns() - self._zero, chapter, text)

    def _note(self, ns: int, chapter: str, text: str) -> None:
        self.moments.append({"ns": ns, "order": next(order), "chapter": chapter, "text": text})

    def notify(self, times: int = 1) -> None:
        for _ in range(times):
            self.port.notify()
        self.sent += times

    async def until(self, ticks: float, after: float = 0) -> None:
        """Sleep until so many ticks, and `after` seconds, are over."""
        passed = (self._xen.time_ns() - self._zero) / 1e9
        await asyncio.sleep(ticks * self.tick + after - passed)

    def close(self) -> dict[str, Any]:
        """The port is done with; what remains to be told, as data."""
        figures = self.port.figures
        self.port.close()
        return {
            "moments": self.moments,
            "port": self.port.number,
            "sent": self.sent,
            "fired": figures.fired,
            "woken": figures.woken,
            "coalesced": figures.coalesced,
        }


@demo.domain("dom0")
async def listener(xen: Domain) -> dict[str, Any]:
    guest = await xen.find("guest")
    port = xen.events.alloc_unbound(guest)
    await xen.store.write(f"/local/domain/{guest}/{KEY}", port.number)
    await port.wait()
    port.notify()
    met = f"gave the guest port {port.number}, through xenstore; the guest has bound it"
    diary = Diary(xen, port, met)

    await diary.until(3)
    diary.note("kept", "waits only now")
    await port.wait()
    diary.note("kept", "wait() has returned: the events were kept, as one")

    fired = port.figures.fired
    await diary.until(5)
    await port.wait()
    diary.note("burst", f"wait() returns: {BURST} notifies, {port.figures.fired - fired} delivered")

    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_timer(diary))
        tasks.create_task(_event(diary))

    try:
        async with asyncio.timeout(diary.tick):
            await port.wait()
    except TimeoutError:
        diary.note("timeout", "gives up waiting: the wait is cancelled")
    await port.wait()
    diary.note("timeout", "waits again: woken")

    for _ in range(ROUNDS):
        await port.wait()
        diary.notify()
    diary.note("rounds", f"answered {ROUNDS} events")

    await diary.until(10)
    diary.note("nap", "goes to sleep")
    await diary.until(10, after=diary.nap)
    diary.note("nap", "wakes up")
    await port.wait()
    diary.note("nap", "wait() returns: the event that came in between was kept")
    return diary.close()


async def _timer(diary: Diary) -> None:
    await diary.until(6)
    diary.note("instant", "its timer fires")


async def _event(diary: Diary) -> None:
    await diary.port.wait()
    diary.note("instant", "the event arrives")


@demo.domain("guest")
async def teller(xen: Domain) -> dict[str, Any]:
    number = int(await xen.store.wait_for(KEY))
    await xen.store.rm(KEY)
    port = xen.events.bind_interdomain(0, number)
    await port.wait()  # Xen sets a port that was just bound pending, once
    port.notify()
    await port.wait()

    diary = Diary(xen, port, f"calls it port {port.number}; they have notified each other once")

    await diary.until(1)
    diary.notify()
    diary.note("kept", "notifies dom0, where nobody waits")
    await diary.until(2)
    diary.notify()
    diary.note("kept", "notifies dom0 again")

    await diary.until(4)
    diary.notify(BURST)
    diary.note("burst", f"notifies {BURST} times in a row")

    await diary.until(6)
    diary.note("instant", "notifies, at the very time dom0 has set its timer to")
    diary.notify()

    await diary.until(8)
    diary.note("timeout", "notifies")
    diary.notify()

    await diary.until(9)
    for _ in range(ROUNDS):
        diary.notify()
        await port.wait()
    diary.note("rounds", f"notified {ROUNDS} times, waiting for the answer each time")

    await diary.until(10, after=diary.nap / 2)
    diary.note("nap", "notifies dom0, which sleeps")
    diary.notify()
    return diary.close()
