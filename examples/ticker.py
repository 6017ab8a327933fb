"""A clock in one domain, and another that goes by it: timers, and `async for`.

dom0 notifies the guest every half second, by a timetable, so that it does not drift. The guest
counts, has a timer of its own meanwhile, and gives up if no tick comes for three seconds. When it
has heard enough it says so.
"""

import asyncio

from activations import Domain, Port, Scenario

ticker = Scenario("ticker")

TICKS = 5
INTERVAL = 0.5
PATIENCE = 3.0
KEY = "data/ticker"


@ticker.domain("dom0")
async def clock(xen: Domain) -> None:
    guest = await xen.find("guest")
    with xen.events.alloc_unbound(guest) as port:
        await xen.store.write(f"/local/domain/{guest}/{KEY}", port.number)
        await port.wait()  # the guest is there
        ticking = asyncio.create_task(tick(xen.loop, port))
        await port.wait()  # the guest has heard enough
        ticking.cancel()


async def tick(loop: asyncio.AbstractEventLoop, port: Port) -> None:
    """Notify by the timetable, for ever."""
    next_tick = loop.time()
    while True:
        next_tick += INTERVAL
        await asyncio.sleep(next_tick - loop.time())
        port.notify()


@ticker.domain("guest")
async def watcher(xen: Domain) -> int:
    number = int(await xen.store.wait_for(KEY))
    await xen.store.rm(KEY)
    with xen.events.bind_interdomain(0, number) as port:
        await port.wait()  # Xen sets a port pending once when it is bound
        port.notify()
        lunch = asyncio.create_task(have_lunch())
        ticks = 0
        async with asyncio.timeout(PATIENCE) as patience:
            async for _ in port:
                ticks += 1
                print(f"tick {ticks}")
                if ticks == TICKS:
                    break
                patience.reschedule(xen.loop.time() + PATIENCE)
        port.notify()
        await lunch
    return ticks


async def have_lunch() -> None:
    await asyncio.sleep(2.5 * INTERVAL)
    print("lunch")
