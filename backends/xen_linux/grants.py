"""Grants as the upper half knows them, over /dev/xen/gntalloc and /dev/xen/gntdev.

A stretch of granted pages is a device (which of the two it came from), the index it was mapped
at, and the mapping. Both devices take it back the same way: first the memoryview, which Python
will not let go of while a slice of it lives; then the mapping; then the references.

A domain with hardware page tables (PVH, HVM) must never map a grant of its own: afterwards the
page reads 0xff, and the kernel faults seconds later. It is refused here, before it happens.
"""

from __future__ import annotations

import errno
from collections.abc import Sequence
from mmap import MAP_SHARED, PROT_READ, PROT_WRITE, mmap

from activations.abi.grant_table import PAGE_SIZE
from activations.abi.linux_gntdev import UNMAP_NOTIFY_CLEAR_BYTE, UNMAP_NOTIFY_SEND_EVENT
from activations.errors import XenError
from activations.lower import Segment
from xen_linux.gntalloc import GrantAllocator
from xen_linux.gntdev import GrantDevice


class LinuxGrantTable:
    """The grants of one domain. The devices are opened when they are first needed.

    `own` is this domain's domid; `guest_type` is `PV`, `PVH` or `HVM`.
    """

    def __init__(self, own: int, guest_type: str) -> None:
        self._own = own
        self._guest_type = guest_type
        self._allocator: GrantAllocator | None = None
        self._device: GrantDevice | None = None
        self._open: dict[LinuxGrantedPages, None] = {}

    @property
    def allocator(self) -> GrantAllocator:
        if self._allocator is None:
            self._allocator = GrantAllocator()
        return self._allocator

    @property
    def device(self) -> GrantDevice:
        if self._device is None:
            self._device = GrantDevice()
        return self._device

    def share(self, domid: int, pages: int, writable: bool) -> LinuxGrantedPages:
        """Fresh zeroed pages of this domain, granted to `domid`."""
        self._refuse_loopback(domid, "GNTTABOP_grant_access")
        allocator = self.allocator
        index, refs = allocator.alloc(domid, pages, writable)
        try:
            memory = mmap(
                allocator.fileno(), pages * PAGE_SIZE, MAP_SHARED, _PROTECTION[True], offset=index
            )
        except OSError as error:
            allocator.dealloc(index, pages)
            detail = f"{pages} pages for domain {domid}"
            raise XenError(error.errno or 0, "mmap of /dev/xen/gntalloc", detail) from None
        return self._keep(LinuxGrantedPages(self, allocator, domid, refs, index, memory, True))

    def map(self, domid: int, refs: Sequence[int], writable: bool) -> LinuxGrantedPages:
        """Pages that `domid` granted to this domain, one after another."""
        self._refuse_loopback(domid, "GNTTABOP_map_grant_ref")
        device, count = self.device, len(refs)
        index = device.map(domid, refs)
        try:
            memory = mmap(
                device.fileno(), count * PAGE_SIZE, MAP_SHARED, _PROTECTION[writable], offset=index
            )
        except OSError as error:
            device.unmap(index, count)
            raise XenError(
                error.errno or 0,
                "GNTTABOP_map_grant_ref",
                f"domain {domid}, references {', '.join(map(str, refs))}",
                "not granted to this domain, granted read-only, or no longer granted",
            ) from None
        refs = tuple(refs)
        return self._keep(LinuxGrantedPages(self, device, domid, refs, index, memory, writable))

    def copy(self, segments: Sequence[Segment]) -> list[int]:
        """Have Xen copy between grants and own memory: `GrantDevice.copy`."""
        return self.device.copy(segments)

    def close(self) -> None:
        """Close what is open still, then the devices. Pages that somebody holds a view of stay
        mapped until that view goes, or the process ends."""
        for pages in list(self._open):
            try:
                pages.close()
            except BufferError:
                continue
        for device in (self._allocator, self._device):
            if device is not None:
                device.close()

    def forget(self, pages: LinuxGrantedPages) -> None:
        """These pages are closed."""
        del self._open[pages]

    def _keep(self, pages: LinuxGrantedPages) -> LinuxGrantedPages:
        self._open[pages] = None
        return pages

    def _refuse_loopback(self, domid: int, operation: str) -> None:
        if domid == self._own and self._guest_type != "PV":
            raise XenError(
                errno.EOPNOTSUPP,
                operation,
                f"domain {domid} is this domain",
                f"a {self._guest_type} domain that maps its own grants crashes: use two domains",
            )


class LinuxGrantedPages:
    """Pages shared or mapped, as one stretch of memory, until `close`."""

    def __init__(
        self,
        table: LinuxGrantTable,
        device: GrantAllocator | GrantDevice,
        domid: int,
        refs: tuple[int, ...],
        index: int,
        mapping: mmap,
        writable: bool,
    ) -> None:
        self._table = table
        self._device = device
        self._domid = domid
        self._refs = refs
        self._index = index
        self._mapping = mapping
        self._memory = memoryview(mapping) if writable else memoryview(mapping).toreadonly()

    def __repr__(self) -> str:
        state = "closed" if self._mapping.closed else self._device.path
        return f"<GrantedPages {self._refs} with domain {self._domid}: {state}>"

    @property
    def domid(self) -> int:
        """The other domain."""
        return self._domid

    @property
    def refs(self) -> tuple[int, ...]:
        return self._refs

    @property
    def memory(self) -> memoryview:
        """`len(refs) * 4096` bytes; read-only where this domain may not write."""
        return self._memory

    def notify_on_close(self, *, clear_byte: int | None = None, port: int | None = None) -> None:
        """When these pages go, also by the death of this process: clear the byte at this offset,
        send an event through this port of this domain. Replaces what was set before.

        Shared pages remember one notification each, a mapping one in all.
        """
        action = 0
        if clear_byte is not None:
            action |= UNMAP_NOTIFY_CLEAR_BYTE
        if port is not None:
            action |= UNMAP_NOTIFY_SEND_EVENT
        self._device.unmap_notify(self._index + (clear_byte or 0), action, port or 0)

    def close(self) -> None:
        """Give the pages back. Closing twice is harmless.

        Raises `BufferError` while a slice or cast of `memory` lives: release it, close again.
        """
        if self._mapping.closed:
            return
        self._memory.release()
        try:
            self._mapping.close()
        except BufferError as error:
            raise BufferError(
                f"{self!r} is still in use: release every view of its memory before closing it"
            ) from error  # and from the error whose traceback holds such a view, if that is why
        self._table.forget(self)
        self._device.give_back(self._index, len(self._refs))


_PROTECTION = {True: PROT_READ | PROT_WRITE, False: PROT_READ}
