"""vchan on the simulated Xen: interleavings, ends, cancellation, and peers that lie."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from struct import pack_into
from types import SimpleNamespace
from typing import Any

import pytest
from anyio import BrokenResourceError, BusyResourceError, ClosedResourceError, EndOfStream
from anyio import create_task_group as anyio_task_group
from anyio.streams.buffered import BufferedByteReceiveStream

from activations import Domain, XenError, vchan
from activations.abi import vchan as abi
from activations.vchan import VchanError, VchanListener, VchanStream
from activations.vchan.stream import FLOW, STINT
from xen_sim import Choice, Machine, Tape

KEY = "data/vchan"
PATH = f"/local/domain/1/{KEY}"

Main = Callable[[Domain], Awaitable[Any]]


def run(dom0: Main, guest: Main, **options: Any) -> dict[str, Any]:
    machine = Machine(**options)
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    return machine.run()


async def received(stream: VchanStream, size: int) -> bytes:
    data = bytearray()
    while len(data) < size:
        data += await stream.receive(size - len(data))
    return bytes(data)


async def to_the_end(stream: VchanStream) -> bytes:
    data = bytearray()
    with suppress(EndOfStream):
        while True:
            data += await stream.receive()
    return bytes(data)


def pair(
    serve: Callable[..., Awaitable[Any]], call: Callable[..., Awaitable[Any]], **options: Any
) -> dict[str, Any]:
    """Run both on the two ends of a vchan with rings of 1 and 2 KiB."""

    async def dom0(xen: Domain) -> Any:
        async with vchan.listen(xen, 1, PATH, left=1024, right=1024) as listener:
            stream = await listener.accept()
        async with stream:
            return await serve(stream)

    async def guest(xen: Domain) -> Any:
        async with await vchan.connect(xen, 0, KEY) as stream:
            return await call(stream)

    return run(dom0, guest, **options)


async def idle(stream: VchanStream) -> bytes:
    return await to_the_end(stream)


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


# Ends


def test_closing_wakes_those_who_wait_on_this_end() -> None:
    async def close_under_waiters(stream: VchanStream) -> list[type]:
        waiters = [
            asyncio.create_task(stream.receive()),
            asyncio.create_task(stream.send(bytes(5000))),
        ]
        await asyncio.sleep(1)
        await stream.aclose()
        return [type(error) for error in await asyncio.gather(*waiters, return_exceptions=True)]

    results = pair(close_under_waiters, lambda stream: asyncio.sleep(5))
    assert results["dom0"] == [ClosedResourceError] * 2


def test_a_closed_stream_says_so_and_closes_twice() -> None:
    async def twice(stream: VchanStream) -> None:
        await stream.aclose()
        await stream.aclose()
        with pytest.raises(ClosedResourceError):
            await stream.receive()
        with pytest.raises(ClosedResourceError):
            await stream.send(b"x")
        assert "closed" in repr(stream)

    pair(twice, idle)
    pair(idle, twice)


def test_a_server_can_close_while_the_client_still_maps_its_pages() -> None:
    """Xen would refuse to take them back: the server waits for the client to let go."""

    async def slow(stream: VchanStream) -> bytes:
        await asyncio.sleep(3)
        return await to_the_end(stream)

    assert pair(lambda stream: stream.send(b"late"), slow)["guest"] == b"late"


def test_a_client_that_never_lets_go_does_not_hang_the_server() -> None:
    async def dom0(xen: Domain) -> None:
        async with vchan.listen(xen, 1, PATH) as listener:
            stream = await listener.accept()
        before = xen.loop.time()
        with pytest.raises(XenError, match="mapped by domain 1"):
            await stream.aclose()
        assert 10 <= xen.loop.time() - before < 11
        await xen.store.write(f"{PATH}/go", 1)
        while xen.grants.open:  # which the server is left with
            await asyncio.sleep(1)
            with suppress(XenError):
                xen.grants.close()

    async def guest(xen: Domain) -> None:
        async with await vchan.connect(xen, 0, KEY):
            await xen.store.wait_for(f"{KEY}/go")

    run(dom0, guest)


# The other end dies


class Deadly(Tape):
    """Kills a domain before the next step that anybody takes, once it is told to."""

    def __init__(self, victim: str) -> None:
        self._fate = f"{victim} killed"
        self.now = False

    def choose(self, choice: Choice) -> int:
        if self.now and self._fate in choice.options:
            self.now = False
            return choice.options.index(self._fate)
        return 0


def deadly(dom0: Main, guest: Main, tape: Deadly) -> dict[str, Any]:
    machine = Machine(tape=tape, explore=True, faults="domains:killed")
    machine.boot("dom0", dom0, restart=True)
    machine.boot("guest", guest)
    return machine.run()


async def for_ever(stream: VchanStream) -> None:
    await asyncio.Event().wait()


@pytest.mark.parametrize("serves", [True, False], ids=["dom0 serves", "the guest serves"])
def test_dom0_is_told_that_the_other_end_s_domain_was_destroyed(serves: bool) -> None:
    """Which tells nobody itself: its live byte stays as it is, and no event comes."""
    tape = Deadly("guest")

    async def told(stream: VchanStream) -> bytes:
        tape.now = True
        came = await to_the_end(stream)
        with pytest.raises(BrokenResourceError, match="has closed"):
            await stream.send(b"x")
        return came

    async def says_a_word_and_hangs(stream: VchanStream) -> None:
        await stream.send(b"word")
        await asyncio.Event().wait()

    async def server(xen: Domain, other: int, path: str, do: Any) -> Any:
        async with vchan.listen(xen, other, path) as listener, await listener.accept() as stream:
            return await do(stream)

    async def dom0(xen: Domain) -> Any:
        guest = await xen.find("guest")
        if serves:
            return await server(xen, guest, PATH, told)
        async with await vchan.connect(xen, guest, PATH) as stream:
            return await told(stream)

    async def guest(xen: Domain) -> None:
        if not serves:
            await server(xen, 0, KEY, says_a_word_and_hangs)
        async with await vchan.connect(xen, 0, KEY) as stream:
            await says_a_word_and_hangs(stream)

    assert deadly(dom0, guest, tape)["dom0"] in (b"", b"word")


def test_dom0_is_told_by_a_xenstored_that_came_after_the_vchan() -> None:
    """The one that watched is gone, and its watches with it."""
    tape = Deadly("guest")

    async def dom0(xen: Domain) -> bytes:
        async with await vchan.connect(xen, await xen.find("guest"), PATH) as stream:
            await xen.store.list("/")  # by now it watches
            xen.store.lost(None)
            await xen.store.list("/")
            tape.now = True
            return await to_the_end(stream)

    async def guest(xen: Domain) -> None:
        async with vchan.listen(xen, 0, KEY) as listener:
            await for_ever(await listener.accept())

    assert deadly(dom0, guest, tape)["dom0"] == b""


@pytest.mark.parametrize("serves", [True, False], ids=["it served", "it was the client"])
def test_a_guest_is_told_that_dom0_s_program_has_died(serves: bool) -> None:
    """By dom0's kernel, whichever end had granted the pages."""
    tape = Deadly("dom0")

    async def dom0(xen: Domain) -> None:
        guest = await xen.find("guest")
        if serves:
            async with vchan.listen(xen, guest, PATH) as listener:
                await for_ever(await listener.accept())
        await for_ever(await vchan.connect(xen, guest, PATH))

    async def told(stream: VchanStream) -> bytes:
        tape.now = True
        return await to_the_end(stream)

    async def guest(xen: Domain) -> bytes:
        if serves:
            async with await vchan.connect(xen, 0, KEY) as stream:
                return await told(stream)
        async with vchan.listen(xen, 0, KEY) as listener, await listener.accept() as stream:
            return await told(stream)

    assert deadly(dom0, guest, tape)["guest"] == b""


def test_no_end_of_file_for_one_direction_alone() -> None:
    async def try_it(stream: VchanStream) -> None:
        with pytest.raises(NotImplementedError, match="one direction"):
            await stream.send_eof()

    pair(try_it, idle)


def test_suspend_breaks_the_stream() -> None:
    machine = Machine()

    async def dom0(xen: Domain) -> None:
        async with vchan.listen(xen, 1, PATH) as listener:
            stream = await listener.accept()
        async with stream:
            await asyncio.sleep(5)  # nobody tells this end

    async def guest(xen: Domain) -> None:
        async with await vchan.connect(xen, 0, KEY) as stream:
            waiting = asyncio.create_task(stream.receive())
            await asyncio.sleep(1)
            xen.loop.call_soon(machine.suspend, xen.loop)
            with pytest.raises(BrokenResourceError, match="suspended"):
                await waiting

    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    machine.run()


def test_a_server_cancelled_as_it_closes_still_takes_its_pages_back() -> None:
    async def dom0(xen: Domain) -> None:
        async with vchan.listen(xen, 1, PATH) as listener:
            stream = await listener.accept()
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(1):
                await stream.aclose()
        assert xen.grants.open
        await asyncio.sleep(3)
        assert not xen.grants.open

    run(dom0, lambda xen: hold(xen, 2))


def test_a_server_that_ends_as_it_closes_takes_back_what_it_can() -> None:
    async def dom0(xen: Domain) -> None:
        async with vchan.listen(xen, 1, PATH) as listener:
            stream = await listener.accept()
        closing = asyncio.create_task(stream.aclose())
        await asyncio.sleep(1.99)
        closing.cancel()
        while not await xen.store.exists(f"{PATH}/gone"):
            pass  # no time passes

    run(dom0, lambda xen: hold(xen, 2))


async def hold(xen: Domain, seconds: float) -> None:
    """Connect, and let go after a while."""
    async with await vchan.connect(xen, 0, KEY):
        await asyncio.sleep(seconds)
    await xen.store.write(f"{KEY}/gone", 1)


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


# A server that lies


def lie(page: Callable[[memoryview], None], **nodes: str) -> Exception:
    """What the client says to a server made by hand, which writes this and these nodes."""

    async def dom0(xen: Domain) -> None:
        with xen.events.alloc_unbound(1) as port, xen.grants.share(1) as control:
            control.memory[abi.SRV_LIVE] = 1
            pack_into("<HH", control.memory, abi.ORDERS_AT, 10, 11)
            page(control.memory)
            said = {"ring-ref": str(control.refs[0]), "event-channel": str(port.number), **nodes}
            for node, value in said.items():
                await xen.store.write(f"{PATH}/{node}", value)
            await xen.store.wait_for(f"{PATH}/done")

    async def guest(xen: Domain) -> Exception:
        try:
            with pytest.raises((VchanError, XenError)) as caught:
                async with await vchan.connect(xen, 0, KEY) as stream:
                    await stream.send(b"x")
                    await stream.receive()
            assert not xen.grants.open
            return caught.value
        finally:
            await xen.store.write(f"{KEY}/done", 1)

    error: Exception = run(dom0, guest)["guest"]
    return error


def orders(left: int, right: int) -> Callable[[memoryview], None]:
    return lambda page: pack_into("<HH", page, abi.ORDERS_AT, left, right)


@pytest.mark.parametrize("wrong", [(0, 0), (10, 10), (12, 21), (0xFFFF, 11), (10, 20)])
def test_orders_that_cannot_be(wrong: tuple[int, int]) -> None:
    assert isinstance(lie(orders(*wrong)), VchanError)


def test_references_that_were_not_granted() -> None:
    assert isinstance(lie(orders(20, 20)), XenError)


@pytest.mark.parametrize("said", ["", "-1", "one", "1 2", "99999999999", "\u0663"])
@pytest.mark.parametrize("node", ["ring-ref", "event-channel"])
def test_nodes_that_are_no_numbers(node: str, said: str) -> None:
    error = lie(lambda page: None, **{node: said})
    assert isinstance(error, VchanError)
    assert node in str(error)


@pytest.mark.parametrize("node", ["ring-ref", "event-channel"])
def test_numbers_that_name_nothing(node: str) -> None:
    assert isinstance(lie(lambda page: None, **{node: "777"}), XenError)


@pytest.mark.parametrize("at", [abi.LEFT_PROD, abi.RIGHT_PROD])
def test_indices_further_apart_than_the_ring(at: int) -> None:
    error = lie(lambda page: pack_into("<I", page, at, 0x8000_0000))
    assert isinstance(error, VchanError)
    assert "broke the ring" in str(error)


def test_an_offer_whose_server_is_gone() -> None:
    async def dom0(xen: Domain) -> None:
        with xen.events.alloc_unbound(1) as port, xen.grants.share(1) as control:
            await xen.store.write(f"{PATH}/ring-ref", control.refs[0])
            number = port.number
        await xen.store.write(f"{PATH}/event-channel", number)

    async def guest(xen: Domain) -> None:
        with pytest.raises(XenError, match="bind_interdomain"):
            await vchan.connect(xen, 0, KEY)

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
