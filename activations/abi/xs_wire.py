"""xenstore's wire and its ring page. Source: xen/include/public/io/xs_wire.h.

A message is a header of four u32 and a payload; the payload is mostly strings, each followed by
a NUL. A guest's messages travel as two streams of bytes through one shared page, whose fields'
offsets are the `RING_` and index constants below.
"""

import errno
from enum import IntEnum, IntFlag
from struct import Struct

HEADER = Struct("<4I")
"""`struct xsd_sockmsg`: type, req_id (echoed in the reply), tx_id (0: none), len of payload."""

PAYLOAD_MAX = 4096
"""XENSTORE_PAYLOAD_MAX, bytes. xenstored drops the connection that sends more."""
ABS_PATH_MAX = 3072
"""XENSTORE_ABS_PATH_MAX, bytes."""
REL_PATH_MAX = 2048
"""XENSTORE_REL_PATH_MAX, bytes."""


class MessageType(IntEnum):
    """`enum xsd_sockmsg_type`. 20 was RESTRICT, which is gone."""

    CONTROL = 0
    DIRECTORY = 1
    READ = 2
    GET_PERMS = 3
    WATCH = 4
    UNWATCH = 5
    TRANSACTION_START = 6
    TRANSACTION_END = 7
    INTRODUCE = 8
    RELEASE = 9
    GET_DOMAIN_PATH = 10
    WRITE = 11
    MKDIR = 12
    RM = 13
    SET_PERMS = 14
    WATCH_EVENT = 15
    ERROR = 16
    IS_DOMAIN_INTRODUCED = 17
    RESUME = 18
    SET_TARGET = 19
    RESET_WATCHES = 21
    DIRECTORY_PART = 22
    GET_FEATURE = 23
    SET_FEATURE = 24
    GET_QUOTA = 25
    SET_QUOTA = 26


ERRORS = {
    name: getattr(errno, name)
    for name in (
        "EINVAL", "EACCES", "EEXIST", "EISDIR", "ENOENT", "ENOMEM", "ENOSPC", "EIO",
        "ENOTEMPTY", "ENOSYS", "EROFS", "EBUSY", "EAGAIN", "EISCONN", "E2BIG", "EPERM",
    )
}  # fmt: skip
"""`xsd_errors`: an ERROR reply carries one of these names, not its number."""

OXENSTORED_ERRORS = {"EQUOTA": errno.ENOSPC}
"""A name that only oxenstored answers, where xenstored says ENOSPC: the domain has used up its
quota (tools/ocaml/xenstored/process.ml)."""

ERROR_NAMES = {number: name for name, number in ERRORS.items()}

# struct xenstore_domain_interface

RING_SIZE = 1024
"""XENSTORE_RING_SIZE, bytes of each of the two rings. Indices are free-running u32."""
RING_REQ = 0
RING_RSP = 1024
REQ_CONS = 2048
REQ_PROD = 2052
RSP_CONS = 2056
RSP_PROD = 2060
SERVER_FEATURES = 2064
CONNECTION = 2068
ERROR = 2072
EVTCHN_PORT = 2076


class ServerFeature(IntFlag):
    """Bits of the field at `SERVER_FEATURES`."""

    RECONNECTION = 1
    ERROR = 2
    """The field at `ERROR` means something."""
    WATCHDEPTH = 4
    DOMID_ANY = 8


class RingState(IntEnum):
    """Values of the field at `CONNECTION`."""

    CONNECTED = 0
    RECONNECT = 1


class RingFault(IntEnum):
    """Values of the field at `ERROR`: why xenstored stopped listening."""

    NONE = 0
    COMM = 1
    """The event channel does not work."""
    RINGIDX = 2
    """More bytes between the indices than the ring holds."""
    PROTO = 3
    """A payload longer than `PAYLOAD_MAX`."""
