"""vchan: a stream of bytes each way between two domains, over shared pages.

One control page holds the indices of both rings, who is there, and who wants to be told what.
`left` is what the client writes, `right` what the server writes. A ring of order n has 2^n bytes:
of order 10 and 11 it lies in the control page itself, from order 12 on it has pages of its own,
whose grant references follow the fixed fields, left's first.

Source: xen/include/public/io/libxenvchan.h.
"""

from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final

LEFT_CONS: Final = 0
LEFT_PROD: Final = 4
RIGHT_CONS: Final = 8
RIGHT_PROD: Final = 12
ORDERS: Final = Struct("<HH")
"""left_order, right_order, at `ORDERS_AT`."""
ORDERS_AT: Final = 16
CLI_LIVE: Final = 20
SRV_LIVE: Final = 21
CLI_NOTIFY: Final = 22
"""What the client is asked to tell of: the server sets bits, the client clears them."""
SRV_NOTIFY: Final = 23
"""The same of the server."""
GRANTS_AT: Final = 24
"""u32 each, to the end of the page or to the first ring that lies in it."""
GRANT_SIZE: Final = 4

SMALL_ORDER: Final = 10
SMALL_AT: Final = 1024
LARGE_ORDER: Final = 11
LARGE_AT: Final = 2048
PAGE_ORDER: Final = 12
MAX_ORDER: Final = 20
"""MAX_RING_SHIFT: libxenvchan refuses longer rings."""

RING_REF: Final = "ring-ref"
"""The node, below the path agreed on, with the control page's grant reference."""
EVENT_CHANNEL: Final = "event-channel"
"""The node with the server's port."""


class Live(IntEnum):
    """Values of `CLI_LIVE` and `SRV_LIVE`."""

    GONE = 0
    CONNECTED = 1
    WAITING = 2
    """The server's first word about the client: it has not come yet."""


class Notify(IntFlag):
    """Bits of `CLI_NOTIFY` and `SRV_NOTIFY`: tell me once you have ..."""

    WRITE = 1
    READ = 2
