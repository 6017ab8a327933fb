"""The two halves that events go between: how they meet, and what the other one does.

The caller allocates ports, writes them on a board in pages that it grants, and says in its own home
which pages those are. The other half waits for that, maps the board, binds the ports, and says on
the board that it is ready. As it goes, however it does, its mapping clears a byte of the board and
sends an event: so the caller, which must not take its pages back while they are mapped, knows.

Within one domain the two are tasks, and the board is plain memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager, suppress
from dataclasses import dataclass

from activations.abi.xenstore_paths import home
from activations.domain import Domain
from activations.evtchn.board import PAGE, Board, Kind
from activations.evtchn.errors import HalfMissing
from activations.port import Port
from activations.store import StoreError

PATIENCE = 60.0
"""Seconds in which the other half has to come, by default."""
PARTING = 10.0
"""Seconds that it is given to go."""


@dataclass(frozen=True, slots=True)
class Channels:
    """What the caller has: its ports, and the board."""

    board: Board
    ports: list[Port]
    peer: str
    """Where the other ends are: `dom0 itself`, `domain 3`."""


# The caller


@asynccontextmanager
async def to_itself(xen: Domain, kind: Kind, count: int) -> AsyncIterator[Channels]:
    """Channels whose other ends are in this very domain. Raises `XenError` where Xen refuses."""
    with ExitStack() as ports:
        near = [ports.enter_context(xen.events.alloc_unbound(xen.domid)) for _ in range(count)]
        board = Board(bytearray(PAGE * Board.pages(count)))
        board.begin(kind, [port.number for port in near])
        far = [
            ports.enter_context(xen.events.bind_interdomain(xen.domid, port.number))
            for port in near
        ]
        answering = asyncio.create_task(_answer(board, far))
        try:
            await _come(near[0], board)
            yield Channels(board, near, f"{xen.name} itself")
        finally:
            answering.cancel()
            with suppress(asyncio.CancelledError):
                await answering


@asynccontextmanager
async def to_domain(
    xen: Domain, domid: int, kind: Kind, count: int, *, within: float | None = PATIENCE
) -> AsyncIterator[Channels]:
    """Channels to a domain that runs `answer`. Raises `HalfMissing` if it does not come within so
    many seconds, `XenError` and `StoreError` for what is refused."""
    node = meeting_place(xen.domid, domid)
    async with AsyncExitStack() as stack:
        ports = [stack.enter_context(xen.events.alloc_unbound(domid)) for _ in range(count)]
        grant = stack.enter_context(xen.grants.share(domid, pages=Board.pages(count)))
        board = Board(grant.memory)
        board.begin(kind, [port.number for port in ports])
        stack.push_async_callback(_part, board, ports)
        stack.push_async_callback(_remove, xen, node)
        await xen.store.write(node, " ".join(map(str, grant.refs)))
        await xen.store.set_perms(node, f"n{xen.domid}", f"r{domid}")
        try:
            async with asyncio.timeout(within):
                await _come(ports[0], board)
        except TimeoutError:
            raise HalfMissing(
                f"no answer from domain {domid} within {within:g} s: run "
                f"`activations evtchn answer {xen.domid}` there"
            ) from None
        yield Channels(board, ports, f"domain {domid}")


def meeting_place(caller: int, other: int) -> str:
    """Where the caller says which pages are the board."""
    return f"{home(caller)}/data/evtchn/{other}"


async def _come(port: Port, board: Board) -> None:
    """Wait for the event with which the other half says that it is ready, and take it."""
    await port.wait()
    while not board.ready:
        await port.wait()


async def _part(board: Board, ports: list[Port]) -> None:
    """Have the other half go, if it ever came."""
    if not board.ready:
        return
    board.is_done()
    for port in ports:
        port.notify()
    with suppress(TimeoutError):
        async with asyncio.timeout(PARTING):
            while board.here:
                await ports[0].wait()


async def _remove(xen: Domain, node: str) -> None:
    with suppress(StoreError):
        await xen.store.rm(node)


def check_here(channels: Channels) -> None:
    """Raise `HalfMissing` if the other half has left."""
    if not channels.board.here:
        raise HalfMissing(f"{channels.peer} left before the end: its `answer` was stopped")


# The other half


async def answer(xen: Domain, domid: int) -> dict[str, int]:
    """Be the other half of one ping or flood of domain `domid`, whenever it begins; give how many
    `channels` there were, and how many events came (`fired`) and went (`answered`).

    Raises `XenError` where Xen refuses, as for a board that its owner has taken back.
    """
    said = await xen.store.wait_for(meeting_place(domid, xen.domid))
    with ExitStack() as stack:
        grant = xen.grants.map(domid, [int(ref) for ref in said.split()], writable=True)
        board = Board(grant.memory)
        numbers = [board.port(index) for index in range(board.channels)]
        ports = [
            stack.enter_context(xen.events.bind_interdomain(domid, number)) for number in numbers
        ]
        stack.enter_context(grant)  # the last to be entered: closed while its port is open
        grant.notify_on_close(clear_byte=Board.HERE, port=ports[0].number)
        await _answer(board, ports)
        return {
            "channels": len(ports),
            "fired": sum(board.fired(index) for index in range(len(ports))),
            "answered": sum(board.answered(index) for index in range(len(ports))),
        }


async def _answer(board: Board, ports: list[Port]) -> None:
    """Look at every channel's counters at each of its events, until the caller is done."""
    for port in ports:
        await port.wait()  # the event that Xen sends as a port is bound
    before = [port.statistics().fired for port in ports]
    async with asyncio.TaskGroup() as channels:
        for index, port in enumerate(ports):
            channels.create_task(_channel(board, index, port, before[index]))
        board.is_ready()
        ports[0].notify()


async def _channel(board: Board, index: int, port: Port, before: int) -> None:
    echoes = board.kind == Kind.ECHO
    async for fired in port:
        if board.done:
            return
        board.note(index, board.sent(index), fired - before)
        if echoes:
            board.count_answered(index)
            port.notify()
