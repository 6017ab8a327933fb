"""Either end of a network device by hand, on one queue, for what a proper one would not do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import ExitStack

from activations import Domain
from activations.abi import netif as abi
from activations.abi.netif import RxFlag
from activations.abi.xenbus import XenbusState
from activations.leftovers import Leftovers
from activations.sring import BackRing, FrontRing
from activations.xenbus import BackDriver, Device, FrontDriver, Keys, Written

FrontWork = Callable[["RawFront"], Awaitable[object]]
BackWork = Callable[["RawBack"], Awaitable[object]]
HONEST: Written = {"request-rx-copy": 1, "feature-rx-notify": 1, "feature-sg": 1}


class RawFront(FrontDriver):
    """Makes rings and one page of data, writes `keys` over what it would say, and has `do` work
    once the back end is connected. `done` is what that returned."""

    published = XenbusState.CONNECTED

    def __init__(self, xen: Domain, device: Device, do: FrontWork, keys: Written) -> None:
        self.xen = xen
        self.leftovers = Leftovers()
        self.done = xen.loop.create_future()
        self._domid = device.back
        self._do = do
        self._keys = keys
        self._open = False

    async def publish(self, back: Keys) -> Written:
        share = self.xen.grants.share
        self.pages = [share(self._domid) for _ in range(3)]
        tx, rx, data = self.pages
        self.tx_memory, self.rx_memory = tx.memory, rx.memory
        self.ref, self.data = data.refs[0], data.memory
        self.tx = FrontRing(tx.memory, abi.TX_ENTRY_SIZE)
        self.rx = FrontRing(rx.memory, abi.RX_ENTRY_SIZE)
        self.port = self.xen.events.alloc_unbound(self._domid)
        self._open = True
        rings = {"tx-ring-ref": tx.refs[0], "rx-ring-ref": rx.refs[0]}
        said: dict[str, str | int] = {**rings, "event-channel": self.port.number, **HONEST}
        return {key: value for key, value in {**said, **self._keys}.items() if value != ""}

    async def connect(self, back: Keys) -> None:
        pass

    async def serve(self) -> None:
        if not self.done.done():
            self.done.set_result(await self._do(self))
        await self.xen.loop.create_future()

    async def disconnect(self) -> None:
        if self._open:
            self._open = False
            self.tx.release()
            self.rx.release()
            self.port.close()
            self.leftovers.close(*self.pages)

    def put(self, *entries: bytes) -> None:
        """Any tx entries at all."""
        for entry in entries:
            self.tx.put(entry)
        self.tx.push()
        self.port.notify()

    def request(
        self, size: int, flags: int = 0, *, id: int = 0, offset: int = 0, ref: int | None = None
    ) -> bytes:
        return abi.TX_REQUEST.pack(self.ref if ref is None else ref, offset, flags, id, size)

    def offer(self, *refs: int) -> None:
        """Empty pages, or what is said to be some."""
        for id, ref in enumerate(refs):
            self.rx.put(abi.RX_REQUEST.pack(id, ref))
        self.rx.push()
        self.port.notify()

    async def answers(self, count: int) -> list[tuple[int, int]]:
        """The next answers to what was sent: ids and statuses."""
        return [abi.TX_RESPONSE.unpack_from(await self._next(self.tx)) for _ in range(count)]

    async def arrivals(self, count: int) -> list[tuple[int, int, int, int]]:
        """The next answers to the pages offered: id, offset, flags, status."""
        return [abi.RX_RESPONSE.unpack_from(await self._next(self.rx)) for _ in range(count)]

    async def _next(self, ring: FrontRing) -> bytes:
        while (entry := ring.take()) is None:
            if ring.idle():
                await self.port.wait()
        return entry


class RawBack(BackDriver):
    """Maps the front end's rings, and has `do` work on them."""

    def __init__(self, xen: Domain, device: Device, do: BackWork, offers: Written) -> None:
        self.store = xen.store
        self.home = f"/local/domain/{device.front}"
        """The guest's, where it reads and writes."""
        self._xen = xen
        self._domid = device.front
        self._do = do
        self._offers = offers
        self._held = ExitStack()

    async def offer(self) -> Written:
        return self._offers

    async def connect(self, front: Keys) -> Written:
        enter = self._held.enter_context
        tx = enter(self._xen.grants.map(self._domid, [front.integer("tx-ring-ref")]))
        rx = enter(self._xen.grants.map(self._domid, [front.integer("rx-ring-ref")]))
        bind = self._xen.events.bind_interdomain
        self.port = enter(bind(self._domid, front.integer("event-channel")))
        self.tx_memory, self.rx_memory = tx.memory, rx.memory
        self.tx = BackRing(tx.memory, abi.TX_ENTRY_SIZE)
        self._held.callback(self.tx.release)
        self.rx = BackRing(rx.memory, abi.RX_ENTRY_SIZE)
        self._held.callback(self.rx.release)
        return {}

    async def serve(self) -> None:
        await self._do(self)
        await self._xen.loop.create_future()

    async def disconnect(self) -> None:
        self._held.close()

    async def page(self) -> tuple[int, int]:
        """The next page that the front end offers: id and reference."""
        id, ref = abi.RX_REQUEST.unpack(await self._next(self.rx))
        return id, ref

    async def sent(self) -> tuple[int, int, int, int, int]:
        """The next tx request: reference, offset, flags, id, size."""
        ref, offset, flags, id, size = abi.TX_REQUEST.unpack(await self._next(self.tx))
        return ref, offset, flags, id, size

    def fill(self, id: int, size: int, *, more: bool = False, offset: int = 0) -> None:
        """Say that the page holds so much."""
        flags = RxFlag.MORE_DATA if more else 0
        self.rx.put(abi.RX_RESPONSE.pack(id, offset, flags, size))
        self.rx.push()
        self.port.notify()

    def answer(self, id: int, status: int) -> None:
        self.tx.put(abi.TX_RESPONSE.pack(id, status))
        self.tx.push()
        self.port.notify()

    async def _next(self, ring: BackRing) -> bytes:
        while (entry := ring.take()) is None:
            if ring.idle():
                await self.port.wait()
        return entry
