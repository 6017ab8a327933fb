"""Grants: memory that domains share, in whole pages.

    with xen.grants.share(guest, pages=1) as ring: ...      the owner; ring.refs go to the peer
    with xen.grants.map(dom0, refs) as ring: ...            the peer; ring.memory is the same bytes

Either side lets go of them by leaving the block.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from activations.lower import GrantedPages, GrantTable


class Grant:
    """Pages granted to another domain, or mapped from one, until `close()`."""

    __slots__ = ("_forget", "_pages", "kind")

    def __init__(self, kind: str, pages: GrantedPages, forget: Callable[[Grant], None]) -> None:
        self.kind = kind
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
        """Revoke or unmap. Raises `XenError` (EBUSY) while the peer still maps shared pages."""
        self._pages.close()
        self._forget(self)

    def __enter__(self) -> Grant:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


class Grants:
    """`xen.grants`. Every operation that Xen can refuse raises `XenError`."""

    def __init__(self, table: GrantTable) -> None:
        self._table = table
        self.open: list[Grant] = []
        """Grants and mappings not yet closed, oldest first."""

    def share(self, domid: int, *, pages: int = 1, writable: bool = True) -> Grant:
        """Fresh zeroed pages that `domid` may map."""
        if pages < 1:
            raise ValueError(f"{pages} pages cannot be shared")
        return self._own(Grant("shared", self._table.share(domid, pages, writable), self._forget))

    def map(self, domid: int, refs: Sequence[int], *, writable: bool = True) -> Grant:
        """The pages that `domid` granted under these references, one after another."""
        if not refs:
            raise ValueError("no grant references to map")
        return self._own(Grant("mapped", self._table.map(domid, refs, writable), self._forget))

    def close(self) -> None:
        """Close whatever is open, mappings first."""
        for grant in sorted(self.open, key=lambda grant: grant.kind):
            grant.close()

    def _own(self, grant: Grant) -> Grant:
        self.open.append(grant)
        return grant

    def _forget(self, grant: Grant) -> None:
        if grant in self.open:
            self.open.remove(grant)
