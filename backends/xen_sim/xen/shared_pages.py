"""Pages shared and mapped, as the drivers of Linux have them on top of the grant table.

What /dev/xen/gntalloc, gntdev and their notifications do for a program (`activations.grants`):
fresh pages with references of the driver's choice, mappings of several as one stretch of memory.
Mapping gives the very same bytes: two domains of one simulation share memory as two domains of a
machine do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from contextlib import suppress
from errno import EBUSY, EINVAL, ENOSPC
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any

from activations.abi.grant_table import PAGE_SIZE, RESERVED_ENTRIES, GntStatus, Gtf
from activations.errors import XenError
from activations.lower import Foreign, Segment
from xen_sim.xen.grant_table import MAX_ENTRIES, MAX_FRAMES, Bytes, GrantRefused, Page, copy

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from xen_sim.xen.domain import XenDomain
    from xen_sim.xen.grant_table import GrantTable


class Allocation(bytearray):
    """Pages that were granted together, of the domain that granted them."""

    __slots__ = ("owner",)

    def __init__(self, pages: int, owner: PageGrants) -> None:
        super().__init__(pages * PAGE_SIZE)
        self.owner: PageGrants = owner


class PageGrants:
    """What a domain's programs share and map."""

    def __init__(self, domain: XenDomain) -> None:
        self.domain = domain
        self.table: GrantTable = domain.grant_table
        self.mappings: dict[MappedPages, None] = {}
        """What this domain maps of others'."""
        self.shared: dict[SharedPages, None] = {}
        """What it shares with others."""
        self._begin()

    def _begin(self) -> None:
        self.pages: dict[int, Page] = {}
        """What is granted, by frame number."""
        self._next_ref = RESERVED_ENTRIES
        self._freed: list[int] = []

    def share(self, domid: int, pages: int, writable: bool) -> SharedPages:
        """Fresh zeroed pages, granted to `domid`."""
        if pages > MAX_ENTRIES - self._next_ref + len(self._freed):
            raise XenError(ENOSPC, "grant", f"{self.domain.name}: {pages} pages for {domid}")
        memory = Allocation(pages, self)
        flags = Gtf.PERMIT_ACCESS | (Gtf.INVALID if writable else Gtf.READONLY)
        refs = []
        for offset in range(0, len(memory), PAGE_SIZE):
            ref = heappop(self._freed) if self._freed else self._fresh()
            frame = self.domain.xen.new_frame()
            self.pages[frame] = Page(memory, offset, frame)
            self.table.set_entry(ref, flags, domid, frame)
            refs.append(ref)
        shared = SharedPages(self, self.table, domid, tuple(refs), memoryview(memory))
        self.shared[shared] = None
        return shared

    def map(self, domid: int, refs: Sequence[int], writable: bool) -> MappedPages:
        """GNTTABOP_map_grant_ref for each reference; where one is refused, none is mapped."""
        acquired: list[tuple[int, Page]] = []
        table = None
        try:
            table = self._table_of(domid)
            for ref in refs:
                page = table.acquire(ref, self.domain.domid, writable=writable, mapping=True)
                acquired.append((ref, page))
            memory = _joined([page for _, page in acquired])
            if memory is None:
                raise GrantRefused(
                    GntStatus.NO_DEVICE_SPACE,
                    f"references {list(refs)} were not granted together: map each alone",
                )
        except GrantRefused as refused:
            for ref, _ in acquired:
                assert table is not None
                table.release(ref, writable=writable)
            raise XenError(EINVAL, "GNTTABOP_map_grant_ref", str(refused)) from None
        mapped = MappedPages(self, table, tuple(refs), memory, writable=writable)
        self.mappings[mapped] = None
        return mapped

    def copy(self, segments: Sequence[Segment]) -> list[int]:
        """GNTTABOP_copy: how each segment ended. One that is refused does not stop the others."""
        return [self._copy(segment) for segment in segments]

    def _copy(self, segment: Segment) -> GntStatus:
        length = segment.length
        if not length:
            return GntStatus.OKAY
        try:
            source = self._bytes(segment.source, writable=False)
            dest = self._bytes(segment.dest, writable=True)
        except GrantRefused as refused:
            return refused.status
        copy(*source, *dest, length)
        return GntStatus.OKAY

    def _bytes(self, end: Foreign | ReadableBuffer, *, writable: bool) -> tuple[Bytes, int]:
        """An end of a copy: some bytes, and where in them it begins."""
        if isinstance(end, Foreign):
            page = self._table_of(end.domid).use(end.ref, self.domain.domid, writable=writable)
            return page.memory, page.offset + end.offset
        memory = memoryview(end)
        pages = getattr(memory.obj, "whole", memory).obj
        if isinstance(pages, Allocation) and pages.owner is not self:
            raise GrantRefused(
                GntStatus.BAD_PAGE, "a mapped page is its owner's, not this domain's"
            )
        return memory.cast("B"), 0

    def _table_of(self, domid: int) -> GrantTable:
        owner = self.domain.xen.domains.get(domid)
        if owner is None:
            raise GrantRefused(GntStatus.BAD_DOMAIN, f"domain {domid}")
        return owner.grant_table

    def revoke(self, shared: SharedPages) -> None:
        """Take pages back. EBUSY while the peer maps them."""
        entries = {ref: self.table.entry(ref) for ref in shared.refs}
        busy = [ref for ref, (flags, *_) in entries.items() if flags & _USED]
        if busy:
            raise XenError(
                EBUSY,
                "revoke",
                f"{self.domain.name}'s {busy} are mapped by domain {shared.domid}",
                hint="let the peer unmap first",
            )
        for ref, (_, _, frame) in entries.items():
            del self.pages[frame]
            self.table.set_entry(ref, 0, 0, 0)
            heappush(self._freed, ref)

    def forget(self) -> None:
        """The domain is saved and restored: it maps nothing. Peers keep what they map of its old
        pages."""
        self.lose_all()
        self._begin()

    def lose_all(self) -> None:
        """What it maps is gone, and the other end is not told, as Xen has it for a domain that it
        destroys."""
        for mapped in list(self.mappings):
            mapped.lose()
        self.shared.clear()

    def let_go(self) -> None:
        """The domain's program ends: what it maps is unmapped, what it shares is given back,
        and its peers are told as it has asked."""
        for mapped in list(self.mappings):
            mapped.close()
        for shared in list(self.shared):
            shared.orphan()

    def _fresh(self) -> int:
        self._next_ref += 1
        if self._next_ref > self.table.entries:
            self.table.grow(MAX_FRAMES)
        return self._next_ref - 1


_USED = Gtf.READING | Gtf.WRITING


class _Pages(ABC):
    """Pages in either role, with what is to happen when they go."""

    def __init__(
        self,
        grants: PageGrants,
        owner: GrantTable,
        domid: int,
        refs: tuple[int, ...],
        memory: memoryview,
        *,
        writable: bool = True,
    ) -> None:
        self._grants = grants
        self._owner = owner
        self._generation = owner.generation
        self.domid = domid
        self.refs = refs
        self._writable = writable
        self._memory = memory
        """The bytes themselves."""
        self.memory: Any = grants.domain.seen(memory, f"memory {refs[0]}", readonly=not writable)
        self._clear_byte: int | None = None
        self._port: int | None = None
        self._closed = False

    def notify_on_close(self, *, clear_byte: int | None = None, port: int | None = None) -> None:
        self._clear_byte, self._port = clear_byte, port

    def close(self) -> None:
        if not self._closed:
            self._release()
            self._closed = True

    @property
    def _granted(self) -> bool:
        """Whether the entries are these pages' still: its owner's suspend ends them."""
        return self._owner.generation == self._generation

    @abstractmethod
    def _release(self) -> None:
        """Give them back, and do what `notify_on_close` asked for."""

    def _notify(self) -> None:
        if self._clear_byte is not None:
            self._memory[self._clear_byte] = 0
        if self._port is not None:
            with suppress(XenError):  # it was closed before these pages: no event is sent
                self._grants.domain.event_channels.send(self._port)


class SharedPages(_Pages):
    """Pages that this domain granted."""

    def orphan(self) -> None:
        """Who shared them is gone, and Xen takes them back once the peer has let go."""
        self._grants.shared.pop(self, None)
        self._closed = True
        self._notify()

    def _release(self) -> None:
        if self._granted:
            self._grants.revoke(self)
        self._grants.shared.pop(self, None)
        self._notify()


class MappedPages(_Pages):
    """Pages that another domain granted and this one maps."""

    def __init__(
        self,
        grants: PageGrants,
        owner: GrantTable,
        refs: tuple[int, ...],
        memory: memoryview,
        *,
        writable: bool,
    ) -> None:
        super().__init__(grants, owner, owner.domain.domid, refs, memory, writable=writable)

    def lose(self) -> None:
        """The mapping is gone, and the other end is not told."""
        if self._granted:
            for ref in self.refs:
                self._owner.release(ref, writable=self._writable)
        del self._grants.mappings[self]
        self._closed = True

    def _release(self) -> None:
        self._notify()
        self.lose()


def _joined(pages: Sequence[Page]) -> memoryview | None:
    """Pages that lie one after another in one allocation, as one view of it."""
    whole, start, _ = pages[0]
    for index, (memory, offset, _) in enumerate(pages):
        if memory is not whole or offset != start + index * PAGE_SIZE:
            return None
    return memoryview(whole)[start : start + len(pages) * PAGE_SIZE]
