"""How fast events go through the Linux devices on a real Xen, beside what others reach there.

On an emulated machine only the ratios mean anything, and only those of one boot. The rate of C is
measured where the program built from linux_rates.c is.
"""

from __future__ import annotations

import asyncio
import subprocess
from contextlib import ExitStack
from statistics import median
from time import perf_counter

import activations
from xen_linux import EventDevice

scenario = activations.Scenario("linux rates")

PORTS = 1024
ROUNDS = 1000
REPEATS = 3


def c() -> dict[str, float]:
    """C on libxenevtchn: one read and one write for each event."""
    program = ["/lab/linux_rates"]
    runs = [subprocess.run(program, check=True, capture_output=True) for _ in range(REPEATS)]
    rates, milliseconds = zip(*(map(float, run.stdout.split()) for run in runs), strict=True)
    return {"C round trips/s": median(rates), "C fan-in ms": median(milliseconds)}


def bare() -> float:
    """Round trips a second of this package's device, with no loop."""
    with EventDevice() as device:
        near = device.bind_unbound_port(0)
        far = device.bind_interdomain(0, near)
        device.enable(device.read())
        began = perf_counter()
        for _ in range(ROUNDS):
            for port in (near, far):
                device.notify(port)
                fired = device.read()
                while not fired:
                    fired = device.read()
                device.enable(fired)
        return ROUNDS / (perf_counter() - began)


async def _stock() -> float:
    with EventDevice() as device:
        near = device.bind_unbound_port(0)
        far = device.bind_interdomain(0, near)
        device.enable(device.read())
        loop = asyncio.get_running_loop()
        waiting: dict[int, asyncio.Future[None]] = {}

        def ready() -> None:
            fired = device.read()
            device.enable(fired)
            for port in fired:
                waiting.pop(port).set_result(None)

        async def event(port: int) -> None:
            waiting[port] = loop.create_future()
            await waiting[port]

        async def echo() -> None:
            for _ in range(ROUNDS):
                await event(far)
                device.notify(far)

        loop.add_reader(device.fileno(), ready)
        began = perf_counter()
        async with asyncio.TaskGroup() as group:
            group.create_task(echo())
            await asyncio.sleep(0)
            for _ in range(ROUNDS):
                device.notify(near)
                await event(near)
        loop.remove_reader(device.fileno())
        return ROUNDS / (perf_counter() - began)


def stock() -> float:
    """Round trips a second between two tasks of stock asyncio, by add_reader."""
    return asyncio.run(_stock())


async def connected(
    xen: activations.Domain, stack: ExitStack
) -> tuple[activations.Port, activations.Port]:
    near = stack.enter_context(xen.events.alloc_unbound(0))
    far = stack.enter_context(xen.events.bind_interdomain(0, near.number))
    await far.wait()
    return near, far


async def round_trips(xen: activations.Domain) -> float:
    """Round trips a second between two tasks of this loop."""
    with ExitStack() as stack:
        near, far = await connected(xen, stack)

        async def echo() -> None:
            for _ in range(ROUNDS):
                await far.wait()
                far.notify()

        began = perf_counter()
        async with asyncio.TaskGroup() as group:
            group.create_task(echo())
            for _ in range(ROUNDS):
                near.notify()
                await near.wait()
        return ROUNDS / (perf_counter() - began)


async def fan_in(xen: activations.Domain) -> float:
    """Milliseconds until 1,024 fired ports have all been waited for."""
    with ExitStack() as stack:
        pairs = [await connected(xen, stack) for _ in range(PORTS)]
        for near, _ in pairs:
            near.notify()
        began = perf_counter()
        for _, far in pairs:
            await far.wait()
        return (perf_counter() - began) * 1e3


@scenario.domain("dom0")
async def dom0(xen: activations.Domain) -> dict[str, float]:
    rates = await asyncio.to_thread(c)
    rates["bare round trips/s"] = median([bare() for _ in range(REPEATS)])
    rates["asyncio round trips/s"] = median(
        [await asyncio.to_thread(stock) for _ in range(REPEATS)]
    )
    rates["round trips/s"] = median([await round_trips(xen) for _ in range(REPEATS)])
    rates["fan-in ms"] = median([await fan_in(xen) for _ in range(REPEATS)])
    for name, rate in rates.items():
        print(f"{name:24} {rate:10.1f}")
    return rates
