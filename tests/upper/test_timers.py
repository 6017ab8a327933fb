"""Timers: when they fire, in which order, and what they leave in memory. On both clocks."""

from __future__ import annotations

import asyncio
import math
import subprocess
import sys
import time
import tracemalloc
import weakref
from collections.abc import Awaitable, Callable
from contextlib import closing
from decimal import Decimal
from fractions import Fraction
from itertools import repeat
from typing import Any
from unittest import mock

import pytest
from hypothesis import given
from hypothesis import strategies as st

import activations
from activations import ActivationsError, BlockedForever, Domain, EventLoop
from activations.timers import NEVER, nanoseconds

YEAR = 365 * 86_400


Run = Callable[[Callable[[Domain], Awaitable[Any]]], Any]


@pytest.fixture(params=["virtual", "wall"])
def run(request: pytest.FixtureRequest) -> Run:
    """`activations.run` on one clock, then on the other."""
    return lambda main: activations.run(main, clock=request.param)


# Order


def test_equal_deadlines_fire_in_the_order_they_were_made(run: Run) -> None:
    async def main(xen: Domain) -> list[int]:
        fired: list[int] = []
        when = xen.loop.time() + 0.01
        for number in range(100):
            xen.loop.call_at(when, fired.append, number)
        await asyncio.sleep(0.02)
        return fired

    assert run(main) == list(range(100))


@pytest.mark.parametrize("delay", [-1, -math.inf])
def test_a_negative_delay_does_not_wait(run: Run, delay: float) -> None:
    """Nor when nothing else is to be done: Xen would take a negative timeout for a mistake."""

    async def main(xen: Domain) -> None:
        fired = asyncio.Event()
        xen.loop.call_later(delay, fired.set)
        await asyncio.sleep(0)  # in this turn it is found to be due, and runs in the next
        await asyncio.sleep(0)
        assert fired.is_set()

    run(main)


# What counts as a time


def test_an_infinite_deadline_never_comes(run: Run) -> None:
    async def main(xen: Domain) -> None:
        timers = [
            xen.loop.call_later(math.inf, pytest.fail),
            xen.loop.call_at(math.inf, pytest.fail),
            xen.loop.call_later(1e300, pytest.fail),
        ]
        async with asyncio.timeout(math.inf):
            await asyncio.sleep(0.01)
        for timer in timers:
            timer.cancel()

    run(main)


def test_nan_is_refused(run: Run) -> None:
    async def main(xen: Domain) -> None:
        with pytest.raises(ValueError, match="nan"):
            xen.loop.call_later(math.nan, pytest.fail)
        with pytest.raises(ValueError, match="nan"):
            xen.loop.call_at(math.nan, pytest.fail)

    run(main)


@given(st.floats(0, 4e9, exclude_min=True, exclude_max=True))
def test_nanoseconds_are_the_first_that_are_not_early(seconds: float) -> None:
    ns = nanoseconds(seconds)
    assert (ns - 1) / 1e9 < seconds <= ns / 1e9 or (ns - 1) / 1e9 == ns / 1e9


@given(st.integers(0, 2**53))
def test_a_time_in_seconds_and_back_is_the_same_nanosecond(ns: int) -> None:
    """As long as a float can tell them apart: 2^53 ns are 104 days."""
    back = nanoseconds(ns / 1e9)
    assert back == ns or (ns > 2**50 and back / 1e9 == ns / 1e9)


@given(st.floats(4e9, allow_infinity=False))
def test_nanoseconds_of_centuries_are_the_first_that_are_not_before(seconds: float) -> None:
    exact = Fraction(seconds) * 10**9
    assert exact <= nanoseconds(seconds) < exact + 1


def test_no_time_is_beyond_never() -> None:
    assert nanoseconds(sys.float_info.max) < nanoseconds(math.inf) == NEVER


@pytest.mark.parametrize("when", [12.345, -1.0, 3e9, 5e9, 1e300, math.inf])
def test_a_timer_says_the_time_it_was_given(when: float) -> None:
    """And one that waits for so long, that time from now."""
    with closing(activations.new_event_loop()) as loop:
        assert loop.call_at(when, pytest.fail).when() == when
        assert loop.call_later(max(when, 0), pytest.fail).when() == max(when, 0)


class Half(float):
    """A number that overflows on its own, as numpy's float16 does beyond 65,504."""

    def __mul__(self, other: object) -> float:
        return math.inf

    __rmul__ = __mul__


@pytest.mark.parametrize("delay", [Half(2), Fraction(2), Decimal(2), 2, True + 1])
def test_any_number_is_a_delay(delay: Any) -> None:
    async def main(xen: Domain) -> float:
        await asyncio.sleep(delay)
        return xen.loop.time()

    assert activations.run(main) == 2


@pytest.mark.parametrize("delay", ["2", None, [2], 2j])
def test_what_is_no_number_is_no_delay(delay: Any) -> None:
    with closing(activations.new_event_loop()) as loop:
        for call in (loop.call_later, loop.call_at):
            with pytest.raises(TypeError):
                call(delay, pytest.fail)


def test_who_is_woken_at_a_deadline_finds_that_it_has_passed(run: Run) -> None:
    """0.1 + 0.2 lies between two nanoseconds; anyio would arm such a timer over and over."""

    async def main(xen: Domain) -> None:
        loop = xen.loop
        woken: list[tuple[float, float]] = []
        for _ in range(20):
            when = loop.time() + 0.1e-3 + 0.2e-3
            loop.call_at(when, lambda when: woken.append((when, loop.time())), when)
            await asyncio.sleep(1e-3)
        assert all(when <= now for when, now in woken)

    run(main)


# What cancelling leaves


def test_cancelled_timers_do_not_pile_up(run: Run) -> None:
    """Twenty thousand timeouts that nobody waits for take no more room than a hundred."""

    async def main(xen: Domain) -> int:
        loop = xen.loop
        kept = [loop.call_later(1000, pytest.fail) for _ in range(10)]
        tracemalloc.start()
        for _ in range(20_000):
            loop.call_later(1000, pytest.fail).cancel()
        used, _peak = tracemalloc.get_traced_memory()
        tracemalloc.stop()
        for timer in kept:
            timer.cancel()
        return used

    assert run(main) < 100_000  # bytes


def test_a_timer_cancelled_after_it_fired_counts_once(run: Run) -> None:
    """`asyncio.sleep` does it every time."""

    async def main(xen: Domain) -> int:
        for _ in range(200):
            await asyncio.sleep(1e-6)
        waiting = xen.loop.call_later(1000, pytest.fail)
        left = len(sleepers(xen.loop))
        waiting.cancel()
        waiting.cancel()
        assert len(sleepers(xen.loop)) == 0
        return left

    assert run(main) == 1


def test_a_timer_cancelled_when_it_is_due_does_not_fire(run: Run) -> None:
    """Two are due in the same turn; the first cancels the second."""

    async def main(xen: Domain) -> None:
        when = xen.loop.time() + 0.001
        xen.loop.call_at(when, lambda: second.cancel())
        second = xen.loop.call_at(when, pytest.fail)
        await asyncio.sleep(0.005)
        assert len(sleepers(xen.loop)) == 0

    run(main)


def test_compacting_keeps_order_and_ties(run: Run) -> None:
    async def main(xen: Domain) -> list[int]:
        fired: list[int] = []
        when = xen.loop.time() + 0.01
        timers = [xen.loop.call_at(when, fired.append, number) for number in range(1000)]
        for number, timer in enumerate(timers):
            if number % 10:
                timer.cancel()
        assert len(sleepers(xen.loop).heap) < 500
        await asyncio.sleep(0.02)
        return fired

    assert run(main) == list(range(0, 1000, 10))


def sleepers(loop: EventLoop) -> Any:
    return loop._sleepers


# Fairness


def test_a_storm_of_ready_tasks_holds_no_timer_up(run: Run) -> None:
    """Tasks that never rest give time its due: a timer fires while they go on."""

    async def main(xen: Domain) -> None:
        async def busy() -> None:
            while True:
                await asyncio.sleep(0)

        storm = [asyncio.create_task(busy()) for _ in range(20)]
        for _ in range(3):
            await asyncio.wait_for(asyncio.sleep(0.001), 30)
        for task in storm:
            task.cancel()

    run(main)


# Whose clock it is


@pytest.fixture
def frozen(monkeypatch: pytest.MonkeyPatch) -> None:
    """What freezegun does, `real_asyncio` or not: every module's name for a clock is another's."""
    clocks: list[Callable[[], float]] = [time.monotonic, time.monotonic_ns, time.time]
    for module in list(sys.modules.values()):
        for name, value in list(vars(module).items()):
            for real in clocks:
                if value is real and not module.__name__.startswith(("_pytest", "pytest")):
                    monkeypatch.setattr(module, name, repeat(real()).__next__)


@pytest.mark.usefixtures("frozen")
def test_a_test_that_freezes_time_does_not_freeze_the_loop(run: Run) -> None:
    async def main(xen: Domain) -> float:
        began = xen.loop.time()
        await asyncio.sleep(0.01)
        async with asyncio.timeout(10):
            await asyncio.sleep(0.01)
        return xen.loop.time() - began

    assert run(main) >= 0.02


def test_nor_does_one_that_freezes_it_before_the_loop_is_imported() -> None:
    program = """
import asyncio, time
time.monotonic = time.monotonic_ns = time.time = lambda: 5
import activations
activations.run(lambda xen: asyncio.sleep(0.01), clock="wall")
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=30)


def test_a_selector_cannot_be_patched_and_the_error_says_what_has_the_effect(run: Run) -> None:
    """As aiotools' and looptime's clocks do it: `select` is given time-outs there that it adds up,
    and here it is given none."""

    async def main(xen: Domain) -> None:
        selector = xen.loop._selector  # type: ignore[attr-defined]
        with pytest.raises(ActivationsError, match='take clock="virtual"'):
            selector.select = lambda timeout: []
        patch = mock.patch.object(selector, "select")
        with pytest.raises(ActivationsError, match='take clock="virtual"'), patch:
            pass
        await asyncio.sleep(0.001)

    run(main)


@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_a_closed_loop_lets_go_of_what_its_timers_hold(clock: str) -> None:
    class Held:
        pass

    held = Held()
    gone = weakref.ref(held)
    loop = activations.new_event_loop("sim", clock=clock)
    loop.call_later(1000, print, held)
    del held
    loop.close()
    assert gone() is None


# Virtual time


def test_a_simulated_year_takes_no_time_and_is_exact() -> None:
    """And a day at a time: Xen takes a timeout of 13 days for a mistake."""

    async def main(xen: Domain) -> int:
        await asyncio.sleep(YEAR)
        return xen.time_ns()

    assert activations.run(main) == YEAR * 10**9


def test_time_stands_still_while_anything_runs() -> None:
    async def main(xen: Domain) -> float:
        for _ in range(100):
            await asyncio.sleep(0)
        sum(range(100_000))
        return xen.loop.time()

    assert activations.run(main) == 0


def test_centuries_add_up() -> None:
    async def main(xen: Domain) -> float:
        for _ in range(3):
            await asyncio.sleep(3e9)
        async with asyncio.timeout(3e9):
            await asyncio.sleep(1)
        return xen.loop.time()

    assert activations.run(main) == 9e9 + 1


def test_nobody_waits_for_what_is_ages_ahead() -> None:
    """It would take a simulation as long, a day at a time."""
    with pytest.raises(BlockedForever):
        activations.run(lambda xen: asyncio.sleep(1e10))


@pytest.mark.once
@given(st.lists(st.integers(1, 10**12), min_size=1, max_size=20))
def test_sleeps_add_up_to_the_nanosecond(delays: list[int]) -> None:
    async def main(xen: Domain) -> int:
        for delay in delays:
            await asyncio.sleep(delay / 1e9)
        return xen.time_ns()

    assert activations.run(main) == sum(delays)


def test_times_are_the_floats_nearest_to_them() -> None:
    """So that `loop.time() == 0.3` holds after sleeping 0.1 three times."""

    async def main(xen: Domain) -> float:
        for _ in range(3):
            await asyncio.sleep(0.1)
        return xen.loop.time()

    assert activations.run(main) == 0.3
