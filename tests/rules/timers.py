"""What holds of time on every backend."""

from __future__ import annotations

import asyncio

from patience import patience
from rule import loopback, rule

from activations import Domain


@rule
async def equal_deadlines_fire_in_the_order_they_were_set(xen: Domain) -> None:
    fired: list[int] = []
    when = xen.loop.time() + 0.05
    for number in range(8):
        xen.loop.call_at(when, fired.append, number)
    await asyncio.sleep(0.2)
    assert fired == list(range(8))


@rule
async def a_sleep_is_never_shorter_than_asked(xen: Domain) -> None:
    for seconds in (0.001, 0.01, 0.1):
        began = xen.time_ns()
        await asyncio.sleep(seconds)
        assert xen.time_ns() - began >= seconds * 1e9


@rule
async def a_wait_with_a_timeout_ends_on_time(xen: Domain) -> None:
    near, far = await loopback(xen)
    with near, far:
        began = xen.loop.time()
        try:
            async with asyncio.timeout(0.1):
                await near.wait()
        except TimeoutError:
            pass
        assert 0.1 <= xen.loop.time() - began < patience(2)


@rule
async def an_infinite_timeout_never_ends(xen: Domain) -> None:
    near, far = await loopback(xen)
    with near, far:
        timer = xen.loop.call_at(float("inf"), near.close)
        await asyncio.sleep(0.05)
        far.notify()
        await asyncio.wait_for(near.wait(), patience(5))
        timer.cancel()
