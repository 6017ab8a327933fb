"""A block front end made by hand, for tests of the back end: it can say anything.

`serve_until_done` is the half of a dom0 that serves a disk, `use_front` that of a guest whose
`use(front)` is handed the connected front end.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from dataclasses import dataclass, field
from random import Random
from typing import Any

import pytest

from activations import Domain
from activations.abi import blkif as abi
from activations.abi.blkif import X86_64, Layout, Op, Status
from activations.drivers.block import BlkBack
from activations.drivers.block.disks import ServedDisk
from activations.drivers.block.protocol import (
    AnyRequest,
    Discard,
    Indirect,
    Request,
    Response,
    Segment,
    decode_response,
    encode,
    encode_segments,
    pages_for,
)
from activations.drivers.block.queue import Statistics
from activations.grants import Grant
from activations.leftovers import Leftovers
from activations.lower import Clock
from activations.port import Port
from activations.sring import FrontRing
from activations.xenbus import (
    BackEnd,
    Device,
    FrontDriver,
    FrontEnd,
    Keys,
    Phase,
    Written,
    front_device,
    plug,
    unplug,
)
from xen_sim import Machine

DEVID = 51712
"""xvda."""
HANDLE = DEVID & 0xFFFF


@dataclass
class Link:
    grant: Grant
    ring: FrontRing
    port: Port


@dataclass
class RawFront(FrontDriver):
    """`says` is written over the keys that it would publish; None takes one away."""

    xen: Domain
    device: Device
    order: int = 0
    queues: int = 1
    persistent: bool = True
    layout: Layout = X86_64
    says: Mapping[str, str | int | None] = field(default_factory=dict)
    links: list[Link] = field(default_factory=list)
    pages: list[Grant] = field(default_factory=list)
    back: Keys | None = None
    leftovers: Leftovers = field(default_factory=Leftovers)
    ids: int = 0
    queue: int = 0

    # The handshake's side

    async def publish(self, back: Keys) -> Written:
        keys: dict[str, Any] = {
            abi.PROTOCOL: self.layout.protocol,
            abi.FEATURE_PERSISTENT: int(self.persistent),
        }
        if self.order:
            keys[abi.RING_PAGE_ORDER] = self.order
        if self.queues > 1:
            keys[abi.NUM_QUEUES] = self.queues
        for number in range(self.queues):
            folder = f"queue-{number}/" if self.queues > 1 else ""
            port = self.xen.events.alloc_unbound(self.device.back)
            grant = self.xen.grants.share(self.device.back, pages=1 << self.order)
            ring = FrontRing(grant.memory, self.layout.entry_size)
            self.links.append(Link(grant, ring, port))
            keys[f"{folder}{abi.EVENT_CHANNEL}"] = port.number
            for at, ref in enumerate(grant.refs):
                keys[f"{folder}{abi.RING_REF}{at if self.order else ''}"] = ref
        keys |= self.says
        return {name: value for name, value in keys.items() if value is not None}

    async def connect(self, back: Keys) -> None:
        self.back = back

    async def serve(self) -> None:
        await asyncio.Event().wait()

    async def disconnect(self) -> None:
        links, self.links = self.links, []
        for link in links:
            link.ring.release()
            link.port.close()
            self.leftovers.close(link.grant)

    # The test's side

    async def gone(self) -> None:
        """Wait until the back end has left: this end then gives its rings back."""
        while self.links:
            await asyncio.sleep(0.001)

    def use_queue(self, number: int) -> None:
        """What is put from now on goes into this one."""
        self.queue = number

    def give_pages_back(self) -> None:
        """Close all pages, which must not be mapped any more."""
        while self.pages:
            self.pages.pop().close()

    @property
    def ring(self) -> FrontRing:
        return self.links[self.queue].ring

    @property
    def port(self) -> Port:
        return self.links[self.queue].port

    def page(self, content: bytes = b"", *, writable: bool = True, pages: int = 1) -> Grant:
        """A granted page, or several, that begin with these bytes."""
        grant = self.xen.grants.share(self.device.back, pages=pages, writable=writable)
        grant.memory[: len(content)] = content
        self.pages.append(grant)
        return grant

    def put(self, *entries: AnyRequest | bytes) -> None:
        """Put requests, or any bytes, and tell the back end if it wants to know."""
        for entry in entries:
            self.ring.put(entry if isinstance(entry, bytes) else encode(self.layout, entry))
        if self.ring.push():
            self.port.notify()

    async def response(self) -> Response:
        """The next one."""
        while (entry := self.ring.take()) is None:
            if self.ring.idle():
                await self.port.wait()
        return decode_response(self.layout, entry)

    async def ask(self, *entries: AnyRequest | bytes) -> list[Response]:
        """Put them all at once; their responses, as they come."""
        self.put(*entries)
        return [await self.response() for _ in entries]

    async def status(self, entry: AnyRequest | bytes) -> int:
        [response] = await self.ask(entry)
        return response.status

    def next_id(self) -> int:
        self.ids += 1
        return self.ids

    def request(self, op: Op, sector: int, segments: Iterable[Segment]) -> Request | Indirect:
        """A direct request, or one with the segments in pages where it needs that."""
        listed = tuple(segments)
        raw = encode_segments(listed)
        if len(listed) <= abi.MAX_SEGMENTS_PER_REQUEST:
            return Request(op, self.next_id(), sector, HANDLE, raw)
        tables = [
            self.page(raw[4096 * at : 4096 * (at + 1)]).refs[0]
            for at in range(pages_for(len(listed)))
        ]
        return Indirect(op, self.next_id(), sector, HANDLE, len(listed), tuple(tables))

    async def write(self, sector: int, data: bytes) -> int:
        """Write whole sectors; the status."""
        segments = [
            Segment(self.page(piece).refs[0], 0, len(piece) // 512 - 1) for piece in paged(data)
        ]
        return await self.status(self.request(Op.WRITE, sector, segments))

    async def read(self, sector: int, sectors: int) -> bytes:
        """Read sectors, which has to succeed."""
        lengths = [len(piece) for piece in paged(bytes(sectors * 512))]
        pages = [self.page() for _ in lengths]
        segments = [
            Segment(page.refs[0], 0, length // 512 - 1)
            for page, length in zip(pages, lengths, strict=True)
        ]
        status = await self.status(self.request(Op.READ, sector, segments))
        assert status == Status.OKAY
        return b"".join(
            bytes(page.memory[:length]) for page, length in zip(pages, lengths, strict=True)
        )

    async def flush(self) -> int:
        return await self.status(Request(Op.FLUSH_DISKCACHE, self.next_id(), 0, HANDLE, b""))

    async def discard(self, sector: int, sectors: int, **more: Any) -> int:
        return await self.status(Discard(self.next_id(), sector, sectors, HANDLE, **more))


def paged(data: bytes) -> list[bytes]:
    return [data[at : at + 4096] for at in range(0, len(data), 4096)]


Use = Callable[[RawFront], Awaitable[Any]]


@dataclass(frozen=True)
class Served:
    """What became of it: `failure` is why the device was closed, if something was wrong."""

    statistics: Statistics
    failure: str


async def serve_until_done(
    xen: Domain, disk: ServedDisk, *, mode: str = "w", max_queues: int = 4
) -> Served:
    """dom0's half: plug a disk into the guest, and serve it until that says that it is done."""
    guest = await xen.find("guest")
    device = Device("vbd", DEVID, guest, 0, served_as="pyvbd")
    await plug(xen, device, back={"mode": mode})
    back = BlkBack(xen, device, disk, max_queues=max_queues)
    async with BackEnd(xen, device, back) as end:
        await xen.store.wait_for(f"/local/domain/{guest}/data/done")
        parted = (Phase.OFFERED, Phase.CLOSED, Phase.FAILED, Phase.UNPLUGGED)
        await end.reached(*parted, within=60)
        assert not xen.grants.open, "mapped although no front end is connected"
    await unplug(xen, device)
    return Served(back.statistics(), end.failure)


async def use_front(
    xen: Domain,
    use: Use,
    *,
    kind: type[RawFront] = RawFront,
    patience: float = 60,
    **options: Any,
) -> Any:
    """The guest's half: connect, use, part; what `use` returned."""
    front = kind(xen, await front_device(xen, "vbd", DEVID), **options)
    try:
        async with FrontEnd(xen, front.device, front) as end:
            await end.connected(patience)
            result = await use(front)
    finally:
        front.leftovers.close(*front.pages)
        await front.leftovers.aclose()
    await xen.store.write(f"/local/domain/{xen.domid}/data/done", "1")
    return result


# Serving it, on the simulator

SIZE = 1 << 21


def serving(
    disk: ServedDisk,
    use: Use,
    *,
    mode: str = "w",
    seed: int | None = None,
    clock: Clock = "virtual",
    **front: Any,
) -> Served:
    """Serve a disk to a front end that `use` drives; what became of it."""

    async def dom0(xen: Domain) -> Served:
        return await serve_until_done(xen, disk, mode=mode)

    async def guest(xen: Domain) -> None:
        await use_front(xen, use, **front)

    machine = Machine(seed=seed, clock=clock)
    machine.boot("dom0", dom0)
    machine.boot("guest", guest)
    served: Served = machine.run()["dom0"]
    return served


def noise(size: int, seed: int = 1) -> bytes:
    return Random(seed).randbytes(size)


PERSISTENT = pytest.mark.parametrize("persistent", [True, False], ids=["persistent", "copied"])
LAYOUTS = pytest.mark.parametrize("layout", abi.LAYOUTS.values(), ids=abi.LAYOUTS)
HOSTILE = (1 << 31) + 7
"""A grant reference nobody made."""


class Slow:
    """A Python object as a disk: what lies far back takes longer."""

    def __init__(self) -> None:
        self.data = bytearray(SIZE)
        self.said: list[str] = []

    async def read(self, offset: int, length: int) -> bytes:
        await asyncio.sleep(offset / 1e3)
        self.said.append(f"read {offset}")
        return bytes(self.data[offset : offset + length])

    async def write(self, offset: int, data: bytes) -> None:
        await asyncio.sleep(offset / 1e3)
        self.data[offset : offset + len(data)] = data

    async def flush(self) -> None:
        await asyncio.sleep(1)
        self.said.append("flush")
