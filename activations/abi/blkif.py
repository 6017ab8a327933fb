"""A block device between two domains: what lies in the ring, and what stands in xenstore.

The layouts are those of the protocol `x86_64-abi`. All sectors are of 512 bytes, whatever the
disk's own size is. Every kind of request has its id at the same place.

Source: xen/include/public/io/blkif.h.
"""

from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final

PROTOCOL: Final = "x86_64-abi"
"""XEN_IO_PROTO_ABI_X86_64 of io/protocols.h: the value of the key `protocol`."""

SECTOR_SIZE: Final = 512
"""Bytes of a sector in every field and key, on any disk."""
SECTORS_PER_PAGE: Final = 8

ENTRY_SIZE: Final = 112
"""Bytes of a ring entry: the larger of request and response."""

MAX_SEGMENTS_PER_REQUEST: Final = 11
"""BLKIF_MAX_SEGMENTS_PER_REQUEST."""
MAX_INDIRECT_PAGES_PER_REQUEST: Final = 8
"""BLKIF_MAX_INDIRECT_PAGES_PER_REQUEST."""
SEGMENTS_PER_INDIRECT_PAGE: Final = 512
MAX_RING_PAGE_ORDER: Final = 4
"""Rings of 2^4 pages are the longest that Linux serves, or asks for."""


class Op(IntEnum):
    """BLKIF_OP_*. 4 is reserved."""

    READ = 0
    WRITE = 1
    WRITE_BARRIER = 2
    FLUSH_DISKCACHE = 3
    DISCARD = 5
    INDIRECT = 6


class Status(IntEnum):
    """BLKIF_RSP_*: how a request ended."""

    OKAY = 0
    ERROR = -1
    EOPNOTSUPP = -2


class Info(IntFlag):
    """VDISK_*: bits of the key `info`."""

    CDROM = 1
    REMOVABLE = 2
    READONLY = 4


class DiscardFlag(IntFlag):
    """BLKIF_DISCARD_*: bits of `DISCARD`'s flag."""

    SECURE = 1


ID: Final = Struct("<8xQ")
"""Any request's id alone."""
REQUEST: Final = Struct("<BBHxxxxQQ")
"""struct blkif_request: operation, nr_segments, handle, id, sector_number. Its segments follow."""
SEGMENT: Final = Struct("<IBBxx")
"""struct blkif_request_segment: gref, first_sect, last_sect, both within the page, 0 to 7."""
DISCARD: Final = Struct("<BBHxxxxQQQ")
"""struct blkif_request_discard: operation, flag, handle, id, sector_number, nr_sectors."""
INDIRECT: Final = Struct("<BBHxxxxQQHxx8Ixxxx")
"""struct blkif_request_indirect: operation, indirect_op, nr_segments, id, sector_number, handle,
indirect_grefs. The pages named there hold segments, 512 each."""
RESPONSE: Final = Struct("<QBxhxxxx")
"""struct blkif_response: id, operation, status."""

# Keys of the front end

RING_REF: Final = "ring-ref"
"""The ring's grant reference; `ring-ref0` and on where `ring-page-order` is given. With several
queues these and the event channel stand in `queue-0/` and on."""
EVENT_CHANNEL: Final = "event-channel"
RING_PAGE_ORDER: Final = "ring-page-order"
PROTOCOL_KEY: Final = "protocol"
NUM_QUEUES: Final = "multi-queue-num-queues"
VIRTUAL_DEVICE: Final = "virtual-device"

# Keys of the back end

MAX_RING_PAGE_ORDER_KEY: Final = "max-ring-page-order"
MAX_QUEUES: Final = "multi-queue-max-queues"
MAX_INDIRECT_SEGMENTS: Final = "feature-max-indirect-segments"
FEATURE_FLUSH_CACHE: Final = "feature-flush-cache"
FEATURE_BARRIER: Final = "feature-barrier"
FEATURE_DISCARD: Final = "feature-discard"
DISCARD_GRANULARITY: Final = "discard-granularity"
"""Bytes."""
DISCARD_ALIGNMENT: Final = "discard-alignment"
"""Bytes."""
DISCARD_SECURE: Final = "discard-secure"
SECTORS: Final = "sectors"
"""Of 512 bytes."""
SECTOR_SIZE_KEY: Final = "sector-size"
"""Bytes of the disk's own sectors: what requests are to be aligned to."""
PHYSICAL_SECTOR_SIZE: Final = "physical-sector-size"
INFO: Final = "info"
MODE: Final = "mode"
"""`r` or `w`, written by the toolstack."""

# Keys of both

FEATURE_PERSISTENT: Final = "feature-persistent"
"""Pages are granted once and used again: the back end leaves them mapped."""
