"""Several loops in one process: the domains of a machine share a thread, and all that Python and
asyncio keep by thread or by process. Each of them finds it as if it were alone."""

from __future__ import annotations

import asyncio
import gc
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest

import activations
from activations import BlockedForever, Domain, EventLoop, VirtualClockError
from xen_sim import Machine

CLOCKS = ("virtual", "wall")


# Waking each other


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_domain_that_is_called_from_another_one_wakes(clock: str) -> None:
    machine = Machine(clock=clock)  # type: ignore[arg-type]
    called: dict[str, asyncio.Event] = {}

    async def sleeper(xen: Domain) -> None:
        called["event"] = asyncio.Event()
        await called["event"].wait()

    async def caller(xen: Domain) -> None:
        await asyncio.sleep(0.01)  # the other one sleeps by then
        life.loop.call_soon_threadsafe(called["event"].set)

    life = machine.boot("dom0", sleeper)
    machine.boot("guest", caller)
    machine.run()


@pytest.mark.parametrize("seed", range(40))
def test_a_call_from_another_domain_is_heard_wherever_the_sleeper_was_interrupted(
    seed: int,
) -> None:
    """Between its last look at what is to be done and its sleep, too."""
    machine = Machine(seed=seed, explore=True)
    calls: asyncio.Queue[int] = asyncio.Queue()

    async def sleeper(xen: Domain) -> None:
        for _ in range(5):
            await calls.get()

    async def caller(xen: Domain) -> None:
        with xen.events.alloc_unbound(xen.domid) as port:
            for number in range(5):
                port.unmask()  # a step: the other one may be interrupted, and this one too
                life.loop.call_soon_threadsafe(calls.put_nowait, number)
                await asyncio.sleep(0)

    life = machine.boot("dom0", sleeper)
    machine.boot("guest", caller)
    machine.run()


@pytest.mark.parametrize("clock", CLOCKS)
def test_a_generator_that_another_domain_lets_go_is_finished_in_its_own(clock: str) -> None:
    """The garbage collector runs wherever it happens to; the generator's loop closes it."""
    machine = Machine(clock=clock)  # type: ignore[arg-type]
    kept: list[AsyncIterator[int]] = []
    finished_in: list[asyncio.AbstractEventLoop] = []

    async def numbers(done: asyncio.Event) -> AsyncIterator[int]:
        try:
            yield 1
        finally:
            await asyncio.sleep(0.001)
            finished_in.append(asyncio.get_running_loop())
            done.set()

    async def owner(xen: Domain) -> None:
        done = asyncio.Event()
        generator = numbers(done)
        await anext(generator)
        kept.append(generator)
        del generator
        await done.wait()

    async def collector(xen: Domain) -> None:
        await asyncio.sleep(0.01)
        kept.clear()
        gc.collect()

    life = machine.boot("dom0", owner)
    machine.boot("guest", collector)
    machine.run()
    assert finished_in == [life.loop]


# Threads


def in_a_thread(work: object) -> None:
    thread = threading.Thread(target=work)  # type: ignore[arg-type]
    thread.start()
    thread.join()


def test_the_thread_that_runs_a_virtual_loop_is_its_home() -> None:
    """Whoever made it: a loop may be made in one thread and run in another."""
    said: list[str] = []
    loop = activations.new_event_loop()

    async def main() -> None:
        called = asyncio.Event()
        loop.call_soon_threadsafe(called.set)
        await called.wait()
        said.append("called")

    in_a_thread(lambda: loop.run_until_complete(main()))
    loop.close()
    assert said == ["called"]


def test_the_thread_that_made_a_virtual_loop_is_refused_while_another_one_runs_it() -> None:
    loop = activations.new_event_loop()
    running, refused = threading.Event(), threading.Event()

    async def main() -> None:
        running.set()
        refused.wait()

    thread = threading.Thread(target=lambda: loop.run_until_complete(main()))
    thread.start()
    running.wait()
    try:
        with pytest.raises(VirtualClockError, match='clock="wall"'):
            loop.call_soon_threadsafe(print)
    finally:
        refused.set()
        thread.join()
        loop.close()


def test_a_thread_may_call_a_virtual_loop_that_nobody_runs_yet() -> None:
    loop = activations.new_event_loop()
    in_a_thread(lambda: loop.call_soon_threadsafe(loop.stop))
    loop.run_forever()
    loop.close()


def test_the_thread_that_runs_a_machine_is_not_blamed_for_what_blocks_it() -> None:
    loop = activations.new_event_loop()
    said: list[str] = []

    async def main() -> None:
        await asyncio.Event().wait()

    def run() -> None:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            with pytest.raises(BlockedForever) as blocked:
                runner.run(main())
            said.append(str(blocked.value))

    in_a_thread(run)
    assert "threads were started" not in said[0]


# Debug mode


@pytest.fixture
def no_debugging_left() -> Iterator[None]:
    before = sys.get_coroutine_origin_tracking_depth()
    yield
    assert sys.get_coroutine_origin_tracking_depth() == before


async def nothing() -> None:
    pass


def tracked() -> bool:
    """Whether a coroutine that is made now knows where."""
    coroutine = nothing()
    coroutine.close()
    return coroutine.cr_origin is not None


@pytest.mark.usefixtures("no_debugging_left")
@pytest.mark.parametrize("clock", CLOCKS)
def test_each_domain_has_its_own_debug_mode(clock: str) -> None:
    """From its beginning to its end, whoever began before and ends after it."""
    machine = Machine(clock=clock)  # type: ignore[arg-type]
    seen: dict[str, set[bool]] = {}

    async def main(xen: Domain) -> None:
        seen[xen.name] = set()
        for _ in range(xen.domid + 3):
            seen[xen.name].add(tracked())
            await asyncio.sleep(0.001)

    for name, debug in {"one": True, "two": False, "three": True}.items():
        machine.boot(name, main).loop.set_debug(debug)
    machine.run()
    assert seen == {"one": {True}, "two": {False}, "three": {True}}


@pytest.mark.usefixtures("no_debugging_left")
@pytest.mark.parametrize("clock", CLOCKS)
def test_debug_mode_may_be_switched_while_a_domain_runs(clock: str) -> None:
    machine = Machine(clock=clock)  # type: ignore[arg-type]
    seen: dict[str, list[bool]] = {"one": [], "two": []}

    async def main(xen: Domain) -> None:
        for debug in (False, True, False):
            if xen.name == "one":
                xen.loop.set_debug(debug)
            await asyncio.sleep(0.001)
            await asyncio.sleep(0.001)
            seen[xen.name].append(tracked())

    machine.boot("one", main)
    machine.boot("two", main)
    machine.run()
    assert seen == {"one": [False, True, False], "two": [False] * 3}


# Descriptors


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def test_a_domain_on_the_virtual_clock_needs_no_descriptor() -> None:
    """So there may be more of them than descriptors."""
    before = descriptors()
    opened: set[int] = set()

    async def main(xen: Domain) -> None:
        await xen.store.write("data/here", xen.name)
        opened.add(descriptors() - before)

    machine = Machine()
    for number in range(20):
        machine.boot(f"guest{number}", main)
    machine.run()
    assert opened == {0}


def test_no_pipe_is_missed_when_a_virtual_loop_closes() -> None:
    loop: EventLoop = activations.new_event_loop()
    loop.run_until_complete(nothing())
    loop.close()
    loop.close()
    assert loop.is_closed()
