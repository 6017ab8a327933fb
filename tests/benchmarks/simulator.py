"""Benchmarks that need no Xen: the simulator and its loop beside stock asyncio, uvloop and trio."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine
from importlib.util import find_spec
from typing import Any

from measure import Contender, Figure, compare

import activations
from activations import Domain
from xen_sim import Machine

ROUND_TRIPS = 5_000
WAITERS = 4_096
SLEEPS = 100_000
IDLE_WAKES = 5_000


# Ping-pong


async def event_round_trips() -> float:
    ping, pong = asyncio.Event(), asyncio.Event()

    async def echo() -> None:
        for _ in range(ROUND_TRIPS):
            await ping.wait()
            ping.clear()
            pong.set()

    began = time.perf_counter()
    task = asyncio.ensure_future(echo())
    for _ in range(ROUND_TRIPS):
        ping.set()
        await pong.wait()
        pong.clear()
    await task
    return time.perf_counter() - began


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

        began = time.perf_counter()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo)
            await trio.lowlevel.checkpoint()
            for _ in range(ROUND_TRIPS):
                events[0].set()
                await events[1].wait()
                events[1] = trio.Event()
        return time.perf_counter() - began

    taken: float = trio.run(main)
    return taken


def between_two_domains() -> float:
    """Two simulated domains, each with its loop and the full lower half."""

    async def server(xen: Domain) -> float:
        with xen.events.alloc_unbound(1) as port:
            await port.wait()
            began = time.perf_counter()
            for _ in range(ROUND_TRIPS):
                port.notify()
                await port.wait()
            return time.perf_counter() - began

    async def client(xen: Domain) -> None:
        await asyncio.sleep(1)  # the server has allocated by then
        with xen.events.bind_interdomain(0, 2) as port:
            await port.wait()
            port.notify()
            for _ in range(ROUND_TRIPS):
                await port.wait()
                port.notify()

    machine = Machine()
    machine.boot("dom0", server)
    machine.boot("guest", client)
    taken: float = machine.run()["dom0"]
    return taken


# Fan-out


def fan_out(
    run: Callable[[Callable[..., Coroutine[Any, Any, float]]], float],
    make: Callable[..., tuple[Callable[[], Coroutine[Any, Any, object]], Callable[[], object]]],
) -> float:
    """Seconds from one wake-up until all waiters have run."""

    async def main(xen: Domain | None = None) -> float:
        wait, fire = make(xen)
        tasks = [asyncio.ensure_future(wait()) for _ in range(WAITERS)]
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        began = time.perf_counter()
        fire()
        await tasks[-1]
        taken = time.perf_counter() - began
        await asyncio.gather(*tasks)
        return taken

    return run(main)


def event_fan_out() -> float:
    def make(_: object) -> tuple[Any, Any]:
        event = asyncio.Event()
        return event.wait, event.set

    return fan_out(lambda main: asyncio.run(main()), make)


def port_fan_out() -> float:
    def make(xen: Domain) -> tuple[Any, Any]:
        port = xen.events.alloc_unbound(0)
        peer = xen.events.bind_interdomain(0, port.number)

        def fire() -> None:
            peer.notify()
            xen.loop.call_later(1, port.close)
            xen.loop.call_later(1, peer.close)

        return port.wait, fire

    async def settle(main: Any, xen: Domain) -> float:
        taken: float = await main(xen)
        await asyncio.sleep(2)
        return taken

    return fan_out(lambda main: activations.run(lambda xen: settle(main, xen)), make)


# Time


def sleeps_one_by_one() -> float:
    async def main(xen: Domain) -> float:
        began = time.perf_counter()
        for _ in range(SLEEPS):
            await asyncio.sleep(1)
        return time.perf_counter() - began

    return activations.run(main)


def sleeps_at_once() -> float:
    """As many tasks, their making and gathering included."""

    async def main(xen: Domain) -> float:
        began = time.perf_counter()
        await asyncio.gather(*(asyncio.sleep(1 + n * 1e-3) for n in range(SLEEPS)))
        return time.perf_counter() - began

    return activations.run(main)


def wakes(run: Callable[..., float]) -> float:
    """One task that sleeps over and over: an idle step and a timer each time."""

    async def main(xen: Domain | None = None) -> float:
        began = time.perf_counter()
        for _ in range(IDLE_WAKES):
            await asyncio.sleep(1e-9)
        return time.perf_counter() - began

    return run(main)


def have(module: str) -> bool:
    return find_spec(module) is not None


def ping_pong() -> list[Figure]:
    contenders: dict[str, Contender] = {
        "asyncio, two tasks on Event": on_asyncio,
        "two simulated domains": between_two_domains,
    }
    if have("uvloop"):
        contenders["uvloop, two tasks on Event"] = on_uvloop
    if have("trio"):
        contenders["trio, two tasks on Event"] = on_trio
    return compare(contenders, per=ROUND_TRIPS, unit="µs a round trip")


def fan_outs() -> list[Figure]:
    return compare(
        {"asyncio Event": event_fan_out, "port": port_fan_out},
        per=WAITERS,
        unit="µs a waiter",
    )


def sleeps() -> list[Figure]:
    contenders = {"one after another": sleeps_one_by_one, "at once, a task each": sleeps_at_once}
    return compare(contenders, per=SLEEPS, unit="µs a sleep", rounds=3)


def idle() -> list[Figure]:
    return compare(
        {
            "asyncio, a nanosecond's sleep": lambda: wakes(lambda main: asyncio.run(main())),
            "wall clock": lambda: wakes(lambda main: activations.run(main, clock="wall")),
            "virtual clock": lambda: wakes(lambda main: activations.run(main)),
        },
        per=IDLE_WAKES,
        unit="µs a wake",
    )


BENCHMARKS = {
    "Ping-pong": ping_pong,
    f"Fan-out to {WAITERS:,} waiters": fan_outs,
    f"{SLEEPS:,} virtual sleeps": sleeps,
    "Idle step": idle,
}
