"""What recording costs: the same program on a stand-in for Linux's device, recorded and not.

All that is left there is Python: on a real Xen each of these makes system calls besides, which cost
the same either way. The file's bytes are made, and thrown away.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from struct import Struct
from typing import Any

from checkout import Checkout
from measure import Ours, Table, clock
from support.linux_fakes import FakeEventDevice

MANY = 5_000
ENTRY = 112
"""Bytes of a request to a disk."""
_INDEX = Struct("<I")
RSP_PROD = 8
ENTRIES = 64


class Pages:
    """Pages that another domain writes."""

    def __init__(self, domid: int, refs: Sequence[int]) -> None:
        self.domid, self.refs = domid, tuple(refs)
        self.bytes = bytearray(4096 * len(refs))
        self.memory = memoryview(self.bytes)

    def close(self) -> None:
        self.memory.release()


class StandIn:
    """What is below the lower half, and what the peer does there."""

    def __init__(self) -> None:
        self.device = FakeEventDevice()
        self.made: list[Pages] = []

    def share(self, domid: int, pages: int, writable: bool) -> Pages:
        self.made.append(Pages(domid, range(8, 8 + pages)))
        return self.made[-1]

    def close(self) -> None:
        """It is a grant table, too."""

    def answer(self, number: int) -> None:
        """A response to the request of this number, in its place."""
        page = self.made[0].bytes
        at = ENTRIES + number % 32 * ENTRY
        _INDEX.pack_into(page, at, number)
        _INDEX.pack_into(page, RSP_PROD, number + 1)


Program = Callable[[Any, StandIn], Coroutine[Any, Any, None]]


async def rounds(xen: Any, below: StandIn) -> None:
    with xen.events.alloc_unbound(1) as port:
        for _ in range(MANY):
            port.notify()
            below.device.fire(port.number)
            await port.wait()


async def turns(xen: Any, below: StandIn) -> None:
    for _ in range(MANY):
        await asyncio.sleep(0)


async def requests(xen: Any, below: StandIn) -> None:
    """Put, published, answered, told by an event, taken, and the next one awaited."""
    await _requests(xen, below, 1)


async def many_requests(xen: Any, below: StandIn) -> None:
    """As many at once as a driver has that is busy."""
    await _requests(xen, below, 20)


async def _requests(xen: Any, below: StandIn, at_once: int) -> None:
    from activations.sring import FrontRing

    with xen.grants.share(1) as pages, xen.events.alloc_unbound(1) as port:
        ring = FrontRing(pages.memory, ENTRY)
        request = bytes(ENTRY)
        for begun in range(0, MANY, at_once):
            for _ in range(at_once):
                ring.put(request)
            if ring.push():
                port.notify()
            for number in range(begun, begun + at_once):
                below.answer(number)
            below.device.fire(port.number)
            await port.wait()
            while ring.take() is not None:
                pass
            ring.idle()
        ring.release()


async def reads(xen: Any, below: StandIn) -> None:
    """A turn, and 64 bytes and a word of a page."""
    with xen.grants.share(1) as pages:
        memory, page = pages.memory, below.made[0].bytes
        for number in range(MANY):
            _INDEX.pack_into(page, 128, number)
            memory[100]
            bytes(memory[128:192])
            await asyncio.sleep(0)


def plain(program: Program) -> Ours:
    def run(tree: Checkout) -> float:
        return _timed(program, None)

    return run


def recorded(program: Program) -> Ours:
    def run(tree: Checkout) -> float:
        from activations.recording.session import Recorder

        with Recorder(_nowhere, "it", "", "dom0").running() as recorder:
            return _timed(program, recorder)

    return run


def _nowhere(data: bytes) -> None:
    """The file's bytes go here."""


def _timed(program: Program, recorder: Any) -> float:
    """Seconds of a program. Of what a recording writes the last frame is not among them, which is
    not full: it is one of some."""
    from activations import EventLoop
    from activations.running import program as whole
    from xen_linux.lower import LinuxLowerHalf

    below = StandIn()
    table: Any = below
    lower = LinuxLowerHalf(0, "dom0", below.device, table)
    make = EventLoop if recorder is None else recorder.make_loop
    with asyncio.Runner(loop_factory=lambda: make(lower)) as runner:
        loop: Any = runner.get_loop()
        began = clock()
        runner.run(whole(lambda xen: program(xen, below), loop.domain))
        return clock() - began


def table(program: Program, what: str) -> Table:
    contenders = {"plain": plain(program), "recorded": recorded(program)}
    return Table(MANY, f"µs a {what}", contenders, rounds=9)


TABLES = {
    "Recording a round of notify and wait": table(rounds, "round"),
    "Recording a turn of the loop": table(turns, "turn"),
    "Recording a request through a ring": table(requests, "request"),
    "Recording requests through a ring, 20 an event": table(many_requests, "request"),
    "Recording a turn that reads a page": table(reads, "turn"),
}
