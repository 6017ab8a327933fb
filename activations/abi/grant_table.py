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
