"""Ping-pong: two domains, one event channel, and not an event lost.

    activations run examples/pingpong.py
    activations run examples/pingpong.py --backend lab

dom0 allocates a port for the guest and says so in xenstore, below the guest's home; the guest
waits for that, binds the port, and serves.
"""

from activations import Domain, Scenario

pingpong = Scenario("pingpong")

ROUNDS = 10
KEY = "data/pingpong"


@pingpong.domain("dom0")
async def pong(xen: Domain) -> int:
    guest = await xen.find("guest")
    with xen.events.alloc_unbound(guest) as port:
        await xen.store.write(f"/local/domain/{guest}/{KEY}", port.number)
        for _ in range(ROUNDS):
            await port.wait()
            port.notify()
    assert port.statistics().fired == ROUNDS
    print(f"answered {ROUNDS} pings of domain {guest}")
    return port.statistics().fired


@pingpong.domain("guest")
async def ping(xen: Domain) -> int:
    number = int(await xen.store.wait_for(KEY))
    await xen.store.rm(KEY)
    with xen.events.bind_interdomain(0, number) as port:
        await port.wait()  # Xen sets a port pending once when it is bound
        for _ in range(ROUNDS):
            port.notify()
            await port.wait()
    assert port.statistics().fired == 1 + ROUNDS
    print(f"{ROUNDS} pings, {ROUNDS} pongs")
    return port.statistics().fired - 1
