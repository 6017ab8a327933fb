"""One queue of a back end: a ring of requests, and what becomes of each.

A disk that has its data at hand is served in one go, request after request, and the answers of a
round are published together. What has to wait gets a task of its own, and is answered when it is
done, so requests overtake each other. A round is bounded: a front end that never stops asking
does not keep others from running.

A front end that breaks the ring has its device closed (`RingError`). A request that cannot be done
is answered so, and nothing else comes of it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import ExitStack
from dataclasses import dataclass
from errno import EOPNOTSUPP
from functools import partial
from typing import Any

from activations.abi.blkif import SECTOR_SIZE, SEGMENT, Layout, Op, Status
from activations.bell import bell
from activations.drivers.block.disks import Done, ServedDisk
from activations.drivers.block.pages import OpenSegments, QueuePages
from activations.drivers.block.protocol import (
    BadRequest,
    Discard,
    Indirect,
    Request,
    check_range,
    decode,
    encode_response,
    runs_in,
)
from activations.errors import XenError
from activations.own import own
from activations.port import Port
from activations.sring import BackRing

ROUND = 32
"""Requests that are begun before others may run."""
EARLY = 512
"""Sectors read or written after which the answers of a round are published before its end: the
front end copies them out, on its own processor, while the next ones are served here."""
IN_WORK = 32 << 20
"""Bytes of requests that the disk is at work on, beyond which no more are begun: each may hold a
copy of its data, and a front end needs no more than one page for all of its requests."""
MAX_INDIRECT = 256
"""Segments of an indirect request: 1 MiB."""
_READ, _WRITE, _OKAY = Op.READ, Op.WRITE, Status.OKAY
"""Found once: to find an enum's member takes as long as to call a function."""


@dataclass(slots=True)
class Statistics:
    """What a back end has done since it was made. `sectors` are of 512 bytes."""

    requests: int = 0
    sectors_read: int = 0
    sectors_written: int = 0
    flushes: int = 0
    discards: int = 0
    errors: int = 0
    """Requests that were answered with anything but `OKAY`."""
    notifications: int = 0
    """Events that were sent to the front end."""


@dataclass(frozen=True, slots=True)
class Service:
    """What all queues of a connection have in common."""

    disk: ServedDisk
    read_only: bool
    layout: Layout
    statistics: Statistics
    log: Any


class BackQueue:
    """Serves one ring. `held` gives ring, port and pages back, and is called by `aclose`."""

    def __init__(
        self, service: Service, ring: BackRing, port: Port, pages: QueuePages, held: ExitStack
    ) -> None:
        self._disk = service.disk
        self._read_only = service.read_only
        self._layout = service.layout
        self._statistics = service.statistics
        self._log = service.log
        self._ring = ring
        self._port = port
        self._ring_bell = bell(port)
        self._pages = pages
        self._held = held
        self._unit = service.disk.sector_size // SECTOR_SIZE
        self._under_way: set[asyncio.Future[None]] = set()
        self._in_work = 0
        """Bytes of what is under way."""
        self._eased = asyncio.Event()
        self._told: set[tuple[type, int | None]] = set()
        """Kinds of failures that are in the log."""
        self._to_publish = False
        """`_publish` will be called."""
        self._moved = 0
        """Sectors since answers were last published."""
        self._closed = False

    async def serve(self) -> None:
        """Until cancelled. Raises `RingError` if the front end breaks the ring."""
        while True:
            if self._in_work > IN_WORK:
                self._eased.clear()
                await self._eased.wait()
            elif self._round() or not self._ring.idle():
                await asyncio.sleep(0)
            else:
                await self._port.wait()

    async def aclose(self) -> None:
        """End what is under way, without an answer, and give everything back. Twice is harmless.

        Tasks are cancelled; a thread is waited for, since it works on the pages.
        """
        self._closed = True
        for work in self._under_way:
            if isinstance(work, asyncio.Task):
                work.cancel()
        while self._under_way:
            await asyncio.wait(self._under_way)
        self._held.close()

    # What the front end asks

    def _round(self) -> bool:
        """Begin what there is, at most so much; whether there may be more."""
        self._to_publish = True
        try:
            entries = self._ring.take_some(ROUND)
            for entry in entries:
                if self._moved >= EARLY:
                    self._publish()
                    self._to_publish = True
                self._begin(entry)
            return len(entries) == ROUND
        finally:
            self._publish()

    def _begin(self, entry: bytes) -> None:
        try:
            request = decode(self._layout, entry, max_indirect=MAX_INDIRECT)
            if isinstance(request, Discard):
                self._discard(request)
            elif request.op is _READ or request.op is _WRITE:
                self._transfer(request)
            elif request.op is Op.FLUSH_DISKCACHE:
                self._statistics.flushes += 1
                self._do(request.id, request.op, None, self._disk.flush)
            else:
                raise BadRequest(request.id, request.op, "not offered", Status.EOPNOTSUPP)
        except BadRequest as error:
            self._log.debug("bad request", reason=str(error))
            self._answer(error.id, error.op, error.status)

    def _transfer(self, request: Request | Indirect) -> None:
        id, op, disk = request.id, request.op, self._disk
        try:
            runs = runs_in(self._segments(request), request)
            check_range(request, runs.sectors, disk_sectors=disk.sectors, unit=self._unit)
            if op is _WRITE and self._read_only:
                raise BadRequest(id, op, "this disk can only be read")
            access = self._pages.open(runs, op)
        except XenError as error:
            raise BadRequest(id, op, str(error)) from None
        offset = request.sector * SECTOR_SIZE
        self._moved += runs.sectors
        if op is _WRITE:
            self._statistics.sectors_written += runs.sectors
            self._do(id, op, access, disk.write, offset, access.buffers)
        else:
            self._statistics.sectors_read += runs.sectors
            self._do(id, op, access, disk.read_into, offset, access.buffers)

    def _segments(self, request: Request | Indirect) -> bytes:
        if isinstance(request, Request):
            return request.segments
        return self._pages.copy_of(request.refs, request.nr_segments * SEGMENT.size)

    def _discard(self, request: Discard) -> None:
        id, op = request.id, Op.DISCARD
        if request.secure or not self._disk.discard_granularity:
            raise BadRequest(id, op, "not offered", Status.EOPNOTSUPP)
        if self._read_only:
            raise BadRequest(id, op, "this disk can only be read")
        check_range(request, request.sectors, disk_sectors=self._disk.sectors, unit=self._unit)
        self._statistics.discards += 1
        offset, length = request.sector * SECTOR_SIZE, request.sectors * SECTOR_SIZE
        self._do(id, op, None, self._disk.discard, offset, length)

    # What becomes of it

    def _do(
        self, id: int, op: Op, access: OpenSegments | None, work: Callable[..., Done], *args: Any
    ) -> None:
        """Have the disk do it; answer now if it is done, else when it is."""
        done: Done = None
        failure: Exception | None = None
        try:
            done = work(*args)
        except Exception as error:
            failure = error
        if done is None:
            self._end(id, op, access, failure)
        else:
            self._end_later(id, op, access, done)

    def _end_later(
        self, id: int, op: Op, access: OpenSegments | None, done: Awaitable[None]
    ) -> None:
        size = 0
        if access is not None:
            access.keep()
            size = sum(map(len, access.buffers))
        work = asyncio.ensure_future(done)
        if isinstance(work, asyncio.Task):
            own(work)
        self._under_way.add(work)
        self._in_work += size
        work.add_done_callback(partial(self._ended, id, op, access, size))

    def _ended(
        self, id: int, op: Op, access: OpenSegments | None, size: int, work: asyncio.Future[None]
    ) -> None:
        self._under_way.discard(work)
        self._in_work -= size
        self._eased.set()
        failure = asyncio.CancelledError() if work.cancelled() else work.exception()
        if not self._closed:
            self._end(id, op, access, failure)
        elif access is not None:
            access.close(done=False)

    def _end(
        self, id: int, op: Op, access: OpenSegments | None, failure: BaseException | None = None
    ) -> None:
        """The disk has done it, or failed: answer."""
        status = self._failed(id, op, failure) if failure else _OKAY
        if access is not None:
            try:
                access.close(done=status is _OKAY)
            except XenError as refused:
                self._log.debug("bad request", request=id, reason=str(refused))
                status = Status.ERROR
        self._answer(id, op, status)

    def _failed(self, id: int, op: Op, failure: BaseException) -> Status:
        """The status for what a disk raised. Its faults are its owner's to hear of, once of each
        kind, and cost the front end a request, not the device."""
        trace = None if isinstance(failure, OSError) else failure
        kind = type(failure), getattr(failure, "errno", None)
        tell = self._log.debug if kind in self._told else self._log.warning
        self._told.add(kind)
        tell("disk failed", request=id, operation=op.name, reason=repr(failure), exc_info=trace)
        failure.__traceback__ = None  # its frames may hold views of pages that are to be unmapped
        unknown = isinstance(failure, OSError) and failure.errno == EOPNOTSUPP
        return Status.EOPNOTSUPP if unknown else Status.ERROR

    def _answer(self, id: int, op: int, status: Status) -> None:
        self._statistics.requests += 1
        if status is not _OKAY:
            self._statistics.errors += 1
        self._ring.put(encode_response(self._layout, id, op, status))
        if not self._to_publish:
            self._to_publish = True
            asyncio.get_running_loop().call_soon(self._publish)

    def _publish(self) -> None:
        """Let the front end see the answers, all at once."""
        self._to_publish = False
        self._moved = 0
        if not self._closed and self._ring.push():
            self._statistics.notifications += 1
            self._ring_bell()
