"""A block device between two domains: what lies in the ring, and what stands in xenstore.

Requests and responses are laid out as the front end's own C compiler has it, which the front end
says in the key `protocol`: see `Layout`. All sectors are of 512 bytes, whatever the disk's own size
is.

Source: xen/include/public/io/blkif.h, io/protocols.h.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final

SECTOR_SIZE: Final = 512
"""Bytes of a sector in every field and key, on any disk."""
SECTORS_PER_PAGE: Final = 8

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


SEGMENT: Final = Struct("<IBBxx")
"""struct blkif_request_segment: gref, first_sect, last_sect, both within the page, 0 to 7. The same
in every layout."""


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the fields of requests and responses lie.

    A u64 is aligned to 8 bytes in a 64-bit program, and to 4 in a 32-bit one: so all that follows
    a request's first four bytes moves, and an entry's size changes, but not how many fit a page.
    """

    protocol: str
    """The value of the key `protocol`: XEN_IO_PROTO_ABI_*."""
    entry_size: int
    """Bytes of a ring entry: the larger of request and response."""
    id: Struct
    """Any request's id alone: it lies at the same place in all of them."""
    request: Struct
    """struct blkif_request: operation, nr_segments, handle, id, sector_number. Its segments
    follow."""
    discard: Struct
    """struct blkif_request_discard: operation, flag, handle, id, sector_number, nr_sectors."""
    indirect: Struct
    """struct blkif_request_indirect: operation, indirect_op, nr_segments, id, sector_number,
    handle, indirect_grefs. The pages named there hold segments, 512 each."""
    response: Struct
    """struct blkif_response: id, operation, status."""


X86_64: Final = Layout(
    protocol="x86_64-abi",
    entry_size=112,
    id=Struct("<8xQ"),
    request=Struct("<BBH4xQQ"),
    discard=Struct("<BBH4xQQQ"),
    indirect=Struct("<BBH4xQQHxx8I4x"),
    response=Struct("<QBxh4x"),
)
X86_32: Final = Layout(
    protocol="x86_32-abi",
    entry_size=108,
    id=Struct("<4xQ"),
    request=Struct("<BBHQQ"),
    discard=Struct("<BBHQQQ"),
    indirect=Struct("<BBHQQHxx8I8x"),
    response=Struct("<QBxh"),
)
LAYOUTS: Final[Mapping[str, Layout]] = {each.protocol: each for each in (X86_64, X86_32)}
"""By protocol."""
UNSAID: Final = X86_32
"""What a front end speaks that has no key `protocol`, as Linux's xen-blkback has it on x86."""

# Keys of the front end

RING_REF: Final = "ring-ref"
"""The ring's grant reference; `ring-ref0` and on where `ring-page-order` is given. With several
queues these and the event channel stand in `queue-0/` and on."""
EVENT_CHANNEL: Final = "event-channel"
RING_PAGE_ORDER: Final = "ring-page-order"
PROTOCOL: Final = "protocol"
"""The layout's name: `LAYOUTS`, `UNSAID`."""
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
