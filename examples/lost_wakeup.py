"""A lost wake-up, and the wait that does not lose it.

The guest sends one event while dom0 is busy with something else. Then dom0 waits, in two ways:

- for the next event from now on, which is what a wait that has no memory means. The event has
  come already, none follows, and dom0 would wait for ever;
- with `wait()`: whatever came since the last wait counts, and it returns at once.

The same happened one floor below, in unikernels that lost wake-ups on PVHv2 in 2020: an event came
between the last look at what is pending and the instruction that puts the processor to sleep.
docs/events.md tells that story.
"""

import asyncio

from activations import Domain, Scenario

lost_wakeup = Scenario("lost_wakeup")

KEY = "data/lost_wakeup"


@lost_wakeup.domain("dom0")
async def busy(xen: Domain) -> bool:
    guest = await xen.find("guest")
    with xen.events.alloc_unbound(guest) as port:
        await xen.store.write(f"/local/domain/{guest}/{KEY}", port.number)
        await port.wait()  # the guest is there
        await asyncio.sleep(2)  # busy; the event comes meanwhile

        try:
            async with asyncio.timeout(1):
                await port.after(port.figures.fired)
        except TimeoutError:
            print("waited a second for the next event: none came")

        before = xen.time_ns()
        await port.wait()
        at_once = xen.time_ns() - before < 100_000_000
        print("wait() returned at once: the event was there all the time")
    return at_once


@lost_wakeup.domain("guest")
async def sender(xen: Domain) -> None:
    number = int(await xen.store.wait_for(KEY))
    await xen.store.rm(KEY)
    with xen.events.bind_interdomain(0, number) as port:
        port.notify()
        await asyncio.sleep(1)
        port.notify()
        print("sent one event")
