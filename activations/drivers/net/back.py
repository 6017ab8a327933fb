"""The back end of a network device: what xen-netback is in Linux.

    from activations.drivers import net

    switch = Switch()
    async with net.serve(xen, device, switch.port()) as end:
        await end.connected()
        ...

What is behind it is any `Interface`, and stays its owner's. Front ends come and go meanwhile.

Frames leave for the wire with their checksums complete. `GSO` is not offered, nor checksums of
IPv6: no front end sends what was not offered. Those of IPv4 no back end can refuse: see `checksum`.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import ClassVar

from activations.abi import netif as abi
from activations.domain import Domain
from activations.drivers.net import queues
from activations.drivers.net.back_queue import BackQueue, Terms
from activations.drivers.net.errors import NetError
from activations.drivers.net.faulty import wrapped
from activations.drivers.net.statistics import Statistics
from activations.drivers.net.wire import BATCH, Interface
from activations.own import own
from activations.xenbus import BackDriver, BackEnd, Device, Keys, Written

QUEUES = 4
"""Queues that are offered, unless `serve` is told otherwise."""


@asynccontextmanager
async def serve(
    xen: Domain,
    device: Device,
    wire: Interface,
    *,
    max_queues: int = QUEUES,
    statistics: Statistics | None = None,
) -> AsyncIterator[BackEnd]:
    """Join whatever front end comes to the wire, until the block is left.

    What is given is this end of the handshake: `await end.connected()` waits for a front end.
    `statistics` are counted up, over all connections: `sent` are frames given to the front end.
    """
    driver = NetBack(xen, device, wire, max_queues=max_queues, statistics=statistics)
    async with BackEnd(xen, device, driver) as end:
        yield end


class NetBack(BackDriver):
    """The driver below `serve`, for one device over all its connections."""

    writes: ClassVar[Sequence[str]] = (
        abi.FEATURE_RX_COPY,
        abi.FEATURE_SG,
        abi.FEATURE_SPLIT_EVENT_CHANNELS,
        abi.MAX_QUEUES,
    )

    def __init__(
        self,
        xen: Domain,
        device: Device,
        wire: Interface,
        *,
        max_queues: int = QUEUES,
        statistics: Statistics | None = None,
    ) -> None:
        self._statistics = Statistics() if statistics is None else statistics
        self._xen = xen
        self._device = device
        self._wire = wrapped(wire)
        self._max_queues = max_queues
        self._queues: list[BackQueue] = []

    def statistics(self) -> Statistics:
        """What it has done so far, over all its connections."""
        return replace(self._statistics)

    async def offer(self) -> Written:
        return {
            abi.FEATURE_RX_COPY: 1,
            abi.FEATURE_SG: 1,
            abi.FEATURE_SPLIT_EVENT_CHANNELS: 1,
            abi.MAX_QUEUES: self._max_queues,
        }

    async def connect(self, front: Keys) -> Written:
        if not front.flag(abi.REQUEST_RX_COPY):
            raise NetError(f"{front.owner} does not take packets by copy")
        terms = Terms(
            xen=self._xen,
            domid=self._device.front,
            sg=front.flag(abi.FEATURE_SG),
            rx_notify=front.flag(abi.FEATURE_RX_NOTIFY),
            statistics=self._statistics,
            log=self._xen.log.bind(device=str(self._device)),
        )
        for keys in queues.read(front, self._max_queues):
            self._queues.append(BackQueue(terms, keys))
        return {}

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for queue in self._queues:
                sending = queue.from_guest.pass_on(self._wire)
                own(tasks.create_task(sending, name=f"{self._device} sends"))
            own(tasks.create_task(self._deliver(), name=f"{self._device} receives"))

    async def disconnect(self) -> None:
        connected, self._queues = self._queues, []
        for queue in connected:
            queue.close()

    async def _deliver(self) -> None:
        """Give the wire's frames to the front end, each flow's to one queue."""
        while True:
            frames = [await self._wire.receive()]
            while len(frames) < BATCH and (frame := self._wire.receive_nowait()) is not None:
                frames.append(frame)
            shares = self._shares(frames)
            try:
                for queue, share in shares:
                    await queue.to_guest.deliver(share)
            finally:
                self._statistics.lost += sum(len(share) for _, share in shares)

    def _shares(self, frames: list[bytes]) -> list[tuple[BackQueue, deque[bytes]]]:
        count = len(self._queues)
        if count == 1:
            return [(self._queues[0], deque(frames))]
        shares: list[deque[bytes]] = [deque() for _ in range(count)]
        for frame in frames:
            shares[queues.flow(frame) % count].append(frame)
        return list(zip(self._queues, shares, strict=True))
