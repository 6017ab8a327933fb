"""The console on the simulated Xen: its page, every index, ends, and an end that lies."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from random import Random
from struct import pack_into, unpack_from
from types import SimpleNamespace
from typing import Any

import pytest
from anyio import (
    BrokenResourceError,
    BusyResourceError,
    ClosedResourceError,
    EndOfStream,
)
from hypothesis import given
from hypothesis import strategies as st

from activations import Domain, XenError
from activations.abi import console as abi
from activations.drivers import console
from activations.drivers.console import BACK, FRONT, Console, Line
from activations.ring import RingError
from activations.xenbus import BackEnd, Device, Phase, front_device, plug, unplug
from xen_sim import Machine

KIND = "console"
NEAR_THE_WRAP = [0, 1, 2**31 - 1, 2**32 - 2049, 2**32 - 7, 2**32 - 1]


def lines(index: int = 0) -> tuple[Line, Line, bytearray, list[str]]:
    """A front end and a back end on one page, indices beginning there; and what was sent."""
    page, events = bytearray(4096), []
    pack_into("<4I", page, abi.IN_CONS, *[index] * 4)

    def line(places: Any, name: str) -> Line:
        grant: Any = SimpleNamespace(memory=memoryview(page))
        port: Any = SimpleNamespace(notify=lambda: events.append(name), close=lambda: None)
        return Line(places, grant, port)

    return line(FRONT, "front"), line(BACK, "back"), page, events


# The page


def test_the_page_as_xen_lays_it_out() -> None:
    front, back, page, _ = lines()
    assert front.write(memoryview(b"printed")) == 7
    assert back.write(memoryview(b"typed")) == 5
    assert page[1024:1031] == b"printed"
    assert page[:5] == b"typed"
    assert unpack_from("<4I", page, 3072) == (0, 5, 0, 7), "in: cons, prod; out: cons, prod"
    assert back.read(3) == b"pri"
    assert unpack_from("<4I", page, 3072) == (0, 5, 3, 7)


def test_whoever_has_read_or_written_sends_an_event() -> None:
    front, back, _, events = lines()
    front.write(memoryview(b"x"))
    back.read()
    assert events == ["front", "back"]
    assert not back.read()
    assert front.write(memoryview(bytes(3000))) == 2048
    assert not front.write(memoryview(b"x"))
    assert events == ["front", "back", "front"], "and not for nothing"


@given(
    index=st.sampled_from(NEAR_THE_WRAP) | st.integers(0, 2**32 - 1),
    steps=st.lists(st.tuples(st.booleans(), st.integers(0, 2500)), max_size=30),
)
def test_bytes_pass_in_order_wherever_the_indices_begin(
    index: int, steps: list[tuple[bool, int]]
) -> None:
    front, back, _, _ = lines(index)
    noise, printed, heard = Random(1), bytearray(), bytearray()
    for writes, size in steps:
        if writes:
            data = noise.randbytes(size)
            printed += data[: front.write(memoryview(data))]
        else:
            heard += back.read(size)
    assert heard + back.read() == printed


@given(cons=st.integers(0, 2**32 - 1), prod=st.integers(0, 2**32 - 1))
def test_indices_that_cannot_be_are_told_of_and_nothing_else_happens(cons: int, prod: int) -> None:
    _, back, page, _ = lines()
    pack_into("<2I", page, abi.OUT_CONS, cons, prod)
    before = bytes(page)
    if (prod - cons) % 2**32 <= abi.OUT_SIZE:
        assert len(back.read()) == (prod - cons) % 2**32
        assert not back.broken.is_set()
    else:
        with pytest.raises(RingError, match="the other end of the console"):
            back.read()
        assert back.broken.is_set()
        assert page == before


# Two domains


def run(
    dom0: Callable[[Domain], Any], guest: Callable[[Domain], Any], seed: int | None = None
) -> dict[str, Any]:
    machine = Machine(seed=seed)
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    return machine.run()


def pair(serve: Callable[[Console], Any], use: Callable[[Console], Any]) -> dict[str, Any]:
    """A guest's console, and what each end does with it."""

    async def dom0(xen: Domain) -> Any:
        device = Device(KIND, 1, 1, 0)
        await plug(xen, device)
        async with console.serve(xen, device) as tty:
            result = await serve(tty)
            await xen.store.wait_for(f"{device.front_path}/done")
        await unplug(xen, device)
        assert not xen.grants.open
        return result

    async def guest(xen: Domain) -> Any:
        device = await front_device(xen, KIND, 1)
        async with console.open(xen, device) as tty:
            result = await use(tty)
            await xen.store.write(f"{device.front_path}/done", 1)
        return result

    return run(dom0, guest)


async def received(tty: Console, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += await tty.receive(size - len(data))
    return bytes(data)


async def nothing(tty: Console) -> None:
    pass


@pytest.mark.parametrize("index", NEAR_THE_WRAP)
def test_a_page_that_a_guest_grants_by_hand(index: int) -> None:
    """As the toolstack does before a guest boots; indices need not begin at 0."""

    async def dom0(xen: Domain) -> bytes:
        folder = "/local/domain/1/data"
        number = int(await xen.store.wait_for(f"{folder}/port"))
        ref = int(await xen.store.read(f"{folder}/ring-ref"))
        async with console.serve_page(xen, 1, ref, number) as tty:
            data = await received(tty, 5000)
            await tty.send(data)
            await xen.store.wait_for(f"{folder}/done")
        return data

    async def guest(xen: Domain) -> bytes:
        with xen.grants.share(0) as page, xen.events.alloc_unbound(0) as port:
            pack_into("<4I", page.memory, abi.IN_CONS, *[index] * 4)
            tty = Console()
            tty.connect(Line(FRONT, page, port))
            await xen.store.write("data/ring-ref", page.refs[0])
            await xen.store.write("data/port", port.number)
            await tty.send(bytes(range(250)) * 20)
            data = await received(tty, 5000)
            await tty.aclose()
            await xen.store.write("data/done", 1)
            await asyncio.sleep(1)  # the back end unmaps the page
        return data

    results = run(dom0, guest)
    assert results["dom0"] == results["guest"] == bytes(range(250)) * 20


def test_a_first_console_is_granted_under_the_reserved_reference() -> None:
    """Which no guest of the simulator has: its toolstack makes no consoles."""

    async def dom0(xen: Domain) -> None:
        await xen.store.write("/local/domain/1/console/port", 5)
        with pytest.raises(XenError, match="reference 0"):
            async with console.serve_first(xen, 1):
                pass
        assert not xen.grants.open

    async def guest(xen: Domain) -> None:
        await asyncio.sleep(1)

    run(dom0, guest)


def test_what_a_front_end_printed_last_is_read_after_it_has_gone() -> None:
    async def dom0(xen: Domain) -> bytes:
        device = Device(KIND, 1, 1, 0)
        await plug(xen, device)
        async with console.serve(xen, device) as tty:
            await xen.store.wait_for("/local/domain/1/data/gone")
            data = await tty.receive(4) + await tty.receive()
        await unplug(xen, device)
        return data

    async def guest(xen: Domain) -> None:
        device = await front_device(xen, KIND, 1)
        async with console.open(xen, device) as tty:
            await tty.send(b"last words")
        await xen.store.write("data/gone", 1)

    assert run(dom0, guest)["dom0"] == b"last words"


@pytest.mark.parametrize("seed", range(40))
def test_ends_that_leave_at_the_same_moment_part_at_once(seed: int) -> None:
    async def dom0(xen: Domain) -> float:
        device = Device(KIND, 1, 1, 0)
        await plug(xen, device)
        async with console.serve(xen, device) as tty:
            await tty.receive()
            await tty.send(b"now")
            began = xen.loop.time()
        return xen.loop.time() - began

    async def guest(xen: Domain) -> float:
        device = await front_device(xen, KIND, 1)
        async with console.open(xen, device) as tty:
            await tty.send(b"ready")
            await tty.receive()
            began = xen.loop.time()
        took = xen.loop.time() - began
        await asyncio.sleep(20)  # the device stays as long as its domain
        return took

    assert max(run(dom0, guest, seed=seed).values()) < 1


def test_a_front_end_that_breaks_the_ring_is_told_of_and_its_device_closed() -> None:
    async def dom0(xen: Domain) -> None:
        device = Device(KIND, 1, 1, 0)
        await plug(xen, device)
        driver = console.ConsoleBack(xen, device)
        async with BackEnd(xen, device, driver) as end:
            with pytest.raises(RingError, match="the other end of the console"):
                await driver.console.receive()
            await end.reached(Phase.FAILED)
            assert "broke its ring" in end.failure
            await driver.console.aclose()
        assert not xen.grants.open

    async def guest(xen: Domain) -> None:
        device = await front_device(xen, KIND, 1)
        async with console.open(xen, device) as tty:
            await tty.send(b"x")
            pack_into("<I", xen.grants.open[0].memory, abi.OUT_PROD, 1 << 20)
            xen.events.ports[max(xen.events.ports)].notify()
            with pytest.raises((EndOfStream, TimeoutError)):
                async with asyncio.timeout(30):
                    await tty.receive()

    run(dom0, guest)


def test_closing_ends_those_who_wait() -> None:
    async def close_under_waiters(tty: Console) -> list[type]:
        waiters = [
            asyncio.create_task(tty.receive()),
            asyncio.create_task(tty.send(bytes(9000))),
        ]
        await asyncio.sleep(1)
        await tty.aclose()
        assert "closed" in repr(tty)
        return [type(error) for error in await asyncio.gather(*waiters, return_exceptions=True)]

    assert pair(nothing, close_under_waiters)["guest"] == [ClosedResourceError] * 2


def test_one_receiver_and_one_sender_at_a_time() -> None:
    async def crowd(tty: Console) -> None:
        for operate in (tty.receive, lambda: tty.send(bytes(9000))):
            first = asyncio.create_task(operate())
            await asyncio.sleep(1)
            with pytest.raises(BusyResourceError):
                await operate()
            first.cancel()
            await asyncio.wait([first])

    pair(nothing, crowd)


def test_a_console_has_no_end_of_file_and_receives_at_least_a_byte() -> None:
    async def try_it(tty: Console) -> None:
        with pytest.raises(NotImplementedError, match="type one"):
            await tty.send_eof()
        with pytest.raises(ValueError, match="max_bytes=0"):
            await tty.receive(0)

    pair(nothing, try_it)


def test_suspend_breaks_the_console() -> None:
    machine = Machine()

    async def guest(xen: Domain) -> None:
        with xen.grants.share(0) as page:
            tty = Console()
            tty.connect(Line(FRONT, page, xen.events.alloc_unbound(0)))
            xen.loop.call_later(1, machine.suspend, xen.loop)
            with pytest.raises(BrokenResourceError, match="suspended"):
                await tty.receive()
            await tty.aclose()

    machine.boot("guest", guest)
    machine.run()
