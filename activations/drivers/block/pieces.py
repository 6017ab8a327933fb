"""Transfers, and the pieces they are cut into: data on its way to and from a pool's pages.

A transfer is what a user asked for, any number of bytes, or a flush, or a discard. A piece is as
much of it as one request carries, in pages of its own.
"""

from __future__ import annotations

from collections.abc import Callable

from activations.abi.blkif import (
    MAX_SEGMENTS_PER_REQUEST,
    SECTOR_SIZE,
    Op,
)
from activations.abi.grant_table import PAGE_SIZE
from activations.drivers.block.errors import DiskError
from activations.drivers.block.pool import Page
from activations.drivers.block.protocol import (
    AnyRequest,
    Discard,
    Indirect,
    Request,
    Segment,
    encode_segments,
    pages_for,
)

Finish = Callable[[DiskError | None], None]

_DISCARD = Op.DISCARD
"""Found once: to find an enum's member takes as long as to call a function."""


class Transfer:
    """What a user asked for: `length` bytes from `sector` on.

    `memory` is what is read into or written from; None for `FLUSH_DISKCACHE` and `DISCARD`.
    `finish` is called once, with what went wrong, when all of it is done.
    """

    __slots__ = ("cut", "error", "finish", "length", "memory", "op", "pending", "sector")

    def __init__(
        self, op: Op, sector: int, length: int, memory: memoryview | None, finish: Finish
    ) -> None:
        self.op: Op = op
        self.sector: int = sector
        self.length: int = length
        self.memory = memory
        self.finish: Finish | None = finish
        """None when it is not waited for any more."""
        self.cut: int = 0
        """Bytes in pieces."""
        self.pending: int = 0
        """Pieces without an answer."""
        self.error: DiskError | None = None

    def __str__(self) -> str:
        if self.op is Op.FLUSH_DISKCACHE:
            return "flush"
        start = self.sector * SECTOR_SIZE
        return f"{self.op.name.lower()} of {self.length} bytes at {start}"

    @property
    def wanted(self) -> bool:
        """Somebody waits for it, and it can still succeed."""
        return self.finish is not None and self.error is None

    def end(self, error: DiskError | None) -> None:
        """Call `finish`, if it is still waited for."""
        finish, self.finish, self.memory = self.finish, None, None
        if finish is not None:
            finish(error)


class Piece:
    """As much of a transfer as one request carries: `length` bytes from its byte `at` on.

    `pages` hold the data; `frames`, while it is in a ring, the segments of an indirect request.
    """

    __slots__ = ("at", "frames", "length", "pages", "transfer")

    def __init__(self, transfer: Transfer, at: int, length: int, pages: list[Page]) -> None:
        self.transfer: Transfer = transfer
        self.at: int = at
        self.length: int = length
        self.pages: list[Page] = pages
        self.frames: list[Page] = []

    def load(self) -> None:
        """Copy the data to be written into the pages."""
        memory = self.transfer.memory
        assert memory is not None, "there is nothing to write"
        at, end = self.at, self.at + self.length
        for page in self.pages:
            chunk = memory[at : min(at + PAGE_SIZE, end)]
            page.memory[: len(chunk)] = chunk
            at += PAGE_SIZE

    def unload(self, memory: memoryview) -> None:
        """Copy the data that was read to where it is wanted."""
        at, end = self.at, self.at + self.length
        for page in self.pages:
            chunk = bytes(page.memory[: end - at])
            memory[at : at + len(chunk)] = chunk
            at += PAGE_SIZE

    def split(self, segments: int) -> list[Piece]:
        """The same in pieces of at most so many pages."""
        step = segments * PAGE_SIZE
        return [
            Piece(
                self.transfer,
                self.at + start,
                min(step, self.length - start),
                self.pages[start // PAGE_SIZE : start // PAGE_SIZE + segments],
            )
            for start in range(0, self.length, step)
        ]

    def request(self, id: int, handle: int) -> AnyRequest:
        """The piece as a request; the segments of an indirect one are written to its frames."""
        op, sector = self.transfer.op, self.transfer.sector + self.at // SECTOR_SIZE
        if op is _DISCARD:
            return Discard(id, sector, self.length // SECTOR_SIZE, handle)
        segments = self._segments()
        if not self.frames:
            return Request(op, id, sector, handle, segments)
        for number, frame in enumerate(self.frames):
            part = segments[number * PAGE_SIZE : (number + 1) * PAGE_SIZE]
            frame.memory[: len(part)] = part
        refs = tuple(frame.ref for frame in self.frames)
        return Indirect(op, id, sector, handle, len(self.pages), refs)

    def _segments(self) -> bytes:
        segments = [page.whole for page in self.pages]
        if over := self.length % PAGE_SIZE:
            last = Segment(self.pages[-1].ref, 0, over // SECTOR_SIZE - 1)
            segments[-1] = encode_segments([last])
        return b"".join(segments)


def frames_for(pages: int) -> int:
    """Pages for the segments of a request of so many pages."""
    return pages_for(pages) if pages > MAX_SEGMENTS_PER_REQUEST else 0
