"""Grants: a domain's table, version 1, as Xen reads it.

An entry names a page and who may use it. Its words are the guest's, who may write anything into
them at any time; Xen looks at them when the page is asked for, and keeps to what it saw for as long
as the page is used. For so long GTF_reading and GTF_writing are set in the entry, and the owner is
to leave the page as it is.

Source: xen/common/grant_table.c (`_set_status_v1`, `reduce_status_for_pin`,
`acquire_grant_for_copy`, `get_maptrack_handle`).
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, NamedTuple

from activations.abi.grant_table import ENTRY, PAGE_SIZE, GntStatus, Gtf
from xen_sim.hardware.memory import Frame

if TYPE_CHECKING:
    from xen_sim.xen.domain import XenDomain

INITIAL_FRAMES = 1
MAX_FRAMES = 2
"""Frames of a table: 1024 entries, which is where Linux's gntalloc stops too (its `limit`)."""
ENTRIES = PAGE_SIZE // ENTRY.size
"""Of one frame."""
MAX_ENTRIES = MAX_FRAMES * ENTRIES
MOST_PINS = 128
"""How often one domain may map an entry for reading, and again for writing."""
_READING, _WRITING, _READONLY = int(Gtf.READING), int(Gtf.WRITING), int(Gtf.READONLY)
"""Plain numbers: `~` of a flag has not the bits that it does not know."""
_ACCESS, _ACCESS_TO_READ = int(Gtf.PERMIT_ACCESS), int(Gtf.PERMIT_ACCESS | Gtf.READONLY)
_TYPE, _TYPE_TO_MAP = int(Gtf.TYPE_MASK), int(Gtf.TYPE_MASK | Gtf.SUB_PAGE)
_HANDLES = 256
"""By which the handles grow: a page of struct grant_mapping."""


class Page(NamedTuple):
    """A page of memory: where it lies in which bytes, and its frame's number."""

    memory: bytearray
    offset: int
    number: int

    def is_(self, other: Page) -> bool:
        """Whether it is the same page, and not one that only has the same bytes."""
        return self.number == other.number

    def view(self) -> memoryview:
        return memoryview(self.memory)[self.offset : self.offset + PAGE_SIZE]


Bytes = bytearray | memoryview


def copy(source: Bytes, start: int, dest: Bytes, dest_start: int, length: int) -> None:
    """What Xen copies with: eight bytes after eight, and then the rest one by one, from the first
    to the last. Where the ends overlap, that shows."""
    if source is not dest or not 0 < dest_start - start < length:
        memoryview(dest)[dest_start : dest_start + length] = memoryview(source)[
            start : start + length
        ]
        return
    whole = length & ~7
    for at in (*range(0, whole, 8), *range(whole, length)):
        size = 8 if at < whole else 1
        dest[dest_start + at : dest_start + at + size] = source[start + at : start + at + size]


class GrantRefused(Exception):
    """Why Xen will not map or copy: a GNTST_*, and the reason in words."""

    def __init__(self, status: GntStatus, why: str) -> None:
        self.status = status
        super().__init__(f"GNTST_{status.name.lower()}: {why}")


class _Active:
    """struct active_grant_entry: an entry whose page is used."""

    __slots__ = ("domid", "page", "pins")

    def __init__(self, domid: int, page: Page) -> None:
        self.domid = domid
        self.page = page
        self.pins = [0, 0]
        """How often it is used for reading, and for writing."""


class Mapping(NamedTuple):
    """struct grant_mapping: what a handle stands for."""

    owner: GrantTable
    generation: int
    ref: int
    page: Page
    writable: bool


class GrantTable:
    """One domain's grant table, and the handles of what it maps of others'."""

    def __init__(self, domain: XenDomain) -> None:
        self.domain = domain
        self.generation: int = 0
        """How often the domain was suspended: what was granted or mapped before is gone."""
        self._begin()

    def _begin(self) -> None:
        self.frames: list[Frame] = []
        """The table's own."""
        self._active: dict[int, _Active] = {}
        self.mappings: dict[int, Mapping] = {}
        """What this domain maps by hypercalls, by handle."""
        self._handles: deque[int] = deque()
        self._handle_limit = 0
        self.grow(INITIAL_FRAMES)

    def grow(self, frames: int) -> None:
        """The table has so many frames at least. A new one is zeroed."""
        while len(self.frames) < frames:
            self.frames.append(Frame(0, "grant table"))

    def forget(self) -> None:
        """The domain is saved and restored: its new table is empty, and it maps nothing."""
        self.unmap_all()
        self.generation += 1
        self._begin()

    def unmap_all(self) -> None:
        """What the domain maps by hypercalls is unmapped."""
        for handle in list(self.mappings):
            self.unmap(handle)

    # The entries

    @property
    def entries(self) -> int:
        """How many there are."""
        return len(self.frames) * ENTRIES

    def entry(self, ref: int) -> tuple[int, int, int]:
        """Flags, domid and frame of an entry."""
        index, at = divmod(ref, ENTRIES)
        flags, domid, frame = ENTRY.unpack_from(self.frames[index].bytes, at * ENTRY.size)
        return flags, domid, frame

    def set_entry(self, ref: int, flags: int, domid: int, frame: int) -> None:
        index, at = divmod(ref, ENTRIES)
        ENTRY.pack_into(self.frames[index].bytes, at * ENTRY.size, flags, domid, frame)

    def swap(self, ref: int, other: int) -> None:
        """Two entries change places. Raises `GrantRefused` while one of them is used."""
        for each in (ref, other):
            self._check_number(each)
        if ref == other:
            return
        for each in (ref, other):
            if each in self._active:
                raise GrantRefused(
                    GntStatus.EAGAIN, f"{self.domain.name}'s reference {each} is used"
                )
        kept = self.entry(ref)
        self.set_entry(ref, *self.entry(other))
        self.set_entry(other, *kept)

    # Their pages: used, and let go

    def acquire(self, ref: int, domid: int, *, writable: bool, mapping: bool) -> Page:
        """An entry's page is used by `domid` from now on: to be mapped, or to be copied. Raises
        `GrantRefused`."""
        self._check_number(ref)
        active = self._active.get(ref)
        if active is None:
            active = self._begin_use(ref, domid, writable, mapping)
        elif active.domid != domid or active.pins[writable] >= MOST_PINS:
            raise GrantRefused(
                GntStatus.GENERAL_ERROR,
                f"{self.domain.name}'s reference {ref} is used by domain {active.domid}, which "
                f"may map it {MOST_PINS} times; not granted to domain {domid}",
            )
        elif writable and not active.pins[True]:
            self._mark(ref, self.entry(ref), writable)
            if not mapping:
                self._check_still(ref, active, writable)
        active.pins[writable] += 1
        return active.page

    def release(self, ref: int, *, writable: bool) -> None:
        """The opposite of an `acquire`."""
        active = self._active[ref]
        active.pins[writable] -= 1
        if not any(active.pins):
            del self._active[ref]
        self._reduce(ref, active.pins, writable)

    def use(self, ref: int, domid: int, *, writable: bool) -> Page:
        """An entry's page, to be copied at once: acquired, and released again. Where it is not used
        and its flags are the usual ones, that leaves the entry as it was."""
        if ref not in self._active and 0 <= ref < self.entries:
            flags, granted_to, gfn = self.entry(ref)
            usual = flags == _ACCESS or (flags == _ACCESS_TO_READ and not writable)
            if usual and granted_to == domid and (page := self.domain.page(gfn)):
                return page
        page = self.acquire(ref, domid, writable=writable, mapping=False)
        self.release(ref, writable=writable)
        return page

    def _begin_use(self, ref: int, domid: int, writable: bool, mapping: bool) -> _Active:
        flags, granted_to, _ = entry = self.entry(ref)
        looked_at = _TYPE_TO_MAP if mapping else _TYPE
        if flags & looked_at != Gtf.PERMIT_ACCESS or granted_to != domid:
            raise GrantRefused(
                GntStatus.GENERAL_ERROR,
                f"{self.domain.name}'s reference {ref} is not granted to domain {domid}",
            )
        self._mark(ref, entry, writable)
        active = self._active[ref] = _Active(domid, self._check_page(ref, [0, 0], writable))
        return active

    def _check_page(self, ref: int, pins: list[int], writable: bool) -> Page:
        """The page that an entry names now."""
        _, _, gfn = self.entry(ref)
        page = self.domain.page(gfn)
        if page is None:
            self._reduce(ref, pins, writable)
            raise GrantRefused(GntStatus.BAD_PAGE, f"{self.domain.name} has no frame {gfn}")
        return page

    def _check_still(self, ref: int, active: _Active, writable: bool) -> None:
        """A copy to a page that was only read so far looks whether the entry names it still."""
        page = self._check_page(ref, active.pins, writable)
        if not page.is_(active.page):
            self._reduce(ref, active.pins, writable)
            raise GrantRefused(
                GntStatus.GENERAL_ERROR, f"{self.domain.name}'s reference {ref} names another page"
            )

    def _mark(self, ref: int, entry: tuple[int, int, int], writable: bool) -> None:
        flags, domid, gfn = entry
        if writable and flags & _READONLY:
            raise GrantRefused(
                GntStatus.GENERAL_ERROR, f"{self.domain.name}'s reference {ref} is read-only"
            )
        flags |= _READING | _WRITING if writable else _READING
        self.set_entry(ref, flags, domid, gfn)

    def _reduce(self, ref: int, pins: list[int], writable: bool) -> None:
        """The entry says no more than how its page is still used."""
        flags, domid, gfn = self.entry(ref)
        if not any(pins):
            flags &= ~_READING
        if writable and not pins[True]:
            flags &= ~_WRITING
        self.set_entry(ref, flags, domid, gfn)

    def _check_number(self, ref: int) -> None:
        if not 0 <= ref < self.entries:
            raise GrantRefused(GntStatus.BAD_GNTREF, f"{self.domain.name} has no reference {ref}")

    # Handles

    def take_handle(self) -> int:
        """A free one: the one that has been free for longest. One is always left, as in Xen, who
        links those that become free behind it."""
        if len(self._handles) > 1:
            return self._handles.popleft()
        first = self._handle_limit
        self._handle_limit += _HANDLES
        self._handles.extendleft(range(self._handle_limit - 1, first, -1))
        return first

    def give_handle(self, handle: int) -> None:
        self._handles.append(handle)

    def unmap(self, handle: int) -> None:
        """What a handle stands for is not mapped any more, and the handle free."""
        owner, generation, ref, _, writable = self.mappings.pop(handle)
        if owner.generation == generation:
            owner.release(ref, writable=writable)
        self.give_handle(handle)
