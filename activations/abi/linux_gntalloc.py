"""Linux's device for granting pages, /dev/xen/gntalloc: ioctl numbers and layouts.

Source: Linux, include/uapi/xen/gntalloc.h.
"""

from struct import Struct
from typing import Final

PATH: Final = "/dev/xen/gntalloc"

IOCTL_GNTALLOC_ALLOC_GREF: Final = 0x184705
IOCTL_GNTALLOC_DEALLOC_GREF: Final = 0x104706
IOCTL_GNTALLOC_SET_UNMAP_NOTIFY: Final = 0x104707

ALLOC_GREF: Final = Struct("<HHIQ")
"""ioctl_gntalloc_alloc_gref: domid, flags, count, index (out). `count` times GREF_ID follow."""
GREF_ID: Final = Struct("<I")
"""An element of ioctl_gntalloc_alloc_gref.gref_ids (out)."""
DEALLOC_GREF: Final = Struct("<QIxxxx")
"""ioctl_gntalloc_dealloc_gref: index, count."""
UNMAP_NOTIFY: Final = Struct("<QII")
"""ioctl_gntalloc_unmap_notify: index, action, event_channel_port."""

GNTALLOC_FLAG_WRITABLE: Final = 1
UNMAP_NOTIFY_CLEAR_BYTE: Final = 1
UNMAP_NOTIFY_SEND_EVENT: Final = 2
