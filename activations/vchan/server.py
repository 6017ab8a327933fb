"""The server: grants the pages, offers them in xenstore, and waits for the client.

An offer is good for one client: a control page, rings, a port. libxenvchan makes one and is done;
a listener takes its offer out of xenstore once it is taken up, and makes another when `accept` is
called again. With an offer go the folders that were made for it, those that hold nothing else: a
program that listens under ever new names would fill xenstore with them.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import ExitStack, asynccontextmanager, suppress
from errno import EACCES
from functools import partial
from struct import pack
from typing import Any

from anyio import ClosedResourceError, create_task_group
from anyio.abc import Listener, TaskGroup

from activations.abi import vchan as abi
from activations.abi.vchan import Live
from activations.domain import Domain
from activations.errors import PortClosed
from activations.leftovers import LINGER
from activations.own import finish
from activations.port import PROGRAM_START
from activations.store import Access, Nodes, Permission, StoreError, Transaction
from activations.vchan.end import SERVER
from activations.vchan.layout import Layout, layout_for
from activations.vchan.link import Link
from activations.vchan.stream import VchanStream

RING_SIZE = 1 << 14
"""Bytes of a ring, by default: four pages."""


@asynccontextmanager
async def listen(
    xen: Domain, domid: int, path: str, *, left: int = RING_SIZE, right: int = RING_SIZE
) -> AsyncIterator[VchanListener]:
    """Offer a vchan below `path` in xenstore to clients in `domid`.

    `left` is the least size in bytes of the ring that the client writes, `right` of the one that
    the server writes; 1 MiB at most each. The offer stands when the block is entered. Raises
    `ValueError` for sizes that cannot be, `XenError` and `StoreError` for what is refused.
    """
    listener = VchanListener(xen, domid, path, layout_for(left, right))
    try:
        await listener.offer()
        yield listener
    finally:
        await listener.aclose()


class VchanListener(Listener[VchanStream]):
    """Accepts clients of one domain, one after another: see `listen`.

    Streams that were accepted live on when it is closed.
    """

    def __init__(self, xen: Domain, domid: int, path: str, layout: Layout) -> None:
        self.path = path
        self.domid = domid
        self._xen = xen
        self._layout = layout
        self._offered: Link | None = None
        self._made: list[str] = []
        """The folders that were made for an offer, a folder within another before that one."""
        self._closed = False

    def __repr__(self) -> str:
        state = "closed" if self._closed else "open"
        return f"<VchanListener {self.path} for domain {self.domid}: {state}>"

    async def accept(self) -> VchanStream:
        """The next client's stream, of one that has left meanwhile as well: what it wrote is
        there to be received. Raises `ClosedResourceError` if the listener is or gets closed.
        Cancelled, it leaves the offer standing. One task at a time."""
        link = await self.offer()
        await _taken_up(link)
        await self._withdraw()
        self._offered = None  # after the last point where this task can be cancelled
        link.watch_over(self._xen, self.domid)
        return VchanStream(link, self.domid)

    async def serve(
        self,
        handler: Callable[[VchanStream], Any],
        task_group: TaskGroup | None = None,
    ) -> None:
        """Accept clients for ever, each served by `handler(stream)` in a task of its own."""
        if task_group is None:
            async with create_task_group() as own:
                await self.serve(handler, own)
            return
        while True:
            task_group.start_soon(handler, await self.accept())

    async def aclose(self) -> None:
        """Take the offer back. Twice is harmless."""
        if self._closed:
            return
        self._closed = True
        link, self._offered = self._offered, None
        try:
            if link is not None:
                await link.aclose()
        finally:
            await self._withdraw()

    async def offer(self) -> Link:
        """The offer that stands, made now if there is none."""
        if self._closed:
            raise ClosedResourceError
        if self._offered is None:
            link = self._grant()
            try:
                await self._xen.store.transact(partial(self._advertise, link))
            except BaseException:
                await link.aclose()
                raise
            self._offered = link
        return self._offered

    def _grant(self) -> Link:
        grants, domid = self._xen.grants, self.domid
        with ExitStack() as undo:
            port = undo.enter_context(self._xen.events.alloc_unbound(domid))
            control = undo.enter_context(grants.share(domid))
            rings = [
                undo.enter_context(grants.share(domid, pages=place.pages))
                for place in (self._layout.left, self._layout.right)
                if place.pages
            ]
            orders = abi.ORDERS.pack(self._layout.left.order, self._layout.right.order)
            control.memory[abi.ORDERS_AT : abi.ORDERS_AT + len(orders)] = orders
            numbers = [ref for ring in rings for ref in ring.refs]
            refs = pack(f"<{len(numbers)}I", *numbers)
            control.memory[abi.GRANTS_AT : abi.GRANTS_AT + len(refs)] = refs
            link = Link(SERVER, self._layout, port, control, rings)
            undo.pop_all()
        link.end.expect()
        return link

    async def _advertise(self, link: Link, change: Transaction) -> None:
        readable = (
            Permission(self._xen.domid, Access.NONE),
            Permission(self.domid, Access.READ),
        )
        made = await _missing(change, self.path)
        self._made = [*made, *(folder for folder in self._made if folder not in made)]
        for node, value in (
            (abi.RING_REF, link.ref),
            (abi.EVENT_CHANNEL, link.port.number),
        ):
            await change.write(f"{self.path}/{node}", value)
            await change.set_perms(f"{self.path}/{node}", *readable)

    async def _withdraw(self) -> None:
        """Take the offer out of xenstore, in a cancelled task too."""
        await finish(self._take_out(), name=f"{self.path} is taken out of xenstore")

    async def _take_out(self) -> None:
        store = self._xen.store
        with suppress(TimeoutError):  # a xenstored that does not answer is not waited for
            async with asyncio.timeout(LINGER):
                for node in (abi.RING_REF, abi.EVENT_CHANNEL):
                    with suppress(StoreError):
                        await store.rm(f"{self.path}/{node}")
                with suppress(StoreError):
                    self._made = await store.transact(partial(_without_empty, self._made))


async def _missing(nodes: Nodes, path: str) -> list[str]:
    """The folders on the way to this one, and itself, that are not there; the last one first."""
    missing = []
    try:
        while path and not await nodes.exists(path):
            missing.append(path)
            path = path.rpartition("/")[0]
    except StoreError as error:
        if error.errno != EACCES:
            raise
    return missing


async def _without_empty(folders: list[str], nodes: Nodes) -> list[str]:
    """Remove those that are empty; the others."""
    for folder in folders:
        if await nodes.exists(folder):
            if await nodes.list(folder):
                return folders[folders.index(folder) :]
            await nodes.rm(folder)
    return []


async def _taken_up(link: Link) -> None:
    """Wait until a client has come."""
    seen = PROGRAM_START
    while not link.closed and link.end.peer == Live.WAITING:
        try:
            seen = await link.port.after(seen)
        except PortClosed:
            break
    if link.closed:
        raise ClosedResourceError
