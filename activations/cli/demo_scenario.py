"""The demo's scenario: what an event channel keeps, told by two domains as it happens.

Two ports connect them: one that the story is about, and one on which they agree to go on to the
next chapter, so that no chapter depends on how fast the other domain is. Each domain returns a
diary: what it did and saw, when, and what its port counted. On the virtual clock a tick is 10 ms
and the nap an hour; where time is real, ticks are long and the nap is short.
"""

import asyncio
from contextlib import suppress
from itertools import count
from typing import Any

from activations import Domain, Port, Scenario

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
        virtual = xen.clock == "virtual"
        self.tick = 0.010 if virtual else 0.250
        self.nap = 3600.0 if virtual else 1.0
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

    async def ticks(self, number: int) -> None:
        await asyncio.sleep(number * self.tick)

    def told(self) -> dict[str, Any]:
        """The diary as data."""
        figures = self.port.figures
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
    with xen.events.alloc_unbound(guest) as port, xen.events.alloc_unbound(guest) as page:
        await xen.store.write(f"/local/domain/{guest}/{KEY}", f"{port.number} {page.number}")
        await port.wait()
        port.notify()
        met = f"gave the guest port {port.number}, through xenstore; the guest has bound it"
        diary = Diary(xen, port, met)
        for chapter in (_kept, _burst, _instant, _timeout, _rounds, _nap):
            await page.wait()
            page.notify()
            await chapter(diary)
            await page.wait()
            with suppress(TimeoutError):  # what may be left of a chapter on a slow machine
                async with asyncio.timeout(0):
                    await port.wait()
            page.notify()
        return diary.told()


async def _kept(diary: Diary) -> None:
    await diary.ticks(3)
    diary.note("kept", "waits only now")
    await diary.port.wait()
    diary.note("kept", "wait() has returned: the events were kept, as one")


async def _burst(diary: Diary) -> None:
    before = diary.port.figures.fired
    await diary.ticks(2)
    await diary.port.wait()
    delivered = diary.port.figures.fired - before
    diary.note("burst", f"wait() has returned: {BURST} notifies, {delivered} delivered")


async def _instant(diary: Diary) -> None:
    async with asyncio.TaskGroup() as tasks:
        tasks.create_task(_timer(diary))
        tasks.create_task(_event(diary))


async def _timer(diary: Diary) -> None:
    await diary.ticks(1)
    diary.note("instant", "its timer fires")


async def _event(diary: Diary) -> None:
    await diary.port.wait()
    diary.note("instant", "the event arrives")


async def _timeout(diary: Diary) -> None:
    try:
        async with asyncio.timeout(diary.tick):
            await diary.port.wait()
    except TimeoutError:
        diary.note("timeout", "gives up waiting: the wait is cancelled")
        await diary.port.wait()
    diary.note("timeout", "waits again: woken")


async def _rounds(diary: Diary) -> None:
    for _ in range(ROUNDS):
        await diary.port.wait()
        diary.notify()
    diary.note("rounds", f"answered {ROUNDS} events")


async def _nap(diary: Diary) -> None:
    diary.note("nap", "goes to sleep")
    await asyncio.sleep(diary.nap)
    diary.note("nap", "wakes up")
    await diary.port.wait()
    diary.note("nap", "wait() has returned: the event that came in between was kept")


@demo.domain("guest")
async def teller(xen: Domain) -> dict[str, Any]:
    numbers = map(int, (await xen.store.wait_for(KEY)).split())
    await xen.store.rm(KEY)
    port, page = (xen.events.bind_interdomain(0, number) for number in numbers)
    with port, page:
        await port.wait()  # Xen sets a port pending once when it is bound
        await page.wait()
        port.notify()
        await port.wait()
        met = f"calls it port {port.number}; they have notified each other once"
        diary = Diary(xen, port, met)
        for chapter in (_send_to_nobody, _send_a_burst, _send_sharp, _send_late, _ask, _disturb):
            page.notify()
            await page.wait()
            await chapter(diary)
            page.notify()
            await page.wait()
        return diary.told()


async def _send_to_nobody(diary: Diary) -> None:
    await diary.ticks(1)
    diary.note("kept", "notifies dom0, where nobody waits")
    diary.notify()
    await diary.ticks(1)
    diary.note("kept", "notifies dom0 again")
    diary.notify()


async def _send_a_burst(diary: Diary) -> None:
    await diary.ticks(1)
    diary.note("burst", f"notifies {BURST} times in a row")
    diary.notify(BURST)


async def _send_sharp(diary: Diary) -> None:
    await diary.ticks(1)
    diary.note("instant", "notifies, at the very time dom0 has set its timer to")
    diary.notify()


async def _send_late(diary: Diary) -> None:
    await diary.ticks(2)
    diary.note("timeout", "notifies")
    diary.notify()


async def _ask(diary: Diary) -> None:
    for _ in range(ROUNDS):
        diary.notify()
        await diary.port.wait()
    diary.note("rounds", f"notified {ROUNDS} times, waiting for the answer each time")


async def _disturb(diary: Diary) -> None:
    await asyncio.sleep(diary.nap / 2)
    diary.note("nap", "notifies dom0, which sleeps")
    diary.notify()
