"""The front end of a network device: what xen-netfront is in Linux.

    from activations.drivers import net

    async with net.open(xen, device) as nic:
        await nic.send(frame)
        frame = await nic.receive()

The driver makes rings, pages and ports anew for each connection. A back end that dies takes the
packets with it that it had not answered, and so does a suspend; they are counted, and sent again
by protocols that need them, as in any network.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Sequence
from contextlib import ExitStack, asynccontextmanager, suppress
from errno import ENOSPC
from typing import ClassVar

from activations.abi import netif as abi
from activations.abi.xenbus import XenbusState
from activations.bell import bell
from activations.domain import Domain
from activations.drivers.net.errors import NetError, NicClosed
from activations.drivers.net.front_queue import FromBack, PacketPages, ToBack
from activations.drivers.net.nic import Nic
from activations.drivers.net.queues import QueueKeys, flow, read_mac, written
from activations.drivers.net.wire import BATCH, CAPACITY
from activations.errors import XenError
from activations.grants import Grant
from activations.leftovers import Leftovers
from activations.own import own
from activations.port import PROGRAM_START, Port
from activations.ring import RingError
from activations.sring import FrontRing
from activations.xenbus import Device, FrontDriver, FrontEnd, Keys, Phase, Unplugged, Written
from activations.xenbus.gone import when_gone
from activations.xenbus.keys import read_keys

PAGES = 128
"""Pages for packets each way of each queue, unless `open` is told otherwise. Linux's gntalloc has
1024 for all of a domain's programs."""
RING = 256
"""Entries of a ring of one page, either kind."""
LEAST_PAGES = 32
"""Enough for the longest packet, and to spare."""


@asynccontextmanager
async def open(
    xen: Domain,
    device: Device,
    *,
    within: float | None = None,
    queues: int = 1,
    pages: int = PAGES,
    capacity: int = CAPACITY,
) -> AsyncIterator[Nic]:
    """The device, once its back end is connected; until the block is left.

    Each of up to `queues` queues takes twice `pages` pages, `LEAST_PAGES` to `RING`, and two more
    for its rings; fewer, where this domain can grant no more. `capacity` is how many frames may
    wait to be received.

    Raises `HandshakeTimeout`, which says what is missing, if the ends are not connected `within` so
    many seconds; `NicClosed` if the back end cannot be understood; `Unplugged`; `MissingKey` and
    `BadKey` for a device without an address.
    """
    nic = await _nic(xen, device, capacity)
    driver = NetFront(xen, device, nic, queues=queues, pages=pages)
    try:
        async with FrontEnd(xen, device, driver) as end:
            with when_gone(end, driver.end):
                try:
                    await end.reached(Phase.CONNECTED, Phase.FAILED, within=within)
                    if end.phase is Phase.FAILED:
                        raise NicClosed(end.failure)
                    yield nic
                finally:
                    nic.end(NicClosed(f"{device} was closed"))
    finally:
        await driver.aclose()


class FrontQueue:
    """A queue, and what it holds of the domain."""

    def __init__(
        self, xen: Domain, domid: int, nic: Nic, *, pages: int, split: bool, sg: bool
    ) -> None:
        self._held: list[Grant] = []
        with ExitStack() as undo:

            def share(count: int) -> Grant:
                grant = undo.enter_context(xen.grants.share(domid, pages=count))
                self._held.append(grant)
                return grant

            self.tx_port: Port = undo.enter_context(xen.events.alloc_unbound(domid))
            self.rx_port: Port = self.tx_port
            if split:
                self.rx_port = undo.enter_context(xen.events.alloc_unbound(domid))
            tx_page, rx_page, tx_data, rx_data = (share(count) for count in (1, 1, pages, pages))
            self.to_back: ToBack = ToBack(
                FrontRing(tx_page.memory, abi.TX_ENTRY_SIZE),
                PacketPages(tx_data.memory, tx_data.refs),
                bell(self.tx_port),
                nic._statistics,
                sg=sg,
            )
            self.from_back: FromBack = FromBack(
                FrontRing(rx_page.memory, abi.RX_ENTRY_SIZE),
                PacketPages(rx_data.memory, rx_data.refs),
                bell(self.rx_port),
                nic._statistics,
            )
            undo.pop_all()
        self._nic = nic
        self.keys: QueueKeys = QueueKeys(
            tx_page.refs[0], rx_page.refs[0], self.tx_port.number, self.rx_port.number
        )

    async def answers(self) -> None:
        """Take the back end's answers to what was sent, until cancelled."""
        seen = PROGRAM_START
        while True:
            if self.to_back.collect():
                self._nic.make_room()
            if self.to_back.ring.idle():
                seen = await self.tx_port.after(seen)
            else:
                await asyncio.sleep(0)

    async def arrivals(self) -> None:
        """Take what the back end sends, until cancelled."""
        seen = PROGRAM_START
        while True:
            for frame in self.from_back.take(BATCH):
                self._nic.arrived(frame)
            if self.from_back.ring.idle():
                seen = await self.rx_port.after(seen)
            else:
                await asyncio.sleep(0)

    def settle(self) -> None:
        """Take what lies in the rings still, of a back end that has gone; count what it owes."""
        with suppress(NetError, RingError):
            self.to_back.collect()
            for frame in self.from_back.take(RING):
                self._nic.arrived(frame)
        self._nic._statistics.lost += self.to_back.unanswered

    def close(self) -> list[Grant]:
        """Let go of the rings and the ports; give the grants, to be closed."""
        for ring in (self.to_back.ring, self.from_back.ring):
            ring.release()
        self.tx_port.close()
        self.rx_port.close()
        return self._held


class NetFront(FrontDriver):
    """The driver below `open`, for one device over all its connections."""

    published = XenbusState.CONNECTED
    writes: ClassVar[Sequence[str]] = (
        "*-ring-ref",
        f"{abi.EVENT_CHANNEL}*",
        abi.NUM_QUEUES,
        "queue-*",
        "request-*",
        "feature-*",
    )

    def __init__(
        self, xen: Domain, device: Device, nic: Nic, *, queues: int = 1, pages: int = PAGES
    ) -> None:
        if not LEAST_PAGES <= pages <= RING:
            raise ValueError(f"{pages} pages each way: it must be {LEAST_PAGES} to {RING}")
        self._xen = xen
        self._device = device
        self._nic = nic
        self._most_queues = queues
        self._pages = pages
        self._queues: list[FrontQueue] = []
        self._leftovers = Leftovers()

    # What the handshake calls

    async def publish(self, back: Keys) -> Written:
        if not back.flag(abi.FEATURE_RX_COPY):
            raise NetError(f"{back.owner} does not give packets by copy")
        split = back.flag(abi.FEATURE_SPLIT_EVENT_CHANNELS)
        sg = back.flag(abi.FEATURE_SG)
        count = max(1, min(self._most_queues, back.integer(abi.MAX_QUEUES, 1)))
        pages = self._pages
        while not self._made(count, pages=pages, split=split, sg=sg):
            pages = max(pages // 2, LEAST_PAGES)
        return {
            **written([queue.keys for queue in self._queues]),
            abi.REQUEST_RX_COPY: 1,
            abi.FEATURE_RX_NOTIFY: 1,
            abi.FEATURE_SG: 1,
            abi.FEATURE_NO_CSUM_OFFLOAD: 1,
        }

    async def connect(self, back: Keys) -> None:
        self._nic.attach(self._put)

    async def serve(self) -> None:
        async with asyncio.TaskGroup() as tasks:
            for queue in self._queues:
                for work in (queue.answers, queue.arrivals):
                    own(tasks.create_task(work(), name=f"{self._device}: {work.__name__}"))

    async def disconnect(self) -> None:
        self._nic.attach(None)
        for queue in self._queues:
            queue.settle()
        self._let_go()

    # What `open` calls

    def end(self, why: str) -> None:
        """The device was closed, or went: tell those who wait."""
        self._nic.end(NicClosed(why or f"{self._device} was unplugged"))

    async def aclose(self) -> None:
        """Give the pages back, once the back end has let go of them."""
        await self._leftovers.aclose()

    # What they are made of

    def _made(self, count: int, *, pages: int, split: bool, sg: bool) -> bool:
        """Make so many queues; false, and none, where the domain cannot grant so many pages."""
        try:
            for _ in range(count):
                queue = FrontQueue(
                    self._xen, self._device.back, self._nic, pages=pages, split=split, sg=sg
                )
                self._queues.append(queue)
        except XenError as error:
            if error.errno != ENOSPC or pages == LEAST_PAGES:
                raise
            self._let_go()
            return False
        return True

    def _let_go(self) -> None:
        """Give back what the queues hold, as soon as the back end has let go of it too."""
        queues, self._queues = self._queues, []
        for queue in queues:
            self._leftovers.close(*queue.close())

    def _put(self, frame: bytes) -> bool:
        count = len(self._queues)
        queue = self._queues[flow(frame) % count if count > 1 else 0]
        return queue.to_back.send(frame)


async def _nic(xen: Domain, device: Device, capacity: int) -> Nic:
    """What the toolstack wrote of the device into this end's folder, if that is there still."""
    keys = await read_keys(xen.store, f"the front end of {device}", device.front_path)
    if not keys:
        raise Unplugged(f"{device} is gone")
    mac = read_mac(keys)
    return Nic(mac, keys.integer(abi.MTU, abi.DEFAULT_MTU, within=range(68, 1 << 16)), capacity)
