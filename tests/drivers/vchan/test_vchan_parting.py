"""How a vchan ends, from either side: closed, died, suspended, cancelled."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from typing import Any

import pytest
from anyio import BrokenResourceError, ClosedResourceError
from support.vchan_ends import KEY, PATH, Main, idle, pair, run, to_the_end

from activations import Domain, XenError, vchan
from activations.vchan import VchanStream
from xen_sim import Choice, Machine, Tape

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
