"""The back end of a block device: what xen-blkback is in Linux.

    from activations.drivers import block

    with block.FileDisk("guest.img") as disk:
        async with block.serve(xen, device, disk) as end:
            await end.connected()
            ...

What is served is any `disks.ServedDisk`, and stays its owner's. Front ends come and go meanwhile.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager
from dataclasses import replace
from errno import ENOENT
from typing import ClassVar

from activations.abi import blkif as abi
from activations.abi.blkif import Info, Layout
from activations.domain import Domain
from activations.drivers.block.disks import ServedDisk
from activations.drivers.block.faulty import wrapped
from activations.drivers.block.pages import CopiedPages, KeptPages, QueuePages
from activations.drivers.block.protocol import BlockError
from activations.drivers.block.queue import MAX_INDIRECT, BackQueue, Service, Statistics
from activations.own import own
from activations.sring import BackRing
from activations.store import StoreError
from activations.xenbus import BackDriver, BackEnd, Device, Keys, Written

QUEUES = 4
"""Queues that are offered, unless `serve` is told otherwise."""


@asynccontextmanager
async def serve(
    xen: Domain, device: Device, disk: ServedDisk, *, max_queues: int = QUEUES
) -> AsyncIterator[BackEnd]:
    """Serve the disk to whatever front end comes, until the block is left.

    What is given is this end of the handshake: `await end.connected()` waits for a front end.
    `max_queues` rings may be used at once.
    """
    async with BackEnd(xen, device, BlkBack(xen, device, disk, max_queues=max_queues)) as end:
        yield end


class BlkBack(BackDriver):
    """The driver below `serve`, for one device over all its connections."""

    writes: ClassVar[Sequence[str]] = (
        abi.MAX_RING_PAGE_ORDER_KEY,
        abi.MAX_QUEUES,
        abi.MAX_INDIRECT_SEGMENTS,
        abi.FEATURE_PERSISTENT,
        abi.FEATURE_FLUSH_CACHE,
        abi.FEATURE_BARRIER,
        abi.FEATURE_DISCARD,
        abi.DISCARD_GRANULARITY,
        abi.DISCARD_ALIGNMENT,
        abi.DISCARD_SECURE,
        abi.SECTORS,
        abi.SECTOR_SIZE_KEY,
        abi.PHYSICAL_SECTOR_SIZE,
        abi.INFO,
    )

    def __init__(
        self, xen: Domain, device: Device, disk: ServedDisk, *, max_queues: int = QUEUES
    ) -> None:
        self._statistics = Statistics()
        self._xen = xen
        self._device = device
        self._disk = wrapped(disk)
        self._max_queues = max_queues
        self._read_only = disk.read_only
        self._queues: list[BackQueue] = []

    def statistics(self) -> Statistics:
        """What it has done so far, over all its connections."""
        return replace(self._statistics)

    async def offer(self) -> Written:
        self._read_only = self._disk.read_only or await self._mode() == "r"
        keys: dict[str, str | int] = {
            abi.MAX_RING_PAGE_ORDER_KEY: abi.MAX_RING_PAGE_ORDER,
            abi.MAX_QUEUES: self._max_queues,
            abi.MAX_INDIRECT_SEGMENTS: MAX_INDIRECT,
            abi.FEATURE_PERSISTENT: 1,
            abi.FEATURE_FLUSH_CACHE: 1,
            abi.FEATURE_BARRIER: 0,
        }
        if granularity := self._disk.discard_granularity:
            keys |= {
                abi.FEATURE_DISCARD: 1,
                abi.DISCARD_GRANULARITY: granularity,
                abi.DISCARD_ALIGNMENT: 0,
                abi.DISCARD_SECURE: 0,
            }
        return keys

    async def connect(self, front: Keys) -> Written:
        layout = _layout(front)
        number = front.integer(abi.NUM_QUEUES, 1, within=range(1, self._max_queues + 1))
        log = self._xen.log.bind(device=str(self._device))
        service = Service(self._disk, self._read_only, layout, self._statistics, log)
        for index in range(number):
            folder = f"queue-{index}/" if number > 1 else ""
            self._queues.append(self._queue(front, folder, service))
        return {
            abi.SECTORS: self._disk.sectors,
            abi.SECTOR_SIZE_KEY: self._disk.sector_size,
            abi.PHYSICAL_SECTOR_SIZE: self._disk.sector_size,
            abi.INFO: int(Info.READONLY if self._read_only else Info(0)),
        }

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for number, queue in enumerate(self._queues):
                own(tasks.create_task(queue.serve(), name=f"queue {number} of {self._device}"))

    async def disconnect(self) -> None:
        queues, self._queues = self._queues, []
        for queue in queues:
            await queue.aclose()

    def _queue(self, front: Keys, folder: str, service: Service) -> BackQueue:
        """Map a ring and bind its port; nothing is left of it if that is refused."""
        xen, domid = self._xen, self._device.front
        refs = _ring_refs(front, folder)
        number = front.integer(f"{folder}{abi.EVENT_CHANNEL}")
        with ExitStack() as held:
            memory = held.enter_context(xen.grants.map(domid, refs)).memory
            ring = BackRing(memory, service.layout.entry_size)
            held.callback(ring.release)
            port = held.enter_context(xen.events.bind_interdomain(domid, number))
            pages = self._pages(front)
            held.callback(pages.close)
            return BackQueue(service, ring, port, pages, held.pop_all())

    def _pages(self, front: Keys) -> QueuePages:
        kept = front.flag(abi.FEATURE_PERSISTENT)
        return (KeptPages if kept else CopiedPages)(self._xen.grants, self._device.front)

    async def _mode(self) -> str:
        """What the toolstack allows."""
        try:
            return await self._xen.store.read(f"{self._device.back_path}/{abi.MODE}")
        except StoreError as error:
            if error.errno != ENOENT:
                raise
            return "w"


def _layout(front: Keys) -> Layout:
    """How the front end lays its requests out."""
    protocol = front.text(abi.PROTOCOL, abi.UNSAID.protocol)
    if layout := abi.LAYOUTS.get(protocol):
        return layout
    known = " and ".join(abi.LAYOUTS)
    raise BlockError(f"{front.owner} speaks {protocol[:40]!r}, and this {known} alone")


def _ring_refs(front: Keys, folder: str) -> list[int]:
    """The references of a ring's pages. Raises `MissingKey` and `BadKey`."""
    order = front.integer(abi.RING_PAGE_ORDER, 0, within=range(abi.MAX_RING_PAGE_ORDER + 1))
    name = f"{folder}{abi.RING_REF}"
    if not order and f"{name}0" not in front:
        return [front.integer(name)]
    return [front.integer(f"{name}{index}") for index in range(1 << order)]
