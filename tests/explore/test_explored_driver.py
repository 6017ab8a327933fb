"""A driver's own shared page is explored: who goes to sleep without a second look is found out.

The consumer says in the page that it sleeps, and the producer sends an event to one that does. What
is put between the consumer's look and its word is lost, unless it looks again.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from activations import BlockedForever, Domain
from xen_sim import Machine

PUT, ASLEEP = 0, 1
"""Bytes of the page: how many items there are, and whether the consumer sleeps."""
ITEMS = 2
pytestmark = pytest.mark.once
COUNTS = pytest.mark.parametrize("count", [200, pytest.param(400, marks=pytest.mark.long)])
"""Of schedules."""


def consumer(*, looks_again: bool) -> Callable[[Domain], Awaitable[int]]:
    async def main(xen: Domain) -> int:
        with xen.grants.share(0) as page, xen.events.alloc_unbound(0) as port:
            await xen.store.write("data/ref", page.refs[0])
            await xen.store.write("data/port", port.number)
            taken = 0
            while taken < ITEMS:
                if page.memory[PUT] > taken:
                    taken += 1
                    continue
                page.memory[ASLEEP] = 1
                if not (looks_again and page.memory[PUT] > taken):
                    await port.wait()
                page.memory[ASLEEP] = 0
            await xen.store.write("data/taken", taken)
            await xen.store.wait_for("data/unmapped")
            return taken

    return main


async def producer(xen: Domain) -> None:
    guest = await xen.find("guest")
    home = f"/local/domain/{guest}/data"
    number = int(await xen.store.wait_for(f"{home}/port"))
    ref = int(await xen.store.read(f"{home}/ref"))
    with xen.events.bind_interdomain(guest, number) as port, xen.grants.map(guest, [ref]) as page:
        for _ in range(ITEMS):
            page.memory[PUT] += 1
            if page.memory[ASLEEP]:
                port.notify()
            await asyncio.sleep(0)
        await xen.store.wait_for(f"{home}/taken")
    await xen.store.write(f"{home}/unmapped", "")


def run(seed: int, *, looks_again: bool) -> int:
    machine = Machine(seed=seed, explore=True)
    machine.boot("dom0", producer)
    machine.boot("guest", consumer(looks_again=looks_again))
    taken: int = machine.run()["guest"]
    return taken


@COUNTS
def test_a_second_look_loses_nothing(count: int) -> None:
    assert {run(seed, looks_again=True) for seed in range(count)} == {ITEMS}


@COUNTS
def test_without_it_a_wake_up_is_lost_under_some_seeds_and_the_report_says_who_waits(
    count: int,
) -> None:
    reports = []
    for seed in range(count):
        try:
            run(seed, looks_again=False)
        except BlockedForever as error:
            reports.append((seed, str(error)))
    assert 2 <= len(reports) <= count // 5
    for seed, said in reports:
        assert "guest: 'guest main' waits for port 2 (to domain 0), in " in said
        assert "dom0: 'dom0 main' waits for a change of /local/domain/1/data/taken" in said
        assert "in producer, test_explored_driver.py" in said
        with pytest.raises(BlockedForever):  # the same seed, the same schedule
            run(seed, looks_again=False)
