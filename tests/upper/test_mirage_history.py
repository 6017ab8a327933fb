"""Faults that mirage-xen once had, each kept out by a test named for it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from support.below import exchange

from activations import Domain, EventLoop, GenerationEnded, Port, PortClosed
from activations.abi.event_channel import Virq
from xen_sim import Machine

Main = Callable[[Domain], Awaitable[Any]]


def run(main: Main, machine: Machine | None = None) -> Any:
    """Run one domain, domid 0, and give what it returned."""
    machine = machine or Machine()
    machine.boot("dom0", main)
    return machine.run()["dom0"]


async def loopback(xen: Domain) -> tuple[Port, Port]:
    """The two ends of a channel from a domain to itself, binding's own event taken."""
    near = xen.events.alloc_unbound(xen.domid)
    far = xen.events.bind_interdomain(xen.domid, near.number)
    await far.wait()
    return near, far


def test_waking_waiters_that_wait_again_starves_no_sleeper() -> None:
    """A port that answers every event with another one leaves the timers alone."""

    async def main(xen: Domain) -> bool:
        near, far = await loopback(xen)

        async def echo(port: Port) -> None:
            async for _ in port:
                port.notify()

        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            storm = [group.create_task(echo(port)) for port in (near, far)]
            near.notify()
            await asyncio.sleep(0.5)
            for task in storm:
                task.cancel()
        stormed = near.statistics().fired > 100
        near.close()
        far.close()
        return stormed

    assert run(main)


def test_a_waiter_that_waits_again_at_once_is_not_woken_twice_for_one_event() -> None:
    async def main(xen: Domain) -> int:
        near, far = await loopback(xen)
        woken = 0

        async def waiter() -> None:
            nonlocal woken
            while True:
                await near.wait()
                woken += 1

        task = asyncio.create_task(waiter())
        await asyncio.sleep(1)
        far.notify()
        await asyncio.sleep(1)
        task.cancel()
        near.close()
        far.close()
        return woken

    assert run(main) == 1


def test_masked_ports_after_a_resume_do_not_keep_the_loop_awake() -> None:
    """After a resume every port is masked until it is bound again; the loop sleeps all the same."""
    machine = Machine()

    async def main(xen: Domain) -> float:
        near, _ = await loopback(xen)
        near.mask()
        machine.suspend(xen.loop)
        began = xen.loop.time()
        await asyncio.sleep(1000)
        return xen.loop.time() - began

    assert run(main, machine) == pytest.approx(1000)


def test_more_than_128_ports_can_be_waited_on() -> None:
    """SCHEDOP_poll takes 128 ports; the idle step has no such list."""

    async def main(xen: Domain) -> int:
        pairs = [await loopback(xen) for _ in range(200)]
        async with asyncio.timeout(60), asyncio.TaskGroup() as group:
            for near, _ in pairs:
                group.create_task(near.wait())
            await asyncio.sleep(1)
            for _, far in reversed(pairs):
                far.notify()
        for port in sum(pairs, ()):
            port.close()
        return sum(near.statistics().woken for near, _ in pairs)

    assert run(main) == 200


def test_the_demux_clears_upcall_pending_so_that_an_idle_domain_sleeps() -> None:
    async def main(xen: Domain) -> int:
        near, far = await loopback(xen)
        far.notify()
        await near.wait()
        turns = 0

        def count() -> None:
            nonlocal turns
            turns += 1

        loop = asyncio.get_running_loop()
        assert isinstance(loop, EventLoop)
        block = loop._lower.block

        def counted(deadline: int | None) -> Any:
            count()
            return block(deadline)

        exchange(loop, block=counted)
        await asyncio.sleep(3600)
        near.close()
        far.close()
        return turns

    assert run(main) == 1


def test_the_timer_is_set_to_an_absolute_time() -> None:
    """An interval taken for an absolute time is always past, and the loop spins."""

    async def main(xen: Domain) -> list[int]:
        times = []
        for _ in range(3):
            await asyncio.sleep(10)
            times.append(xen.time_ns())
        return times

    assert run(main) == [10_000_000_000, 20_000_000_000, 30_000_000_000]


def test_a_domain_with_ready_tasks_does_not_sleep() -> None:
    async def main(xen: Domain) -> float:
        async def busy() -> None:
            for _ in range(50):
                await asyncio.sleep(0)

        asleep = asyncio.create_task(asyncio.sleep(3600))
        await busy()
        asleep.cancel()
        return xen.loop.time()

    assert run(main) == 0


def test_the_clock_is_monotonic_not_the_wall(monkeypatch: pytest.MonkeyPatch) -> None:
    """Setting the machine's date back or forth disturbs no timer, on either clock."""
    monkeypatch.setattr("time.time", lambda: 0.0)
    monkeypatch.setattr("time.time_ns", lambda: 0)

    async def main(xen: Domain) -> float:
        began = xen.loop.time()
        await asyncio.sleep(0.02)
        return xen.loop.time() - began

    assert run(main) == pytest.approx(0.02)
    assert 0.02 <= run(main, Machine(clock="wall")) < 10


def test_a_port_number_used_again_starts_clean() -> None:
    """Counter, kept event, mask and pending bit belong to the port, not to its number."""

    async def main(xen: Domain) -> int:
        near, far = await loopback(xen)
        number = near.number
        near.mask()
        far.notify()  # pending, and masked
        near.close()
        far.close()
        again = xen.events.alloc_unbound(xen.domid)
        assert again.number == number
        with again, pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await again.wait()
        with xen.events.alloc_unbound(xen.domid) as third:
            assert third.number == number
            with xen.events.bind_interdomain(xen.domid, number) as peer:
                peer.notify()
                await third.wait()  # it is not masked either
            return third.statistics().fired

    assert run(main) == 1


def test_closing_a_port_wakes_its_waiters_with_an_error_that_says_so() -> None:
    async def main(xen: Domain) -> None:
        port = xen.events.alloc_unbound(0)
        waiters = [asyncio.create_task(port.wait()), asyncio.create_task(port.after(7))]
        await asyncio.sleep(1)
        port.close()
        for waiter in waiters:
            with pytest.raises(PortClosed, match=f"port {port.number} .* was closed"):
                await waiter
        with pytest.raises(PortClosed):
            await port.wait()
        with pytest.raises(PortClosed):
            port.notify()

    run(main)


def test_a_suspend_wakes_all_waiters_and_they_bind_again() -> None:
    machine = Machine()

    async def main(xen: Domain) -> None:
        near, _ = await loopback(xen)
        waiter = asyncio.create_task(near.wait())
        await asyncio.sleep(1)
        machine.suspend(xen.loop)
        with pytest.raises(GenerationEnded, match="suspended"):
            await waiter
        near, far = await loopback(xen)
        far.notify()
        await near.wait()
        near.close()
        far.close()

    run(main, machine)


def test_new_sleeps_get_in_under_continuous_events() -> None:
    async def main(xen: Domain) -> int:
        near, far = await loopback(xen)

        async def storm() -> None:
            async for _ in near:
                far.notify()

        far.notify()
        task = asyncio.create_task(storm())
        slept = 0
        for _ in range(10):
            await asyncio.sleep(0.001)
            slept += 1
        task.cancel()
        near.close()
        far.close()
        return slept

    assert run(main) == 10


def test_the_table_of_ports_has_no_size_of_its_own() -> None:
    """Only Xen's limit holds: with `max_event_channels` raised, so many ports can be bound."""
    machine = Machine()

    async def main(xen: Domain) -> int:
        machine.xen.domains[0].event_channels.max_ports = 4095
        ports = [xen.events.alloc_unbound(0) for _ in range(4000)]
        with xen.events.bind_interdomain(0, ports[-1].number) as far:
            far.notify()
            await ports[-1].wait()
        for port in ports:
            port.close()
        return ports[-1].number

    assert run(main, machine) > 4000


def test_a_virq_is_raised_on_the_port_it_is_bound_to() -> None:
    machine = Machine()

    async def main(xen: Domain) -> None:
        with xen.events.bind_virq(Virq.DEBUG) as port:
            machine.xen.domains[0].event_channels.raise_virq(Virq.DEBUG)
            await port.wait()

    run(main, machine)
