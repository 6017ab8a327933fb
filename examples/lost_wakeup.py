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
SENT = "data/lost_wakeup/sent"


@lost_wakeup.domain("dom0")
async def busy(xen: Domain) -> int:
    guest = await xen.find("guest")
    home = f"/local/domain/{guest}"
    with xen.events.alloc_unbound(guest) as port:
        await xen.store.write(f"{home}/{KEY}", port.number)
        await xen.store.wait_for(f"{home}/{SENT}")  # busy; the event comes meanwhile

        try:
            async with asyncio.timeout(1):
                await port.after(port.statistics().fired)
        except TimeoutError:
            print("waited a second for the next event: none came")

        await port.wait()
        print("wait() returned at once: the event was there all the time")
        port.notify()
    return port.statistics().fired


@lost_wakeup.domain("guest")
async def sender(xen: Domain) -> None:
    number = int(await xen.store.wait_for(KEY))
    with xen.events.bind_interdomain(0, number) as port:
        await port.wait()  # Xen sets a port pending once when it is bound
        port.notify()
        print("sent one event")
        await xen.store.write(SENT, "yes")
        await port.wait()  # dom0 is through
    await xen.store.rm(KEY)
