"""The simulator and its loop, beside stock asyncio, uvloop and trio."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from importlib.util import find_spec
from typing import Any

from checkout import Checkout
from measure import Others, Table, clock

ROUND_TRIPS = 1_500
WAITERS = 4_096
SLEEPS = 3_000


# Ping-pong


async def event_round_trips() -> float:
    ping, pong = asyncio.Event(), asyncio.Event()

    async def echo() -> None:
        for _ in range(ROUND_TRIPS):
            await ping.wait()
            ping.clear()
            pong.set()

    task = asyncio.ensure_future(echo())
    began = clock()
    for _ in range(ROUND_TRIPS):
        ping.set()
        await pong.wait()
        pong.clear()
    await task
    return clock() - began


def on_asyncio() -> float:
    return asyncio.run(event_round_trips())


def on_uvloop() -> float:
    import uvloop

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(event_round_trips())


def on_trio() -> float:
    import trio

    async def main() -> float:
        events = [trio.Event(), trio.Event()]

        async def echo() -> None:
            for _ in range(ROUND_TRIPS):
                await events[0].wait()
                events[0] = trio.Event()
                events[1].set()

        began = clock()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo)
            await trio.lowlevel.checkpoint()
            for _ in range(ROUND_TRIPS):
                events[0].set()
                await events[1].wait()
                events[1] = trio.Event()
        return clock() - began

    taken: float = trio.run(main)
    return taken


def between_two_domains(tree: Checkout) -> float:
    """Two simulated domains, each with its loop and the full lower half."""

    async def server(xen: Any) -> float:
        with xen.events.alloc_unbound(1) as port:
            await port.wait()
            began = clock()
            for _ in range(ROUND_TRIPS):
                port.notify()
                await port.wait()
            return clock() - began

    async def client(xen: Any) -> None:
        await asyncio.sleep(1)  # the server has allocated by then
        with xen.events.bind_interdomain(0, 2) as port:
            await port.wait()
            port.notify()
            for _ in range(ROUND_TRIPS):
                await port.wait()
                port.notify()

    machine = tree.Machine()
    machine.boot("dom0", server)
    machine.boot("guest", client)
    taken: float = machine.run()["dom0"]
    return taken


# Fan-out


async def fan_out(wait: Callable[[], Any], fire: Callable[[], object], *, whole: bool) -> float:
    """From one event until all waiters have run; with the making of their tasks if `whole`."""
    began = clock()
    tasks = [asyncio.ensure_future(wait()) for _ in range(WAITERS)]
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    if not whole:
        began = clock()
    fire()
    await tasks[-1]
    taken = clock() - began
    await asyncio.gather(*tasks)
    return taken


def event_fan_out(*, whole: bool) -> float:
    async def main() -> float:
        event = asyncio.Event()
        return await fan_out(event.wait, event.set, whole=whole)

    return asyncio.run(main())


def port_fan_out(tree: Checkout, *, whole: bool) -> float:
    async def main(xen: Any) -> float:
        with (
            xen.events.alloc_unbound(0) as port,
            xen.events.bind_interdomain(0, port.number) as peer,
        ):
            return await fan_out(port.wait, peer.notify, whole=whole)

    return alone(tree, main)


# Time


def alone(tree: Checkout, main: Callable[[Any], Awaitable[float]], **options: Any) -> float:
    """What `main` gives, in the only domain of a machine."""
    machine = tree.Machine(**options)
    machine.boot("dom0", main)
    taken: float = machine.run()["dom0"]
    return taken


async def sleeps(*_: object, seconds: float = 1) -> float:
    began = clock()
    for _ in range(SLEEPS):
        await asyncio.sleep(seconds)
    return clock() - began


async def sleeps_at_once(_: object) -> float:
    """As many tasks, their making and gathering included."""
    began = clock()
    await asyncio.gather(*(asyncio.sleep(1 + n * 1e-3) for n in range(SLEEPS)))
    return clock() - began


def stock_sleeps() -> float:
    return asyncio.run(sleeps(seconds=1e-9))


OTHER_LOOPS: dict[str, Others] = {
    f"{module}, two tasks on Event": run
    for module, run in (("uvloop", on_uvloop), ("trio", on_trio))
    if find_spec(module) is not None
}

TABLES = {
    "Ping-pong": Table(
        ROUND_TRIPS,
        "µs a round trip",
        {"two simulated domains": between_two_domains},
        {"asyncio, two tasks on Event": on_asyncio, **OTHER_LOOPS},
    ),
    f"Fan-out to {WAITERS:,} waiters": Table(
        WAITERS,
        "µs a waiter",
        {"port": partial(port_fan_out, whole=False)},
        {"asyncio Event": partial(event_fan_out, whole=False)},
    ),
    f"Fan-out to {WAITERS:,} waiters, with their making": Table(
        WAITERS,
        "µs a waiter",
        {"port": partial(port_fan_out, whole=True)},
        {"asyncio Event": partial(event_fan_out, whole=True)},
    ),
    "Sleep": Table(
        SLEEPS,
        "µs a sleep",
        {
            "virtual clock": partial(alone, main=sleeps),
            "virtual clock, all at once": partial(alone, main=sleeps_at_once),
            "wall clock, a nanosecond": partial(
                alone, main=partial(sleeps, seconds=1e-9), clock="wall"
            ),
        },
        {"asyncio, a nanosecond": stock_sleeps},
    ),
}
