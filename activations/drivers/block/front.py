"""The front end of a block device: what xen-blkfront is in Linux.

    from activations.drivers import block

    async with block.open(xen, device) as disk:
        data = await disk.read(0, 4096)

The driver makes rings and ports for each connection, and keeps one pool of granted pages and the
requests over all of them: a back end that dies and comes back finds what it left undone sent to it
again, and so does one whose front end's domain was suspended. `requests` is the protocol without
I/O.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import ClassVar

from activations.abi import blkif as abi
from activations.abi.xenbus import XenbusState
from activations.bell import bell
from activations.domain import Domain
from activations.drivers.block.disk import Disk
from activations.drivers.block.errors import DiskGone
from activations.drivers.block.offer import Geometry, Offer
from activations.drivers.block.pool import Pool
from activations.drivers.block.requests import RequestRing, Requests
from activations.errors import XenError
from activations.grants import Grant
from activations.leftovers import Leftovers
from activations.own import own
from activations.port import Port
from activations.xenbus import Device, FrontDriver, FrontEnd, Keys, Phase, Written
from activations.xenbus.gone import when_gone

PAGES = 256
"""Pages that data goes through, unless `open` is told otherwise: 1 MiB in flight."""
RING_ORDER = 2
"""Rings have 2^this pages where the back end takes them: 128 requests in flight."""
_HANDLE = 0xFFFF
"""What of the device's number fits into a request's handle."""


@asynccontextmanager
async def open(
    xen: Domain,
    device: Device,
    *,
    within: float | None = None,
    pages: int = PAGES,
    ring_order: int = RING_ORDER,
    queues: int = 1,
    persistent: bool = True,
    protocol: str = abi.X86_64.protocol,
) -> AsyncIterator[Disk]:
    """The device's disk, once its back end is connected; until the block is left.

    `pages` are granted for data, or as many as the domain can grant; each of up to `queues` rings
    takes up to 2^`ring_order` more. `persistent` tells the back end that the pages stay the same.
    `protocol` is how requests are laid out: `x86_32-abi` is what a 32-bit front end says, to try
    that of a back end.

    Raises `HandshakeTimeout`, which says what is missing, if the ends are not connected `within` so
    many seconds; `DiskGone` if the back end cannot be understood; `Unplugged`.
    """
    driver = BlkFront(
        xen,
        device,
        pages=pages,
        ring_order=ring_order,
        queues=queues,
        persistent=persistent,
        protocol=protocol,
    )
    try:
        async with FrontEnd(xen, device, driver) as end:
            with when_gone(end, driver.end):
                try:
                    await driver.opened(end, within)
                    yield driver.disk
                finally:
                    driver.requests.end(DiskGone("it was closed"))
    finally:
        await driver.aclose()


@dataclass(frozen=True, slots=True)
class FrontQueue:
    """A queue, and what it holds of the domain."""

    queue: RequestRing
    grant: Grant
    port: Port


class BlkFront(FrontDriver):
    """The driver below `open`, for one device over all its connections."""

    published = XenbusState.INITIALISED
    writes: ClassVar[Sequence[str]] = (
        abi.PROTOCOL,
        abi.EVENT_CHANNEL,
        abi.RING_PAGE_ORDER,
        f"{abi.RING_REF}*",
        abi.NUM_QUEUES,
        "queue-*",
        "feature-*",
    )

    def __init__(
        self,
        xen: Domain,
        device: Device,
        *,
        pages: int = PAGES,
        ring_order: int = RING_ORDER,
        queues: int = 1,
        persistent: bool = True,
        protocol: str = abi.X86_64.protocol,
    ) -> None:
        if pages < 1 or queues < 1 or not 0 <= ring_order <= abi.MAX_RING_PAGE_ORDER:
            raise ValueError(
                f"pages={pages}, queues={queues}, ring_order={ring_order}: a disk has 1 page and 1 "
                f"queue at least, and a ring_order from 0 to {abi.MAX_RING_PAGE_ORDER}"
            )
        if protocol not in abi.LAYOUTS:
            raise ValueError(
                f"{protocol!r} is not a protocol of disks: {', '.join(abi.LAYOUTS)} are"
            )
        self._xen = xen
        self._device = device
        self._layout = abi.LAYOUTS[protocol]
        self._pages = pages
        self._ring_order = ring_order
        self._queues = queues
        self._persistent = persistent
        self._pool = Pool()
        self._stock: Grant | None = None
        self._generation = xen.generation
        """The one in which the pages were granted."""
        self._links: list[FrontQueue] = []
        self._leftovers = Leftovers()
        self.requests: Requests = Requests(self._pool, device.devid & _HANDLE)
        self.disk: Disk = Disk(self.requests)

    # What the handshake calls

    async def publish(self, back: Keys) -> Written:
        offer = Offer.of(back)
        order = min(self._ring_order, offer.ring_order)
        for _ in range(max(1, min(self._queues, offer.queues))):
            self._links.append(self._link(1 << order))
        self._have_pages()
        return self._keys(order)

    async def connect(self, back: Keys) -> None:
        self.disk.geometry = Geometry.of(back)
        queues = [link.queue for link in self._links]
        self.requests.attach(queues, max_indirect=self.disk.geometry.max_indirect)

    async def reconfigure(self, back: Keys) -> None:
        if abi.SECTORS not in back:  # it is on its way out
            return
        self.disk.geometry = Geometry.of(back)

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for link in self._links:
                own(tasks.create_task(self._answers(link), name=f"answers from {self._device}"))

    async def disconnect(self) -> None:
        self.requests.detach()
        links, self._links = self._links, []
        for link in links:
            link.queue.ring.release()
            link.port.close()
            self._leftovers.close(link.grant)

    # What `open` calls

    async def opened(self, end: FrontEnd, within: float | None) -> None:
        """Wait until there is a disk. Raises as `open` does."""
        await end.reached(Phase.CONNECTED, Phase.FAILED, within=within)
        if end.phase is Phase.FAILED:
            raise DiskGone(end.failure)

    def end(self, why: str) -> None:
        """The device was closed, or went: tell those who wait why."""
        self.requests.end(DiskGone(why or "it was unplugged"))

    async def aclose(self) -> None:
        """Give the pages back, once the back end has let go of them."""
        if self._stock is not None:
            self._pool.release()
            self._leftovers.close(self._stock)
        await self._leftovers.aclose()

    # What they are made of

    def _share(self, pages: int) -> Grant:
        return self._xen.grants.share(self._device.back, pages=pages)

    def _have_pages(self) -> None:
        """Grant the pages: once, and again after a suspend."""
        before, generation = self._stock, self._xen.generation
        if before is None:
            self._stock = self._pool.stock(self._share, self._pages)
        elif generation != self._generation:
            content = self._pool.lift()
            self._leftovers.close(before)  # first: a domain can grant only so many
            self._stock = self._pool.restock(self._share, content)
        self._generation = generation

    def _link(self, pages: int) -> FrontQueue:
        port = self._xen.events.alloc_unbound(self._device.back)
        try:
            grant = self._share(pages)
        except XenError:
            port.close()
            raise

        return FrontQueue(RequestRing(grant.memory, bell(port), layout=self._layout), grant, port)

    def _keys(self, order: int) -> Written:
        keys: dict[str, str | int] = {
            abi.PROTOCOL: self._layout.protocol,
            abi.FEATURE_PERSISTENT: int(self._persistent),
        }
        if order:
            keys[abi.RING_PAGE_ORDER] = order
        several = len(self._links) > 1
        if several:
            keys[abi.NUM_QUEUES] = len(self._links)
        for number, link in enumerate(self._links):
            folder = f"queue-{number}/" if several else ""
            keys[f"{folder}{abi.EVENT_CHANNEL}"] = link.port.number
            for at, ref in enumerate(link.grant.refs):
                keys[f"{folder}{abi.RING_REF}{at if order else ''}"] = ref
        return keys

    async def _answers(self, link: FrontQueue) -> None:
        """Take answers, and use the room that they leave, until cancelled."""
        while True:
            self.requests.collect(link.queue)
            self.requests.fill()
            await link.port.wait()
