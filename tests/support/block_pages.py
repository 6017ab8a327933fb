"""A front end's core without a Xen: pages that pretend to be granted, and a disk that answers."""

from __future__ import annotations

import errno
from dataclasses import dataclass, field
from itertools import count
from typing import Any

from activations import XenError
from activations.abi.blkif import SECTOR_SIZE, X86_64, Op, Status
from activations.drivers.block.errors import DiskError
from activations.drivers.block.pieces import Transfer
from activations.drivers.block.pool import Pool
from activations.drivers.block.protocol import (
    Discard,
    Indirect,
    Request,
    Segment,
    decode,
    encode_response,
    runs_in,
)
from activations.drivers.block.requests import RequestRing, Requests
from activations.sring import BackRing

PAGE = 4096


class Memory:
    """Granted pages by their references: what a back end would map."""

    def __init__(self, most: int = 1024) -> None:
        self.pages: dict[int, memoryview] = {}
        self._most = most
        self._refs = count(100)

    def share(self, pages: int) -> Any:
        """As `Pool.stock` wants it: no grant, but what it needs of one."""
        if pages > self._most - len(self.pages):
            raise XenError(errno.ENOSPC, "grant", f"{pages} pages")
        grant = Shared(pages)
        grant.refs = tuple(next(self._refs) for _ in range(pages))
        for at, ref in enumerate(grant.refs):
            self.pages[ref] = grant.memory[at * PAGE : (at + 1) * PAGE]
        return grant


class Shared:
    def __init__(self, pages: int) -> None:
        self.memory = memoryview(bytearray(pages * PAGE))
        self.refs: tuple[int, ...] = ()


@dataclass
class Backend:
    """A back end that takes requests and answers those it is told to, of a disk in memory."""

    memory: Memory
    data: bytearray
    max_indirect: int = 0
    taken: list[Request | Indirect | Discard] = field(default_factory=list)
    done: list[tuple[int, int, int]] = field(default_factory=list)
    """What was answered: operation, sector, sectors."""
    notified: int = 0

    def ring(self, pages: int = 1, start: int = 0) -> RequestRing:
        """A new ring; what an earlier one held is forgotten."""
        memory = memoryview(bytearray(pages * PAGE))
        queue = RequestRing(memory, self.wake, start=start)
        self.rings.append(BackRing(memory, X86_64.entry_size))
        return queue

    def __post_init__(self) -> None:
        self.rings: list[BackRing] = []
        self._from: dict[int, BackRing] = {}

    def wake(self) -> None:
        self.notified += 1

    def forget(self) -> None:
        """Die: what is in hand is never answered."""
        self.rings.clear()
        self.taken.clear()

    def take(self) -> int:
        """Take all there is; give how many requests are in hand."""
        for ring in self.rings:
            while entry := ring.take():
                request = decode(X86_64, entry, max_indirect=self.max_indirect)
                self.taken.append(request)
                self._from[request.id] = ring
            ring.idle()
        return len(self.taken)

    def answer(self, index: int = 0, status: int = Status.OKAY) -> None:
        """Do one of those in hand, and answer it."""
        request = self.taken.pop(index)
        op = Op.DISCARD if isinstance(request, Discard) else request.op
        if status == Status.OKAY:
            self._do(request)
        ring = self._from.pop(request.id)
        ring.put(X86_64.response.pack(request.id, op, status))
        ring.push()

    def answer_all(self) -> None:
        while self.take():
            self.answer()

    def say(self, id: int, op: int, status: int = 0) -> None:
        """Answer anything at all in place of a request in hand."""
        self.rings[0].put(encode_response(X86_64, id, op, Status(status)))
        self.rings[0].push()

    def _do(self, request: Request | Indirect | Discard) -> None:
        if isinstance(request, Discard):
            self.done.append((Op.DISCARD, request.sector, request.sectors))
            return
        at = start = request.sector * SECTOR_SIZE
        for ref, first, last in self._segments(request):
            page = self.memory.pages[ref][first * SECTOR_SIZE : (last + 1) * SECTOR_SIZE]
            if request.op is Op.READ:
                page[:] = self.data[at : at + len(page)]
            else:
                self.data[at : at + len(page)] = page
            at += len(page)
        self.done.append((request.op, request.sector, (at - start) // SECTOR_SIZE))

    def _segments(self, request: Request | Indirect) -> list[Segment]:
        if isinstance(request, Request):
            raw = request.segments
        else:
            raw = b"".join(bytes(self.memory.pages[ref]) for ref in request.refs)
        return runs_in(raw, request).segments


class World:
    """A core and its back end, connected."""

    def __init__(
        self,
        *,
        pages: int = 64,
        size: int = 1 << 20,
        max_indirect: int = 0,
        queues: int = 1,
        start: int = 0,
        grantable: int = 1024,
    ) -> None:
        self.memory = Memory(grantable)
        self.pool = Pool()
        self.pool.stock(self.memory.share, pages)
        self.requests = Requests(self.pool)
        self.back = Backend(self.memory, bytearray(size), max_indirect)
        self.queues: list[RequestRing] = []
        self.connect(queues=queues, max_indirect=max_indirect, start=start)

    def connect(self, *, queues: int = 1, max_indirect: int = 0, start: int = 0) -> None:
        """A new connection."""
        self.back.max_indirect = max_indirect
        self.queues = [self.back.ring(start=start) for _ in range(queues)]
        self.requests.attach(self.queues, max_indirect=max_indirect)

    def part(self) -> None:
        """The back end dies."""
        self.back.forget()
        self.requests.detach()

    def ask(
        self, op: Op, sector: int = 0, length: int = 0, memory: bytearray | bytes | None = None
    ) -> Asked:
        asked = Asked()
        view = None if memory is None else memoryview(memory)
        transfer = Transfer(op, sector, length, view, asked.ended.append)
        asked.transfer = transfer
        self.requests.submit(transfer)
        self.requests.fill()
        return asked

    def read(self, sector: int, sectors: int) -> Asked:
        data = bytearray(sectors * SECTOR_SIZE)
        asked = self.ask(Op.READ, sector, len(data), data)
        asked.data = data
        return asked

    def write(self, sector: int, data: bytes) -> Asked:
        return self.ask(Op.WRITE, sector, len(data), data)

    def hear(self) -> None:
        """Take the answers, and go on."""
        for queue in self.queues:
            self.requests.collect(queue)
        self.requests.fill()

    def finish(self) -> None:
        """Until nothing is under way."""
        while self.back.take():
            self.back.answer_all()
            self.hear()


class Asked:
    """A transfer, and how it ended."""

    def __init__(self) -> None:
        self.ended: list[DiskError | None] = []
        self.data = bytearray()
        self.transfer: Transfer

    @property
    def okay(self) -> bool:
        return self.ended == [None]
