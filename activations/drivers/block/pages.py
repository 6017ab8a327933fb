"""The front end's pages that a request names: mapped, or mapped and kept.

A front end with `feature-persistent` uses the same pages over and over, so they stay mapped, as
many as `limit`; when there are more, those go that were not used for longest. For any other front
end the limit is 0: a page is mapped for its request.
"""

from __future__ import annotations

from collections import Counter, OrderedDict
from collections.abc import Sequence

from activations.abi.blkif import SECTOR_SIZE, SECTORS_PER_PAGE
from activations.drivers.block.protocol import Segment
from activations.errors import XenError
from activations.grants import Grant, Grants

PERSISTENT = 1056
"""Pages of a queue that stay mapped: what Linux's front end uses with a ring of one page and its
own limits, 32 requests of 32 segments, and a page for the segments of each."""


class Pages:
    """The pages of one queue. References that are refused raise `XenError`."""

    def __init__(self, grants: Grants, domid: int, *, limit: int) -> None:
        self._grants = grants
        self._domid = domid
        self._limit = limit
        self._mapped: OrderedDict[int, Grant] = OrderedDict()
        """By reference; the longest unused first, as far as the limit was reached."""
        self._in_use: Counter[int] = Counter()

    def __len__(self) -> int:
        """Pages that are mapped."""
        return len(self._mapped)

    def open(self, segments: Sequence[Segment]) -> Access:
        """The bytes of these segments. Close what it gives before opening again, or `keep` it."""
        access = Access(self, segments)
        try:
            for ref, first, last in segments:
                memory = self._page(ref)
                if last - first < SECTORS_PER_PAGE - 1:
                    memory = memory[first * SECTOR_SIZE : (last + 1) * SECTOR_SIZE]
                    access.pieces.append(memory)
                access.buffers.append(memory)
        except XenError:
            access.close()
            raise
        return access

    def copy_of(self, refs: Sequence[int], length: int) -> bytes:
        """The first `length` bytes of these pages, one after another."""
        try:
            return b"".join([self._page(ref) for ref in refs])[:length]
        finally:
            self.trim()

    def close(self) -> None:
        """Unmap everything."""
        self._limit = 0
        self._in_use.clear()
        self.trim()

    def trim(self) -> None:
        """Unmap what is beyond the limit and not in use."""
        excess = len(self._mapped) - self._limit
        if excess <= 0:
            return
        unused = (ref for ref in self._mapped if not self._in_use[ref])
        for ref, _ in zip(list(unused), range(excess), strict=False):
            self._mapped.pop(ref).close()

    def hold(self, segments: Sequence[Segment]) -> None:
        self._in_use.update(segment.ref for segment in segments)

    def let_go(self, segments: Sequence[Segment]) -> None:
        self._in_use.subtract(segment.ref for segment in segments)
        self._in_use += Counter()  # drops what is at 0

    def _page(self, ref: int) -> memoryview:
        grant = self._mapped.get(ref)
        if grant is None:
            grant = self._mapped[ref] = self._grants.map(self._domid, [ref])
        elif len(self._mapped) >= self._limit:
            self._mapped.move_to_end(ref)
        return grant.memory


class Access:
    """The bytes of one request's segments, until `close`."""

    __slots__ = ("_held", "_pages", "_segments", "buffers", "pieces")

    def __init__(self, pages: Pages, segments: Sequence[Segment]) -> None:
        self.buffers: list[memoryview] = []
        """One for each segment, in order."""
        self.pieces: list[memoryview] = []
        """Those that are not whole pages: views of our own, which keep a page from unmapping."""
        self._pages = pages
        self._segments = segments
        self._held = False

    def keep(self) -> None:
        """Others will be opened before this one is closed."""
        self._held = True
        self._pages.hold(self._segments)

    def close(self) -> None:
        for piece in self.pieces:
            piece.release()
        if self._held:
            self._pages.let_go(self._segments)
        self._pages.trim()
