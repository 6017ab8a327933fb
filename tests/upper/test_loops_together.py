"""Several loops in one process: the domains of a machine share a thread, and all that Python and
asyncio keep by thread or by process. Each of them finds it as if it were alone."""

from __future__ import annotations

import asyncio
import gc
import os
import signal
import sys
import threading
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import closing
from pathlib import Path

import pytest
from support.parameters import one_in

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


@pytest.mark.parametrize("seed", one_in(1, range(40)))
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


# Signals


@pytest.fixture
def signals_at_rest() -> Iterator[None]:
    """Whoever listened has left no trace."""
    heard = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT)
    before = [signal.getsignal(number) for number in heard]
    yield
    assert [signal.getsignal(number) for number in heard] == before
    assert signal.set_wakeup_fd(-1) == -1


async def hear(xen: Domain, number: int, heard: list[str], ready: list[str], times: int) -> None:
    """Listen to a signal until it has come so often."""
    event = asyncio.Event()
    xen.loop.add_signal_handler(number, event.set)
    ready.append(xen.name)
    for _ in range(times):
        await event.wait()
        event.clear()
        heard.append(xen.name)
    xen.loop.remove_signal_handler(number)


async def until(condition: Callable[[], bool]) -> None:
    while not condition():
        await asyncio.sleep(0.001)


@pytest.mark.usefixtures("signals_at_rest")
@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_each_domain_hears_its_own_signal(order: tuple[int, int]) -> None:
    """Whoever added its handler last, and when the other one has ended."""
    machine = Machine(clock="wall")
    numbers = (signal.SIGUSR1, signal.SIGUSR2)
    heard: list[str] = []
    ready: list[str] = []

    async def sender(xen: Domain) -> None:
        await until(lambda: len(ready) == 2)
        for number in (*order, order[1]):
            before = len(heard)
            os.kill(os.getpid(), numbers[number])
            await until(lambda before=before: len(heard) > before)  # type: ignore[misc]

    for number in (0, 1):
        times = 1 if number == order[0] else 2
        machine.boot(
            f"guest{number}",
            lambda xen, number=number, times=times: hear(xen, numbers[number], heard, ready, times),
        )
    machine.boot("dom0", sender)
    machine.run()
    assert heard == [f"guest{number}" for number in (*order, order[1])]


@pytest.mark.usefixtures("signals_at_rest")
def test_two_domains_that_listen_to_one_signal_both_hear_it() -> None:
    machine = Machine(clock="wall")
    heard: list[str] = []
    ready: list[str] = []

    async def sender(xen: Domain) -> None:
        await until(lambda: len(ready) == 2)
        os.kill(os.getpid(), signal.SIGUSR1)
        await until(lambda: len(heard) == 2)  # and one of them listens no more
        os.kill(os.getpid(), signal.SIGUSR1)

    machine.boot("once", lambda xen: hear(xen, signal.SIGUSR1, heard, ready, 1))
    machine.boot("twice", lambda xen: hear(xen, signal.SIGUSR1, heard, ready, 2))
    machine.boot("dom0", sender)
    machine.run()
    assert sorted(heard) == ["once", "twice", "twice"]


@pytest.mark.usefixtures("signals_at_rest")
@pytest.mark.parametrize("number", [signal.SIGUSR1, signal.SIGINT])
def test_a_loop_that_closes_listens_no_more(number: int) -> None:
    machine = Machine(clock="wall")

    async def main(xen: Domain) -> None:
        xen.loop.add_signal_handler(number, print)

    machine.boot("dom0", main)
    machine.boot("guest", main)
    machine.run()


@pytest.mark.usefixtures("signals_at_rest")
def test_asyncios_own_loop_still_hears_after_a_machine_has_run_within() -> None:
    async def main() -> None:
        heard = asyncio.Event()
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGUSR1, heard.set)
        machine = Machine(clock="wall")
        ours: list[str] = []
        machine.boot("guest", lambda xen: hear(xen, signal.SIGUSR2, ours, [], 1))
        machine.boot("dom0", send)
        machine.run()
        os.kill(os.getpid(), signal.SIGUSR1)
        await asyncio.wait_for(heard.wait(), 30)

    async def send(xen: Domain) -> None:
        await until(lambda: signal.getsignal(signal.SIGUSR2) != signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGUSR2)

    asyncio.run(main())


@pytest.mark.usefixtures("signals_at_rest")
def test_a_signal_ends_a_sleep_however_many_listen() -> None:
    """The wake-up descriptor is one of theirs; nobody else moves while all sleep."""
    machine = Machine(clock="wall")
    heard: list[str] = []
    ready: list[str] = []
    timer = threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGUSR1))

    async def last(xen: Domain) -> None:
        ready.append(xen.name)
        await until(lambda: len(ready) == 3)
        timer.start()

    for name in ("one", "other"):
        machine.boot(name, lambda xen: hear(xen, signal.SIGUSR1, heard, ready, 1))
    machine.boot("dom0", last)
    machine.run()
    timer.join()
    assert sorted(heard) == ["one", "other"]


def test_what_cannot_be_listened_to_is_refused_as_asyncio_does() -> None:
    with closing(activations.new_event_loop("sim", clock="wall")) as loop:
        with pytest.raises(RuntimeError, match="cannot be caught"):
            loop.add_signal_handler(signal.SIGKILL, print)
        with pytest.raises(TypeError, match="coroutines cannot be used"):
            loop.add_signal_handler(signal.SIGUSR1, nothing)
        with pytest.raises(ValueError, match="invalid signal"):
            loop.add_signal_handler(1000, print)
        refused: list[str] = []

        def elsewhere() -> None:
            with pytest.raises(RuntimeError, match="main thread") as refusal:
                loop.add_signal_handler(signal.SIGUSR1, print)
            refused.append(str(refusal.value))

        in_a_thread(elsewhere)
        assert refused
        assert loop.remove_signal_handler(signal.SIGUSR1) is False
    assert signal.getsignal(signal.SIGUSR1) == signal.SIG_DFL


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
