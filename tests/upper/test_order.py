"""Random programs of three domains, that sleep, notify, wait with time-outs, call later and cancel:
everything happens in the same order and at the same virtual time whatever the machine goes by.

A machine that is traced takes the readable lower half and no short cut, one that is not the fused
one and the clock's skip; a seed gives the same run every time.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from random import Random
from typing import Any

import pytest
from support.drawn import drawn
from support.pure import in_python_alone, needed_accelerator

from activations import Domain, Port
from activations.trace import Trace
from xen_sim import Machine

DOMAINS = ("dom0", "a", "b")
TASKS = 2
ACTS = 30
PAUSES = (0, 1e-9, 1e-6, 0.001, 0.001, 0.5, 1, 1)

Act = tuple[str, float]


class Program:
    """What each task of each domain does, and what came of it."""

    def __init__(self, number: int) -> None:
        random = Random(number)
        self._acts: list[list[list[Act]]] = [
            [
                [(random.choice(sorted(DOING)), random.choice(PAUSES)) for _ in range(ACTS)]
                for _ in range(TASKS)
            ]
            for _ in DOMAINS
        ]
        self.log: list[tuple[object, ...]] = []

    def main(self, me: int) -> Callable[[Domain], Awaitable[None]]:
        async def main(xen: Domain) -> None:
            ports = await self._bind(xen, me)
            await asyncio.gather(*(self._task(xen, me, task, ports) for task in range(TASKS)))
            await asyncio.sleep(50)
            for port in ports:
                self.log.append((me, port.statistics()))
                port.close()

        return main

    async def _bind(self, xen: Domain, me: int) -> list[Port]:
        if me == 0:
            return [xen.events.alloc_unbound(domid) for domid in (1, 2)]
        await asyncio.sleep(1)  # dom0 has allocated by then: VIRQ_TIMER is its port 1
        return [xen.events.bind_interdomain(0, 1 + me)]

    async def _task(self, xen: Domain, me: int, task: int, ports: list[Port]) -> None:
        for number, (act, pause) in enumerate(self._acts[me][task]):
            note = (me, task, number, act)
            result = await DOING[act](xen, ports[number % len(ports)], pause)
            self.log.append((*note, result, xen.loop.time()))


async def sleep(xen: Domain, port: Port, pause: float) -> None:
    await asyncio.sleep(pause)


async def notify(xen: Domain, port: Port, pause: float) -> None:
    port.notify()


async def wait(xen: Domain, port: Port, pause: float) -> bool:
    try:
        await asyncio.wait_for(port.wait(), pause)
    except TimeoutError:
        return False
    return True


async def after(xen: Domain, port: Port, pause: float) -> bool:
    try:
        async with asyncio.timeout(pause):
            await port.after(port.statistics().fired // 2)
    except TimeoutError:
        return False
    return True


async def call_later(xen: Domain, port: Port, pause: float) -> None:
    xen.loop.call_later(pause, port.notify)


async def cancel(xen: Domain, port: Port, pause: float) -> bool:
    waiting = asyncio.ensure_future(port.wait())
    await asyncio.sleep(pause)
    waiting.cancel()
    with suppress(asyncio.CancelledError):
        await waiting
    return waiting.cancelled()


DOING: dict[str, Callable[[Domain, Port, float], Awaitable[object]]] = {
    act.__name__: act for act in (sleep, notify, wait, after, call_later, cancel)
}


def run(number: int, **options: Any) -> list[tuple[object, ...]]:
    """What program `number` notes, event by event, in a machine of this kind."""
    program = Program(number)
    machine = Machine(**options)
    for me, name in enumerate(DOMAINS):
        machine.boot(name, program.main(me))
    machine.run()
    assert len(program.log) > len(DOMAINS) * TASKS * ACTS
    return program.log


@pytest.mark.parametrize("number", [*range(15), *drawn(75)])
def test_the_fused_machine_and_the_readable_one_run_alike(number: int) -> None:
    assert run(number) == run(number, trace=Trace())


@pytest.mark.parametrize("number", [*range(15), *drawn(75)])
def test_python_and_c_run_alike(number: int) -> None:
    """The plain way, from a seed, and explored: events, virtual times, figures, and traces."""
    needed_accelerator()
    for options in ({}, {"seed": number}, {"seed": number, "explore": True}):
        traces = [Trace(), Trace()]
        in_c = [run(number, **options), run(number, **options, trace=traces[0])]
        with in_python_alone():
            assert in_c == [run(number, **options), run(number, **options, trace=traces[1])]
        assert traces[0].lines() == traces[1].lines()


@pytest.mark.parametrize("number", [*range(5), *drawn(15)])
def test_they_ask_a_seed_the_same(number: int) -> None:
    assert run(number, seed=number) == run(number, seed=number, trace=Trace())


@pytest.mark.parametrize("number", [*range(2), *drawn(8)])
def test_an_explored_run_is_the_same_for_the_same_seed(number: int) -> None:
    traces = [Trace(), Trace()]
    first, second = (run(number, seed=number, explore=True, trace=trace) for trace in traces)
    assert first == second
    assert traces[0].lines() == traces[1].lines()
    assert first == run(number, seed=number, explore=True)
