"""How the simulator grows: with ports, with domains, with runs."""

from __future__ import annotations

import asyncio
import gc
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from checkout import Checkout
from measure import Figure, Ours, Table, clock

EVENTS = 2_000
DOMAINS = 1_000
RUNS = 100


# Ports


def demux(ports: int, kernel: str = "Solo5") -> Ours:
    """One port of so many is sent to, demuxed and unmasked, over and over."""

    def run(tree: Checkout) -> float:
        from xen_sim.guests import linux_fifo, solo5

        def main(guest: Any) -> float:
            bound = [guest.xen.bind_ipi() for _ in range(ports - 1)]  # 0 is no port
            for port in bound:
                guest.kernel.bound(port)
            guest.kernel.unmask(bound)
            port = bound[len(bound) // 2]
            began = clock()
            for _ in range(EVENTS):
                guest.xen.send(port)
                guest.kernel.block(None)  # takes the interrupt
                guest.kernel.unmask(guest.kernel.demux())
            taken = clock() - began
            guest.xen.send(port)
            guest.kernel.block(None)
            assert list(guest.kernel.demux()) == [port]
            return taken

        kernels = {"Solo5": solo5.Solo5, "LinuxFifo": linux_fifo.LinuxFifo}
        machine = tree.Machine()
        machine.plain("dom0", main, kernel=kernels[kernel], max_ports=ports - 1)
        taken: float = machine.run()["dom0"]
        return taken

    return run


def demux_under_a_loop(ports: int) -> Ours:
    """The same in the lower half of an event loop, which an accelerator may have."""

    async def main(xen: Any) -> float:
        lower = xen.loop._lower
        bound = [xen.events.alloc_unbound(0) for _ in range(ports - 4)]
        near = xen.events.alloc_unbound(0)
        far = xen.events.bind_interdomain(0, near.number)
        await far.wait()
        send, demux, unmask = lower.notify, lower.demux, lower.unmask
        began = clock()
        for _ in range(EVENTS):
            send(far.number)
            unmask(demux())
        taken = clock() - began
        send(far.number)
        assert list(demux()) == [near.number]
        for port in (far, near, *bound):
            port.close()
        return taken

    def run(tree: Checkout) -> float:
        machine = tree.Machine()
        machine.boot("dom0", main, max_ports=ports - 1)
        taken: float = machine.run()["dom0"]
        return taken

    return run


# Domains


def fan_in(guests: int, rounds: int) -> Ours:
    """So many guests answer one domain that sends to all of them and awaits all, over and over."""

    async def dom0(xen: Any) -> float:
        ports = [xen.events.alloc_unbound(number + 1) for number in range(guests)]
        for port in ports:
            await port.wait()
        began = clock()
        for _ in range(rounds):
            for port in ports:
                port.notify()
            for port in ports:
                await port.wait()
        taken = clock() - began
        for port in ports:
            port.close()
        return taken

    async def guest(xen: Any) -> None:
        await asyncio.sleep(1)
        with xen.events.bind_interdomain(0, 1 + xen.domid) as port:
            await port.wait()
            port.notify()
            for _ in range(rounds):
                await port.wait()
                port.notify()

    def run(tree: Checkout) -> float:
        machine = tree.Machine()
        machine.boot("dom0", dom0)
        for number in range(guests):
            machine.boot(f"g{number}", guest)
        taken: float = machine.run()["dom0"]
        return taken

    return run


async def nothing(xen: Any) -> None:
    """A program that ends at once."""


def making(first: int, count: int) -> Ours:
    """`count` domains, behind the first so many."""

    def run(tree: Checkout) -> float:
        machine = tree.Machine()
        for number in range(first):
            machine.boot(f"d{number}", nothing)
        began = clock()
        for number in range(count):
            machine.boot(f"e{number}", nothing)
        taken = clock() - began
        machine.run()
        return taken

    return run


def pairs(domains: int, round_trips: int) -> Ours:
    """So many domains, each of which plays ping-pong with another."""
    play = partial(_play, domains // 2, round_trips)
    return lambda tree: play(tree.Machine())


def _play(count: int, round_trips: int, machine: Any) -> float:
    times: list[float] = []

    async def server(xen: Any) -> None:
        with xen.events.alloc_unbound(xen.domid + 1) as port:
            await port.wait()
            await asyncio.sleep(1)
            if not times:
                gc.collect()  # what making so many domains leaves to do is no part of it
            times.append(clock())
            for _ in range(round_trips):
                port.notify()
                await port.wait()
            times.append(clock())
            await asyncio.sleep(10)  # until all have played: leaving is no part of it

    async def client(xen: Any) -> None:
        await asyncio.sleep(1)
        with xen.events.bind_interdomain(xen.domid - 1, 2) as port:
            await port.wait()
            port.notify()
            for _ in range(round_trips):
                await port.wait()
                port.notify()
            await asyncio.sleep(10)

    for pair in range(count):
        machine.boot(f"s{pair}", server)
        machine.boot(f"c{pair}", client)
    machine.run()
    return max(times) - min(times)


def memory() -> list[Figure]:
    """What a domain takes before it binds anything: its program sleeps. In a process of its own,
    which has no memory to spare yet."""
    measured = subprocess.run([sys.executable, __file__], check=True, capture_output=True)
    return [Figure("a domain", float(measured.stdout), "KiB", 1.0)]


def _kib_a_domain(tree: Checkout) -> float:
    found: list[float] = []

    async def sleeper(xen: Any) -> None:
        await asyncio.sleep(10)

    async def last(xen: Any) -> None:
        await asyncio.sleep(5)
        gc.collect()
        found.append(resident())

    gc.collect()
    before = resident()
    machine = tree.Machine()
    for number in range(DOMAINS):
        machine.boot(f"d{number}", sleeper)
    machine.boot("last", last)
    machine.run()
    return (found[0] - before) / DOMAINS


def resident() -> float:
    """KiB of this process that are in memory."""
    status = Path("/proc/self/status").read_text()
    return float(status.partition("VmRSS:")[2].split()[0])


# Runs


def runs(play: Callable[[Any], None]) -> Ours:
    """Whole runs of an explored machine, its making and its end included."""

    def run(tree: Checkout) -> float:
        began = clock()
        for seed in range(RUNS):
            machine = tree.Machine(seed=seed, explore=True)
            play(machine)
            machine.run()
        return clock() - began

    return run


def lower_half(machine: Any) -> None:
    """A bare lower half, and an event that it sends itself."""

    def guest(xen: Any) -> None:
        port = xen.xen.bind_ipi()
        xen.kernel.bound(port)
        xen.kernel.unmask((port,))
        xen.send(port)
        xen.wait(port)

    machine.plain("guest", guest)


def plain_pair(machine: Any) -> None:
    """Two lower halves, and an event from the one to the other."""

    def guest(xen: Any) -> None:
        xen.wait(xen.alloc_unbound(0))

    def dom0(xen: Any) -> None:
        while not (port := bound(xen)):
            xen.xen.yield_()
        xen.send(port)

    def bound(xen: Any) -> int:
        try:
            return int(xen.bind_interdomain(1, 1))
        except Exception:  # it has not allocated yet
            return 0

    machine.plain("guest", guest)
    machine.plain("dom0", dom0)


def asyncio_pair(machine: Any) -> None:
    """Two domains with an event loop each, and one round of ping-pong."""

    async def guest(xen: Any) -> None:
        with xen.events.alloc_unbound(0) as port:
            await port.wait()
            port.notify()

    async def dom0(xen: Any) -> None:
        await asyncio.sleep(1)
        with xen.events.bind_interdomain(1, 2) as port:
            await port.wait()
            port.notify()
            await port.wait()

    machine.boot("guest", guest)
    machine.boot("dom0", dom0)


TABLES: dict[str, Table | Callable[[], list[Figure]]] = {
    "An event, demux and unmask": Table(
        EVENTS,
        "µs an event",
        {
            "64 ports": demux(64),
            "4,096 ports": demux(4_096),
            "FIFO, 64 ports": demux(64, "LinuxFifo"),
            "FIFO, 4,096 ports": demux(4_096, "LinuxFifo"),
            "FIFO, 131,072 ports": demux(131_072, "LinuxFifo"),
        },
        rounds=5,
    ),
    "An event, demux and unmask under an event loop": Table(
        EVENTS,
        "µs an event",
        {"64 ports": demux_under_a_loop(64), "4,096 ports": demux_under_a_loop(4_096)},
        rounds=5,
    ),
    "Fan-in, one domain to all and back": Table(
        4_000,
        "µs a guest",
        {
            "one guest": fan_in(1, 4_000),
            "16 guests": fan_in(16, 250),
            "1,000 guests": fan_in(DOMAINS, 4),
        },
        rounds=5,
    ),
    "Ping-pong of many domains": Table(
        6_000,
        "µs a round trip",
        {
            "2 domains": pairs(2, 6_000),
            "100 domains": pairs(100, 120),
            "1,000 domains": pairs(DOMAINS, 12),
        },
        rounds=3,
    ),
    "Making 20 domains": Table(
        20,
        "µs a domain",
        {
            "the first ones": making(0, 20),
            "behind 1,000": making(DOMAINS, 20),
        },
        rounds=3,
    ),
    "Memory before anything is bound": memory,
    "Explored runs": Table(
        RUNS,
        "µs a run",
        {
            "a lower half, an event to itself": runs(lower_half),
            "two lower halves, an event": runs(plain_pair),
            "two event loops, a round trip": runs(asyncio_pair),
        },
        rounds=5,
    ),
}

if __name__ == "__main__":
    here = Checkout(Path(__file__).resolve().parents[2])
    print(here.within(_kib_a_domain))
