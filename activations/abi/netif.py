"""A network device between two domains: what lies in its rings, and what stands in xenstore.

A queue has two rings, named as the front end sees them. In `tx` a request offers a piece of a
packet to be sent and its response takes it back; in `rx` a request offers an empty page and its
response fills it. Extra infos lie between a packet's first entry and its next, in entries of
their own.

Source: xen/include/public/io/netif.h.
"""

from enum import IntEnum, IntFlag
from struct import Struct
from typing import Final

TX_ENTRY_SIZE: Final = 12
"""Bytes of an entry of the tx ring: the larger of request and response."""
RX_ENTRY_SIZE: Final = 8

MAX_TX_SIZE: Final = 0xFFFF
"""XEN_NETIF_MAX_TX_SIZE: bytes of the longest packet."""
MAX_SLOTS: Final = 18
"""XEN_NETIF_NR_SLOTS_MIN: pieces of a packet that every back end takes, and any one sends."""

DEFAULT_MTU: Final = 1500
"""Octets of payload where nothing else is said."""


class TxFlag(IntFlag):
    """NETTXF_*: of a tx request."""

    CSUM_BLANK = 1
    """The checksum of TCP or UDP is the pseudo header's alone: somebody has to complete it."""
    DATA_VALIDATED = 2
    """The data is known to be good: no checksum need be looked at."""
    MORE_DATA = 4
    """The packet goes on in the next request."""
    EXTRA_INFO = 8
    """The next entry is an extra info."""


class RxFlag(IntFlag):
    """NETRXF_*: of an rx response; the first two are the other way round than a request's."""

    DATA_VALIDATED = 1
    CSUM_BLANK = 2
    MORE_DATA = 4
    EXTRA_INFO = 8
    GSO_PREFIX = 16


class Extra(IntEnum):
    """XEN_NETIF_EXTRA_TYPE_*: what an extra info says."""

    GSO = 1
    """To be cut into segments by the one that sends it on."""
    MCAST_ADD = 2
    """Not a packet: the front end wants a multicast address's packets."""
    MCAST_DEL = 3
    HASH = 4
    """The packet's hash."""


EXTRA_FLAG_MORE: Final = 1
"""XEN_NETIF_EXTRA_FLAG_MORE: another extra info follows."""


class Status(IntEnum):
    """NETIF_RSP_*: how a request ended. In an rx response a positive status is the length."""

    DROPPED = -2
    ERROR = -1
    OKAY = 0
    NULL = 1
    """Of a tx response: in the place of an extra info, which asked for nothing."""


TX_REQUEST: Final = Struct("<IHHHH")
"""struct netif_tx_request: gref, offset, flags, id, size. The first one's size is that of the
whole packet."""
TX_RESPONSE: Final = Struct("<Hh")
"""struct netif_tx_response: id, status."""
RX_REQUEST: Final = Struct("<HxxI")
"""struct netif_rx_request: id, gref."""
RX_RESPONSE: Final = Struct("<HHHh")
"""struct netif_rx_response: id, offset, flags, status. It lies where its request lay: front ends
go by that and not by the id."""
EXTRA_INFO: Final = Struct("<BB6s")
"""struct netif_extra_info: type, flags, and what the type says."""

# Keys of the front end

TX_RING_REF: Final = "tx-ring-ref"
"""These, and the event channels, stand in `queue-0/` and on where there are several queues."""
RX_RING_REF: Final = "rx-ring-ref"
EVENT_CHANNEL: Final = "event-channel"
"""One for both rings; or one for each:"""
EVENT_CHANNEL_TX: Final = "event-channel-tx"
EVENT_CHANNEL_RX: Final = "event-channel-rx"
NUM_QUEUES: Final = "multi-queue-num-queues"
REQUEST_RX_COPY: Final = "request-rx-copy"
"""The back end copies into the front end's pages; nothing else is in use any more."""
FEATURE_RX_NOTIFY: Final = "feature-rx-notify"
"""The front end rings when it has put requests into the rx ring."""
FEATURE_NO_CSUM_OFFLOAD: Final = "feature-no-csum-offload"
"""Checksums of IPv4 are complete in what is sent to the front end. Without the key, blank ones
may come."""
FEATURE_IPV6_CSUM_OFFLOAD: Final = "feature-ipv6-csum-offload"
"""The end that writes it takes IPv6 packets with blank checksums; without the key, it does not."""
MAC: Final = "mac"
"""Written by the toolstack in both folders: six numbers in hexadecimal, with colons."""
MTU: Final = "mtu"
"""Octets; in the front end's folder, written by the toolstack, if at all."""

# Keys of the back end

FEATURE_RX_COPY: Final = "feature-rx-copy"
FEATURE_SPLIT_EVENT_CHANNELS: Final = "feature-split-event-channels"
MAX_QUEUES: Final = "multi-queue-max-queues"
HANDLE: Final = "handle"
"""The device's number, written by the toolstack."""
HOTPLUG_STATUS: Final = "hotplug-status"
"""`connected` once the toolstack's script is done: Linux's back end waits for it."""

# Keys of both

FEATURE_SG: Final = "feature-sg"
"""Packets of several pieces are taken."""
