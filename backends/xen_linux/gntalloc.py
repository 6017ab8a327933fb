"""/dev/xen/gntalloc: pages of this domain, granted to another.

Allocating gives references and an index, under which the pages are mapped afterwards. The
pages go back to the kernel once they are unmapped here, deallocated, and unmapped by the other
domain, whichever comes last.
"""

from __future__ import annotations

import errno
from typing import ClassVar

from activations.abi import linux_gntalloc as abi
from xen_linux.device import Device, Hints


class GrantAllocator(Device):
    """Grants made through one open file. Operations that are refused raise `XenError`."""

    hints: ClassVar[Hints] = {
        ("IOCTL_GNTALLOC_ALLOC_GREF", errno.ENOSPC): (
            "this domain has granted as many pages as its driver allows: "
            "raise /sys/module/xen_gntalloc/parameters/limit"
        ),
        ("IOCTL_GNTALLOC_SET_UNMAP_NOTIFY", errno.EINVAL): "the port is not bound in this domain",
        ("IOCTL_GNTALLOC_SET_UNMAP_NOTIFY", errno.ENOENT): "the byte is outside the pages",
    }

    def __init__(self, path: str = abi.PATH) -> None:
        super().__init__(path)

    def alloc(self, domid: int, count: int, writable: bool) -> tuple[int, tuple[int, ...]]:
        """Grant `count` zeroed pages to `domid`: the index to map them at, and a reference each.

        `writable` is the other domain's right; this one always writes.
        """
        flags = abi.GNTALLOC_FLAG_WRITABLE if writable else 0
        size = abi.ALLOC_GREF.size
        argument = bytearray(size + count * abi.GREF_ID.size)
        abi.ALLOC_GREF.pack_into(argument, 0, domid, flags, count, 0)
        self._ioctl(
            abi.IOCTL_GNTALLOC_ALLOC_GREF,
            argument,
            "IOCTL_GNTALLOC_ALLOC_GREF",
            f"{count} pages for domain {domid}",
        )
        _, _, _, index = abi.ALLOC_GREF.unpack_from(argument)
        return index, tuple(ref for (ref,) in abi.GREF_ID.iter_unpack(argument[size:]))

    def dealloc(self, index: int, count: int) -> None:
        """End the grants of `count` pages from `index` on."""
        self._ioctl(
            abi.IOCTL_GNTALLOC_DEALLOC_GREF,
            bytearray(abi.DEALLOC_GREF.pack(index, count)),
            "IOCTL_GNTALLOC_DEALLOC_GREF",
            f"{count} pages at {index:#x}",
        )

    give_back = dealloc

    def unmap_notify(self, index: int, action: int, port: int) -> None:
        """When the page that holds byte `index` goes: clear that byte, send an event through
        `port`, as `action` says. One notification a page; the last one set counts."""
        self._ioctl(
            abi.IOCTL_GNTALLOC_SET_UNMAP_NOTIFY,
            bytearray(abi.UNMAP_NOTIFY.pack(index, action, port)),
            "IOCTL_GNTALLOC_SET_UNMAP_NOTIFY",
            f"byte {index:#x}, port {port}",
        )
