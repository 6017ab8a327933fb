"""Grant tables, version 1.

Source: xen/include/public/grant_table.h.
"""

from enum import IntEnum, IntFlag
from struct import Struct

PAGE_SIZE = 4096
ENTRY = Struct("<HHI")
"""struct grant_entry_v1: flags, domid, frame."""

RESERVED_ENTRIES = 8
"""GNTTAB_NR_RESERVED_ENTRIES: references that belong to the toolstack (console 0, xenstore 1)."""


class Gtf(IntFlag):
    """GTF_*: a grant entry's flags."""

    INVALID = 0
    PERMIT_ACCESS = 1
    ACCEPT_TRANSFER = 2
    READONLY = 1 << 2
    READING = 1 << 3
    WRITING = 1 << 4
    SUB_PAGE = 1 << 8
    TYPE_MASK = 3


class Map(IntFlag):
    """GNTMAP_*: how a page is to be mapped."""

    DEVICE = 1
    HOST = 2
    READONLY = 4
    APPLICATION = 8
    CONTAINS_PTE = 16


class Copy(IntFlag):
    """GNTCOPY_*: which ends of a copy are references; others are frames of the caller's own."""

    SOURCE_GREF = 1
    DEST_GREF = 2


class GntStatus(IntEnum):
    """GNTST_*: how a grant operation ended."""

    OKAY = 0
    GENERAL_ERROR = -1
    BAD_DOMAIN = -2
    BAD_GNTREF = -3
    BAD_HANDLE = -4
    BAD_VIRT_ADDR = -5
    BAD_DEV_ADDR = -6
    NO_DEVICE_SPACE = -7
    PERMISSION_DENIED = -8
    BAD_PAGE = -9
    BAD_COPY_ARG = -10
    ADDRESS_TOO_BIG = -11
    EAGAIN = -12
    NO_SPACE = -13


class Op(IntEnum):
    """GNTTABOP_*: commands of hypercall 20."""

    MAP_GRANT_REF = 0
    UNMAP_GRANT_REF = 1
    SETUP_TABLE = 2
    DUMP_TABLE = 3
    TRANSFER = 4
    COPY = 5
    QUERY_SIZE = 6
    UNMAP_AND_REPLACE = 7
    SET_VERSION = 8
    GET_STATUS_FRAMES = 9
    GET_VERSION = 10
    SWAP_GRANT_REF = 11
    CACHE_FLUSH = 12


MAP_GRANT_REF = Struct("<QIIHhIQ")
"""host_addr, flags, ref, dom; status, handle, dev_bus_addr."""
UNMAP_GRANT_REF = Struct("<QQIhxx")
"""host_addr, dev_bus_addr, handle; status."""
SETUP_TABLE = Struct("<HxxIhxxxxxxQ")
"""dom, nr_frames; status; where the list of frames is to be written."""
COPY = Struct("<QHHxxxxQHHxxxxHHhxx")
"""Source: a reference or a frame, domid, offset; destination: the same; len, flags; status."""
QUERY_SIZE = Struct("<HxxIIhxx")
"""dom; nr_frames, max_nr_frames, status."""
SET_VERSION = Struct("<I")
"""version; the one there is now."""
GET_VERSION = Struct("<HxxI")
"""dom; version."""
SWAP_GRANT_REF = Struct("<IIhxx")
"""ref_a, ref_b; status."""
