"""How a back end gets at the front end's pages: kept mapped, or copied.

A front end with `feature-persistent` uses the same pages over and over. They stay mapped, and a
disk reads and writes right there. Mapping and unmapping a page costs more than a copy of it does,
twenty times over on an emulated Xen: so of any other front end's pages, Xen is asked to copy what a
request names, all of it in one call.

Both raise `XenError` for references that are refused.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import Protocol

from activations.abi.blkif import SECTOR_SIZE, SECTORS_PER_PAGE, Op
from activations.abi.grant_table import PAGE_SIZE
from activations.drivers.block.protocol import Runs
from activations.errors import XenError
from activations.grants import Grant, Grants
from activations.lower import Foreign
from activations.lower import Segment as Copy

PERSISTENT = 1056
"""Pages of a queue that stay mapped: what Linux's front end uses with a ring of one page and its
own limits, 32 requests of 32 segments, and a page for the segments of each."""
MAPPINGS = 128
"""In how many pieces, since each is an open descriptor on Linux; in twice as many while all are in
use. What a request lacks is mapped in one piece, so that what is used together comes to lie
together."""


class QueuePages(Protocol):
    """The pages of one queue's front end."""

    def open(self, runs: Runs, op: Op) -> OpenSegments:
        """The bytes of these segments, for `READ` or `WRITE`. Close what it gives before opening
        again, or `keep` it."""

    def copy_of(self, refs: Sequence[int], length: int) -> bytes:
        """The first `length` bytes of these pages, one after another."""

    def close(self) -> None:
        """Let go of all pages. What is open must be closed by then."""


class OpenSegments(Protocol):
    """The bytes of one request's segments, until `close`."""

    @property
    def buffers(self) -> Sequence[memoryview]:
        """All of them, in order, in pieces of any length."""

    def keep(self) -> None:
        """Others will be opened before this one is closed."""

    def close(self, *, done: bool) -> None:
        """Let go. With `done`, what the disk has read into the buffers is to be in the pages
        first. Raises `XenError` where that is refused; it is closed all the same."""


class CopiedPages:
    """Maps nothing: data comes and goes by way of own memory."""

    def __init__(self, grants: Grants, domid: int) -> None:
        self._grants = grants
        self._domid = domid

    def open(self, runs: Runs, op: Op) -> OpenSegments:
        return _Copied(self._grants, self._domid, runs, op)

    def copy_of(self, refs: Sequence[int], length: int) -> bytes:
        data = bytearray(length)
        with memoryview(data) as view:
            self._grants.copy(
                [
                    Copy(Foreign(self._domid, ref), piece, len(piece))
                    for number, ref in enumerate(refs)
                    if (piece := view[number * PAGE_SIZE : (number + 1) * PAGE_SIZE])
                ]
            )
        return bytes(data)

    def close(self) -> None:
        pass


class _Copied:
    __slots__ = ("_domid", "_grants", "_op", "_runs", "_view", "buffers")

    def __init__(self, grants: Grants, domid: int, runs: Runs, op: Op) -> None:
        self._grants = grants
        self._domid = domid
        self._runs = runs
        self._op = op
        self._view = memoryview(bytearray(runs.sectors * SECTOR_SIZE))
        self.buffers = (self._view,)
        if op is not Op.READ:
            self._grants.copy([Copy(theirs, own, len(own)) for theirs, own in self._pairs()])

    def keep(self) -> None:
        pass  # its memory is its own

    def close(self, *, done: bool) -> None:
        try:
            if done and self._op is Op.READ:
                self._grants.copy([Copy(own, theirs, len(own)) for theirs, own in self._pairs()])
        finally:
            self._view.release()

    def _pairs(self) -> Iterable[tuple[Foreign, memoryview]]:
        """Each segment's place in the front end's memory and in ours."""
        start = 0
        for segment in self._runs.segments:
            end = start + segment.length
            yield Foreign(self._domid, segment.ref, segment.offset), self._view[start:end]
            start = end


class KeptPages:
    """Maps what it has not yet, and keeps it mapped: `limit` pages, and `mappings` pieces, at most,
    as far as nothing more is in use. Those go first that were not used for longest. What would make
    twice as many pieces is copied."""

    def __init__(
        self, grants: Grants, domid: int, *, limit: int = PERSISTENT, mappings: int = MAPPINGS
    ) -> None:
        self._grants = grants
        self._domid = domid
        self._limit = limit
        self._most = mappings
        self._copied = CopiedPages(grants, domid)
        self._mappings: OrderedDict[_Mapping, None] = OrderedDict()
        """The longest unused first, as far as a limit was reached."""
        self._pages: dict[int, memoryview] = {}
        self._mapping_of: dict[int, _Mapping] = {}
        self.tight: bool = False
        """A limit is reached, or gone over: `trim` may have something to do."""

    def __len__(self) -> int:
        """Pages that are mapped."""
        return len(self._pages)

    def open(self, runs: Runs, op: Op) -> OpenSegments:
        pages = self._have(runs.refs)
        if pages is None:
            return self._copied.open(runs, op)
        if runs.sectors == len(pages) * SECTORS_PER_PAGE:
            return _Kept(self, runs.refs, pages)
        return _KeptInPart(self, runs.refs, [*map(_part, pages, runs.firsts, runs.lasts)])

    def copy_of(self, refs: Sequence[int], length: int) -> bytes:
        pages = self._have(refs)
        if pages is None:
            return self._copied.copy_of(refs, length)
        data = bytes(pages[0][:length]) if len(pages) == 1 else b"".join(pages)[:length]
        if self.tight:
            self.trim()
        return data

    def close(self) -> None:
        self._limit = 0
        self._count()
        self.trim()

    def trim(self) -> None:
        """Unmap what is beyond the limits and not in use."""
        if not self._excess():
            return
        for mapping in [each for each in self._mappings if not each.users]:
            if not self._excess():
                break
            self._unmap(mapping)

    def hold(self, refs: Sequence[int], users: int) -> None:
        """There are so many more users of these pages, which then stay."""
        for ref in refs:
            self._mapping_of[ref].users += users

    def _have(self, refs: Sequence[int]) -> list[memoryview] | None:
        """These pages, mapped if they were not; None where they cannot be mapped for want of
        room."""
        pages = self._pages
        try:
            found = [*map(pages.__getitem__, refs)]
        except KeyError:
            if not self._map(list(dict.fromkeys(ref for ref in refs if ref not in pages))):
                return None
            found = [pages[ref] for ref in refs]
        if self.tight:
            for ref in refs:
                self._mappings.move_to_end(self._mapping_of[ref])
        return found

    def _excess(self) -> bool:
        """Whether a limit is gone over."""
        return len(self._pages) > self._limit or len(self._mappings) > self._most

    def _count(self) -> None:
        self.tight = len(self._pages) >= self._limit or len(self._mappings) >= self._most

    def _map(self, refs: list[int]) -> bool:
        """In one piece, or each alone where that is refused: because of one of them, or because
        they were granted at different times, which the simulator minds. Nothing is mapped where
        one of them cannot be, which raises `XenError`, nor where there is no room."""
        if not self._room(1):
            return False
        try:
            self._add(refs)
        except XenError:
            if len(refs) == 1:
                raise
            if not self._room(len(refs)):
                return False
            self._add_each(refs)
        return True

    def _room(self, pieces: int) -> bool:
        """Whether there may be so many more. What is beyond the limits is in use: it would have
        been unmapped when its last user closed."""
        return len(self._mappings) + pieces <= 2 * self._most

    def _add_each(self, refs: list[int]) -> None:
        added = []
        try:
            for ref in refs:
                added.append(self._add([ref]))
        except XenError:
            for mapping in added:
                self._unmap(mapping)
            raise

    def _add(self, refs: list[int]) -> _Mapping:
        mapping = _Mapping(self._grants.map(self._domid, refs))
        self._mappings[mapping] = None
        for ref, page in zip(refs, mapping.pages, strict=True):
            self._pages[ref] = page
            self._mapping_of[ref] = mapping
        self._count()
        return mapping

    def _unmap(self, mapping: _Mapping) -> None:
        del self._mappings[mapping]
        for ref in mapping.grant.refs:
            del self._pages[ref], self._mapping_of[ref]
        self._count()
        mapping.close()


class _Mapping:
    """Pages that were mapped together. `users` counts what keeps them so."""

    __slots__ = ("grant", "pages", "users")

    def __init__(self, grant: Grant) -> None:
        self.grant = grant
        self.users = 0
        self.pages = [
            grant.memory[start : start + PAGE_SIZE]
            for start in range(0, len(grant.memory), PAGE_SIZE)
        ]

    def close(self) -> None:
        for page in self.pages:
            page.release()
        self.grant.close()


class _Kept:
    """Whole pages, where they are mapped."""

    __slots__ = ("_held", "_owner", "_refs", "buffers")

    def __init__(
        self, owner: KeptPages, refs: Sequence[int], buffers: Sequence[memoryview]
    ) -> None:
        self.buffers = buffers
        self._owner = owner
        self._refs = refs
        self._held = False

    def keep(self) -> None:
        self._held = True
        self._owner.hold(self._refs, 1)

    def close(self, *, done: bool) -> None:
        if self._held:
            self._owner.hold(self._refs, -1)
        if self._owner.tight:
            self._owner.trim()


class _KeptInPart(_Kept):
    """Parts of pages. Its buffers are views of its own, and a page cannot be unmapped while one
    lives."""

    __slots__ = ()

    def close(self, *, done: bool) -> None:
        for piece in self.buffers:
            piece.release()
        super().close(done=done)


def _part(page: memoryview, first: int, last: int) -> memoryview:
    return page[first * SECTOR_SIZE : (last + 1) * SECTOR_SIZE]
