"""Grants: memory that domains share, in whole pages.

    with xen.grants.share(guest, pages=1) as ring: ...      the owner; ring.refs go to the peer
    with xen.grants.map(dom0, refs) as ring: ...            the peer; ring.memory is the same bytes
    xen.grants.copy([Segment(Foreign(dom0, ref), buffer, 4096)])        or Xen copies, once

Either side lets go of pages by leaving the block.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Sequence
from operator import index
from typing import TYPE_CHECKING

from activations.abi.grant_table import PAGE_SIZE, GntStatus
from activations.errors import XenError
from activations.lower import Foreign, Segment
from activations.unsigned import DOMID_BITS, NUMBER_BITS, domain, unsigned

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

    from activations.lower import GrantedPages, GrantTable


class Grant:
    """Pages granted to another domain, or mapped from one, until `close()`."""

    __slots__ = ("_forget", "_pages", "kind")

    def __init__(self, kind: str, pages: GrantedPages, forget: Callable[[Grant], None]) -> None:
        self.kind: str = kind
        """`shared` with the other domain, or `mapped` from it."""
        self._pages = pages
        self._forget = forget

    def __repr__(self) -> str:
        way = "with" if self.kind == "shared" else "from"
        return f"<Grant {list(self.refs)} {self.kind} {way} domain {self.domid}>"

    @property
    def domid(self) -> int:
        """The other domain."""
        return self._pages.domid

    @property
    def refs(self) -> tuple[int, ...]:
        """The grant references, one a page."""
        return self._pages.refs

    @property
    def memory(self) -> memoryview:
        """The bytes, 4096 a page; read-only where the grant is."""
        return self._pages.memory

    def notify_on_close(self, *, clear_byte: int | None = None, port: int | None = None) -> None:
        """When this side lets go, or dies: clear the byte at this offset, send through this port.

        So the peer learns of it. Raises `ValueError` if neither is given or the offset is not
        within the pages.
        """
        if clear_byte is None and port is None:
            raise ValueError("nothing to do on close: give clear_byte, port, or both")
        if clear_byte is not None and not 0 <= clear_byte < len(self.memory):
            raise ValueError(f"byte {clear_byte} is not within {len(self.memory)} bytes")
        self._pages.notify_on_close(clear_byte=clear_byte, port=port)

    def close(self) -> None:
        """Unmap, or revoke. Closing twice is harmless.

        Pages that the peer still maps cannot be taken back. The simulator says so: `XenError`
        (EBUSY) names the peer and the references, and they stay open. Linux cannot say: its
        /dev/xen/gntalloc closes in silence, the peer goes on seeing the pages, and the kernel
        gives them back after the peer has let go, however late. Who has to know has the peer tell
        (`notify_on_close` of its mapping), as vchan and the drivers do.

        Raises `BufferError` on Linux while a slice or cast of `memory` lives.
        """
        self._pages.close()
        self._forget(self)

    def __enter__(self) -> Grant:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Grants:
    """`xen.grants`. Every operation that Xen can refuse raises `XenError`; what is not a whole
    number where one is taken is a `TypeError`, and one that Xen has no room for a `ValueError`."""

    def __init__(self, table: GrantTable) -> None:
        self._table = table
        self._open: dict[Grant, None] = {}

    @property
    def open(self) -> list[Grant]:
        """Grants and mappings not yet closed, oldest first."""
        return list(self._open)

    def share(self, domid: int, *, pages: int = 1, writable: bool = True) -> Grant:
        """Fresh zeroed pages that `domid` may map."""
        if index(pages) < 1:
            raise ValueError(f"{pages} pages to share: it must be 1 or more")
        shared = self._table.share(domain(domid), pages, writable)
        return self._own(Grant("shared", shared, self._forget))

    def map(self, domid: int, refs: Sequence[int], *, writable: bool = True) -> Grant:
        """The pages that `domid` granted under these references, one after another."""
        if not refs:
            raise ValueError("no grant references to map")
        numbers = [unsigned("grant reference", ref) for ref in refs]
        mapped = self._table.map(domain(domid), numbers, writable)
        return self._own(Grant("mapped", mapped, self._forget))

    def copy(self, segments: Sequence[Segment]) -> None:
        """Have Xen copy between granted pages and this domain's memory, mapping nothing.

        One call into Xen (one ioctl), however many the segments; they are copied in order.

        Raises `XenError` for the first segment refused, by its number. EINVAL: a foreign end
        crosses the end of its page; nothing was copied. EIO: Xen would not, and the GNTST_* says
        why (no such domain, no such reference, not granted so); the other segments were copied.
        Raises `ValueError` or `TypeError` for what no peer can cause: no foreign end, or own
        memory that is too short or not writable.
        """
        for number, segment in enumerate(segments):
            _check(number, segment)
        if not segments:
            return
        for number, status in enumerate(self._table.copy(segments)):
            if status != GntStatus.OKAY:
                raise _refused(errno.EIO, number, segments[number], status)

    def close(self) -> None:
        """Close whatever is open, mappings first.

        What the peer still maps does not keep the rest open; the first such `XenError` is raised
        at the end. Pages that somebody here holds a view of go with that view.
        """
        failed: XenError | None = None
        for grant in sorted(self._open, key=lambda grant: grant.kind):
            try:
                grant.close()
            except XenError as error:
                failed = failed or error
            except BufferError:
                continue
        if failed is not None:
            raise failed

    def _own(self, grant: Grant) -> Grant:
        self._open[grant] = None
        return grant

    def _forget(self, grant: Grant) -> None:
        self._open.pop(grant, None)


def _check(number: int, segment: Segment) -> None:
    """What every backend asks of a segment, before anything is copied."""
    source, dest, length = segment
    if length < 0:
        raise ValueError(f"segment {number}: {length} bytes: the length must be 0 or more")
    foreign = 0
    for end in (source, dest):
        if isinstance(end, Foreign):
            foreign += 1
            if not 0 <= end.offset <= PAGE_SIZE - length:
                raise _refused(errno.EINVAL, number, segment, GntStatus.BAD_COPY_ARG)
            if not (0 <= end.domid < 1 << DOMID_BITS and 0 <= end.ref < 1 << NUMBER_BITS):
                raise ValueError(
                    f"segment {number}: {end}: a domid has 16 bits, and a reference 32"
                )
        else:
            _check_own(number, end, length, writable=end is dest)
    if not foreign:
        raise ValueError(
            f"segment {number}: both ends are memory of this program: one must be a `Foreign`"
        )


def _check_own(number: int, end: ReadableBuffer, length: int, *, writable: bool) -> None:
    with memoryview(end) as view:
        if view.nbytes < length:
            raise ValueError(f"segment {number}: {length} bytes, but its memory has {view.nbytes}")
        if not view.c_contiguous:
            raise ValueError(f"segment {number}: its memory is not contiguous")
        if writable and view.readonly:
            raise TypeError(f"segment {number}: memory to copy to is read-only")


def _refused(code: int, number: int, segment: Segment, status: int) -> XenError:
    known = status in GntStatus._value2member_map_
    said = f"GNTST_{GntStatus(status).name.lower()}" if known else f"GNTST {status}"
    return XenError(code, "GNTTABOP_copy", f"segment {number}, {segment}: {said}")
