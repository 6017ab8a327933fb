"""A block back end by hand, on one ring, for what a proper one would not do."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from contextlib import ExitStack

from activations import Domain
from activations.abi import blkif as abi
from activations.abi.blkif import SECTOR_SIZE, Op
from activations.drivers.block.protocol import Discard, Request, decode, runs_in
from activations.sring import BackRing
from activations.xenbus import BackDriver, Device, Keys, Written

SECTORS = 2048
KEYS: Written = {"sectors": SECTORS, "sector-size": 512, "info": 0, "feature-flush-cache": 1}

Serve = Callable[["RawBack"], Awaitable[object]]


class RawBack(BackDriver):
    """Maps the front end's ring, and has `do` work on it. `offers` are its keys before there is a
    ring, `keys` those after."""

    def __init__(
        self,
        xen: Domain,
        device: Device,
        do: Serve,
        *,
        offers: Written | None = None,
        keys: Written = KEYS,
        data: bytearray | None = None,
    ) -> None:
        self.data = data if data is not None else bytearray(SECTORS * SECTOR_SIZE)
        self.store = xen.store
        self.home = f"/local/domain/{device.front}"
        """The guest's, where it reads and writes."""
        self._xen = xen
        self._domid = device.front
        self._do = do
        self._offers = offers or {}
        self._keys = keys
        self._held = ExitStack()
        self.served = 0
        """Connections."""

    async def offer(self) -> Written:
        return self._offers

    async def connect(self, front: Keys) -> Written:
        self.layout = abi.LAYOUTS[front.text(abi.PROTOCOL)]
        refs = [front.integer("ring-ref")]
        ring = self._held.enter_context(self._xen.grants.map(self._domid, refs))
        number = front.integer("event-channel")
        events = self._xen.events
        self.port = self._held.enter_context(events.bind_interdomain(self._domid, number))
        self.memory = ring.memory
        self.ring = BackRing(ring.memory, self.layout.entry_size)
        self._held.callback(self.ring.release)
        return self._keys

    async def serve(self) -> None:
        self.served += 1
        await self._do(self)
        await self._xen.loop.create_future()

    async def disconnect(self) -> None:
        self._held.close()

    async def request(self) -> Request | Discard:
        """The next request that comes."""
        while (entry := self.ring.take()) is None:
            if self.ring.idle():
                await self.port.wait()
        request = decode(self.layout, entry)
        assert isinstance(request, Request | Discard)
        return request

    def answer(self, id: int, op: int, status: int = 0) -> None:
        """Any answer at all."""
        self.ring.put(self.layout.response.pack(id, op, status))
        self.ring.push()
        self.port.notify()

    def carry_out(self, request: Request | Discard) -> None:
        """Do what it asks for, and say so."""
        if isinstance(request, Discard):
            self.answer(request.id, Op.DISCARD)
            return
        at = request.sector * SECTOR_SIZE
        for segment in runs_in(request.segments, request).segments:
            with self._xen.grants.map(self._domid, [segment.ref]) as page:
                here = slice(segment.offset, segment.offset + segment.length)
                there = slice(at, at + segment.length)
                if request.op is Op.READ:
                    page.memory[here] = self.data[there]
                else:
                    self.data[there] = page.memory[here]
            at += segment.length
        self.answer(request.id, request.op)


async def honest(back: RawBack) -> None:
    """Do whatever comes."""
    while True:
        back.carry_out(await back.request())
