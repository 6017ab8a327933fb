"""Exceptions out of signal handlers, wherever they strike: Ctrl-C, `sys.exit` in a handler, a
test's time-out. The loop is used again, and nothing is lost: what a port took is given to those who
wait for it, timers fire once, and a machine ends in an orderly way.

Each test is run again and again, struck an instruction later each time, until it ends unstruck.
"""

from __future__ import annotations

import asyncio
import gc
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from support.linux_fakes import FakeEventDevice
from support.striker import Striker, Struck

import activations
from activations import Domain, EventLoop, Port
from activations.accelerator import accelerator
from xen_linux.grants import LinuxGrantTable
from xen_linux.lower import LinuxLowerHalf
from xen_sim import Machine

CLOCKS = ("virtual", "wall")
STRIDES = [11, pytest.param(1, marks=pytest.mark.long)]
"""Every eleventh instruction, or every one."""

PATIENCE = 30
"""Seconds, real or virtual, after which what should have come has not."""


@pytest.fixture(autouse=True)
def nothing_traced() -> Iterator[None]:
    before = sys.gettrace()
    yield
    sys.settrace(before)


@pytest.fixture(autouse=True)
def no_garbage() -> Iterator[None]:
    """What is raised while the garbage collector finalizes something, Python itself drops."""
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def everywhere(stride: int, attempt: Callable[[Striker], None]) -> None:
    """Strike at every place; say which one it was where that makes a difference."""
    places = 0
    while True:
        striker = Striker(places * stride)
        try:
            attempt(striker)
        except BaseException as error:
            striker.disarm()
            error.add_note(f"struck at instruction {places * stride}: {striker.where}")
            raise
        striker.disarm()
        if not striker.where:
            break
        places += 1
    assert places > (50 if accelerator is None else 10), "in C there is less to be struck"


@pytest.fixture
def loop(request: pytest.FixtureRequest) -> Iterator[EventLoop]:
    loop = activations.new_event_loop("sim", clock=request.param)
    yield loop
    loop.close()


def struck(striker: Striker, loop: EventLoop, main: Any) -> None:
    """Run `main` as far as the strike lets it."""
    try:
        loop.run_until_complete(main)
    except Struck:
        pass
    finally:
        striker.disarm()


async def channel() -> tuple[Port, Port]:
    xen = activations.current()
    near = xen.events.alloc_unbound(xen.domid)
    far = xen.events.bind_interdomain(xen.domid, near.number)
    await far.wait()  # the one event that binding makes
    return near, far


@pytest.mark.timeout(600)
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("loop", CLOCKS, indirect=True)
def test_what_was_sent_before_is_delivered_after(loop: EventLoop, stride: int) -> None:
    """To each of several waiters on several ports, and no event is sent again."""

    async def wait(port: Port) -> int:
        return await port.wait()

    async def after(port: Port, event: int) -> int:
        return await port.after(event)

    async def watched(channels: list[tuple[Port, Port]], striker: Striker) -> None:
        for _, far in channels:
            far.notify()
        striker.arm()
        for _ in range(3):
            await asyncio.sleep(0)
        await asyncio.sleep(1e-6)

    async def delivered(waiters: list[asyncio.Task[int]]) -> list[Any]:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.gather(*waiters, return_exceptions=True)

    async def begin() -> tuple[list[tuple[Port, Port]], list[asyncio.Task[int]]]:
        channels = [await channel() for _ in range(3)]
        waiters = [
            asyncio.create_task(wait(near) if number else after(near, near.statistics().fired))
            for near, _ in channels
            for number in range(3)
        ]
        await asyncio.sleep(0)
        return channels, waiters

    def attempt(striker: Striker) -> None:
        channels, waiters = loop.run_until_complete(begin())
        struck(striker, loop, watched(channels, striker))
        seen = loop.run_until_complete(delivered(waiters))
        assert all(event in (1, 2) or isinstance(event, Struck) for event in seen), seen
        assert sum(isinstance(event, Struck) for event in seen) <= 1
        for near, far in channels:
            near.close()
            far.close()

    everywhere(stride, attempt)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("stride", STRIDES)
def test_what_linux_reported_before_is_delivered_after(stride: int) -> None:
    """Right after a read nobody may know what was read; and every port fires again later."""
    device = FakeEventDevice()
    half = LinuxLowerHalf(3, "guest", device, LinuxGrantTable(3, "PVH"))
    loop = EventLoop(half)

    async def wait(port: Port) -> int:
        return await port.wait()

    async def fire(ports: list[Port], striker: Striker) -> None:
        device.fire(*(port.number for port in ports))
        striker.arm()
        await asyncio.sleep(0)
        await asyncio.sleep(1e-6)
        await asyncio.sleep(0)

    async def begin() -> tuple[list[Port], list[asyncio.Task[int]]]:
        ports = [loop.domain.events.alloc_unbound(0) for _ in range(3)]
        waiters = [asyncio.create_task(wait(port)) for port in ports]
        await asyncio.sleep(0)
        return ports, waiters

    async def delivered(waiters: list[asyncio.Task[int]]) -> list[Any]:
        async with asyncio.timeout(PATIENCE):
            return await asyncio.gather(*waiters, return_exceptions=True)

    async def again(ports: list[Port]) -> None:
        for port in ports:
            for _ in range(2):  # one that was under way, and this one
                device.fire(port.number)
                async with asyncio.timeout(PATIENCE):
                    await port.wait()

    def attempt(striker: Striker) -> None:
        ports, waiters = loop.run_until_complete(begin())
        struck(striker, loop, fire(ports, striker))
        seen = loop.run_until_complete(delivered(waiters))
        assert sum(isinstance(event, Struck) for event in seen) <= 1
        loop.run_until_complete(again(ports))
        for port in ports:
            port.close()

    everywhere(stride, attempt)
    loop.close()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("loop", CLOCKS, indirect=True)
def test_both_ends_of_a_channel_work_after(loop: EventLoop, stride: int) -> None:
    """A busy loop is struck, and used again."""

    async def busy(near: Port, far: Port, striker: Striker) -> None:
        async def echo() -> None:
            async for _ in far:
                far.notify()

        echoing = asyncio.create_task(echo())
        for number in range(2):
            if number:
                striker.arm()
            near.notify()
            await near.wait()
        striker.disarm()
        echoing.cancel()

    async def again(near: Port, far: Port) -> None:
        for one, other in ((near, far), (far, near)) * 2:
            for _ in range(2):  # one that was under way, and this one
                one.notify()
                async with asyncio.timeout(PATIENCE):
                    await other.wait()
        leftovers = asyncio.all_tasks() - {asyncio.current_task()}
        for task in leftovers:
            task.cancel()
        async with asyncio.timeout(PATIENCE):
            await asyncio.gather(*leftovers, return_exceptions=True)

    def attempt(striker: Striker) -> None:
        near, far = loop.run_until_complete(channel())
        struck(striker, loop, busy(near, far, striker))
        loop.run_until_complete(again(near, far))
        near.close()
        far.close()

    everywhere(stride, attempt)


@pytest.mark.timeout(600)
@pytest.mark.parametrize("stride", STRIDES)
@pytest.mark.parametrize("loop", CLOCKS, indirect=True)
def test_every_timer_fires_once_and_in_order(loop: EventLoop, stride: int) -> None:
    fired: list[int] = []

    async def sleeps(striker: Striker) -> None:
        when = loop.time() + 0.0005
        for number in range(6):
            timer = loop.call_at(when, fired.append, number)
            if number % 2:
                timer.cancel()
        striker.arm()
        await asyncio.sleep(0.001)

    async def enough() -> None:
        async with asyncio.timeout(PATIENCE):
            while len(fired) < 3:
                await asyncio.sleep(0.0001)
        await asyncio.sleep(0.0001)

    def attempt(striker: Striker) -> None:
        fired.clear()
        struck(striker, loop, sleeps(striker))
        loop.run_until_complete(enough())
        assert fired == [0, 2, 4]

    everywhere(stride, attempt)


@pytest.mark.timeout(600)
@pytest.mark.filterwarnings("ignore::activations.LeakWarning")
@pytest.mark.filterwarnings("ignore:coroutine .* was never awaited:RuntimeWarning")
@pytest.mark.parametrize("stride", [41, pytest.param(4, marks=pytest.mark.long)])
@pytest.mark.parametrize("clock", ["virtual", pytest.param("wall", marks=pytest.mark.once)])
def test_a_machine_ends_in_an_orderly_way(clock: str, stride: int) -> None:
    """Whichever domain runs when it strikes, the exception is what the machine ends with, and
    every domain cleans up before."""
    rounds = 3

    def attempt(striker: Striker) -> None:
        ended: list[str] = []

        async def server(xen: Domain) -> None:
            try:
                with xen.events.alloc_unbound(1) as port:
                    await port.wait()
                    for number in range(rounds):
                        if number == 1:
                            striker.arm()
                        port.notify()
                        await port.wait()
                    striker.disarm()
            finally:
                ended.append(xen.name)

        async def client(xen: Domain) -> None:
            try:
                await asyncio.sleep(0.001)  # the server has allocated by then
                with xen.events.bind_interdomain(0, 2) as port:
                    await port.wait()
                    port.notify()
                    for _ in range(rounds):
                        if striker.armed:
                            striker.arm()
                        await port.wait()
                        port.notify()
            finally:
                ended.append(xen.name)

        machine = Machine(clock=clock)  # type: ignore[arg-type]
        lives = [machine.boot("dom0", server), machine.boot("guest", client)]
        failure = machine.run_out()
        assert isinstance(failure, Struck) == bool(striker.where), failure
        assert sorted(ended) == ["dom0", "guest"]
        assert all(life.loop.is_closed() for life in lives)

    everywhere(stride, attempt)
