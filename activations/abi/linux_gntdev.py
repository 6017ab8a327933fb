"""Linux's device for mapping other domains' grants, /dev/xen/gntdev: ioctl numbers and layouts.

Source: Linux, include/uapi/xen/gntdev.h. A copied segment's status is a GNTST_* of Xen's own
(`activations.abi.grant_table.GntStatus`).
"""

from struct import Struct
from typing import Final

PATH: Final = "/dev/xen/gntdev"

IOCTL_GNTDEV_MAP_GRANT_REF: Final = 0x184700
IOCTL_GNTDEV_UNMAP_GRANT_REF: Final = 0x104701
IOCTL_GNTDEV_GET_OFFSET_FOR_VADDR: Final = 0x184702
IOCTL_GNTDEV_SET_MAX_GRANTS: Final = 0x44703
IOCTL_GNTDEV_SET_UNMAP_NOTIFY: Final = 0x104707
IOCTL_GNTDEV_GRANT_COPY: Final = 0x104708

MAP_GRANT_REF: Final = Struct("<IxxxxQ")
"""ioctl_gntdev_map_grant_ref: count, index (out). `count` times GRANT_REF follow."""
GRANT_REF: Final = Struct("<II")
"""ioctl_gntdev_grant_ref: domid, ref."""
UNMAP_GRANT_REF: Final = Struct("<QIxxxx")
"""ioctl_gntdev_unmap_grant_ref: index, count."""
GET_OFFSET_FOR_VADDR: Final = Struct("<QQIxxxx")
"""ioctl_gntdev_get_offset_for_vaddr: vaddr, offset (out), count (out)."""
SET_MAX_GRANTS: Final = Struct("<I")
"""ioctl_gntdev_set_max_grants: count."""
UNMAP_NOTIFY: Final = Struct("<QII")
"""ioctl_gntdev_unmap_notify: index, action, event_channel_port."""
GRANT_COPY: Final = Struct("<IxxxxQ")
"""ioctl_gntdev_grant_copy: count, address of the segments."""

UNMAP_NOTIFY_CLEAR_BYTE: Final = 1
UNMAP_NOTIFY_SEND_EVENT: Final = 2

SEGMENT_LENGTHS: Final = Struct("<HHhxx")
"""gntdev_grant_copy_segment after its two ends: len, flags, status (out)."""
SEGMENT_STATUS: Final = Struct("<20xhxx")
"""A whole gntdev_grant_copy_segment, of which the status alone is wanted."""
SEGMENT_LOCAL: Final = Struct("<Q")
"""An end of a segment that is local: its address."""
SEGMENT_FOREIGN: Final = Struct("<IHH")
"""An end of a segment that is foreign: ref, offset, domid."""

GNTCOPY_source_gref: Final = 1
GNTCOPY_dest_gref: Final = 2
"""Which end of a segment is foreign (xen/include/public/grant_table.h)."""
