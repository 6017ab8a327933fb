"""A front end's requests: cut from transfers, put into rings, matched with their responses.

    Transfer      what a user asked for: any number of bytes, or a flush, or a discard
      Piece       as much of it as one request carries, in pages of the pool
        entry     the piece in a ring, under an id of its own

Nothing here waits. A transfer that finds no room stands in line; the one that learns of room calls
`fill`, which cuts pieces from the head of the line and puts them where there is room. So all are
served in the order in which they came, and none is overtaken.

A piece keeps its pages from the moment it is cut until its response has come, whether anybody
still waits for it or not: until then the back end may read and write them. If the connection
breaks, the pieces in flight stay whole, and go first on the next one, cut smaller if that one has
narrower limits. Ids run on from one connection to the next, so an answer is never taken for the
answer to something else.
"""

from __future__ import annotations

from collections import OrderedDict, deque
from collections.abc import Callable, Sequence
from itertools import count

from activations.abi.blkif import (
    MAX_INDIRECT_PAGES_PER_REQUEST,
    MAX_SEGMENTS_PER_REQUEST,
    SEGMENTS_PER_INDIRECT_PAGE,
    X86_64,
    Layout,
    Op,
    Status,
)
from activations.abi.grant_table import PAGE_SIZE
from activations.drivers.block.errors import DiskError, refusal
from activations.drivers.block.pieces import Piece, Transfer, frames_for
from activations.drivers.block.pool import Pool
from activations.drivers.block.protocol import BlockError, decode_response, encode
from activations.sring import FrontRing

MAX_SEGMENTS = MAX_INDIRECT_PAGES_PER_REQUEST * SEGMENTS_PER_INDIRECT_PAGE
"""What an indirect request can name."""
_READ, _WRITE, _OKAY = Op.READ, Op.WRITE, Status.OKAY
"""Found once: to find an enum's member takes as long as to call a function."""


class RequestRing:
    """One ring, and what is in flight on it."""

    def __init__(
        self,
        memory: memoryview,
        notify: Callable[[], None],
        *,
        layout: Layout = X86_64,
        start: int = 0,
    ) -> None:
        self.layout = layout
        self.ring: FrontRing = FrontRing(memory, layout.entry_size, start=start)
        self.notify = notify
        self.in_flight: dict[int, Piece] = {}
        self.fresh: bool = False
        """Something was put and not yet published."""

    def put(self, id: int, piece: Piece, handle: int) -> None:
        self.ring.put(encode(self.layout, piece.request(id, handle)))
        self.in_flight[id] = piece
        self.fresh = True

    def push(self) -> None:
        """Publish what was put, and wake the back end if it asked for that."""
        self.fresh = False
        if self.ring.push():
            self.notify()

    def take(self) -> tuple[Piece, int] | None:
        """A piece that was answered, and the status. None when there is no answer any more: then
        the next one will be notified of.

        Raises `BlockError` for an answer to nothing, or to something else; `RingError` for more
        answers than there can be.
        """
        while (entry := self.ring.take()) is None:
            if self.ring.idle():
                return None
        id, op, status = decode_response(self.layout, entry)
        piece = self.in_flight.get(id)
        if piece is None:
            raise BlockError(f"the back end answers request {id:#x}, which is not in flight")
        if op != piece.transfer.op and not (op == Op.INDIRECT and piece.frames):
            asked = piece.transfer.op.name
            raise BlockError(f"the back end answers request {id:#x}, {asked}, as operation {op}")
        del self.in_flight[id]
        return piece, status


class Requests:
    """All transfers of one device, over one connection after another. `handle` is the device's
    number as requests carry it."""

    def __init__(self, pool: Pool, handle: int = 0) -> None:
        self.closed: DiskError | None = None
        """Why nothing is done any more."""
        self._pool = pool
        self._handle = handle
        self._ids = count()
        self._queues: Sequence[RequestRing] = ()
        self._line: OrderedDict[Transfer, None] = OrderedDict()
        """Transfers that are not yet cut to their end, in the order they came."""
        self._again: deque[Piece] = deque()
        """Pieces that were in flight when a connection broke."""
        self._limit = MAX_SEGMENTS_PER_REQUEST

    @property
    def in_flight(self) -> int:
        """Requests in rings, without an answer."""
        return sum(len(queue.in_flight) for queue in self._queues)

    @property
    def waiting(self) -> int:
        """Transfers that wait for room, and pieces to be sent again."""
        return len(self._line) + len(self._again)

    # What users do

    def submit(self, transfer: Transfer) -> None:
        """Have a transfer done; `fill` sees to it. Raises what `end` was called with."""
        if self.closed is not None:
            raise self.closed.with_traceback(None)
        self._line[transfer] = None

    def abandon(self, transfer: Transfer) -> None:
        """It is not waited for any more, and its memory is not touched again. What is in flight of
        it stays so: the back end has it."""
        transfer.finish = transfer.memory = None
        self._line.pop(transfer, None)
        self._forget_unwanted()

    # What the connection does

    def attach(self, queues: Sequence[RequestRing], *, max_indirect: int = 0) -> None:
        """There are rings. `max_indirect` is how many segments an indirect request may have."""
        self._queues = queues
        self._limit = max(MAX_SEGMENTS_PER_REQUEST, min(max_indirect, MAX_SEGMENTS))

    def detach(self) -> None:
        """The rings are gone. What was in flight goes first when there are others."""
        flying = sorted(item for queue in self._queues for item in queue.in_flight.items())
        self._queues = ()
        for _, piece in reversed(flying):
            self._give_frames(piece)
            self._again.appendleft(piece)
        self._forget_unwanted()

    def fill(self) -> None:
        """Put into the rings what there is room for, and tell the back end."""
        while (self._line or self._again) and (queue := self._roomiest()):
            piece = self._next()
            if piece is None:
                break
            queue.put(next(self._ids), piece, self._handle)
        for queue in self._queues:
            if queue.fresh:
                queue.push()

    def collect(self, queue: RequestRing) -> None:
        """Take the answers that have come. Raises as `RequestRing.take` does, and then the back end
        is not to be spoken with any more."""
        while answer := queue.take():
            piece, status = answer
            transfer = piece.transfer
            if status != _OKAY:
                transfer.error = transfer.error or refusal(str(transfer), status)
            elif transfer.op is _READ and transfer.memory is not None:
                piece.unload(transfer.memory)
            self._settle(piece)

    def end(self, error: DiskError) -> None:
        """Nothing is done any more: all who wait, now and later, are told why."""
        self.closed = self.closed or error
        pieces = [piece for queue in self._queues for piece in queue.in_flight.values()]
        pieces += self._again
        transfers = dict.fromkeys([*(piece.transfer for piece in pieces), *self._line])
        self._line.clear()
        for transfer in transfers:
            transfer.end(self.closed)
        self._forget_unwanted()

    # The line

    def _roomiest(self) -> RequestRing | None:
        if len(self._queues) == 1:
            (queue,) = self._queues
        elif not self._queues:
            return None
        else:
            queue = max(self._queues, key=lambda queue: queue.ring.free)
        return queue if queue.ring.free else None

    def _next(self) -> Piece | None:
        """The next piece to be put; None if there is nothing, or not enough pages for it."""
        if self._again:
            return self._next_again()
        while self._line:
            transfer = next(iter(self._line))
            if not transfer.wanted:  # a piece of it has failed
                del self._line[transfer]
                continue
            piece = self._cut(transfer)
            if transfer.cut == transfer.length:
                del self._line[transfer]
            return piece
        return None

    def _next_again(self) -> Piece | None:
        piece = self._again[0]
        if len(piece.pages) > self._limit:
            pieces = piece.split(self._limit)
            piece.transfer.pending += len(pieces) - 1
            self._again.popleft()
            self._again.extendleft(reversed(pieces))
            piece = pieces[0]
        if not self._take_frames(piece):
            return None
        return self._again.popleft()

    def _cut(self, transfer: Transfer) -> Piece | None:
        """The next piece of a transfer, if there are pages for it."""
        at = transfer.cut
        if transfer.op is not _READ and transfer.op is not _WRITE:
            piece = Piece(transfer, 0, transfer.length, [])
        else:
            most = max(1, min(self._limit, self._pool.size // 2))
            length = min(transfer.length - at, most * PAGE_SIZE)
            pages = -(-length // PAGE_SIZE)
            frames = frames_for(pages)
            if pages + frames > self._pool.free:
                return None
            piece = Piece(transfer, at, length, self._pool.take(pages))
            if frames:
                piece.frames = self._pool.take(frames)
            if transfer.op is _WRITE:
                piece.load()
        transfer.cut += piece.length
        transfer.pending += 1
        return piece

    def _take_frames(self, piece: Piece) -> bool:
        frames = frames_for(len(piece.pages))
        if frames > self._pool.free:
            return False
        if frames:
            piece.frames = self._pool.take(frames)
        return True

    def _give_frames(self, piece: Piece) -> None:
        self._pool.give(piece.frames)
        piece.frames = []

    def _settle(self, piece: Piece) -> None:
        """A piece is done with: its pages are free, and its transfer may be at its end."""
        transfer = piece.transfer
        self._pool.give(piece.pages)
        if piece.frames:
            self._give_frames(piece)
        transfer.pending -= 1
        if not transfer.pending and (transfer.error or transfer.cut == transfer.length):
            self._line.pop(transfer, None)
            transfer.end(transfer.error)

    def _forget_unwanted(self) -> None:
        """What was abandoned, or has failed, is not sent again."""
        pieces, self._again = self._again, deque()
        for piece in pieces:
            if piece.transfer.wanted:
                self._again.append(piece)
            else:
                self._settle(piece)
