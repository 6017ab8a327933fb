"""Grants: a domain's table of real bytes, and the pages its entries stand for.

A grant entry (version 1) names a frame and who may map it; mapping sets its READING and WRITING
flags, and while they are set the owner cannot take the page back. Mapping gives the very same
bytes: two domains of one simulation share memory as two domains of a machine do.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import Sequence
from errno import EBUSY, EINVAL, ENOSPC
from heapq import heappop, heappush
from typing import TYPE_CHECKING, Any, NamedTuple

from activations.abi.grant_table import ENTRY, PAGE_SIZE, RESERVED_ENTRIES, GntStatus, Gtf
from activations.errors import XenError
from activations.lower import Foreign, Segment
from xen_sim.hardware.pages import stepped

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from xen_sim.xen.domain import XenDomain

MAX_ENTRIES = 1024
"""Entries of a table of two pages, which is where Linux's gntalloc stops too (its `limit`)."""


class Allocation(bytearray):
    """Pages that were granted together, of the domain whose table this is."""

    __slots__ = ("owner",)

    def __init__(self, pages: int, owner: GrantTable) -> None:
        super().__init__(pages * PAGE_SIZE)
        self.owner: GrantTable = owner


class Frame(NamedTuple):
    """A page of memory: where it lies in which allocation."""

    allocation: Allocation
    offset: int


class Refused(Exception):
    """Why Xen will not map or copy: a GNTST_*, and the reason in words."""

    def __init__(self, status: GntStatus, why: str) -> None:
        self.status = status
        super().__init__(f"GNTST_{status.name.lower()}: {why}")


class GrantTable:
    """One domain's grant table, and its operations."""

    def __init__(self, domain: XenDomain) -> None:
        self.domain = domain
        self.generation: int = 0
        """How often the domain was suspended: what was granted or mapped before is no more."""
        self.mappings: dict[MappedPages, None] = {}
        """What this domain maps of others'."""
        self.shared: dict[SharedPages, None] = {}
        """What it shares with others."""
        self._begin()

    def _begin(self) -> None:
        self._entries = bytearray(MAX_ENTRIES * ENTRY.size)
        self._frames: dict[int, Frame] = {}
        self._pins: Counter[int] = Counter()
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
            self._frames[frame] = Frame(memory, offset)
            ENTRY.pack_into(self._entries, ref * ENTRY.size, flags, domid, frame)
            refs.append(ref)
        shared = SharedPages(self, self, domid, tuple(refs), memoryview(memory))
        self.shared[shared] = None
        return shared

    def map(self, domid: int, refs: Sequence[int], writable: bool) -> MappedPages:
        """GNTTABOP_map_grant_ref for each reference."""
        try:
            table = self._table_of(domid)
            frames = [table.frame_for(self.domain.domid, ref, writable) for ref in refs]
            memory = _joined(frames)
            if memory is None:
                raise Refused(
                    GntStatus.NO_DEVICE_SPACE,
                    f"references {list(refs)} were not granted together: map each alone",
                )
        except Refused as refused:
            raise XenError(EINVAL, "GNTTABOP_map_grant_ref", str(refused)) from None
        table.note_mapped(refs, Gtf.READING | (Gtf.WRITING if writable else Gtf.INVALID))
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
            source = self._bytes(segment.source, length, writable=False)
            dest = self._bytes(segment.dest, length, writable=True)
        except Refused as refused:
            return refused.status
        dest[:] = source
        return GntStatus.OKAY

    def _bytes(self, end: Foreign | ReadableBuffer, length: int, *, writable: bool) -> memoryview:
        """An end of a copy, exactly as long as what is copied."""
        if isinstance(end, Foreign):
            table = self._table_of(end.domid)
            frame = table.frame_for(self.domain.domid, end.ref, writable)
            start = frame.offset + end.offset
            return memoryview(frame.allocation)[start : start + length]
        memory = memoryview(end)
        pages = getattr(memory.obj, "whole", memory).obj
        if isinstance(pages, Allocation) and pages.owner is not self:
            raise Refused(GntStatus.BAD_PAGE, "a mapped page is its owner's, not this domain's")
        return memory.cast("B")[:length]

    def _table_of(self, domid: int) -> GrantTable:
        owner = self.domain.xen.domains.get(domid)
        if owner is None:
            raise Refused(GntStatus.BAD_DOMAIN, f"domain {domid}")
        return owner.grant_table

    # What a mapping or a copy asks of the owner's table

    def frame_for(self, domid: int, ref: int, writable: bool) -> Frame:
        """The frame of a reference, if `domid` may have it so. Raises `Refused`, with the status
        that Xen gives (`_set_status_v1` and its callers)."""
        if not 0 <= ref < MAX_ENTRIES:
            raise Refused(GntStatus.BAD_GNTREF, f"{self.domain.name} has no reference {ref}")
        flags, granted_to, frame = self.entry(ref)
        if not flags & Gtf.PERMIT_ACCESS or granted_to != domid:
            raise Refused(
                GntStatus.GENERAL_ERROR,
                f"{self.domain.name}'s reference {ref} is not granted to domain {domid}",
            )
        if writable and flags & Gtf.READONLY:
            raise Refused(
                GntStatus.GENERAL_ERROR, f"{self.domain.name}'s reference {ref} is read-only"
            )
        return self._frames[frame]

    def entry(self, ref: int) -> tuple[Gtf, int, int]:
        """Flags, domid and frame of an entry."""
        flags, domid, frame = ENTRY.unpack_from(self._entries, ref * ENTRY.size)
        return Gtf(flags), domid, frame

    def note_mapped(self, refs: Sequence[int], flags: Gtf) -> None:
        for ref in refs:
            self._pins[ref] += 1
            self._set_flags(ref, self.entry(ref)[0] | flags)

    def note_unmapped(self, refs: Sequence[int]) -> None:
        for ref in refs:
            self._pins[ref] -= 1
            if not self._pins[ref]:
                self._set_flags(ref, self.entry(ref)[0] & ~(Gtf.READING | Gtf.WRITING))

    def revoke(self, pages: SharedPages) -> None:
        """Take pages back. EBUSY while the peer maps them."""
        busy = [ref for ref in pages.refs if self.entry(ref)[0] & (Gtf.READING | Gtf.WRITING)]
        if busy:
            raise XenError(
                EBUSY,
                "revoke",
                f"{self.domain.name}'s {busy} are mapped by domain {pages.domid}",
                hint="let the peer unmap first",
            )
        for ref in pages.refs:
            del self._frames[self.entry(ref)[2]]
            ENTRY.pack_into(self._entries, ref * ENTRY.size, 0, 0, 0)
            heappush(self._freed, ref)

    def forget(self) -> None:
        """The domain is saved and restored: its new table is empty, and it maps nothing. Peers keep
        what they map of the old one's pages."""
        self.lose_all()
        self.generation += 1
        self._begin()

    def lose_all(self) -> None:
        """What it maps is gone, and nobody is told: a domain that Xen destroys tells nobody."""
        for mapped in list(self.mappings):
            mapped.lose()
        self.shared.clear()

    def let_go(self) -> None:
        """The domain's program ends: what it maps is unmapped, what it shares is nobody's any more,
        and its peers are told as it has asked."""
        for mapped in list(self.mappings):
            mapped.close()
        for shared in list(self.shared):
            shared.orphan()

    def _fresh(self) -> int:
        self._next_ref += 1
        return self._next_ref - 1

    def _set_flags(self, ref: int, flags: Gtf) -> None:
        _, domid, frame = self.entry(ref)
        ENTRY.pack_into(self._entries, ref * ENTRY.size, flags, domid, frame)


class _Pages(ABC):
    """Pages in either role, with what is to happen when they go."""

    def __init__(
        self,
        table: GrantTable,
        owner: GrantTable,
        domid: int,
        refs: tuple[int, ...],
        memory: memoryview,
        *,
        writable: bool = True,
    ) -> None:
        self._table = table
        self._owner = owner
        self._generation = owner.generation
        self.domid = domid
        self.refs = refs
        self._memory = memory
        """The bytes themselves."""
        before = table.domain.guest_before
        if before is None:
            self.memory: Any = memory if writable else memory.toreadonly()
        else:
            self.memory = stepped(memory, f"memory {refs[0]}", before, readonly=not writable)
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
        """Give them back, and tell whoever is to be told."""

    def _notify(self) -> None:
        if self._clear_byte is not None:
            self._memory[self._clear_byte] = 0
        if self._port is not None:
            self._table.domain.event_channels.send(self._port)


class SharedPages(_Pages):
    """Pages that this domain granted."""

    def orphan(self) -> None:
        """Who shared them is gone, and Xen takes them back once the peer has let go."""
        self._table.shared.pop(self, None)
        self._closed = True
        self._notify()

    def _release(self) -> None:
        if self._granted:
            self._table.revoke(self)
        self._table.shared.pop(self, None)
        self._notify()


class MappedPages(_Pages):
    """Pages that another domain granted and this one maps."""

    def __init__(
        self,
        table: GrantTable,
        owner: GrantTable,
        refs: tuple[int, ...],
        memory: memoryview,
        *,
        writable: bool,
    ) -> None:
        super().__init__(table, owner, owner.domain.domid, refs, memory, writable=writable)

    def lose(self) -> None:
        """The mapping is gone, and nobody is told."""
        if self._granted:
            self._owner.note_unmapped(self.refs)
        del self._table.mappings[self]
        self._closed = True

    def _release(self) -> None:
        self._notify()
        self.lose()


def _joined(frames: Sequence[Frame]) -> memoryview | None:
    """Frames that lie one after another in one allocation, as one view of it."""
    whole, start = frames[0]
    for index, (allocation, offset) in enumerate(frames):
        if allocation is not whole or offset != start + index * PAGE_SIZE:
            return None
    return memoryview(whole)[start : start + len(frames) * PAGE_SIZE]
