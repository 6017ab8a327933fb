"""Several guests, one dom0: a port for each, and a task that waits on it.

Each guest reports at its own pace, and dom0 hears every report.
"""

import asyncio

from activations import Domain, Scenario

fan_in = Scenario("fan_in")

PACE = {"red": 0.2, "green": 0.3, "blue": 0.5}
"""Seconds between two reports of a guest."""
REPORTS = 3
KEY = "data/fan_in"


@fan_in.domain("dom0")
async def collect(xen: Domain) -> dict[str, int]:
    async with asyncio.TaskGroup() as tasks:
        heard = {name: tasks.create_task(listen(xen, name)) for name in PACE}
    return {name: task.result() for name, task in heard.items()}


async def listen(xen: Domain, name: str) -> int:
    """Hear a guest's reports, and answer each."""
    guest = await xen.find(name)
    with xen.events.alloc_unbound(guest) as port:
        await xen.store.write(f"/local/domain/{guest}/{KEY}", port.number)
        for report in range(1, REPORTS + 1):
            await port.wait()
            print(f"{name} reports, {report} of {REPORTS}")
            port.notify()
        return port.statistics().fired


async def report(xen: Domain) -> int:
    number = int(await xen.store.wait_for(KEY))
    await xen.store.rm(KEY)
    with xen.events.bind_interdomain(0, number) as port:
        await port.wait()  # Xen sets a port pending once when it is bound
        for _ in range(REPORTS):
            await asyncio.sleep(PACE[xen.name])
            port.notify()
            await port.wait()
    return REPORTS


for _name in PACE:
    fan_in.domain(_name)(report)
