"""vchan on the simulated Xen: interleavings, cancellation, use as anyio means it."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from struct import pack_into
from types import SimpleNamespace
from typing import Any

import pytest
from anyio import BusyResourceError, ClosedResourceError
from anyio import create_task_group as anyio_task_group
from anyio.streams.buffered import BufferedByteReceiveStream
from support.vchan_ends import KEY, PATH, idle, pair, received, run, to_the_end

from activations import Domain, XenError, vchan
from activations.vchan import VchanListener, VchanStream
from activations.vchan.stream import FLOW, STINT

# Every order, and every index


async def exchange(stream: VchanStream) -> bytes:
    async with asyncio.TaskGroup() as group:
        group.create_task(stream.send(bytes(range(256)) * 20))
        data = await received(stream, 5120)
    return data


@pytest.mark.parametrize("seed", range(40))
def test_both_directions_at_once_wherever_a_vcpu_is_preempted(seed: int) -> None:
    """A wake-up that is lost would leave both asleep: BlockedForever."""
    results = pair(exchange, exchange, seed=seed, explore=True)
    assert results["dom0"] == results["guest"] == bytes(range(256)) * 20


@pytest.mark.parametrize("index", [2**31 - 5, 2**32 - 1, 2**32 - 700, 2**32 - 2048])
def test_indices_that_begin_just_below_their_wrap(index: int) -> None:
    async def dom0(xen: Domain) -> bytes:
        async with vchan.listen(xen, 1, PATH, left=1024, right=4096) as listener:
            control = xen.grants.open[0]
            pack_into("<4I", control.memory, 0, *[index] * 4)
            await xen.store.write(f"{PATH}/go", 1)
            stream = await listener.accept()
        async with stream:
            return await exchange(stream)

    async def guest(xen: Domain) -> bytes:
        await xen.store.wait_for(f"{KEY}/go")
        async with await vchan.connect(xen, 0, KEY) as stream:
            return await exchange(stream)

    assert set(run(dom0, guest).values()) == {bytes(range(256)) * 20}


# Cancellation, and use as anyio means it


def test_a_cancelled_receive_has_taken_nothing() -> None:
    async def impatient(stream: VchanStream) -> bytes:
        data = bytearray()
        while len(data) < 20:
            with suppress(TimeoutError):
                async with asyncio.timeout(0.0015):
                    data += await stream.receive(1)
        return bytes(data)

    async def steady(stream: VchanStream) -> None:
        for number in range(20):
            await stream.send(bytes([number]))
            await asyncio.sleep(0.001)
        await to_the_end(stream)

    for seed in range(10):
        assert pair(impatient, steady, seed=seed)["dom0"] == bytes(range(20))


def test_one_receiver_and_one_sender_at_a_time() -> None:
    async def crowd(stream: VchanStream) -> None:
        for operate in (stream.receive, lambda: stream.send(bytes(9000))):
            first = asyncio.create_task(operate())
            await asyncio.sleep(1)
            with pytest.raises(BusyResourceError):
                await operate()
            first.cancel()
            with suppress(asyncio.CancelledError):
                await first

    pair(crowd, lambda stream: asyncio.sleep(5))


def test_operations_that_need_not_wait_let_other_tasks_run_all_the_same() -> None:
    async def busy(stream: VchanStream) -> int:
        turns = 0

        async def other() -> None:
            nonlocal turns
            while True:
                turns += 1
                await asyncio.sleep(0)

        task = asyncio.create_task(other())
        for _ in range(10 * STINT):
            await stream.send(b"x")
        task.cancel()
        return turns

    assert 9 <= pair(busy, idle)["dom0"] <= 11


class Told:
    """An end that finds what it is told to, and notes when it asks to be told."""

    peer_left = False

    def __init__(self, *found: bytes) -> None:
        self._found = list(found)
        self.asked = 0

    def read(self, limit: int) -> bytes:
        return self._found.pop(0)

    def ask(self, about: object) -> None:
        self.asked += 1


@pytest.mark.parametrize(
    ("found", "asked"),
    [((bytes(FLOW), b"", b"", b"more"), 0), ((bytes(FLOW - 1), b"", b"more"), 1)],
    ids=["much", "little"],
)
def test_a_receiver_looks_again_before_it_asks_where_much_came_at_once(
    found: tuple[bytes, ...], asked: int
) -> None:
    end = Told(*found)
    link: Any = SimpleNamespace(end=end, closed=False)

    async def twice() -> bytes:
        stream = VchanStream(link, 0)
        await stream.receive()
        return await stream.receive()

    assert asyncio.run(twice()) == b"more"
    assert end.asked == asked


def test_it_takes_any_buffer_and_limits_what_it_gives() -> None:
    async def serve(stream: VchanStream) -> None:
        await stream.send(bytearray(b"ab"))
        await stream.send(memoryview(b"--cd--")[2:4])
        await stream.send(b"")

    async def call(stream: VchanStream) -> bytes:
        with pytest.raises(ValueError, match="max_bytes=0"):
            await stream.receive(0)
        assert await stream.receive(1) == b"a"
        return await to_the_end(stream)

    assert pair(serve, call)["guest"] == b"bcd"


def test_anyio_s_wrappers_work_on_it() -> None:
    async def serve(stream: VchanStream) -> None:
        await stream.send(b"one\ntwo\n" + bytes(3000) + b"\n")

    async def call(stream: VchanStream) -> list[bytes]:
        lines = BufferedByteReceiveStream(stream)
        return [await lines.receive_until(b"\n", 5000) for _ in range(3)]

    assert pair(serve, call)["guest"] == [b"one", b"two", bytes(3000)]


def test_a_listener_serves_as_anyio_s_do() -> None:
    async def dom0(xen: Domain) -> None:
        async def echo(stream: VchanStream) -> None:
            async with stream:
                await stream.send(await stream.receive())

        async with vchan.listen(xen, 1, PATH) as listener, anyio_task_group() as group:
            group.start_soon(listener.serve, echo)
            await xen.store.wait_for(f"{PATH}/enough")
            group.cancel_scope.cancel()
        assert not await xen.store.exists(f"{PATH}/ring-ref")
        await xen.store.write("/local/domain/1/data/seen", 1)

    async def guest(xen: Domain) -> list[bytes]:
        streams = [await vchan.connect(xen, 0, KEY) for _ in range(3)]  # all at once
        said = []
        for number, stream in enumerate(streams):
            async with stream:
                await stream.send(b"%d" % number)
                said.append(await stream.receive())
        await xen.store.write(f"{KEY}/enough", 1)
        await xen.store.wait_for("data/seen")  # else the next offer would be to nobody
        return said

    assert run(dom0, guest)["guest"] == [b"0", b"1", b"2"]


def test_closing_a_listener_wakes_who_accepts() -> None:
    async def dom0(xen: Domain) -> None:
        async with vchan.listen(xen, 1, PATH) as listener:
            accepting = asyncio.create_task(listener.accept())
            await asyncio.sleep(1)
            await listener.aclose()
            with pytest.raises(ClosedResourceError):
                await accepting
            with pytest.raises(ClosedResourceError):
                await listener.accept()

    async def guest(xen: Domain) -> None:
        await asyncio.sleep(2)

    run(dom0, guest)


def test_an_offer_that_xenstore_refuses_leaves_nothing() -> None:
    async def dom0(xen: Domain) -> None:
        await asyncio.sleep(2)

    async def guest(xen: Domain) -> None:
        with pytest.raises(XenError, match="/local/domain/0"):
            async with vchan.listen(xen, 0, "/local/domain/0/vchan"):
                pass
        assert not xen.grants.open

    run(dom0, guest)


def test_what_things_are_called() -> None:
    async def look(stream: VchanStream) -> tuple[str, int]:
        return repr(stream), stream.domid

    async def dom0(xen: Domain) -> str:
        async with vchan.listen(xen, 1, PATH) as listener:
            assert isinstance(listener, VchanListener)
            said = repr(listener)
            stream = await listener.accept()
        async with stream:
            assert await look(stream) == ("<VchanStream with domain 1: port 2>", 1)
        return said

    async def guest(xen: Domain) -> None:
        async with await vchan.connect(xen, 0, KEY) as stream:
            await to_the_end(stream)

    said = run(dom0, guest)["dom0"]
    assert said == "<VchanListener /local/domain/1/data/vchan for domain 1: open>"
