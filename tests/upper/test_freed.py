"""A loop that is closed is freed at once, with its machine: it leaves the garbage collector
nothing, as asyncio's own leaves nothing."""

from __future__ import annotations

import asyncio
import gc
import weakref
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from support.served_store import served_store

import activations
from activations import Domain, EventLoop
from xen_sim import Machine

Use = Callable[[Domain], Awaitable[object]]


@pytest.fixture(autouse=True)
def collected_by_hand() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def garbage(make: Callable[[], Any], use: Callable[[Any], Any]) -> int:
    """How many objects the garbage collector finds of a loop that was made, used and closed. The
    first time round what is kept is made: imports, and caches."""
    for _ in range(2):
        gc.collect()
        loop = make()
        loop.run_until_complete(use(loop))
        loop.close()
        gone = weakref.ref(loop)
        del loop
    assert gone() is None
    return gc.collect()


async def timers(xen: Any) -> None:
    xen.loop.call_later(1000, print)
    await asyncio.gather(*(asyncio.sleep(0.001) for _ in range(3)))


async def store(xen: Domain) -> None:
    async with xen.store.watch("/tool") as changes:
        await xen.store.write("/tool/word", "word")
        await anext(changes)


async def ports(xen: Domain) -> None:
    with (
        xen.events.alloc_unbound(xen.domid) as one,
        xen.events.bind_interdomain(xen.domid, one.number) as other,
    ):
        other.notify()
        await one.wait()


async def grants(xen: Domain) -> None:
    with xen.grants.share(0) as page:
        page.memory[0] = 1


async def is_cancelled(xen: Any) -> None:
    task = asyncio.create_task(asyncio.sleep(1000))
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


class Stock:
    """What asyncio's loop is asked, with the name by which ours has it."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.loop = loop


@pytest.mark.parametrize("use", [timers, is_cancelled])
def test_asyncios_own_leaves_nothing(use: Use) -> None:
    assert garbage(asyncio.new_event_loop, lambda loop: use(Stock(loop))) == 0  # type: ignore[arg-type]


@pytest.mark.parametrize("use", [timers, is_cancelled, store, ports, grants])
@pytest.mark.parametrize("clock", ["virtual", "wall"])
def test_neither_does_ours(clock: Any, use: Use) -> None:
    def make() -> EventLoop:
        return activations.new_event_loop(clock=clock)

    assert garbage(make, lambda loop: use(loop.domain)) == 0


@pytest.mark.parametrize("use", [timers, is_cancelled])
def test_nor_that_of_a_domain_of_xens(
    use: Use, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """But for xenstore: who serves that here is in this process, on asyncio's transports, which
    are garbage."""
    with served_store(tmp_path, monkeypatch) as make:
        assert garbage(make, lambda loop: use(loop.domain)) == 0


def test_nor_do_several_on_one_machine() -> None:
    def play() -> int:
        gc.collect()
        machine = Machine()
        loops = [machine.create(name) for name in ("dom0", "guest")]
        for loop in loops:
            loop.run_until_complete(ports(loop.domain))
        for loop in loops:
            loop.close()
        del machine, loops, loop
        return gc.collect()

    assert [play(), play()][-1] == 0


def test_a_domain_whose_loop_is_gone_says_so() -> None:
    loop = activations.new_event_loop()
    domain = loop.domain
    assert domain.loop is loop
    loop.close()
    del loop
    with pytest.raises(RuntimeError, match="the event loop of <Domain 0 'dom0'> is gone"):
        _ = domain.loop
